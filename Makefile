# The front door: CI runs the same targets. `make` alone lists them.

MODULES := agent controlplane installer shared test
PKGS    := $(MODULES:%=./%/...)
NAME    := github.com/ggfleet/ggfleet

# What `make run` works on, and whether it ends when the fleet is deployed.
DATA_DIR  ?= .ggfleet
DEMO_EXIT ?=
# How long each fuzz target runs.
FUZZTIME  ?= 30s

# One set of flags for binaries and tests, so that both use the same compiled packages.
export CGO_ENABLED ?= 0
export GOFLAGS     := $(GOFLAGS) -trimpath -tags=nomsgpack

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
ifeq ($(VERSION),)
VERSION := dev
BUILD   := go build -buildvcs=false
else
BUILD   := go build
endif
STAMP := -X $(NAME)/shared/buildinfo.Version=$(VERSION)

LINT_VERSION := v2.15.0
TOOLS        := $(CURDIR)/bin/tools
LINT         := $(TOOLS)/golangci-lint-$(LINT_VERSION)
# Newer ones of nfpm need a module that cannot be had everywhere.
NFPM_VERSION := v2.45.2
NFPM         := $(TOOLS)/nfpm-$(NFPM_VERSION)
# The secret key that 'make package' signs with; none: unsigned.
KEY ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build run test test-race test-pkcs11 bench fuzz lint package test-system generate fix verify compat-device compat-aws compat-python clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## all binaries into bin/
	$(BUILD) -ldflags '$(STAMP)' -o bin/ggfleet ./controlplane/cmd/ggfleet
	$(BUILD) -ldflags '$(STAMP) -s -w' -o bin/ggfleet-agent ./agent/cmd/ggfleet-agent
	$(BUILD) -ldflags '$(STAMP) -s -w' -o bin/ggfleet-sim ./test/cmd/ggfleet-sim

run: build ## the whole job with a small demo fleet, until Ctrl-C (DEMO_EXIT=1: end when it is deployed; DATA_DIR=…)
	bin/ggfleet demo --data-dir '$(DATA_DIR)' $(if $(DEMO_EXIT),--exit)

test: ## every test of every module; needs Go, make and git only
	go test -timeout 25m $(filter-out ./test/%,$(PKGS))
	@# These start programs and read files that the cache of test results does not know.
	go test -timeout 45m -count=1 ./test/...

test-race: ## the same under the race detector; needs a C compiler
	CGO_ENABLED=1 go test -race -timeout 20m $(PKGS)

test-pkcs11: ## keys in a PKCS#11 token; needs a C compiler and Debian's softhsm2
	CGO_ENABLED=1 GOFLAGS='-trimpath -tags=nomsgpack,pkcs11' GGFLEET_REQUIRE_PEERS=1 go test -count=1 ./agent/internal/keystore/

bench: build ## the figures of docs/benchmarks.md, each beside its floor
	GGFLEET_BENCH=1 go test -count=1 -v -timeout 60m ./test/load/...

fuzz: ## every fuzz target for FUZZTIME, one after the other
	@grep -rE '^func Fuzz' --include='*_test.go' $(MODULES) | sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort -u | \
	while read -r dir target; do \
		echo "== $$dir $$target"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "./$$dir" || exit 1; \
	done

lint: $(LINT) ## golangci-lint, vet for other systems, and who may import whom
	$(LINT) run $(PKGS)
	@# What runs on devices compiles for all of theirs, with its tests.
	@for on in windows/amd64 darwin/arm64 linux/arm; do echo "vet: $$on"; \
		GOOS=$${on%/*} GOARCH=$${on#*/} go vet ./agent/... ./installer/... ./shared/... || exit 1; done
	go test -count=1 ./test/arch/...

$(LINT):
	GOBIN=$(TOOLS) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(TOOLS)/golangci-lint $@

package: $(NFPM) ## what a release of the agent consists of into dist/: VERSION=1.2.3, KEY=minisign secret key
	go run ./installer/packaging -version '$(patsubst v%,%,$(VERSION))' -nfpm $(NFPM) $(if $(KEY),-key '$(KEY)')

$(NFPM):
	GOBIN=$(TOOLS) GOFLAGS= go install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION)
	mv $(TOOLS)/nfpm $@

test-system: $(NFPM) ## packages, services and the agent on a booted systemd; needs root, installs Debian's debootstrap and systemd-container
	@command -v debootstrap >/dev/null && command -v systemd-nspawn >/dev/null || { timeout 600 apt-get update -qq -o Acquire::Retries=5 && \
		timeout 900 env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Acquire::Retries=5 --no-install-recommends debootstrap systemd-container </dev/null; }
	GGFLEET_REQUIRE_SYSTEMD=1 go test -count=1 -parallel 6 -v -timeout 40m ./test/system

generate: ## write generated code anew
	go generate $(PKGS)

fix: generate $(LINT) ## generate, format, tidy, and what the linter can mend by itself
	-$(LINT) run --fix $(PKGS)
	$(LINT) fmt $(PKGS)
	@for m in $(MODULES); do (cd $$m && go mod tidy) || exit 1; done

verify: $(LINT) ## what fix would change must be nothing; changes nothing itself
	@for m in $(MODULES); do echo "tidy: $$m"; (cd $$m && go mod tidy -diff) || exit 1; done
	@out=$$($(LINT) fmt --diff $(PKGS)) && test -z "$$out" || { echo "$$out"; echo "not formatted: make fix"; exit 1; }
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && mkdir "$$tmp/now" && echo "generate" && \
	git ls-files -co --exclude-standard | while read -r f; do test ! -f "$$f" || echo "$$f"; done | tar cf - -T - | tar xf - -C "$$tmp/now" && \
	cp -R "$$tmp/now" "$$tmp/generated" && (cd "$$tmp/generated" && go generate $(PKGS)) && \
	(cd "$$tmp" && diff -ru now generated) || { echo "not what the generators write: make generate"; exit 1; }

compat-device: ## AWS's device SDK for JavaScript and mosquitto's clients against the gateway; needs npm and mosquitto-clients
	cd test/compat/device && npm ci --no-audit --no-fund
	GGFLEET_REQUIRE_PEERS=1 go test -count=1 -v ./test/compat/device

compat-aws: ## boto3, the AWS CLI and AWS's SDK for JavaScript against the AWS endpoint; installs Debian's awscli and python3-boto3, needs npm
	@dpkg -s awscli python3-boto3 >/dev/null 2>&1 || { \
		as_root=; [ "$$(id -u)" = 0 ] || as_root='sudo -n'; \
		$$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends awscli python3-boto3; }
	cd test/compat/aws && npm ci --no-audit --no-fund
	GGFLEET_REQUIRE_AWS_PEERS=1 go test -count=1 -v ./test/compat/aws

compat-python: ## AWS's newest device SDK for Python and boto3 from PyPI; needs python3 with venv
	test -x test/compat/python/.venv/bin/python || python3 -m venv test/compat/python/.venv
	test/compat/python/.venv/bin/pip install -q --disable-pip-version-check -r test/compat/python/requirements.txt
	GGFLEET_PYTHON='$(CURDIR)/test/compat/python/.venv/bin/python' go test -count=1 -v ./test/compat/python

clean: ## remove what build made; data directories stay
	rm -rf bin dist
