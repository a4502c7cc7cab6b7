# What a person types. Each target is one command; the work is done by cargo and the programs under
# integration/.

.PHONY: help up down purge test check captures bench-ipam

help: ## Show this help
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

up: ## Install what is missing, build, start the suite, run the demonstration
	@integration/prepare.sh up
	@echo "==> building (some minutes the first time)"
	@cargo build --workspace --bins
	@target/debug/dockline-up up

down: ## Stop and remove what `make up` made; volumes stay
	@cargo build --quiet --package dockline-host
	@target/debug/dockline-up down

purge: ## The same, and remove the volumes and all state too
	@cargo build --quiet --package dockline-host
	@target/debug/dockline-up purge

check: ## Formatting, lints, licences: what needs no root
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo deny --log-level error check bans licenses sources

test: ## Install what the tests need, and run them all
	@integration/prepare.sh test
	@$(MAKE) --no-print-directory check
	cargo build --workspace --bins
	cargo nextest run --workspace
	cargo test --workspace --doc --quiet

captures: ## Capture this machine's engine anew for the tests of plugin-specs
	@integration/prepare.sh test
	cargo build --workspace --bins
	target/debug/dockline-capture scenario --output \
		plugin-specs/captures/$$(dockerd --version | sed 's/.*version \([0-9]*\.[0-9]*\).*/\1/')

bench-ipam: ## Measure addresses beside bare transactions of etcd and the file
	@integration/prepare.sh test
	cargo build --release --package dockline-ipam --package dockline-bench
	target/release/dockline-bench-ipam
