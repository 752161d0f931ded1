#!/usr/bin/env bash
# Runs every fuzz test of $PKG, one after another, for $FUZZTIME each: go test runs one fuzz test at a time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -r -a packages <<<"${PKG:-./...}"
found=0
while read -r package dir; do
	while read -r name; do
		found=$((found + 1))
		echo "fuzz: $package $name for ${FUZZTIME:-20s}"
		go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20s}" "$package"
	done < <(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | awk '{ print $2 }')
done < <(go list -f '{{.ImportPath}} {{.Dir}}' "${packages[@]}")
echo "fuzz: $found fuzz tests"
