# Needs Go, git and make; everything else is fetched by Go and pinned in go.mod, tools/go.mod and tools/lab.

GO      ?= go
MODULE  := github.com/haystacknetworks/aci-sync
TOOL    := $(GO) tool -modfile=tools/go.mod
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)$(if $(shell git status --porcelain 2>/dev/null),-dirty)

# Passed on to go test, such as TESTFLAGS='-run TestStories -v' or PKGS=./internal/plan.
TESTFLAGS ?=
PKGS      ?= ./...

# How long make soak plays, and what.
SOAK      ?= 10m
HISTORIES := TestHistories|TestOrderDoesNotMatter|TestStorms|TestLeaders

# Passed on to the bench, such as BENCHFLAGS='-sizes 100,20000,50000'; QUICK=1 takes two minutes and writes no page.
BENCHFLAGS ?=
QUICK      ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

##@ Use

.PHONY: help
help: ## print this
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## make bin/aci-sync and bin/apic-sim
	$(GO) build -trimpath -ldflags '-X $(MODULE)/internal/cli.commit=$(COMMIT)' -o bin/ ./cmd/...

.PHONY: image
image: ## make the container image, as dist/image.tar, without Docker
	$(GO) -C tools/release run . image -o dist/image.tar

.PHONY: release
release: ## make all of a version in dist/: archives, image, chart, SBOMs; SNAPSHOT=1 for one that is none yet
	$(GO) -C tools/release run . dist -o dist $(if $(SNAPSHOT),-snapshot)

.PHONY: demo
demo: ## show it at work: a real control plane, a simulated APIC; KEEP=1 leaves both running
	KEEP=$(KEEP) $(GO) run ./test/demo

.PHONY: demo-stop
demo-stop: ## stop what make demo KEEP=1 left running
	$(GO) run ./test/demo stop

##@ Test

# Stories and documents go first, beside the rest: they wait more than they compute. What they run is built before, once: on
# a machine that has not run them yet, tests that need a tool at the same time would each build it.
.PHONY: test
test: ## run everything: units, goldens, fuzz seeds, stories on the lab, under the race detector
	@race=-race; cc=$$($(GO) env CC); \
	if [ "$$($(GO) env CGO_ENABLED)" != 1 ] || ! echo '#include <stdlib.h>' | $$cc -x c -c -o /dev/null - 2>/dev/null; then \
	  race=; echo "make test: no cgo or no C compiler ($$cc), so the race detector is off" >&2; \
	fi; \
	first=; if [ "$(PKGS)" = ./... ]; then \
	  first='-p 3 ./test/stories ./test/docs'; \
	  for tool in helm kubeconform helm-docs promtool; do \
	    $(GO) tool -modfile=tools/$$tool/go.mod -n $$tool >/dev/null || exit 1; \
	  done; \
	fi; \
	set -x; \
	$(GO) run ./test/labctl run -- $(GO) test $$race -timeout 20m $(TESTFLAGS) $$first $(PKGS) || exit 1; \
	if [ "$(PKGS)" = ./... ]; then $(GO) -C tools/release test -count=1 . || exit 1; fi; \
	if [ -n "$$race" ] && [ "$(PKGS)" = ./... ]; then $(GO) test -run '$(HISTORIES)' ./test/history; fi # ten times as many without it

.PHONY: e2e-chart
e2e-chart: ## from the chart to a synced Deployment on a control plane of its own, and back; part of test
	$(GO) test ./test/docs -run TestInstall -v -count=1

.PHONY: check
check: fmt-check fix-check tidy-check verify-crds lint test ## what a change must pass before review: format, lint, tidiness, tests

.PHONY: soak
soak: ## play fresh random histories for SOAK=10m; make test plays those of the seeds 1, 2, 3… for some seconds
	$(GO) test ./test/history -run '$(HISTORIES)' -v -count=1 -timeout 0 -fixed 0 -budget $(SOAK) $(TESTFLAGS)

.PHONY: bench
bench: ## measure what it costs beside 100 to 20,000 subnets, for docs/performance.md; QUICK=1 for a part of it
	$(GO) run ./test/bench $(if $(QUICK),-quick,-o docs/performance.md) $(BENCHFLAGS)

.PHONY: lint
lint: ## run the linters of .golangci.yml
	$(TOOL) golangci-lint run ./...
	cd tools/release && $(GO) vet ./...

.PHONY: fmt
fmt: ## format the code and apply go fix
	$(GO) fix ./...
	$(TOOL) gofumpt -w $(GO_DIRS)

.PHONY: update-crds
update-crds: ## generate the CustomResourceDefinition and deepcopy methods from api/
	$(TOOL) controller-gen object crd paths=./api/... output:crd:dir=charts/aci-sync/crds output:object:dir=api/v1alpha1

.PHONY: update-reference
update-reference: ## write anew what docs/reference has from the program
	$(GO) test ./internal/cli -run TestTheMetricsPageIsUpToDate -update

.PHONY: update-chart
update-chart: ## render the chart's goldens, install.yaml and README anew; then read the diff
	$(GO) test ./charts -update

.PHONY: lab-up
lab-up: ## start the Kubernetes control plane of the tests and leave it running
	$(GO) run ./test/labctl up

.PHONY: lab-down
lab-down: ## stop it
	$(GO) run ./test/labctl down

.PHONY: unverified
unverified: ## list what is assumed of a real APIC but not confirmed by any public source
	@git grep -n 'unverified:' -- '*.go' '*.md' ':!CONTRIBUTING.md' || echo "nothing is marked unverified"

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist

# Parts of check, each with its cure in the message. Not in the help: make check names them.

# git ls-files, so that a formatter never wanders into .lab.
GO_DIRS = $(shell git ls-files --cached --others --exclude-standard '*.go')

.PHONY: fmt-check
fmt-check:
	@bad=$$($(TOOL) gofumpt -l $(GO_DIRS)) || exit 1; \
	if [ -n "$$bad" ]; then echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; fi

.PHONY: verify-crds
verify-crds:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(TOOL) controller-gen object crd paths=./api/... output:crd:dir=$$dir output:object:dir=$$dir && \
	diff -ru charts/aci-sync/crds/aci.haystacknetworks.com_externalepgs.yaml $$dir/aci.haystacknetworks.com_externalepgs.yaml && \
	diff -ru api/v1alpha1/zz_generated.deepcopy.go $$dir/zz_generated.deepcopy.go || \
	{ echo "what is generated from api/ is not up to date, run make update-crds"; exit 1; }

.PHONY: fix-check
fix-check:
	@$(GO) fix -diff ./... || { echo "go fix is not happy; where it printed a diff, run make fmt"; exit 1; }

.PHONY: tidy-check
tidy-check:
	@$(GO) mod tidy -diff || { echo "go.mod or go.sum is not tidy, run go mod tidy"; exit 1; }
	@for dir in tools tools/helm tools/promtool tools/release tools/sbom; do \
	  (cd $$dir && $(GO) mod tidy -diff) || { echo "$$dir/go.mod or $$dir/go.sum is not tidy"; exit 1; }; \
	done
