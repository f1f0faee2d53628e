# Run `make` to see what there is. It needs make, git, Python 3.11 or later and its pip;
# everything else is put into .tools and .venv, both of which `make clean` removes.

PYTHON ?= python3
SEEDS  ?= 300
SEED   ?=
MODE   ?=
ENGINE ?=
JOBS   ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# uv must use the Python that is here, never fetch one of its own.
export UV_PYTHON_DOWNLOADS := never
# Trust what the system trusts, so that a network with a certificate authority of its own works too.
export UV_SYSTEM_CERTS := 1
# pip warns root about the system's packages, which --target does not touch.
export PIP_ROOT_USER_ACTION := ignore
export PIP_DISABLE_PIP_VERSION_CHECK := 1

UV    := .tools/bin/uv
VENV  := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test check format sim mutants bench guarantees clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## install the tools and the dependencies (the others do it for you)
	@:

demo: $(READY) ## see a small group live, lose its leader and recover
	@$(VENV)/headcount demo

test: $(READY) ## run all tests; HEADCOUNT_TEST_REQUIRE=all lets none be skipped
	@$(VENV)/python tools/install_servers.py
	@$(VENV)/python tools/run_tests.py

check: $(READY) ## style, format, types (strict), and the direction of imports
	@$(VENV)/ruff check --quiet .
	@$(VENV)/ruff format --quiet --diff .
	@$(VENV)/mypy --no-error-summary
	@$(VENV)/lint-imports --no-logo

format: $(READY) ## put style and format right where a tool can
	@$(VENV)/ruff check --quiet --fix . || true
	@$(VENV)/ruff format --quiet .

sim: $(READY) ## simulate whole towns: SEEDS=300 of them, or SEED=17 alone; MODE=ticks, ENGINE=etcd; JOBS=2
	@$(VENV)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS) $(if $(SEED),--seed $(SEED)) \
		$(if $(MODE),--mode $(MODE)) $(if $(ENGINE),--engine $(ENGINE))

mutants: $(READY) ## plant known bugs one at a time; the tests must catch each
	@$(VENV)/python -m pytest --quiet -n $(JOBS) tests/mutants

bench: $(READY) ## measure, and print a table
	@$(VENV)/python -m bench

guarantees: $(READY) ## put every law to every store, and write the table of docs/guarantees.md
	@$(VENV)/python tools/install_servers.py
	@$(VENV)/python tools/write_guarantees.py

clean: ## remove everything that make and the tools have put here
	@rm -rf .tools .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# --target needs neither a virtual environment nor leave to change the system's packages,
# and so works on a bare Debian, whose pip refuses everything else.
$(UV):
	@$(PYTHON) -m pip install --quiet --upgrade --target .tools 'uv>=0.9'
	@touch $@

# --frozen: what is installed is what uv.lock says, on every machine. The marker is written
# last, so that an installation cut short is done again.
$(READY): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --frozen --all-extras --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $@
