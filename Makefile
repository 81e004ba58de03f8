# make help lists the targets.

GO           ?= go
GOLANGCI     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTESTSUM    := gotest.tools/gotestsum@v1.13.0
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION     ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
# What make build makes: make build GOARCH=arm64 BIN=pgbridge-arm64
BIN          ?= bin/pgbridge
# docker or podman, and what the image is called
DOCKER       ?= $(shell command -v docker || command -v podman || echo docker)
IMAGE        ?= pgbridge
# What make release makes, and where
PLATFORMS    ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
DIST         ?= dist
MAJORS       ?= 14 15 16 17 18
TEST_TIMEOUT ?= 20m
# Tests of one package at a time: most of them wait for something.
PARALLEL     ?= 6
# How often a test that failed is tried again, alone, before it counts. What only passes then is
# printed all the same: such a test is to be repaired. More than six are not tried again.
RERUNS       ?= 0
FUZZ         ?= 1m
ORACLE       ?= 1h
# How long make chaos goes on, and what it breaks and compares: make chaos CHAOS=1h PROFILE=durable
CHAOS        ?= 10m
PROFILE      ?= all
# Packages to test: make test PACKAGES=./bridge/...
PACKAGES     ?= ./...
# Packages whose goroutines meet: the race detector looks at them.
CONCURRENT   := ./bridge/... ./client/... ./copier/... ./cursors/... ./txrunner/... ./cmd/... \
	./internal/budget ./internal/execution ./internal/natsconn ./internal/pinned ./internal/service ./internal/session ./internal/wait
# Packages whose tests depend most on PostgreSQL's version.
VERSIONED    := ./bridge/internal/wal ./bridge/internal/schema ./internal/session ./internal/rows ./internal/script ./copier
# Tests of durable channels that depend on it: each major has its own way with slots.
DURABLE      := Slot|Publication|Promotion|Snapshot|Standby|Prepared|TransactionsThat|ServersThatDie
# The manifests' test is a module of its own, for it alone needs Kubernetes' types.
MANIFESTS    := deploy/kustomize
# So is the chart's, for it alone needs Helm.
CHART        := deploy/helm
# And that of compose.yaml.
COMPOSE      := deploy/compose
# The Kubernetes servers that check-apiserver builds.
APISERVER    := deploy/apiserver
# The test of alerts and dashboard is one, too, for it alone needs Prometheus.
ALERTS       := deploy/prometheus

# $(call go_test,FLAGS,PACKAGES)
go_test = $(if $(filter-out 0,$(RERUNS)),$(GO) run $(GOTESTSUM) --format standard-quiet --rerun-fails=$(RERUNS) \
	--rerun-fails-run-root-test --rerun-fails-max-failures=6 --packages="$(strip $(2))" -- $(1),$(GO) test $(1) $(2))

.DEFAULT_GOAL := help
.PHONY: release check-alerts check-apiserver help build image image-push check-deploy demo test test-all race majors check static check-docs check-node format vet lint tidy fuzz fuzz-short oracle oracle-short chaos chaos-short fresh bench bench-chart clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

build: ## build the static program bin/pgbridge
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/pgbridge

release: ## archives for PLATFORMS with checksums, lists of what is in them and notes, in DIST
	@MAKE='$(MAKE)' sh scripts/release.sh '$(VERSION)' '$(DIST)' $(PLATFORMS)

image: ## build the image IMAGE:VERSION for this machine, with docker or podman
	$(DOCKER) build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMAGE):$(VERSION) .

image-push: ## build the image for amd64 and arm64 with docker, and push it to IMAGE:VERSION
	docker buildx build -f deploy/Dockerfile --platform linux/amd64,linux/arm64 --provenance=true --sbom=true \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMAGE):$(VERSION) --push .

demo: ## watch live events of a throw-away PostgreSQL on an embedded NATS
	@sh scripts/ensure-postgres.sh
	@$(GO) run ./cmd/pgbridge dev

check-console: ## look at the console with a real browser, and complete commands in bash, zsh and fish; needs Node.js; PICTURES=docs/console makes the documents' pictures anew
	@sh scripts/ensure-test-tools.sh
	@sh scripts/ensure-shells.sh
	@browser=$$(sh scripts/ensure-browser.sh) && PGBRIDGE_TEST_BROWSER="$$browser" PGBRIDGE_TEST_BROWSER_PACKAGES="$$PWD/.cache/browser" \
		PGBRIDGE_TEST_PICTURES="$(if $(PICTURES),$$PWD/$(PICTURES))" $(call go_test,-count=1 -tags 'browser shells' -run 'InABrowser|InShells',./cmd/pgbridge)

test: ## run all tests on PostgreSQL 15
	@sh scripts/ensure-test-tools.sh
	$(call go_test,-parallel $(PARALLEL) -timeout $(TEST_TIMEOUT),$(PACKAGES))
	cd $(MANIFESTS) && $(GO) test -count=1 ./...

# Only what speaks to PostgreSQL can tell one major from another.
test-all: ## run the tests that need PostgreSQL on each major in MAJORS; RUN names some of them
	@sh scripts/ensure-test-tools.sh
	@sh scripts/fetch-postgres.sh $(MAJORS)
	@set -e; packages="$(POSTGRES_PACKAGES)"; \
	[ -n "$$packages" ] || packages=$$(git grep -lE 'testenv\.(Postgres|DedicatedPostgres|Standby)\(|harness\.New' -- '*_test.go' | sed 's#^#./#; s#/[^/]*$$##' | sort -u); \
	for major in $(MAJORS); do \
		echo "PostgreSQL $$major"; \
		PGBRIDGE_TEST_POSTGRES="$$PWD/.cache/postgres/$$major/bin" \
			$(call go_test,-count=1 -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT) -run '$(RUN)',$$packages); \
	done

