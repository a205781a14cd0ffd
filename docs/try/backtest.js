// The form of the backtest in the browser: it starts the worker, shows how far it is, and shows the result or why not.
(() => {
  "use strict";
  const base = new URL(".", document.currentScript.src);
  const find = (name) => document.getElementById(`try-${name}`);
  const form = find("form"), state = find("state"), bar = find("progress"), frame = find("result");
  const WORK = {
    download: (done, all) => `Loading ${megabytes(done)} of ${megabytes(all)} MB`,
    start: () => "Starting Python",
    "trend lines": (done, all) => `Fitting trend lines with the reference in NumPy: ${count(done)} of ${count(all)}`,
    bars: (done, all) => `Trading: day ${count(done)} of ${count(all)}`,
    accuracy: () => "Measuring the forecasts",
    calibration: () => "Measuring the forecasts",
    page: () => "Drawing the charts",
  };
  let worker, address, begun;

  const megabytes = (bytes) => (bytes / 1e6).toFixed(0);
  const count = (number) => number.toLocaleString("en-US");
  const cannot = () => {
    if (location.protocol === "file:") {
      return "This page was opened as a file, and browsers run no WebAssembly from files. Serve the folder, for example " +
        "with: python3 -m http.server --bind 127.0.0.1, and open the address that it names.";
    }
    if (typeof WebAssembly !== "object") {
      return "This browser has no WebAssembly, or it is turned off, as in Lockdown Mode. Use another browser, or run make " +
        "backtest on your computer.";
    }
    if (typeof Worker !== "function") return "This browser has no Web Workers. Use another one.";
    return "";
  };

  function say(words, look = "") {
    find("status").textContent = words;
    find("status").className = look;
  }

  function fail(words, trace = "") {
    const box = find("error"), details = box.querySelector("details");
    box.querySelector("p").textContent = words;
    box.querySelector("pre").textContent = trace;
    details.hidden = !trace;
    box.hidden = false;
  }

  function rest() {
    state.hidden = true;
    find("stop").hidden = true;
    find("run").disabled = false;
  }

  function end() {
    worker?.terminate();
    worker = undefined;
  }

  function show({ page, figures, seconds }) {
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([page], { type: "text/html" }));
    const link = find("save").querySelector("a");
    link.href = address;
    find("save").hidden = false;
    // The result follows the page's light or dark mode where the theme has a switch of its own.
    const mode = document.body.dataset.theme;
    frame.style.colorScheme = mode === "dark" || mode === "light" ? mode : "light dark";
    frame.srcdoc = page;
    frame.hidden = false;
    const usd = figures.curve.equity_usd.at(-1).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
    say(
      `Done in ${seconds.running.toFixed(0)} s, after ${seconds.loading.toFixed(0)} s of loading: ` +
        `${count(figures.curve.times.length)} days, ${usd} USD at the end. The result is below.`,
    );
    form.dispatchEvent(new CustomEvent("backtest", { detail: { figures, seconds }, bubbles: true }));
  }

  function hear({ data }) {
    if (data.kind === "progress") {
      const words = WORK[data.work]?.(data.done, data.all) ?? data.work;
      find("work").textContent = words;
      if (data.done || data.work === "trend lines") {
        bar.max = data.all;
        bar.value = data.done;
      } else {
        bar.removeAttribute("value"); // how long this takes is not known
      }
      if (data.work !== begun) say(words, "try-unseen"); // for screen readers, once for each kind of work
      begun = data.work;
      return;
    }
    rest();
    say("");
    if (data.error !== undefined) {
      fail(data.error[0].toUpperCase() + data.error.slice(1), data.trace);
      if (data.trace) end(); // its Python may be broken
    } else {
      show(data);
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    find("error").hidden = true;
    const why = cannot();
    if (why) return fail(why);
    const chosen = Object.fromEntries(new FormData(form));
    if ("SIGNAL_THRESHOLD_FRACTION" in chosen) {
      chosen.SIGNAL_THRESHOLD_FRACTION = String(Number((chosen.SIGNAL_THRESHOLD_FRACTION / 100).toFixed(6)));
    }
    state.hidden = false;
    find("stop").hidden = false;
    find("run").disabled = true;
    find("work").textContent = "Starting";
    say("The backtest has begun.", "try-unseen");
    bar.removeAttribute("value");
    if (!worker) {
      worker = new Worker(new URL("worker.js", base), { type: "module" });
      worker.onmessage = hear;
      worker.onerror = (error) => {
        end();
        rest();
        say("");
        fail(`The backtest could not be started: ${error.message || "its script could not be loaded"}. Load the page again.`);
      };
    }
    worker.postMessage(chosen);
  });

  find("stop").addEventListener("click", () => {
    end();
    rest();
    say("Stopped.");
  });

  const signal = find("signal"), threshold = find("threshold");
  signal.addEventListener("change", () => { threshold.disabled = signal.value !== "trend"; }); // only trend has a band

  if (location.protocol !== "file:") {
    fetch(new URL("manifest.json", base))
      .then((answer) => answer.json())
      .then(({ bytes }) => { find("size").textContent = `It loads ${megabytes(bytes)} MB once.`; })
      .catch(() => {});
  }
})();
