#!/usr/bin/env sh
# Draws docs/run.png: the page of `make run` in an empty folder, as headless Chromium shows its first screen.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
  echo "picture: no Chromium on the PATH" >&2
  exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
PYTHONPATH="$root/function:$root" "$root/.venv/bin/python" -m scripts.run_local >/dev/null
"$chromium" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" --window-size=1280,1030 \
  --screenshot="$root/docs/run.png" "file://$work/out/run.html" 2>/dev/null
echo "docs/run.png"
