#!/usr/bin/env sh
# Creates .venv with everything in requirements/dev.txt. Needs Python 3.11 or newer. If no uv is found, it installs the one
# in requirements/uv.txt into .uv. Only files with the locked hashes are installed.
set -eu
cd "$(dirname "$0")/.."

private_uv() {
  [ -x .uv/bin/uv ] || {
    for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
      "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
      rm -rf .uv
      if "$python" -m venv .uv >/dev/null 2>&1 && .uv/bin/pip install --quiet \
        --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements/uv.txt; then
        break
      fi
      rm -rf .uv
    done
  }
  [ -x .uv/bin/uv ] || {
    echo "setup: uv is missing and could not be installed: this needs a network connection and Python 3.11+ with venv" >&2
    echo "       (on Debian and Ubuntu: apt install python3-venv)" >&2
    exit 1
  }
  echo .uv/bin/uv
}

# A pyenv shim for uv may be on the PATH but refuse to run under this .python-version.
if uv --version >/dev/null 2>&1; then uv=uv; else uv=$(private_uv); fi

[ -x .venv/bin/python ] || "$uv" venv --quiet .venv
"$uv" pip sync --quiet --require-hashes --python .venv/bin/python requirements/dev.txt
echo "set up: $(.venv/bin/python --version) in .venv" >&2
