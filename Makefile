# Every target has its help behind `##`; `make help` prints them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MEMBERS := . deploy/devstack $(wildcard services/*)
ROWS ?= 3000
SEEDS ?= 1000
T ?=
# Most tests wait for servers: two files at a time, each worker with servers of its own.
SIDE_BY_SIDE ?= -n 2 --dist loadfile
ONLY ?=
WHAT ?= routing
SCALE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fmt fmt-check lint types imports tidy unit contract integration simulation bench prove docs lock clean

help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml deploy/devstack/pyproject.toml $(wildcard services/*/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index $(foreach m,$(MEMBERS),-e $(m))
	@touch $@

setup: $(READY) ## Make .venv with everything in it; the command is .venv/bin/gravity

demo: $(READY) ## The main job on real servers: three sources into MySQL, ClickHouse and Kafka (ROWS=…)
	$(BIN)/python -m deploy.demo --rows $(ROWS)

test: $(READY) check ## Everything that must pass: checks, then tests on real servers
	$(BIN)/pytest $(SIDE_BY_SIDE) --durations=20 tests/contract tests/integration tests/end_to_end tests/fault $(T)

check: $(READY) fmt-check lint types imports unit ## Format, lint, types, import contracts, tidy, unit tests

fmt: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fmt-check: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY) ## Lint
	$(BIN)/ruff check .

types: $(READY) ## Types
	$(BIN)/mypy

imports: $(READY) ## Import contracts
	$(BIN)/lint-imports

unit: $(READY) ## Unit tests and the tree's own tidiness; no servers
	$(BIN)/pytest $(SIDE_BY_SIDE) tests/unit tests/tidy $(T)

contract: $(READY) ## Contracts: schemas, examples, every sink
	$(BIN)/pytest tests/contract $(T)

integration: $(READY) ## One real neighbour at a time
	$(BIN)/pytest $(SIDE_BY_SIDE) tests/integration $(T)

simulation: $(READY) ## The seeded simulation on the product's own cores, then each law broken on purpose (SEEDS=…)
	$(BIN)/python -m tests.fault.simulation --seeds $(SEEDS)
	$(BIN)/python -m tests.fault.simulation --breaks --seeds $(SEEDS)

bench: $(READY) ## Benchmarks as JSON lines (ONLY=decode|codec|…)
	$(BIN)/python -m tests.bench $(ONLY)

prove: $(READY) ## The long proofs of one subject (WHAT=source|routing|resolving|consistency SCALE=… SEEDS=… ONLY=…)
	$(BIN)/python -m tests.prove $(WHAT) --scale $(SCALE) --seeds $(SEEDS) --only "$(ONLY)"

docs: $(READY) ## Generate what is generated under docs/
	$(BIN)/python -m gravity.config.schema docs
	$(BIN)/python -m gravity.cli.reference
	$(BIN)/python -m gravity.routing_page docs/routing.md
	$(BIN)/python -m gravity.type_reference

lock: ## Pin requirements.lock anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--extra kafka --extra http --group dev pyproject.toml deploy/devstack/pyproject.toml $(wildcard services/*/pyproject.toml) \
		--no-emit-package gravity --no-emit-package gravity-devstack -o requirements.lock

clean: ## Remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build
