# Two commands do it all on a fresh machine: `make train` and `make test`. Each installs .venv from uv.lock first.
# Without an NVIDIA GPU, `make train TORCH=cpu` installs torch's CPU build, which is some gigabytes smaller; .venv keeps the choice.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
CORPUS ?= python-docs

.PHONY: train test test-all lint bench ui lock clean
train: .venv/installed
	@$(BIN)/gpt train $(CORPUS)

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/installed
	@$(PYTEST) -m "not slow"

# With those of an outage, a killed process, a served model: what CI runs.
test-all: .venv/installed
	@$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# What else it can do: make bench BENCHES=encoding BENCH="--help". The figures stay in .bench, peers in a venv of their own.
BENCHES ?= cleaning encoding decoder overhead
bench: .venv/installed
	-@$(MAKE) --no-print-directory .venv-bench/installed # without it (no network) a benchmark says so and does the rest
	@for name in $(BENCHES); do $(BIN)/python -m benchmarks.$$name $(BENCH) || exit 1; done

ui: .venv/installed
	@$(BIN)/gpt ui

# Asks of each stage whose sources were edited whether its output changes, and writes the answers to flows/stages/stages.lock.
lock: .venv/installed
	@$(BIN)/python -m flows.stages $(ANSWER)

# uv is taken from the path; where there is none, pip brings it into a venv of its own.
# A company's own certificate authority is trusted, as by pip; before 0.11, uv had another name for it.
export UV_SYSTEM_CERTS := true
export UV_NATIVE_TLS := true
UV := $(or $(shell command -v uv 2> /dev/null),.venv-uv/uv)
# The stamp of a venv is written last and holds the build of torch. A venv without a stamp (an interrupted install), or with another
# build than is asked for, is begun again. One that is older than uv.lock is brought up to date.
stamp = $(shell cat $(1)/installed 2> /dev/null)
TORCH ?= $(or $(call stamp,.venv),locked)
OTHER := $(filter-out locked,$(TORCH))
LOCKED_TORCH := $(shell sed -nE '/^name = "torch"/{n;s/version = "(.*)"/\1/p}' uv.lock)
CUDA := $(shell sed -nE '/^name = "nvidia-ml-py"/d; s/^name = "((nvidia|cuda)-.*|triton)"/\1/p' uv.lock)

# $(call install,VENV,WHAT) installs what the lock has for WHAT, hashes checked. Only a build of torch that PyPI does not have comes
# from download.pytorch.org: the locked version, without a hash. Not --locked, which fails where the machine names a mirror: a test
# compares the lock with pyproject.toml.
define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { echo "python 3.11 to 3.14 is needed; $(PYTHON) is another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@[ -x $(UV) ] || { echo "installing uv into .venv-uv (once)" && rm -rf .venv-uv && $(PYTHON) -m venv .venv-uv && .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.13,<0.14' && ln -s bin/uv .venv-uv/uv; }
	@echo "installing $(1) from uv.lock (a minute or more, once)"
	@[ "$(call stamp,$(1))" = "$(TORCH)" ] || rm -rf $(1)
	@rm -f $(1)/installed
	@UV_PROJECT_ENVIRONMENT=$(1) $(UV) sync --quiet --frozen --python $(PYTHON) $(2) $(if $(OTHER),$(addprefix --no-install-package ,torch $(CUDA)))
	$(if $(OTHER),@$(UV) pip install --quiet --python $(1)/bin/python torch==$(LOCKED_TORCH) --torch-backend $(TORCH))
	@echo $(TORCH) > $(1)/installed
endef

.PHONY: $(foreach venv,.venv .venv-bench,$(if $(filter-out $(call stamp,$(venv)),$(TORCH)),$(venv)/installed))
.venv/installed: uv.lock pyproject.toml
	$(call install,.venv,--all-extras)

.venv-bench/installed: uv.lock
	$(call install,.venv-bench,--only-group bench)

clean:
	rm -rf .venv .venv-bench .venv-uv .bench .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
