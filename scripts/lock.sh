#!/usr/bin/env sh
# Locks pyproject.toml into requirements/ and layer/: exact versions and hashes, without index addresses.
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
# uv alone, which scripts/setup.sh installs with pip before anything else.
echo uv | "$uv" pip compile - --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade --constraint requirements/dev.txt -o requirements/uv.txt
# Only what the group lists: neither the function's packages nor the dependencies of aws-sam-cli.
"$uv" pip compile --quiet --group emulator --universal --python-version 3.13 --generate-hashes --no-header --no-annotate --upgrade --no-deps -o layer/emulator.txt
# The linters have their own environment, because checkov pins many packages.
"$uv" pip compile requirements/linters.in --quiet --universal --python-version 3.13 --generate-hashes --no-header --no-annotate --upgrade -o requirements/linters.txt
