# Two commands do it all on a fresh machine: `make train` and `make test`. Each makes .venv from requirements.lock first.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
CORPUS ?= python-docs

.PHONY: train test test-all lint bench ui clean
train: .venv/installed
	@$(BIN)/gpt train $(CORPUS)

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/installed
	@$(PYTEST) -m "not slow"

# With those of an outage, a killed process, a served model: what CI runs.
test-all: .venv/installed
	@$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What else it can do: make bench BENCHES=encoding BENCH="--help". The figures stay in .bench, peers in a venv of their own.
BENCHES ?= cleaning encoding decoder overhead
bench: .venv/installed .venv-bench/installed
	@for name in $(BENCHES); do $(BIN)/python -m benchmarks.$$name $(BENCH) || exit 1; done

ui: .venv/installed
	@$(BIN)/gpt ui

# A venv that an interrupted install left behind is begun again; the stamp is written last.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python 3.11 or newer is needed; $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "making .venv from requirements.lock (some minutes, once)"
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

# Without it (no network) the benchmark says so and does the rest.
.venv-bench/installed: benchmarks/requirements.lock requirements.lock
	@echo "making .venv-bench from benchmarks/requirements.lock (once)"
	@rm -rf .venv-bench && $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.lock && touch $@ || true

clean:
	rm -rf .venv .venv-bench .bench .pytest_cache .ruff_cache .hypothesis *.egg-info
