#!/usr/bin/env sh
# Locks pyproject.toml into requirements/ and layer/: exact versions and hashes, and no address of any index.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
lock() {
  out=$1
  shift
  "$uv" pip compile pyproject.toml --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate --upgrade -o "$out" "$@"
}
lock layer/requirements.txt
lock requirements/dev.txt --group dev --constraint layer/requirements.txt
# Neither the function's packages nor those of aws-sam-cli: only what stands in the group.
"$uv" pip compile --quiet --group emulator --universal --python-version 3.13 --generate-hashes --no-header --no-annotate --upgrade --no-deps -o layer/emulator.txt
# In an environment of their own: checkov pins much.
"$uv" pip compile requirements/linters.in --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate --upgrade -o requirements/linters.txt
