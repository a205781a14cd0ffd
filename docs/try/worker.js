// Runs the backtest in a thread of its own, so that the page stays usable. Everything is loaded from this site.
const base = new URL("python/", import.meta.url).href;

let total = 0, loaded = 0;
const tell = (work, done, all) => self.postMessage({ kind: "progress", work, done, all });

// Counts what arrives, for the progress bar.
const plainFetch = self.fetch.bind(self);
self.fetch = async (...request) => {
  const answer = await plainFetch(...request);
  if (!answer.ok) throw new Error(`${answer.url} could not be loaded: status ${answer.status}`);
  if (!answer.body || typeof TransformStream === "undefined") return answer;
  const counter = new TransformStream({
    transform(chunk, controller) {
      loaded += chunk.byteLength;
      if (total) tell("download", Math.min(loaded, total), total);
      controller.enqueue(chunk);
    },
  });
  return new Response(answer.body.pipeThrough(counter), { status: answer.status, headers: answer.headers });
};

let ready;

async function load() {
  const manifest = await (await plainFetch(new URL("manifest.json", import.meta.url), { cache: "no-cache" })).json();
  total = manifest.bytes;
  const { loadPyodide } = await import(`${base}pyodide.mjs`);
  const code = fetch(`${base}code.zip?${manifest.version}`).then((answer) => answer.arrayBuffer());
  const python = await loadPyodide({
    indexURL: base,
    packageBaseUrl: base,
    packages: manifest.packages,
    env: { HOME: "/home/pyodide", PYTHONDONTWRITEBYTECODE: "1" },
  });
  python.unpackArchive(await code, "zip", { extractDir: "/code" });
  tell("start", 0, 1);
  python.runPython(`
import json
import sys
import traceback
import warnings
warnings.simplefilter("ignore")  # Backtrader's escape sequences
sys.path.insert(0, "/code")
from scripts.backtest import in_browser
from scripts.console import CommandError
from trader.prices.base import PriceSourceError
from trader.settings import SettingsError

def run(chosen, progress):
    """Return the result as JSON: the page and the figures, or an error."""
    try:
        shown = in_browser.run(json.loads(chosen), progress)
    except (CommandError, PriceSourceError, SettingsError) as error:
        return json.dumps({"error": str(error)})
    except MemoryError:
        return json.dumps({"error": "there is not enough memory for this backtest; close other tabs, and run it again"})
    except Exception as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})
    return json.dumps({"page": shown.page, "figures": shown.figures})
`);
  return python;
}

self.onmessage = async ({ data }) => {
  const begun = performance.now();
  try {
    ready ??= load();
    const python = await ready;
    const loadedAt = performance.now();
    const result = JSON.parse(python.globals.get("run")(JSON.stringify(data), tell));
    const seconds = { loading: (loadedAt - begun) / 1000, running: (performance.now() - loadedAt) / 1000 };
    self.postMessage({ kind: "result", seconds, ...result });
  } catch (error) {
    ready = undefined;
    const isMemory = error instanceof RangeError || /memory/i.test(error.message);
    self.postMessage({
      kind: "result",
      error: isMemory
        ? "this browser has not enough memory for the backtest; close other tabs, or use a computer"
        : `the backtest could not be loaded: ${error.message}`,
      trace: String(error.stack ?? ""),
    });
  }
};
