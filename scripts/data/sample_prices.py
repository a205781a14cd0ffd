"""Write function/trader/data/sample_prices.csv.gz, ten years of daily closes of 20 S&P 500 stocks, and their index.

The prices come from `sp500_dataset` in skfolio (https://github.com/skfolio/skfolio, BSD-3-Clause, copyright (c)
2023-2026 the skfolio developers): closes adjusted for splits and dividends, 1990-01-02 to 2022-12-28. The
S&P 500 index, without dividends, comes from its `sp500_index`, for the same days.
The package is fetched from PyPI without its dependencies; the same version always gives the same bytes.
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts import ROOT

PACKAGE = "skfolio==1.12.2"
DATASET = Path("skfolio/datasets/data/sp500_dataset.csv.gz")
INDEX = "sp500_index.csv.gz"
"""The name of the index, beside DATASET and where it is written."""

FIRST_DAY = "2013-01-01"
OUTPUT = ROOT / "function/trader/data/sample_prices.csv.gz"
FOR_BACKTESTS = ROOT / "scripts/backtest"


def fetch(folder: Path) -> Path:
    """Install the package into the folder, and return the path of its dataset."""
    uv = shutil.which("uv") or shutil.which("uv", path=".uv/bin")  # where scripts/setup.sh puts it
    installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
    subprocess.run([*installer, "install", "--quiet", "--no-deps", "--target", str(folder), PACKAGE], check=True)
    return folder / DATASET


def sample(dataset: str) -> str:
    """Return the dataset's rows from FIRST_DAY on, with a header whose first column is `timestamp`."""
    header, *rows = dataset.splitlines()
    symbols = header.split(",")[1:]
    kept = [row for row in rows if row >= FIRST_DAY]
    return "\n".join([",".join(["timestamp", *symbols]), *kept]) + "\n"


def main() -> None:
    """Write the sample prices and the index; with OUTPUT, the index is written beside it."""
    with tempfile.TemporaryDirectory() as folder:
        given = os.environ.get("DATASET")
        dataset = Path(given) if given else fetch(Path(folder))
        texts = [sample(gzip.decompress(path.read_bytes()).decode()) for path in (dataset, dataset.with_name(INDEX))]
    output = Path(os.environ.get("OUTPUT") or OUTPUT)
    index = (output.parent if os.environ.get("OUTPUT") else FOR_BACKTESTS) / INDEX
    for path, text in zip((output, index), texts, strict=True):
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
        print(f"{path}: {text.count('\n') - 1:,} days")
