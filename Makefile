# The two commands of the README are `make run` and `make test`; `make check` is the part of the tests that takes minutes.
#
# Build results outlive a clone, so that a fresh one does not compile everything again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/shoal/target
export CARGO_TERM_COLOR ?= auto

NEXTEST := cargo nextest run --workspace

.PHONY: run test check lint tools peers build bench matrix

## Build in release and watch one local process download from another.
run:
	cargo build --release --package shoal-cli
	cargo xtask demo $(CARGO_TARGET_DIR)/release/shoal

## Everything: house rules, lints, unit, property and simulation tests, replayed fuzz corpora, and real third-party peers.
test: tools lint peers build
	$(NEXTEST)
	cargo test --workspace --doc --quiet

## The part of `make test` that needs no third-party programs and no large simulation.
check: tools lint
	$(NEXTEST) --profile check
	cargo test --workspace --doc --quiet

## Shoal against the engines of the field: an hour, on a machine that does nothing else, and the simulation of large swarms after it, for hours. Results, plots and page go to docs.
bench:
	lab/interop/install-peers measured
	cargo build --release --package shoal-cli --package shoal-bench --package shoal-sim
	cargo run --release --quiet --package shoal-bench --bin shoal-bench -- all --docs docs $(BENCH)
	cargo bench --package shoal-bench

## What works with which client, half an hour; results and the table of docs/interop.md are written again.
matrix: peers build
	cargo run --quiet --package shoal-interop --bin matrix -- --docs docs

lint:
	cargo fmt --all --check
	cargo xtask tidy
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo deny --log-level error check bans licenses sources

build:
	cargo build --package shoal-cli

## Cargo's own helpers, where they are missing.
tools:
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny

## The third-party programs on the other end of the wire. Where one cannot be installed its tests say so and skip; with
## CI=true they fail.
peers:
	lab/interop/install-peers
