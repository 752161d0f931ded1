#!/usr/bin/env bash
# Runs the tests of $PKG with the race detector and without the test cache:
# results depend on programs the cache does not know (bin/k8s, the product's
# own), so an old result could be a stale one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

race=(-race)
if [[ $(go env CGO_ENABLED) != 1 ]] || ! command -v "$(go env CC)" >/dev/null; then
	case $(go env GOOS) in
	darwin) ;; # The race detector needs no C compiler there.
	*)
		if [[ ${REQUIRE_RACE:-} == 1 ]]; then
			echo "test: the race detector needs a C compiler and there is none: install gcc or clang" >&2
			exit 1
		fi
		echo "test: no C compiler, so WITHOUT the race detector: install gcc or clang to have it" >&2
		race=()
		;;
	esac
fi

read -r -a packages <<<"${PKG:-./...}"
read -r -a more <<<"${TESTARGS:-}"

# Tests that start the product's programs find them here, built from this tree.
echo "test: building the programs into bin/"
read -r -a programs <<<"$PROGRAMS"
go build ${BUILDFLAGS:-} -o bin/ "${programs[@]}"
echo "test: API server and etcd from $KUBEBUILDER_ASSETS"
echo "test: go test ${race[*]} -count=1 -timeout 15m ${more[*]} ${packages[*]}"
started=$SECONDS
status=0
go test "${race[@]}" -count=1 -timeout 15m "${more[@]}" "${packages[@]}" || status=$?
echo "test: finished in $((SECONDS - started)) s with exit code $status"
exit "$status"
