"""The time and the memory to read ten years of an index from a file, as closes and as bars, each in its own process."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from scripts import ROOT
from scripts.bench import harness
from scripts.bench.harness import Measurement
from trader.schedule import sessions

SYMBOLS = [f"S{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(500)]
SESSIONS = 2_500
MAX_S, MAX_MB = 2.0, 300.0

READ = """
import json, re, sys, time
from pathlib import Path
from trader.prices.file import FilePrices
begun = time.perf_counter()
symbols = FilePrices(Path(sys.argv[1])).symbols()
took_s = time.perf_counter() - begun
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"symbols": len(symbols), "took_s": took_s, "peak_mb": int(peak[1]) / 1024}))
"""


def measure() -> Iterator[Measurement]:
    """Yield the time and the peak memory for a wide file of closes and for a long file of bars."""
    for what, write in {"closes": write_closes, "bars": write_bars}.items():
        with tempfile.TemporaryDirectory() as folder:
            found = read(Path(folder) / "prices.csv", write)
        file = f"reading a file of {what}, {len(SYMBOLS)} symbols x {SESSIONS:,} bars"
        yield harness.is_below(found["took_s"], MAX_S, file, unit="s", digits=1)
        yield harness.is_below(found["peak_mb"], MAX_MB, f"peak memory of reading that file of {what}", unit="MB")


def read(path: Path, write: Callable[[Path], None]) -> dict[str, float]:
    """Return what a process of its own needs to read a file. Raises RuntimeError if symbols are missing."""
    write(path)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "function")
    found: dict[str, float] = json.loads(done.stdout)
    if found["symbols"] != len(SYMBOLS):
        raise RuntimeError(f"the time would mean nothing: {found['symbols']} of {len(SYMBOLS)} symbols were read")
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
    day, found = datetime.now(UTC).date() - timedelta(days=7), list[date]()
    while len(found) < SESSIONS:
        found += [day] if sessions.session(day) else []
        day -= timedelta(days=1)
    return found[::-1]
