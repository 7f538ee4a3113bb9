#!/usr/bin/env bash
# Makes python:3.11-slim out of Debian's packages, for machines that reach Debian's mirror but no container registry:
# bookworm with its Python 3.11, under the name that the Dockerfiles start from, and with this machine's authorities.
# Run it as root; it does nothing where the image is there already. Needs debootstrap. ENGINE: as for build.sh.
set -euo pipefail

image=docker.io/library/python:3.11-slim
read -r -a engine <<<"${ENGINE:-podman}"
if "${engine[@]}" image inspect "$image" >/dev/null 2>&1; then
  exit 0
fi
root=$(mktemp --directory)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=ca-certificates,python3.11,python3.11-venv,python3-pip \
  bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"${TMPDIR:-/tmp}/debootstrap.log"

# As in the official image: commands without a number, and no copies of what apt fetches.
for name in python python3; do ln -s /usr/bin/python3.11 "$root/usr/local/bin/$name"; done
ln -s /usr/bin/pip3 "$root/usr/local/bin/pip"
cat >"$root/etc/apt/apt.conf.d/docker-clean" <<'APT'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi

tar --directory "$root" --create . | "${engine[@]}" import \
  --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'CMD ["python3"]' - "$image"
