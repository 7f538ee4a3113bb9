# Bare `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
PROJECTS := client/pyproject.toml serving/pyproject.toml train/pyproject.toml
EDITABLE := --editable './client[batch,web]' --editable ./serving --editable ./train
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup setup-client demo train serve web test test-quick test-slow test-release fuzz test-cluster lint format check bench proto manifests images lock release docs lint-js clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything in it; the other targets do it when needed

$(DEMO): $(PROJECTS) constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) $(EDITABLE)
	touch $@

setup-client: ## make .venv with what working on the client takes: no TensorFlow, no Ray
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) --group dev-client --editable './client[web]'

$(READY): $(DEMO) pyproject.toml
	$(INSTALL) --group dev $(EDITABLE)
	touch $@

demo: $(DEMO) ## train on MNIST with Ray, publish, serve, and read a page of handwriting
	$(BIN)/python -m train --max-minutes 7
	$(BIN)/python -m train evaluate models/mnist
	@$(BIN)/python -m serving > runs/serving.log 2>&1 & server=$$!; trap "kill $$server" EXIT; set -e; \
	  $(BIN)/python -m client wait --timeout 120; \
	  echo "written on runs/page.png:"; $(BIN)/python -m tools.compose_page -o runs/page.png; \
	  echo "read by the server, drawn in runs/page_read.png:"; \
	  $(BIN)/python -m client read runs/page.png --draw runs/page_read.png

train: $(DEMO) ## train and publish; pass flags as `make train ARGS="--recipe best"`
	$(BIN)/python -m train $(ARGS)

serve: $(DEMO) ## serve what is in models/ on gRPC 8500 and REST 8501
	$(BIN)/python -m serving $(ARGS)

web: $(DEMO) ## the page to draw on, in front of a server that runs
	$(BIN)/python -m client web $(ARGS)

# Two at a time: most of a test is one process that waits for another one to start.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Without `make setup`'s TensorFlow too, as `make setup-client` leaves it: then ARGS=tests/client.
test-quick: ## run the tests that start no process and train nothing, in a minute
	test -x $(BIN)/pytest || $(MAKE) setup
	$(PYTEST) --dist worksteal --quick -q $(ARGS)

test: $(READY) ## run the tests
	$(PYTEST) -m "not slow and not fuzz and not release" $(ARGS)

test-slow: $(READY) ## run what takes minutes each, before a release: faults, clusters, reloads under load
	$(PYTEST) -m "slow and not release" $(ARGS)

test-release: $(READY) ## run the tests that a release needs besides: container images, fresh installs
	$(BIN)/python -m pytest -m release $(ARGS)

fuzz: $(READY) ## send 100,000 broken requests to the server instead of the few thousand of `make test`
	$(BIN)/python -m pytest -m fuzz tests/serving/test_fuzz.py $(ARGS)

test-cluster: $(READY) ## train, serve and predict on the cluster of $KUBECONFIG, and take it all down again
	INKLING_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/k8s/test_cluster.py tests/k8s/test_cluster_parts.py -rs $(ARGS)

lint: $(READY) build/namespace ## check style, types, and which way imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

lint-js: tools/javascript/node_modules ## check the web page's JavaScript; needs Node 20.19 or later
	npm --prefix tools/javascript run --silent lint

tools/javascript/node_modules: tools/javascript/package-lock.json
	npm --prefix tools/javascript ci --silent
	touch $@

# The namespace as it is installed, for tools that read the source: there the folders are inkling.client and so on.
build/namespace: $(READY)
	mkdir -p $@/inkling
	for package in client serving train; do ln -sfn ../../../$$package $@/inkling/$$package; done

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test ## what CI runs

bench: $(READY) ## measure training, serving, client and reading, each beside what else there is
	$(BIN)/python -m benchmarks.train_throughput
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.client --no-install
	$(BIN)/python -m benchmarks.reading

proto: $(READY) ## generate the messages of client and serving, for protobuf 6.31.1 and later, which that protoc is of
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/proto-tools grpcio-tools==1.75.1
	PYTHONPATH=build/proto-tools $(BIN)/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. \
		client/protocol/wire.proto serving/proto/serving_config.proto serving/proto/profiler.proto \
		serving/proto/open_inference.proto

manifests: ## render every overlay of k8s/, to look at or to apply: build/manifests/
	mkdir -p build/manifests
	for overlay in k8s/overlays/*/; do \
	  kubectl kustomize $$overlay > build/manifests/$$(basename $$overlay).yaml || exit 1; done

images: ## build the container images of train, serving and client with podman or docker
	k8s/images/build.sh

lock: $(READY) ## resolve constraints.txt anew from the four pyproject.toml, and what the images install of it
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group pyproject.toml:dev \
		--no-emit-package inkling-client --no-emit-package inkling-serving --no-emit-package inkling-train \
		--no-annotate --no-header --output-file constraints.txt $(PROJECTS)
	UV=$(BIN)/uv k8s/images/lock.sh

release: $(READY) ## build wheels, bills of materials and checksums into dist/, and say what to push
	PYTHON=$(BIN)/python tools/release.sh

docs: build/namespace ## build the documentation, with the client's API, into build/site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean: ## remove .venv, caches, runs and models made here
	rm -rf $(VENV) .cache runs models build */build dist */*.egg-info tools/javascript/node_modules .mypy_cache .pytest_cache .ruff_cache
