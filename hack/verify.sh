#!/usr/bin/env bash
# Fails if a generated file or a go.mod is out of date, and shows the difference, or if a Go file has no license header.
# It compares with the working tree, so that it also works before a commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
for dir in api config docs; do
	cp -R "$dir" "$before/$dir"
done

make --no-print-directory generate manifests docs

status=0
for dir in api config docs; do
	if ! diff -ruN "$before/$dir" "$dir"; then
		echo "verify: $dir/ was out of date: run 'make generate manifests docs' and commit the result" >&2
		status=1
	fi
done
while read -r mod; do
	module=$(dirname "$mod")
	if ! (cd "$module" && go mod tidy -diff); then
		echo "verify: $mod is not tidy: run 'go mod tidy' in $module and commit the result" >&2
		status=1
	fi
done < <(git ls-files -- 'go.mod' '*/go.mod')
hack/license.sh --check || status=1
if ((status == 0)); then echo "verify: generated files and go.mod files are up to date"; fi
exit "$status"
