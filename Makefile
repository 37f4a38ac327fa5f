# `make demo` shows the product, `make test` proves it, `make bench` measures it. Each installs what it needs first.
#
# Everything is built in one profile, --release, and for the whole workspace: RocksDB is about 25 CPU-minutes of C++, and
# another profile, or the features of a single crate, would compile it again.

CARGO ?= cargo
CARGO_TARGET_DIR ?= target
# Absolute: tests run in their crates' folders, and one of them starts cargo itself.
override CARGO_TARGET_DIR := $(abspath $(CARGO_TARGET_DIR))
export CARGO_TARGET_DIR
# The command `shardflow` is a feature, so that libraries do not get its dependencies.
BUILD = $(CARGO) build --release --workspace --features shardflow-sources/cli
# What is measured is built as for production. Thin LTO inlines what the JSON parser calls across crates, a quarter of the
# metering job's time; it would link every test binary for a minute. A profile of its own would compile RocksDB again: so it
# is this one with another setting, and with the RocksDB that the first build has made.
MEASURED = $(BUILD) --bin metering --bin shardflow-bench
ROCKSDB_OUT = s/.*"package_id":"[^"]*librocksdb-sys[^"]*".*"out_dir":"\([^"]*\)".*/\1/p
define PRODUCTION
@$(MEASURED)
@rocksdb="$${ROCKSDB_LIB_DIR:-$$($(MEASURED) --message-format=json 2>/dev/null | sed -n '$(ROCKSDB_OUT)')}"; \
	CARGO_PROFILE_RELEASE_LTO=thin ROCKSDB_STATIC=1 ROCKSDB_LIB_DIR="$$rocksdb" $(MEASURED)
endef
# For instance BENCH_FLAGS='--only metering,latency --runs 9', or '--quick', which takes a minute and measures nothing.
BENCH_FLAGS ?=
PARTS_FLAGS ?=
# `make compare` measures the same jobs on Apache Flink, which it installs; see benches/compare/README.md.
PYTHON ?= python3
COMPARE_FLAGS ?=
ALL_FEATURES = shardflow-sources/cli,shardflow-sources/kcl,shardflow-sources/zookeeper,shardflow-sinks/full
# Fail points let the crash tests kill a job at every named step of a commit; they are compiled in for tests only.
TEST_FEATURES = --features $(ALL_FEATURES),shardflow-examples/failpoints

.PHONY: demo test bench bench-parts compare compare-test setup servers deps fmt

demo: setup
	@$(BUILD) --bin metering
	@"$(CARGO_TARGET_DIR)"/release/metering demo

test: setup servers compare-test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets $(TEST_FEATURES) -- -D warnings
	# As users build it: without fail points a type may be missing that they gave.
	$(CARGO) clippy --release --workspace --features $(ALL_FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps $(TEST_FEATURES)
	$(CARGO) test --release --workspace $(TEST_FEATURES)

bench: setup
	$(PRODUCTION)
	@"$(CARGO_TARGET_DIR)"/release/shardflow-bench $(BENCH_FLAGS)

# Micro-benchmarks of the parts. PARTS_FLAGS go to Criterion: 'route', for instance, or '--quick'; the report takes the
# figures of a whole run only.
bench-parts: setup
	@$(CARGO) bench --workspace --bench parts -- $(PARTS_FLAGS)
ifeq ($(PARTS_FLAGS),)
	$(PRODUCTION)
	@"$(CARGO_TARGET_DIR)"/release/shardflow-bench --only parts
endif

compare: setup
	@"$(PYTHON)" benches/compare/run --install
	$(PRODUCTION)
	@"$(PYTHON)" benches/compare/run $(COMPARE_FLAGS)

# The checks of the comparison are checked; needs Python alone.
compare-test:
	@if command -v "$(PYTHON)" >/dev/null; then cd benches/compare && "$(PYTHON)" -B -m unittest; \
	else echo "$(PYTHON) is missing: the tests of benches/compare are skipped"; fi

setup:
	@./.ci/setup

# The servers that tests start (stand-ins for AWS, ZooKeeper, PostgreSQL), and other programs that read what we wrote.
servers:
	@./.ci/setup-servers

# Licences, bans and sources of every dependency.
deps:
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked"; exit 1; }
	cargo deny check bans licenses sources

fmt:
	$(CARGO) fmt --all
