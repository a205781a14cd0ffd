"""The time and the memory to read prices: the shipped ones, and ten years of an index, as closes and as bars.

Each file is read in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from scripts import ROOT
from scripts.bench import harness, ragged
from scripts.bench.harness import Measurement
from trader.model import SAMPLE_PRICES
from trader.progress import Progress

SYMBOLS = [f"S{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(500)]
SESSIONS = 2_500
MAX_S, MAX_MB = 2.0, 300.0
MAX_SAMPLE_MS = 100

READ = """
import json, re, sys, time
from pathlib import Path
from trader.prices.file import FilePrices
from trader.schedule import sessions
from datetime import UTC, datetime
sessions.next_open(datetime.now(UTC))  # a run needs the calendar anyway, for the clock of the embedded account
begun = time.perf_counter()
symbols = FilePrices(Path(sys.argv[1])).symbols()
took_s = time.perf_counter() - begun
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"symbols": len(symbols), "took_s": took_s, "peak_mb": int(peak[1]) / 1024}))
"""


def measure(progress: Progress) -> Iterator[Measurement]:
    """Yield the times and the peaks of memory, one file after another."""
    loading_s = read(SAMPLE_PRICES)["took_s"]
    yield harness.is_below(1000 * loading_s, MAX_SAMPLE_MS, "reading the shipped prices", unit="ms")
    progress("price files", 1, 3)
    yield from measure_index()
    progress("price files", 3, 3)


def measure_index() -> Iterator[Measurement]:
    """Yield the time and the peak memory for a wide file of closes and for a long file of bars."""
    for what, write in {"closes": write_closes, "bars": write_bars}.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "prices.csv"
            write(path)
            found = read(path)
        if found["symbols"] != len(SYMBOLS):
            raise RuntimeError(f"the time would mean nothing: {found['symbols']} of {len(SYMBOLS)} symbols were read")
        file = f"reading a file of {what}, {len(SYMBOLS)} symbols x {SESSIONS:,} bars"
        yield harness.is_below(found["took_s"], MAX_S, file, unit="s", digits=1)
        yield harness.is_below(found["peak_mb"], MAX_MB, f"peak memory of reading that file of {what}", unit="MB")


def read(path: Path) -> dict[str, float]:
    """Return what a process of its own needs to read a file, and how many symbols it finds in it."""
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "function")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def write_closes(path: Path) -> None:
    """Write a column of closes for each symbol."""
    row = ",101.83" * len(SYMBOLS)
    path.write_text("\n".join([",".join(["Date", *SYMBOLS]), *(f"{day}{row}" for day in days())]))


def write_bars(path: Path) -> None:
    """Write a row for each symbol and session."""
    with path.open("w", encoding="utf-8") as file:
        file.write("date,symbol,open,high,low,close,volume\n")
        for day in days():
            file.writelines(f"{day},{symbol},100.5,102.37,99.11,101.83,99241870\n" for symbol in SYMBOLS)


def days() -> list[date]:
    """Return the last sessions up to a week ago."""
    return ragged.list_days(SESSIONS, datetime.now(UTC).date() - timedelta(days=7))
