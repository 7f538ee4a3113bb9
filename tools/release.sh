#!/usr/bin/env bash
# Builds what a release consists of into dist/, and says what to push: `make release`. Nothing leaves this machine.
#
# Wheels of the three distributions, a software bill of materials of each (CycloneDX, with the versions of
# constraints.txt; of their dependencies among each other it knows nothing), and SHA256SUMS over all of it.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
bin=$(dirname "$python")
version=$(cat VERSION)
if ! grep -q "^## $version (" CHANGELOG.md; then
  echo "CHANGELOG.md has no dated section '## $version (YYYY-MM-DD)'; write it first" >&2
  exit 1
fi
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
  echo "note: files are changed and not committed; the wheels have them, the tag will not" >&2
fi

"$python" -m pip install --quiet uv
rm -rf dist client/build serving/build train/build # a stale build/ would bring back files that are gone
mkdir dist
export PIP_CONSTRAINT=$PWD/constraints.txt PIP_BUILD_CONSTRAINT=$PWD/constraints.txt
"$python" -m pip wheel --quiet --no-deps --wheel-dir dist ./client ./serving ./train
rm -rf client/build serving/build train/build
for name in client serving train; do
  "$bin/uv" pip compile --quiet --python-version 3.11 --constraint constraints.txt --no-annotate --no-header \
    "$name/pyproject.toml" |
    PYTHONWARNINGS=ignore "$bin/uv" tool run --quiet --from 'cyclonedx-bom>=5' cyclonedx-py requirements --pyproject "$name/pyproject.toml" \
      --output-reproducible --output-file "dist/inkling_$name-$version.cdx.json" -
done
(cd dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)

cat <<TEXT

Built into dist/. To publish $version:
  git tag --annotate v$version --message "Inkling $version" && git push origin v$version
  twine upload dist/*.whl
  IMAGES=registry.example.com/inkling/ k8s/images/build.sh train serving client batch
  for image in train serving client batch; do podman push registry.example.com/inkling/\$image:$version; done
The images' bills of materials are build/images/*-$version.cdx.json; keep them with the wheels.
TEXT
