#!/usr/bin/env bash
# Builds one pinned tool and says how long it takes.
#
# usage: hack/tools/build.sh <module under hack/tools> <package> <output file>
set -euo pipefail

module=$1 package=$2 output=$3
name=$(basename "$output")
mkdir -p "$(dirname "$output")"
cd "$(dirname "${BASH_SOURCE[0]}")/$module"

printf 'tools: building %s from source (once; one to three minutes with nothing cached)\n' "$name"
build_pid=
trap 'if [[ -n $build_pid ]]; then kill "$build_pid" 2>/dev/null || true; fi' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
started=$SECONDS
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$output.new" "$package" &
build_pid=$!
while kill -0 "$build_pid" 2>/dev/null; do
	sleep 1
	elapsed=$((SECONDS - started))
	if ((elapsed > 0 && elapsed % 10 == 0)); then printf 'tools: %s: %s s\n' "$name" "$elapsed"; fi
done
wait "$build_pid"
build_pid=
mv -f "$output.new" "$output"
printf 'tools: %s done in %s s\n' "$name" "$((SECONDS - started))"
