# Isthmus. `make help` lists the commands; each is explained in README.md.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Rust that scripts/setup.sh installed is found without a new login.
export PATH := $(PATH):$(HOME)/.cargo/bin
BIN := target/release
# What is built for the programs; scripts/test.sh says something else.
PROGRAMS ?= -p isthmus -p loadtest

.PHONY: help dev build programs web test test-rust test-web test-browser evidence bench lint generate setup

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

dev: build ## set up, build, run three PoPs on this machine; Ctrl-C ends them
	exec $(BIN)/isthmus dev

build: programs web ## the release programs and the web app

test: ## every test: Rust, web, browser end to end
	@scripts/test.sh

test-rust: setup
	cargo test --release --workspace

test-web: setup
	cd web && npm run typecheck && npm test

test-browser: build
	cd web && ISTHMUS_BIN=$(CURDIR)/$(BIN)/isthmus npm run e2e

evidence: build ## AREA=name: the checks of one area, all of them without AREA; writes docs/evidence/
	scripts/evidence.sh $(AREA)

bench: programs ## what media costs: the machine's floor, Isthmus, and Janus beside it, one table
	$(BIN)/loadtest bench

lint: setup ## formatting, clippy, types, dependencies and licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cd web && npm run lint && npm run typecheck
	scripts/dependencies.sh

generate: ## write anew what is generated from the Rust types
	UPDATE_GENERATED=1 cargo test -p isthmus-protocol --test typescript

programs: setup
	cargo build --release $(PROGRAMS)

web: setup
	cd web && npm run build

setup:
	@scripts/setup.sh
