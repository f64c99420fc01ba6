# Everything starts here: `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
SOURCES := $(VENV)/.sources
DEV := $(VENV)/.dev
MANIFEST := dbt/target/manifest.json
export DAGSTER_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help demo demo-nist ui test lint bench torture lock snapshot clean setup sources

help: ## Show what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(BIN)/python requirements/runtime.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/runtime.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUNTIME) requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
	@touch $@

$(MANIFEST): $(RUNTIME) $(shell find dbt -name '*.sql' -o -name '*.yml' | grep -v target)
	$(BIN)/dbt parse --quiet --project-dir dbt --profiles-dir dbt
	@touch $@

setup: $(RUNTIME) $(MANIFEST) ## Install what is needed to run

$(SOURCES): $(RUNTIME) requirements/sources.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/sources.lock
	@touch $@

sources: $(SOURCES) ## Install the clients of OPC UA, MQTT, Modbus, serial lines and PostgreSQL

demo: setup ## Run the whole path on the embedded plant and print what was found
	$(BIN)/spc demo

demo-nist: setup ## The same graph on NIST's machine-shop data (needs the data folder)
	$(BIN)/spc demo --site nist

ui: setup ## Dagster's webserver and daemon on 127.0.0.1, with the embedded plant running
	$(BIN)/spc ui

test: $(DEV) $(MANIFEST) ## Run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(DEV) ## Format check, lint, types
	$(BIN)/ruff format --check spc_platform spc_platform_tests
	$(BIN)/ruff check spc_platform spc_platform_tests
	$(BIN)/mypy

bench: $(DEV) $(MANIFEST) ## Measure speed and memory; results go to docs/benchmarks.md
	$(BIN)/python -m spc_platform_tests.bench

torture: $(DEV) ## Kill workers 1,200 times and compare with the peer's truth; the result goes to docs/torture.md
	$(BIN)/python -m spc_platform_tests.torture

snapshot: $(DEV) $(MANIFEST) ## Accept the present asset graph as the reviewed one
	SPC_UPDATE_SNAPSHOT=1 $(BIN)/python -m pytest -q spc_platform_tests/test_definitions.py

lock: $(DEV) ## Resolve requirements/*.in anew (needs uv)
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header requirements/runtime.in -o requirements/runtime.lock
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -c requirements/runtime.lock requirements/sources.in -o requirements/sources.lock
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -c requirements/sources.lock requirements/dev.in -o requirements/dev.lock

clean: ## Remove the environment, the lake and everything made
	rm -rf $(VENV) dbt/target dbt/logs data/landing data/lake data/serving data/spool data/pki data/dagster_home data/*.sqlite* data/nist-*
