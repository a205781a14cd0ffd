#!/usr/bin/env bash
# Installs requirements/linters.txt into .venv/linters, unless it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

linters=.venv/linters
[ requirements/linters.txt -nt "$linters/.set-up" ] || exit 0
echo "installing the linters" >&2
.venv/bin/uv venv --quiet --clear --python .venv/bin/python "$linters"
.venv/bin/uv pip sync --quiet --require-hashes --python "$linters/bin/python" requirements/linters.txt
touch "$linters/.set-up"
