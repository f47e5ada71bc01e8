# `make` lists the targets. Every target that needs it makes .venv first, once: see scripts/setup.sh.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMP := .venv/.setup-done
PACKAGES := nassearch supernets predictors search_spaces

# Override on the command line: `make demo BUDGET=24 OUT=/tmp/demo`, `make test JOBS=8 ARGS="-k pareto"`.
BUDGET ?= 150
SEED ?= 0
OUT ?= results/demo
JOBS ?= 2
ARGS ?=
PYTHON ?=
export PYTHON

.PHONY: help setup demo test test-slow lint format types imports docs bounds bounds-install lock wheel clean ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install everything (uv where found, else pip)
	@echo "$$($(BIN)/python --version) in .venv is ready"

$(STAMP): pyproject.toml scripts/setup.sh
	@scripts/setup.sh
	@touch $@

demo: $(STAMP) ## train, search and export on handwritten digits: results/demo (BUDGET=150 OUT=…)
	$(BIN)/nassearch run --space mobilenetv3-tiny --task digits --objective top1:max --objective latency_ms:min \
	  --num-evals $(BUDGET) --seed $(SEED) --out $(OUT) --overwrite

# One thread per test process: JOBS processes that each start a thread per core only get in each other's way.
test: $(STAMP) ## run the fast tests (JOBS=2 ARGS="-k word")
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

test-slow: $(STAMP) ## run the slow tests: kill -9, Ray faults, browser
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(STAMP) ## check style and format (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## repair style and format (ruff)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## check types (mypy --strict)
	$(BIN)/mypy --strict $(addprefix -p ,$(PACKAGES))

imports: $(STAMP) ## check who imports whom (import-linter)
	$(BIN)/lint-imports

docs: $(STAMP) ## build the user guide into site/
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

bounds: $(STAMP) ## check that the lower bounds of the dependencies resolve together
	$(BIN)/python scripts/check_bounds.py

bounds-install: $(STAMP) ## install the lowest versions into .venv-lowest and run the fast tests there (slow)
	$(BIN)/python scripts/check_bounds.py --install .venv-lowest
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} .venv-lowest/bin/python -m pytest -n $(JOBS) -m "not slow" $(ARGS)

lock: $(STAMP) ## write uv.lock anew from pyproject.toml
	@scripts/uv.sh lock --upgrade

wheel: $(STAMP) ## build the wheel and source archive into dist/
	@scripts/uv.sh build

clean: ## remove caches and build outputs; .venv and results stay
	rm -rf dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(PACKAGES) tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

ci: ## run everything CI runs, at most 40 minutes
	@.ci/run
