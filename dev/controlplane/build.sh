#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-controllers and kubectl into bin/k8s, once.
#
# They are one program under four names (see main.go). The result is kept under
# a hash of the module and the Go version: a second call returns at once, and a
# changed version is built again. Needs network access to the Go module proxy
# only.
#
# usage: dev/controlplane/build.sh [output directory]   (default bin/k8s)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../bin/k8s}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"

names=(etcd kube-apiserver kube-controllers kubectl)

say() { printf 'control plane: %s\n' "$*"; }

checksum() {
	if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16
}

version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
key=$({ go version && go env GOOS GOARCH && cat go.mod go.sum ./*.go build.sh; } | checksum)

built() {
	[[ -f $out/.key && $(<"$out/.key") == "$key" ]] || return 1
	local name
	for name in "${names[@]}"; do
		[[ -x $out/$name ]] || return 1
	done
}

if built; then
	say "Kubernetes $version is up to date in $out"
	exit 0
fi

# One build at a time: a second caller waits for the first and takes its result.
lock=$out/.lock
work=
build_pid=
cleanup() {
	if [[ -n $build_pid ]]; then kill "$build_pid" 2>/dev/null || true; fi
	if [[ -n $work ]]; then
		rm -rf "$work"
		rm -rf "$lock"
	fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

waiting=0
until mkdir "$lock" 2>/dev/null; do
	owner=$(cat "$lock/pid" 2>/dev/null || true)
	if { [[ -n $owner ]] && ! kill -0 "$owner" 2>/dev/null; } || { [[ -z $owner ]] && ((waiting > 5)); }; then
		say "removing the lock of process ${owner:-unknown}, which is gone"
		rm -rf "$lock"
		continue
	fi
	if ((waiting % 10 == 0)); then say "waiting for the build of process ${owner:-?} (${waiting} s)"; fi
	sleep 1
	waiting=$((waiting + 1))
done
echo $$ >"$lock/pid"
rm -rf "$out"/.build.*
work=$(mktemp -d "$out/.build.XXXXXX")
if built; then
	say "Kubernetes $version was built by another call"
	exit 0
fi

started=$SECONDS
say "building ${names[*]} $version from source into $out"
say "this happens once and takes 4 to 8 minutes on two cores with an empty cache"

# Go prints every module that it downloads to stderr, which shows the progress of this step.
total=$(go list -deps -f '{{.ImportPath}}' . | wc -l | tr -d ' ')
say "$((SECONDS - started)) s: sources downloaded, at most $total packages to compile"

IFS=. read -r major minor _ <<<"${version#v}"
ldflags="-s -w"
for pkg in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	ldflags+=" -X $pkg.gitVersion=$version -X $pkg.gitMajor=$major -X $pkg.gitMinor=$minor -X $pkg.gitTreeState=clean"
done

log=$work/log
CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -ldflags "$ldflags" -o "$work/controlplane" . >"$log" 2>&1 &
build_pid=$!

report() {
	local done last
	done=$(wc -l <"$log" | tr -d ' ')
	last=$(tail -n 1 "$log")
	if [[ $last == */dev/controlplane ]]; then
		say "$((SECONDS - started)) s: linking"
	elif ((done == 0)); then
		say "$((SECONDS - started)) s: all packages so far are cached"
	else
		say "$((SECONDS - started)) s: $done of at most $total packages, now $last"
	fi
}
ticks=0
while kill -0 "$build_pid" 2>/dev/null; do
	sleep 1
	ticks=$((ticks + 1))
	if ((ticks % 5 == 0)); then report; fi
done
if ! wait "$build_pid"; then
	build_pid=
	say "the build failed after $((SECONDS - started)) s; the end of the compiler's output:" >&2
	tail -n 40 "$log" >&2
	exit 1
fi
build_pid=

# Hard links: one file on disk, and argv[0] selects the program.
rm -f "$out/.key"
for name in "${names[@]}"; do
	ln -f "$work/controlplane" "$work/$name" 2>/dev/null || cp "$work/controlplane" "$work/$name"
	mv -f "$work/$name" "$out/$name"
done
echo "$key" >"$out/.key"
say "done in $((SECONDS - started)) s: $(du -m "$out/etcd" | cut -f1) MB in $out"
