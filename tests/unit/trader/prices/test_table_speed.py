"""An index of 500 shares over ten years is read fast and in little memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import ROOT
from tests.unit.trader.prices.files import list_days

MAX_CPU_S = 2.0
MAX_MB = 300

READ = """
import sys, time, re
from datetime import UTC, datetime
from pathlib import Path
from trader.prices.table import read_table
path, begun = Path(sys.argv[1]), time.process_time()
found = read_table(path, bar_interval="1d", universe=("sp500",), now=datetime(2026, 1, 1, tzinfo=UTC))
took_s = time.process_time() - begun
assert found.tables["close"].shape == (2500, 500), found.tables["close"].shape
assert found.tables["close"].iloc[-1, -1] == 101.83
peak_kb = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(took_s, int(peak_kb) / 1024)
"""

SYMBOLS = [f"S{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(500)]


def write_wide(path: Path) -> None:
    row = ",101.83" * 500
    path.write_text("\n".join([",".join(["Date", *SYMBOLS]), *(f"{day}{row}" for day in list_days(2500))]))


def write_long(path: Path) -> None:
    with path.open("w") as file:
        file.write("date,symbol,open,high,low,close,volume\n")
        for day in list_days(2500):
            file.writelines(f"{day},{symbol},100.5,102.37,99.11,101.83,99241870\n" for symbol in SYMBOLS)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("write", [write_wide, write_long])
def test_ten_years_of_an_index_are_read_in_two_seconds_and_300_mb(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "prices.csv"
    write(path)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "function", timeout=120)
    took_s, peak_mb = map(float, done.stdout.split())
    assert took_s < MAX_CPU_S
    assert peak_mb < MAX_MB
