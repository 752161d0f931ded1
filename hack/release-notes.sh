#!/usr/bin/env bash
# Prints the section of CHANGELOG.md about a version: hack/release-notes.sh v0.1.0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${1:?usage: hack/release-notes.sh VERSION}
awk -v heading="## [${version#v}]" '
	index($0, "## [") == 1 { inside = index($0, heading) == 1; found = found || inside; next }
	/^\[.*\]: / { inside = 0 }
	inside { print }
	END { exit found ? 0 : 1 }
' CHANGELOG.md || {
	echo "release-notes: CHANGELOG.md has no section [${version#v}]" >&2
	exit 1
}
