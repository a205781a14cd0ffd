"""When the prices of a symbol have ended: after how many sessions its shares are paid out."""

from datetime import datetime

import numpy as np
import pandas as pd

from trader.model import NEW_YORK

DELISTED_SESSIONS = 10
"""Shares without a price for so many sessions are paid out: longer than a halt or a gap of the data usually lasts."""


class Unpriced:
    """How long each symbol has been without a price, by what is known at a bar."""

    def __init__(self, closes: pd.DataFrame) -> None:
        """Count over the calendar of `closes`, whose index has the starts of the bars; NaN where there is no price."""
        is_priced = closes.notna().to_numpy()
        bars = np.arange(len(closes))[:, np.newaxis]
        self._last = np.maximum.accumulate(np.where(is_priced, bars, -1), axis=0)
        days = pd.DatetimeIndex(closes.index).tz_convert(NEW_YORK).normalize()
        self._session = np.cumsum(np.r_[True, days[1:] != days[:-1]])
        self._row = {time: row for row, time in enumerate(pd.DatetimeIndex(closes.index).to_pydatetime().tolist())}
        self._symbols = [str(symbol) for symbol in closes.columns]
        self._column = {symbol: column for column, symbol in enumerate(closes.columns)}

    def count(self, symbol: str, bar: datetime) -> int:
        """Return the number of sessions up to that of `bar` since the symbol's last price; 0 if it had none before."""
        row = self._row[bar]
        last = self._last[row, self._column[symbol]]
        return int(self._session[row] - self._session[last]) if last >= 0 else 0

    def find(self, sessions: int, bar: datetime) -> frozenset[str]:
        """Return the symbols that have been without a price for at least so many sessions."""
        row = self._row[bar]
        last = self._last[row]
        (columns,) = np.nonzero((last >= 0) & (self._session[row] - self._session[last] >= sessions))
        return frozenset(self._symbols[column] for column in columns.tolist())
