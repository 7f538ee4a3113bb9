# Bare `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo train test test-fast lint format bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything in it; the other targets do it when needed

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## train on MNIST with Ray, publish the model, measure what was published
	$(BIN)/python -m train
	$(BIN)/python -m train evaluate models/mnist

train: $(READY) ## train and publish; pass flags as `make train ARGS="--recipe best"`
	$(BIN)/python -m train $(ARGS)

test: $(READY) ## run all tests
	$(BIN)/python -m pytest $(ARGS)

test-fast: $(READY) ## run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## measure training throughput side by side
	$(BIN)/python -m benchmarks.train_throughput

lock: $(READY) ## resolve constraints.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-package inkling \
		--no-annotate --no-header --output-file constraints.txt pyproject.toml

clean: ## remove .venv, caches, runs and models made here
	rm -rf $(VENV) runs models build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
