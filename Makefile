# Bare `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo train serve web test test-slow test-release fuzz test-cluster lint format check bench proto manifests images lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything in it; the other targets do it when needed

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY) ## train on MNIST with Ray, publish, serve, and read a page of handwriting
	$(BIN)/python -m train
	$(BIN)/python -m train evaluate models/mnist
	@$(BIN)/python -m serving > runs/serving.log 2>&1 & server=$$!; trap "kill $$server" EXIT; set -e; \
	  $(BIN)/python -m client wait --timeout 120; \
	  echo "written on runs/page.png:"; $(BIN)/python -m benchmarks.pages -o runs/page.png; \
	  echo "read by the server, drawn in runs/page_read.png:"; \
	  $(BIN)/python -m client read runs/page.png --draw runs/page_read.png

train: $(READY) ## train and publish; pass flags as `make train ARGS="--recipe best"`
	$(BIN)/python -m train $(ARGS)

serve: $(READY) ## serve what is in models/ on gRPC 8500 and REST 8501
	$(BIN)/python -m serving $(ARGS)

web: $(READY) ## the page to draw on, in front of a server that runs
	$(BIN)/python -m client web $(ARGS)

# Two at a time: most of a test is one process that waits for another one to start.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: $(READY) ## pass the tests
	$(PYTEST) -m "not slow and not fuzz and not release" $(ARGS)

test-slow: $(READY) ## pass the tests that `make test` leaves out: faults, clusters, reloads under load
	$(PYTEST) -m "slow and not release" $(ARGS)

test-release: $(READY) ## pass the tests that a release needs besides: container images, fresh installs
	$(BIN)/python -m pytest -m release $(ARGS)

fuzz: $(READY) ## send 100,000 broken requests to the server instead of the few thousand of `make test`
	$(BIN)/python -m pytest -m fuzz tests/serving/test_fuzz.py $(ARGS)

test-cluster: $(READY) ## train, serve and predict on the cluster of $KUBECONFIG, and take it all down again
	INKLING_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/k8s/test_cluster.py -rs $(ARGS)

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test test-slow ## what CI runs

bench: $(READY) ## measure training, serving, client and reading, each beside what else there is
	$(BIN)/python -m benchmarks.train_throughput
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.client --no-install
	$(BIN)/python -m benchmarks.reading

proto: $(READY) ## generate the client's messages, for protobuf 6.31.1 and later, which that protoc is of
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/proto-tools grpcio-tools==1.75.1
	PYTHONPATH=build/proto-tools $(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		client/proto/wire.proto

manifests: ## render every overlay of k8s/, to look at or to apply: build/manifests/
	mkdir -p build/manifests
	for overlay in k8s/overlays/*/; do \
	  kubectl kustomize $$overlay > build/manifests/$$(basename $$overlay).yaml || exit 1; done

images: ## build the container images of train, serving and client with podman or docker
	k8s/images/build.sh

lock: $(READY) ## resolve constraints.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-package inkling \
		--no-annotate --no-header --output-file constraints.txt pyproject.toml

clean: ## remove .venv, caches, runs and models made here
	rm -rf $(VENV) .cache runs models build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
