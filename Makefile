# The commands of this project; `make` alone lists them.
#
# CARGO_TARGET_DIR moves what is built, KAFKA_LIBS the jars of the broker that the tests start.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Further arguments of `cargo test`, `cargo bench`, `make api` and the race, for example: make test ARGS='--test broker'
ARGS ?=
# The embedded broker, its sample topics and every statement of sql-examples/.
DEMO := cargo run --release --quiet --bin kafka-sql -- demo --examples sql-examples

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: setup
setup: ## install what building and testing need; changes nothing when all is there
	@scripts/setup test

.PHONY: demo
demo: ## build the shell and run it on an embedded broker with sample data
	@scripts/setup build
	cargo build --release --bin kafka-sql
	$(DEMO)

.PHONY: demo-cluster
demo-cluster: ## three brokers, three workers and a coordinator, here; workers die (ARGS=--keep)
	@scripts/setup cluster
	@scripts/demo/cluster.py $(ARGS)

.PHONY: dist
dist: ## the shell to give to others: target/dist/kafka-sql; takes long
	@scripts/setup build
	cargo build --profile dist --locked --bin kafka-sql

.PHONY: test
test: setup ## all tests, also against real Kafka brokers; ends with the totals
	@scripts/test $(ARGS)

.PHONY: test-fast
test-fast: ## the tests inside the libraries alone: no Java, no broker
	@scripts/setup build
	@scripts/test --lib $(ARGS)

.PHONY: test-slow
test-slow: setup ## the tests marked as slow: clusters, other releases and load, an hour or more
	@scripts/kafka-libs old
	@scripts/test --lib --test broker --test jobs $(ARGS) -- --ignored --nocapture
	@$(if $(ARGS),:,scripts/test $(WORKERS) --lib --test service -- --ignored --nocapture)

# The shell with what the default build does not compile: distributed and serve share a compilation, and
# ballista has one of its own.
ENGINE ?= distributed
BESIDE := $(if $(filter ballista,$(ENGINE)),ballista,distributed serve)
WORKERS := --package kafka-sql $(BESIDE:%=--package datafusion-kafka-%) --features '$(BESIDE:%=kafka-sql/%)'
WORKERS_TESTS := --lib $(if $(filter serve,$(ENGINE)),--test service --test mcp,--test $(ENGINE)) $(if $(filter distributed,$(ENGINE)),--test workers)

.PHONY: test-workers
test-workers: setup ## test statements on workers (ENGINE=ballista: on Ballista, serve: the service); compiles DataFusion once more
	@$(if $(filter serve,$(ENGINE)),scripts/pg-clients,:)
	@scripts/test $(WORKERS) $(or $(ARGS),$(WORKERS_TESTS))

# How long: the slow tests take ten minutes.
MINUTES ?= 60

.PHONY: test-endurance
test-endurance: setup ## ten jobs and fifty connections for an hour (MINUTES=60), while brokers and databases die
	@KAFKA_SQL_TEST_MINUTES=$(MINUTES) scripts/test $(WORKERS) --test service $(ARGS) -- --ignored --nocapture endure

.PHONY: test-logins
test-logins: setup ## test the logins of AWS MSK and Kerberos; compiles an AWS SDK, and librdkafka once more
	@scripts/logins $(ARGS)

.PHONY: lint-workers
lint-workers: ## clippy for the same
	cargo clippy --release --config scripts/test-profile.toml $(WORKERS) --all-targets -- -D warnings

.PHONY: lint
lint: ## format, clippy and documentation, warnings are errors
	cargo fmt --all --check
	cargo fmt --manifest-path benches/peers/drain/Cargo.toml --check
	cargo fmt --manifest-path examples/msk-iam/Cargo.toml --check
	cargo clippy --release --config scripts/test-profile.toml --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --config scripts/test-profile.toml --no-deps

.PHONY: api
api: ## compare the public API with docs/api; ARGS=--renew writes it
	cargo run --quiet --manifest-path scripts/public-api/Cargo.toml -- $(ARGS)

.PHONY: deny
deny: ## licences, bans and sources of the dependencies
	@scripts/deny

.PHONY: features
features: ## check the smallest sets of features (FEATURES='s3 azure')
	@scripts/features

.PHONY: fuzz
fuzz: ## run each fuzzer for a moment
	@scripts/fuzz

.PHONY: package
package: ## pack the crates as they would be published
	cargo package --workspace --no-verify --allow-dirty

.PHONY: bench
bench: setup ## the benchmarks
	cargo bench $(ARGS)

.PHONY: bench-peers
bench-peers: setup ## the race against other readers; writes docs/benchmarks.* (ARGS='--help')
	@scripts/peers
	cargo build --release --bin kafka-sql
	cargo build --release --locked --manifest-path benches/peers/drain/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}"
	python3 benches/peers/race/race.py $(ARGS)

.PHONY: bench-workers
bench-workers: setup ## what workers cost, next to one process (ARGS='--help')
	cargo build --release $(WORKERS) --bin kafka-sql
	cargo build --release --locked --manifest-path benches/peers/drain/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}"
	python3 benches/workers/workers.py $(ARGS)

.PHONY: clean
clean: ## remove what was built; the broker's jars stay
	cargo clean
