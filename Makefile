# On a fresh machine: `make train` or `make test`. Each first installs .venv from uv.lock.
# Without an NVIDIA GPU, `make train TORCH=cpu` installs torch's CPU build, which is gigabytes smaller. Later commands keep that build.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
CORPUS ?= python-docs

.PHONY: train test test-all soak lint bench ui lock clean
train: .venv/installed
	@$(BIN)/gpt train $(CORPUS)

PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test: .venv/installed
	@$(PYTEST) -m "not slow"

# Includes the slow tests (outages, killed processes, served models). CI runs this.
test-all: .venv/installed
	@$(PYTEST)

# 60 kills at random moments: half an hour. Others: make soak SOAK="--kills 10 --victims worker".
soak: .venv/installed
	@$(BIN)/python -m tests.flows.soak $(SOAK)

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Options of one benchmark: make bench BENCHES=encoding BENCH="--help". Results go to .bench; peers have their own venv, .venv-bench.
BENCHES ?= cleaning encoding decoder overhead beside
bench: .venv/installed
	-@$(MAKE) --no-print-directory .venv-bench/installed # if it fails (no network), the benchmarks run without peers
	@for name in $(BENCHES); do $(BIN)/python -m benchmarks.$$name $(BENCH) || exit 1; done

ui: .venv/installed
	@$(BIN)/gpt ui

# For each stage whose sources were edited, asks whether its output changes, and writes the answer to flows/stages/stages.lock.
lock: .venv/installed
	@$(BIN)/python -m tests.flows.stages.lock $(ANSWER)

# Uses uv from the path. If there is none, pip installs it into .venv-uv.
# Like pip, uv trusts the system's certificates, such as a company's own. uv before 0.11 has another name for this setting.
export UV_SYSTEM_CERTS := true
export UV_NATIVE_TLS := true
UV := $(or $(shell command -v uv 2> /dev/null),.venv-uv/uv)
# The stamp of a venv is written last and names its build of torch. A venv without a stamp (an interrupted install), or with another
# build than requested, is rebuilt. One that is older than uv.lock is updated.
stamp = $(shell cat $(1)/installed 2> /dev/null)
TORCH ?= $(or $(call stamp,.venv),locked)
OTHER := $(filter-out locked,$(TORCH))
LOCKED_TORCH := $(shell sed -nE '/^name = "torch"/{n;s/version = "(.*)"/\1/p}' uv.lock)
CUDA := $(shell sed -nE '/^name = "nvidia-ml-py"/d; s/^name = "((nvidia|cuda)-.*|triton)"/\1/p' uv.lock)

# $(call install,VENV,OPTIONS) installs from uv.lock by `uv sync OPTIONS`, checking hashes. A build of torch that is not on PyPI comes from
# download.pytorch.org instead: the locked version, without a hash. --frozen is used since --locked fails where the machine names a
# mirror; a test compares the lock with pyproject.toml.
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
