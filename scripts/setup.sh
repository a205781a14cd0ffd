#!/usr/bin/env sh
# Creates .venv or brings it up to date, with the locked files only:
#   scripts/setup.sh run    adds what make run, backtest, sweep and replay need; removes nothing
#   scripts/setup.sh dev    makes it exactly what all commands and tests need
#   scripts/setup.sh peers  installs the programs that make bench CASES=peers compares with, apart, in .venv/peers
# Needs Python 3.11 or newer. If no uv is found, it installs the one in requirements/uv.txt into .uv.
set -eu
cd "$(dirname "$0")/.."
wanted=${1:-dev}

install_uv() { # PYTHON ARGUMENTS...
  python=$1
  shift
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    -r requirements/uv.txt "$@"
}

private_uv() {
  [ -x .uv/bin/uv ] || {
    for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
      "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
      rm -rf .uv
      # A venv takes two seconds longer, so it is only for a Python that has no pip of its own.
      if install_uv "$python" --target .uv 2>/dev/null; then break; fi
      rm -rf .uv
      if "$python" -m venv .uv >/dev/null 2>&1 && install_uv .uv/bin/python; then break; fi
      rm -rf .uv
    done
  }
  [ -x .uv/bin/uv ] || {
    echo "setup: uv is missing and could not be installed: this needs a network connection and Python 3.11+ with pip or venv" >&2
    echo "       (on Debian and Ubuntu: apt install python3-venv)" >&2
    exit 1
  }
  echo .uv/bin/uv
}

case $wanted in
run) set -- install --no-deps -r requirements/run.txt ;;
dev) set -- sync requirements/dev.txt ;;
peers) set -- sync requirements/peers.txt ;;
*)
  echo "setup: $wanted is none of run, dev and peers" >&2
  exit 2
  ;;
esac

# A pyenv shim for uv may be on the PATH but refuse to run under this .python-version.
if uv --version >/dev/null 2>&1; then uv=uv; else uv=$(private_uv); fi

venv=.venv
[ "$wanted" != peers ] || venv=.venv/peers
[ -x "$venv/bin/python" ] || "$uv" venv --quiet "$venv"
"$uv" pip "$@" --quiet --require-hashes --python "$venv/bin/python"
echo "set up for $wanted: $("$venv/bin/python" --version) in $venv" >&2
