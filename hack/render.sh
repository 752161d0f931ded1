#!/usr/bin/env bash
# Prints the manifests of an overlay with an image set, for example
#
#   hack/render.sh config/default scan-operator=ghcr.io/eco2-team/scan-operator:v0.1.0
#
# The image is set in a copy of the overlay's kustomization.yaml, so that the overlay's own replacement, which gives the
# manager's image to the workers, uses it. KUBECTL names the kubectl to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# != 2)) || [[ $2 != ?*=?*:?* ]]; then
	echo "usage: hack/render.sh OVERLAY NAME=IMAGE:TAG" >&2
	exit 2
fi
overlay=${1%/} name=${2%%=*} image=${2#*=}
tag=${image##*:} repository=${image%:*}
if [[ $tag == */* ]]; then
	echo "render: $image has no tag" >&2
	exit 2
fi

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R config "$copy/config"
file=$copy/$overlay/kustomization.yaml
awk -v name="$name" -v repository="$repository" -v tag="$tag" '
	$0 == "- name: " name { ours = 1 }
	/^- name: / && $0 != "- name: " name { ours = 0 }
	ours && /^  newName: / { $0 = "  newName: " repository; found++ }
	ours && /^  newTag: / { $0 = "  newTag: " tag; found++ }
	{ print }
	END { exit found == 2 ? 0 : 1 }
' "$overlay/kustomization.yaml" >"$file" || {
	echo "render: $overlay/kustomization.yaml has no image $name with newName and newTag" >&2
	exit 1
}
"${KUBECTL:-kubectl}" kustomize "$copy/$overlay"
