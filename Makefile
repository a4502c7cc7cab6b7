# What a person types. Each target is one command; the work is done by cargo and the programs under
# integration/.

.PHONY: help up down purge test check captures lab lab-images bench-run bench-ipam bench-net

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

captures: ## Capture both engines anew for the tests of plugin-specs
	@integration/prepare.sh test
	cargo build --workspace --bins
	target/debug/dockline-capture scenario --output plugin-specs/captures/20.10
	integration/capture/debian13.sh plugin-specs/captures/26.1

# One node unless NODES says otherwise; several come with an etcd cluster.
NODES ?= 1
LAB_FLAGS = --nodes $(NODES) $(if $(filter-out 1,$(NODES)),--etcd)

lab: ## A node with a real kernel and a shell (NODES=3: several; CMD='…': run one command on it)
	@integration/prepare.sh test
	@cargo build --quiet --workspace --bins
ifdef CMD
	@target/debug/dockline-lab run $(LAB_FLAGS) -- "$(CMD)"
else
	@target/debug/dockline-lab shell --suite $(LAB_FLAGS) $$([ -t 0 ] && echo --raw)
endif

lab-images: ## Make the Debian 13 root for lab nodes (about a minute, once)
	@integration/prepare.sh test
	@cargo build --quiet --package dockline-lab
	@target/debug/dockline-lab images

bench-run: ## docker run and network connect beside Docker's bridge and macvlan
	@integration/prepare.sh test
	cargo build --release --workspace --bins
	target/release/dockline-bench run

bench-ipam: ## Addresses beside bare transactions of etcd and of the file
	@integration/prepare.sh test
	cargo build --release --package dockline-ipam --package dockline-bench-ipam
	target/release/dockline-bench-ipam

bench-net: ## Docker's calls for one endpoint beside bare OVSDB and ovs-vsctl (BENCH_PORTS=0,500,2000)
	@integration/prepare.sh test
	cargo bench --package dockline-net --bench calls
