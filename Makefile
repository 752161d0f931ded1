# Everything here needs Go, git and make, and the Go module proxy. `make help` lists the targets.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

ROOT := $(CURDIR)
BIN := $(ROOT)/bin
K8S := $(BIN)/k8s
CONTROLLER_GEN := $(BIN)/controller-gen
GOLANGCI_LINT := $(BIN)/golangci-lint
KUBE_API_LINT := $(BIN)/golangci-lint-kal
CRD_REF_DOCS := $(BIN)/crd-ref-docs
HEADER := hack/boilerplate.go.txt

# The product's programs, and those that the local stack and the tests start.
PROGRAMS := ./cmd/manager ./cmd/api ./cmd/worker ./dev/cmd/local ./dev/cmd/openai-sim

# What the targets below take from the command line.
PKG ?= ./...
TESTARGS ?=
ARGS ?=
BENCH ?= .
BENCHTIME ?= 1s
FUZZTIME ?= 20s
ROUNDS ?= 20
SEED ?= 0

# What --version prints: the tag, or the commits since it. Empty outside a git repository.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# gRPC's pages about traces, which no program serves, keep every exported method of every type in a program: a fifth of
# its size.
export BUILDFLAGS := -tags=grpcnotrace -ldflags=-X=github.com/eco2-team/scan-operator/internal/cli.version=$(VERSION)

# Each module is built with the versions of its own go.mod. A workspace would choose versions, and apply replacements,
# for all of them together: dev/controlplane would put the product on another release of Kubernetes' libraries.
export GOWORK := off

# The API server's and etcd's programs, where controller-runtime's envtest looks.
export KUBEBUILDER_ASSETS := $(K8S)

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-zA-Z0-9_-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Run and test

.PHONY: run
run: k8s build ## Start everything on this machine: API server, simulated provider, manager, api, workers. ARGS="--speed 1" passes flags.
	@exec $(BIN)/local --k8s-dir $(K8S) --bin-dir $(BIN) $(ARGS)

.PHONY: test
test: k8s ## Run all tests with the race detector against a real API server. PKG=./internal/... narrows it.
	@PKG='$(PKG)' TESTARGS='$(TESTARGS)' PROGRAMS='$(PROGRAMS)' hack/test.sh

.PHONY: test-unit
test-unit: k8s ## Run the tests that live next to the code.
	@PKG="$$(go list ./... | grep -v '/test/' | tr '\n' ' ')" TESTARGS='$(TESTARGS)' PROGRAMS='$(PROGRAMS)' hack/test.sh

.PHONY: test-integration
test-integration: k8s ## Run the tests under test/, which drive the parts together.
	@PKG=./test/... TESTARGS='$(TESTARGS)' PROGRAMS='$(PROGRAMS)' hack/test.sh

.PHONY: chaos
chaos: k8s build ## Break a local stack, round after round, and check that nothing is lost. ROUNDS=20 SEED=7 ARGS="--faults kill-etcd".
	go run ./dev/cmd/chaos --k8s-dir $(K8S) --bin-dir $(BIN) --rounds $(ROUNDS) --seed $(SEED) $(ARGS)

.PHONY: test-browser
test-browser: k8s build ## Test the HTTP API with a headless Chromium, which must be installed (apt-get install chromium).
	cd test/browser && go test -count=1 -timeout 10m $(TESTARGS) ./...

.PHONY: bench
bench: k8s ## Run the benchmarks. BENCH=regexp PKG=./internal/queue BENCHTIME=5s narrow them.
	go test -run '^$$' -bench '$(BENCH)' -benchtime '$(BENCHTIME)' -benchmem $(PKG)

.PHONY: bench-system
bench-system: k8s build ## Measure the whole product on a local stack. ARGS="tokens --scenarios steady" (or api, scale; -h lists flags).
	go run ./dev/cmd/bench $(firstword $(ARGS)) --k8s-dir $(K8S) --bin-dir $(BIN) $(wordlist 2,99,$(ARGS))

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (20s) each.
	@PKG='$(PKG)' FUZZTIME='$(FUZZTIME)' hack/fuzz.sh

##@ Build

.PHONY: build
build: ## Build the product's programs and those of the local stack into bin/.
	@mkdir -p $(BIN)
	go build $(BUILDFLAGS) -o $(BIN)/ $(PROGRAMS)

.PHONY: k8s
k8s: ## Build etcd, kube-apiserver, kube-controllers and kubectl into bin/k8s (once).
	@dev/controlplane/build.sh $(K8S)

.PHONY: tools
tools: $(CONTROLLER_GEN) $(GOLANGCI_LINT) $(KUBE_API_LINT) $(CRD_REF_DOCS) ## Build the pinned generators and linters into bin/.

.PHONY: clean
clean: ## Remove the product's programs and the local state; keep bin/k8s and the tools.
	rm -rf .local $(addprefix $(BIN)/,$(notdir $(PROGRAMS)))

.PHONY: distclean
distclean: clean ## Remove everything that was built.
	rm -rf $(BIN)

##@ Generate and check

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate deep copies and apply configurations from api/.
	$(CONTROLLER_GEN) object:headerFile=$(HEADER) applyconfiguration:headerFile=$(HEADER) paths=./api/...

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate the CRDs from api/ and the manager's role from the markers in controllers/.
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=scan-operator-manager-role paths=./controllers/... output:rbac:dir=config/rbac

.PHONY: docs
docs: $(CRD_REF_DOCS) build ## Generate the reference of API fields and flags from api/ and the programs.
	$(CRD_REF_DOCS) --config hack/apidocs/config.yaml --templates-dir hack/apidocs/templates --renderer markdown \
		--source-path api/v1alpha1 --output-path docs/reference/api.md --log-level ERROR
	go run ./hack/flagsdoc $(BIN)/manager $(BIN)/api $(BIN)/worker $(BIN)/openai-sim >docs/reference/flags.md

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code.
	$(GOLANGCI_LINT) fmt

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) lint-api ## Run golangci-lint and the API conventions.
	$(GOLANGCI_LINT) run
	@hack/words.sh

.PHONY: lint-api
lint-api: $(KUBE_API_LINT) ## Check the API types against the conventions of Kubernetes.
	$(KUBE_API_LINT) run -c .golangci-kal.yml ./api/v1alpha1/

.PHONY: verify
verify: $(CONTROLLER_GEN) $(CRD_REF_DOCS) ## Fail if generated files or go.mod files are out of date.
	@hack/verify.sh

# A pinned tool is one module under hack/tools; it is rebuilt when its versions change.
$(CONTROLLER_GEN): hack/tools/gen/go.mod hack/tools/gen/go.sum
	@hack/tools/build.sh gen sigs.k8s.io/controller-tools/cmd/controller-gen $@

$(GOLANGCI_LINT): hack/tools/lint/go.mod hack/tools/lint/go.sum
	@hack/tools/build.sh lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint $@

$(KUBE_API_LINT): hack/tools/kal/go.mod hack/tools/kal/go.sum
	@hack/tools/build.sh kal sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter $@

$(CRD_REF_DOCS): hack/tools/apidocs/go.mod hack/tools/apidocs/go.sum
	@hack/tools/build.sh apidocs github.com/elastic/crd-ref-docs $@
