#!/usr/bin/env sh
# Draws docs/images/run.png and backtest.png with headless Chromium: the first screen of the pages that `make run` and
# `make backtest` write in an empty folder. Then docs/images/recording.svg: what a terminal shows of `make run`.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
  echo "picture: Chromium is not on the PATH; install it" >&2
  exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PYTHONPATH="$root/function:$root"

draw() { # name of page and picture, height in pixels
  "$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" --window-size="1280,$2" \
    --screenshot="$root/docs/images/$1.png" "file://$work/out/$1.html" 2>/dev/null
  echo "docs/images/$1.png"
}

"$root/.venv/bin/python" -m scripts run >/dev/null
draw run 1030
"$root/.venv/bin/python" -m scripts backtest --engine map >/dev/null
draw backtest 1180

"$root/.venv/bin/python" -m scripts.docs.recording
