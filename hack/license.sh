#!/usr/bin/env bash
# Puts the license header of hack/boilerplate.go.txt at the top of every Go file that lacks it; with --check it changes
# nothing, lists those files and fails. Generated files get the header from their generator.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check=
case ${1:-} in
--check) check=1 ;;
'') ;;
*)
	echo "usage: hack/license.sh [--check]" >&2
	exit 2
	;;
esac

header=$(<hack/boilerplate.go.txt)
first=${header%%$'\n'*}
if [[ -z $first ]]; then
	echo "license: hack/boilerplate.go.txt is empty" >&2
	exit 1
fi
missing=()
while IFS= read -r -d '' file; do
	# Generators put a build constraint first.
	if [[ -f $file ]] && ! head -n 4 "$file" | grep -qxF -- "$first"; then missing+=("$file"); fi
done < <(git ls-files -z --cached --others --exclude-standard -- '*.go')

if ((${#missing[@]} == 0)); then exit 0; fi
if [[ -n $check ]]; then
	printf 'license: %s has no license header: run hack/license.sh\n' "${missing[@]}" >&2
	exit 1
fi
new=$(mktemp)
trap 'rm -f "$new"' EXIT
for file in "${missing[@]}"; do
	{
		printf '%s\n\n' "$header"
		cat "$file"
	} >"$new"
	cat "$new" >"$file" # keeps the file's mode
done
printf 'license: added the header to %s files\n' "${#missing[@]}"
