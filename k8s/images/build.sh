#!/usr/bin/env bash
# Builds images with podman or docker, whichever is there: `k8s/images/build.sh [train serving client batch]`; without a
# name the first three.
#
# From the environment:
#   IMAGES       what the images' names begin with; registry.example.com/inkling/ to push them (localhost/inkling/)
#   VERSION      their tag (that in VERSION)
#   TENSORFLOW   tensorflow[and-cuda] for the GPU variant of train, whose tag ends in -gpu then (tensorflow)
#   ENGINE       podman or docker, with global options (the one that is installed)
#   BUILD_FLAGS  further options of its `build`
#   RUN_FLAGS    further options of its `run`, by which an image lists what it consists of
#
# Beside each image its bill of materials is left, in CycloneDX's JSON: build/images/train-0.2.0.cdx.json.
set -euo pipefail
cd "$(dirname "$0")/../.."

images=${IMAGES:-localhost/inkling/}
version=${VERSION:-$(cat VERSION)}
tensorflow=${TENSORFLOW:-tensorflow}
case $tensorflow in
tensorflow | 'tensorflow[and-cuda]') ;;
*)
  echo "TENSORFLOW is '$tensorflow'; the images' locks have tensorflow and tensorflow[and-cuda]" >&2
  exit 2
  ;;
esac
read -r -a flags <<<"${BUILD_FLAGS:-}"
read -r -a run_flags <<<"${RUN_FLAGS:-}"
read -r -a engine <<<"${ENGINE:-}"
for found in podman docker; do
  if [ ${#engine[@]} -eq 0 ] && command -v "$found" >/dev/null && "$found" info >/dev/null 2>&1; then
    engine=("$found")
  fi
done
if [ ${#engine[@]} -eq 0 ]; then
  echo "neither podman nor docker answers; install one, or name it in ENGINE" >&2
  exit 1
fi

if [ $# -eq 0 ]; then
  set -- train serving client
fi
for image in "$@"; do
  tag=$version
  arguments=(--build-arg "VERSION=$version")
  if [ "$image" = train ]; then
    arguments+=(--build-arg "REVISION=$(git describe --always --dirty --abbrev=40 2>/dev/null || true)")
  fi
  if [ "$image" = train ] && [ "$tensorflow" != tensorflow ]; then
    tag=$version-gpu
    arguments+=(--build-arg "TENSORFLOW=tensorflow-gpu")
  fi
  # The cache mount for pip is BuildKit's; podman has it by itself.
  DOCKER_BUILDKIT=1 "${engine[@]}" build ${flags[@]+"${flags[@]}"} "${arguments[@]}" \
    --file "k8s/images/$image.Dockerfile" --tag "$images$image:$tag" .
  echo "built $images$image:$tag"
  mkdir -p build/images
  "${engine[@]}" run --rm --interactive --network=none ${run_flags[@]+"${run_flags[@]}"} --entrypoint=python \
    "$images$image:$tag" - "inkling-$image" "$tag" <k8s/images/bill_of_materials.py >"build/images/$image-$tag.cdx.json"
done
