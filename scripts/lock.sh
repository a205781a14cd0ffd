#!/usr/bin/env sh
# Locks pyproject.toml into requirements/: exact versions and hashes, and no address of any index.
set -eu
cd "$(dirname "$0")/.."
if uv --version >/dev/null 2>&1; then uv=uv; else uv=.uv/bin/uv; fi
lock() {
  out=$1
  shift
  "$uv" pip compile pyproject.toml --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate --upgrade -o "$out" "$@"
}
lock requirements/function.txt
lock requirements/dev.txt --group dev --constraint requirements/function.txt