race: ## run the tests of what is concurrent with the race detector
	@sh scripts/ensure-test-tools.sh
	$(call go_test,-race -short -p 2 -parallel $(PARALLEL) -timeout $(TEST_TIMEOUT),$(CONCURRENT))

check: static oracle-short chaos-short race majors check-deploy check-console ## what CI runs after the tests: static, a minute of the oracle, a moment of chaos, race, the oldest and the newest PostgreSQL, what is deployed, the console in a browser

majors: ## run what depends most on PostgreSQL's version on 14 and 18
	$(MAKE) test-all MAJORS="14 18" POSTGRES_PACKAGES="$(VERSIONED)"
	$(MAKE) test-all MAJORS="14 18" POSTGRES_PACKAGES=./bridge/internal/durable RUN='$(DURABLE)'

static: format vet lint tidy check-docs check-node check-alerts fuzz-short ## format, vet, lint, go.mod, documents, a moment of each fuzz target

format:
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); if [ -n "$$unformatted" ]; then \
		echo "these files need gofmt -w:"; echo "$$unformatted"; exit 1; \
	fi

# Go remembers a test's success as long as the files of its own module are the same, and
# these modules' tests look at files of others.
check-alerts: ## evaluate the alert rules as Prometheus does
	cd $(ALERTS) && $(GO) mod tidy -diff && $(GO) vet ./... && $(GO) test -count=1 ./...

vet:
	$(GO) vet ./...
	$(GO) vet -tags 'browser node oracle shells tools' ./...
	cd $(MANIFESTS) && $(GO) vet ./...

lint: ## look for mistakes that the compiler does not know
	$(GO) run $(GOLANGCI) run

tidy:
	$(GO) mod tidy -diff
	cd $(MANIFESTS) && $(GO) mod tidy -diff && $(GO) mod tidy -diff -modfile=oldest.mod
	cd $(CHART) && $(GO) mod tidy -diff
	cd $(COMPOSE) && $(GO) mod tidy -diff

check-docs: ## validate docs/asyncapi.yaml; needs Node.js
	sh scripts/check-asyncapi.sh

check-node: ## check the types of examples/javascript and run it against real servers; needs Node.js
	@sh scripts/ensure-node.sh
	@sh scripts/ensure-test-tools.sh
	$(GO) vet -tags node ./examples
	PGBRIDGE_TEST_NODE="$$PWD/.cache/node" $(call go_test,-tags node -parallel $(PARALLEL) -run JavaScript,./examples)

check-deploy: ## render the chart, run the image and what the systemd unit allows; needs podman
	cd $(CHART) && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd $(COMPOSE) && $(GO) vet ./... && $(GO) test -count=1 ./...
	$(GO) vet -tags tools ./deploy
	@sh scripts/ensure-deploy-tools.sh
	@sh scripts/ensure-test-tools.sh
	$(call go_test,-tags tools -run "Image|Unit|Compose|Release|Hooks",./deploy)

# Not a part of check: it takes minutes to build Kubernetes.
check-apiserver: ## have a real kube-apiserver validate and admit what the chart and the base render; builds it the first time
	cd $(APISERVER) && $(GO) build -o "$(CURDIR)/.cache/apiserver/etcd" go.etcd.io/etcd/server/v3 && \
		$(GO) build -o "$(CURDIR)/.cache/apiserver/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
	cd $(CHART) && $(GO) vet -tags apiserver ./... && PGBRIDGE_TEST_APISERVER="$(CURDIR)/.cache/apiserver" $(GO) test -v -count=1 -tags apiserver -run APIServer ./...

fuzz-short:
	@sh scripts/fuzz.sh 2000x

fuzz: ## look for bytes that break a parser, FUZZ=1m for each of them
	@sh scripts/fuzz.sh $(FUZZ)

oracle: ## compare random scripts with PostgreSQL itself while the schema changes, for the time ORACLE; SEED repeats a failure
	@sh scripts/ensure-test-tools.sh
	$(GO) test -count=1 -timeout 0 -tags oracle ./internal/oracle -oracle.time $(ORACLE) -rapid.nofailfile $(if $(SEED),-rapid.seed=$(SEED))

oracle-short:
	@$(MAKE) --no-print-directory oracle ORACLE=45s

chaos: ## break servers, links and replicas at random for the time CHAOS, and compare what was committed with what arrived; SEED chooses the same faults again
	@sh scripts/ensure-postgres.sh
	$(GO) run ./internal/chaos -for $(CHAOS) -profile $(PROFILE) $(if $(SEED),-seed $(SEED)) $(FLAGS)

chaos-short:
	@sh scripts/ensure-postgres.sh
	$(GO) run ./internal/chaos -seed 1 -for 15s -profile events -faults replica,backend

fresh: ## run the README's commands in an empty Debian; root only, needs debootstrap
	@sh scripts/fresh.sh

bench: ## print pgbridge's figures beside those of bare loops; BENCH="-json r.json -svg r.svg" writes them, too
	@sh scripts/ensure-postgres.sh
	$(GO) run ./internal/bench $(BENCH)

bench-chart: ## measure on an idle machine, and write the figures and the chart that the documents show
	@$(MAKE) --no-print-directory bench BENCH="-json docs/figures.json -svg docs/figures.svg $(BENCH)"

clean: ## remove what make made, fetched PostgreSQL programs included
	rm -rf bin .cache dist
