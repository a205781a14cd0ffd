#!/usr/bin/env sh
# Locks pyproject.toml into requirements/ and layer/: exact versions and hashes, without index addresses.
#
# With KEEP=1, what is locked keeps its version where pyproject.toml allows it: for a new package among the old ones.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
lock() {
  out=$1
  shift
  [ -n "${KEEP:-}" ] || set -- --upgrade "$@"
  "$uv" pip compile "$@" --quiet --universal --generate-hashes --no-header --no-annotate --overrides requirements/overrides.in \
    -o "$out"
}
# The layer for Lambda; then everything that make's first commands need; then everything.
lock layer/requirements.txt --python-version 3.13 --group lambda
lock requirements/run.txt --python-version 3.13 pyproject.toml --all-extras --group lambda --constraint layer/requirements.txt
lock requirements/dev.txt --python-version 3.13 pyproject.toml --all-extras --group lambda --group dev --constraint requirements/run.txt
# uv alone, which scripts/setup.sh installs with pip before anything else.
echo uv | lock requirements/uv.txt --python-version 3.11 - --constraint requirements/dev.txt
# Only what the group lists: neither the function's packages nor the dependencies of aws-sam-cli.
lock layer/emulator.txt --python-version 3.13 --group emulator --no-deps
# The linters have their own environment, because checkov pins many packages.
lock requirements/linters.txt --python-version 3.13 requirements/linters.in
# The compiler is needed by make kernel only.
lock requirements/kernel.txt --python-version 3.13 requirements/kernel.in
# Other programs for make bench CASES=peers have their own environment, too, with the versions of numpy and pandas of .venv.
lock requirements/peers.txt --python-version 3.13 requirements/peers.in --constraint requirements/dev.txt
