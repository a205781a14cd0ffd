#!/usr/bin/env sh
# Draws docs/images/run.png, backtest.png and report.png with headless Chromium: the first screen of the pages that
# `make run` and `make backtest` write in an empty folder, and `make report` after runs in twelve weeks. Then
# docs/images/recording.svg: what a terminal shows of `make run`.
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
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" \
    --window-size="1280,$2" \
    --screenshot="$root/docs/images/$1.png" "file://$work/out/$1.html" 2>/dev/null
  echo "docs/images/$1.png"
}

"$root/.venv/bin/python" -m scripts run >/dev/null
draw run 1030
"$root/.venv/bin/python" -m scripts backtest --engine map >/dev/null
draw backtest 1180

rm -rf out # the runs of the report begin with an account of their own
for day in 2022-10-03 2022-10-10 2022-10-17 2022-10-24 2022-10-31 2022-11-07 2022-11-14 2022-11-21 2022-11-28 \
  2022-12-05 2022-12-12 2022-12-19; do
  "$root/.venv/bin/python" -m scripts run --at "$day" >/dev/null
done
"$root/.venv/bin/python" -m scripts report >/dev/null
draw report 1000

"$root/.venv/bin/python" -m scripts.docs.recording
