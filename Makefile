# make help lists the targets.

GO           ?= go
STATICCHECK  := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION      ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
MAJORS       ?= 14 15 16 17 18
TEST_TIMEOUT ?= 20m
# Packages to test: make test PACKAGES=./bridge/...
PACKAGES     ?= ./...

.DEFAULT_GOAL := help
.PHONY: help build demo test test-all check check-docs format vet staticcheck tidy race bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

build: ## build the static program bin/pgbridge
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/pgbridge ./cmd/pgbridge

demo: ## watch live events of a throw-away PostgreSQL on an embedded NATS
	@sh scripts/ensure-postgres.sh
	@$(GO) run ./cmd/pgbridge dev

test: ## run all tests on PostgreSQL 15
	@sh scripts/ensure-test-tools.sh
	$(GO) test -timeout $(TEST_TIMEOUT) $(PACKAGES)

test-all: ## run all tests on each PostgreSQL major in MAJORS
	@sh scripts/ensure-test-tools.sh
	@sh scripts/fetch-postgres.sh $(MAJORS)
	@set -e; for major in $(MAJORS); do \
		echo "PostgreSQL $$major"; \
		PGBRIDGE_TEST_POSTGRES="$$PWD/.cache/postgres/$$major/bin" $(GO) test -count=1 -timeout $(TEST_TIMEOUT) $(PACKAGES); \
	done

check: format vet staticcheck tidy check-docs race ## what CI runs after the tests: format, vet, staticcheck, go.mod, documents, race detector

format:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "these files need gofmt -w:"; echo "$$unformatted"; exit 1; \
	fi

vet:
	$(GO) vet ./...

staticcheck:
	$(GO) run $(STATICCHECK) ./...

tidy:
	$(GO) mod tidy -diff

check-docs: ## validate docs/asyncapi.yaml and run the JavaScript example; needs Node.js
	sh scripts/check-asyncapi.sh
	@sh scripts/ensure-test-tools.sh
	PGBRIDGE_TEST_NODE="$$PWD/.cache/docs" $(GO) test -tags docs -run JavaScript ./examples

race:
	@sh scripts/ensure-test-tools.sh
	$(GO) test -race -timeout $(TEST_TIMEOUT) $(PACKAGES)

bench: ## print pgbridge's figures beside those of bare loops
	@sh scripts/ensure-postgres.sh
	$(GO) run ./internal/bench

clean: ## remove what make made, fetched PostgreSQL programs included
	rm -rf bin .cache
