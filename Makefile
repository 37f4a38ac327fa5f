# `make demo` shows the product, `make test` proves it, `make bench` measures it. Each installs what it needs first.
#
# Everything is built in one profile, --release: RocksDB is about 25 CPU-minutes of C++, and a second profile would
# compile it again.

CARGO ?= cargo
# Fail points let the crash tests kill a job at every named step of a commit; they are compiled in for tests only.
TEST_FEATURES = --features shardflow-examples/failpoints

.PHONY: demo test bench setup deps fmt

demo: setup
	@$(CARGO) build --release --bin metering
	@$(CARGO) run --release --quiet --bin metering -- demo

test: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets $(TEST_FEATURES) -- -D warnings
	$(CARGO) test --release --workspace $(TEST_FEATURES)

bench: setup
	@$(CARGO) build --release --bin metering --bin shardflow-bench
	@$(CARGO) run --release --quiet --bin shardflow-bench

setup:
	@./.ci/setup

# Licences, bans, sources and advisories of every dependency. Needs cargo-deny and, for advisories, the network.
deps:
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked"; exit 1; }
	cargo deny check bans licenses sources

fmt:
	$(CARGO) fmt --all
