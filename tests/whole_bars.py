"""The rule on whole bars of the page on own rules, and a file of bars for it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.testkit.made_up import make_up_bars
from trader.model import NEW_YORK, SAMPLE_PRICES
from trader.prices.bars import PRICES
from trader.prices.file import FilePrices

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "own-rule.md"
SYMBOLS = ("AAPL", "XOM", "KO", "AMD")


def read_example() -> str:
    """Return the rule on the page."""
    (code,) = re.findall(r"```python\n(import pandas.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


def write_bars(path: Path) -> None:
    """Write whole bars with the sample's closes, adjusted by a column: a split of KO, and a dividend of XOM."""
    frames = []
    for symbol in SYMBOLS:
        closes = FilePrices(SAMPLE_PRICES).bars().clean.series[symbol].closes.iloc[-150:]
        bars = make_up_bars(closes).round(4)
        days = [each.astimezone(NEW_YORK).date() for each in bars.index]
        number = np.arange(len(bars))
        raw = np.where((symbol == "KO") & (number < 60), 2.0, 1.0)
        factor = np.where((symbol == "XOM") & (number < 80), 0.98, 1.0) / raw
        columns = {name: bars[name].to_numpy() * raw for name in PRICES}
        more = {"adj_close": columns["close"] * factor, "volume": np.round(bars["volume"].to_numpy() / raw)}
        frames.append(pd.DataFrame({"symbol": symbol, **columns, **more}, index=pd.Index(days, name="date")))
    pd.concat(frames).to_csv(path)
