#!/usr/bin/env bash
# Runs the tests of $PKG with the race detector, and without the test cache: results depend on programs that the cache
# does not track (bin/k8s and the product's own).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

race=(-race)
if [[ $(go env CGO_ENABLED) != 1 ]] || ! command -v "$(go env CC)" >/dev/null; then
	case $(go env GOOS) in
	darwin) ;; # The race detector needs no C compiler here.
	*)
		if [[ ${REQUIRE_RACE:-} == 1 ]]; then
			echo "test: the race detector needs a C compiler: install gcc or clang" >&2
			exit 1
		fi
		echo "test: running WITHOUT the race detector, which needs a C compiler: install gcc or clang" >&2
		race=()
		;;
	esac
fi

read -r -a packages <<<"${PKG:-./...}"
read -r -a more <<<"${TESTARGS:-}"

# Some tests start these programs; they must be of this tree.
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
