#!/usr/bin/env bash
# Writes what the images install into k8s/images/locks/: every package with its version, that of constraints.txt, and
# the hashes of its files, which pip checks (--require-hashes). Part of `make lock`; UV is the uv to run.
set -euo pipefail
cd "$(dirname "$0")/../.."

lock() { # NAME, then what to resolve: requirements by standard input, or a project and its extras
  local name=$1
  shift
  "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --constraint constraints.txt --generate-hashes \
    --no-annotate --no-header --output-file "k8s/images/locks/$name.txt" "$@" >/dev/null
}

mkdir -p k8s/images/locks
printf '%s\n' tensorflow tensorflow-serving-api | lock tensorflow -
printf '%s\n' 'tensorflow[and-cuda]' tensorflow-serving-api | lock tensorflow-gpu -
echo setuptools | lock build -
lock train --extra oci --extra otel --extra sign train/pyproject.toml
lock serving --extra jwt --extra otel --extra sign serving/pyproject.toml
lock client --extra web --extra otel --no-emit-package inkling-client client/pyproject.toml
lock batch --extra batch --extra otel --no-emit-package inkling-client client/pyproject.toml
