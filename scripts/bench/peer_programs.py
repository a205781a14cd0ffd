"""The other programs, as a person would use them: run by .venv/peers, to which nothing of this project belongs.

The first argument is a file of arrays. Each line on the standard input names a way; the answer is a line of JSON with
the seconds, and with the forecasts or the orders. Imports and compilation happen at the first call of a way.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

CASH_USD = 100_000.0
FEW = 2
"""Series with which a way is called before the clock starts."""

type Data = Mapping[str, Any]


def forecast(model: str) -> Callable[[Data], dict[str, Any]]:
    """Return a way that forecasts the next close of each series with a model of statsforecast, one after another."""

    def run(data: Data) -> dict[str, Any]:
        from statsforecast import models

        made = getattr(models, model)(season_length=1)
        for series in data["series"][:FEW]:
            made.forecast(y=series, h=1)
        begun = time.perf_counter()
        found = [float(made.forecast(y=series, h=1)["mean"][0]) for series in data["series"]]
        return {"took_s": time.perf_counter() - begun, "forecasts": found}

    return run


def run_vectorbt(data: Data) -> dict[str, Any]:
    """Run the precomputed signals over all symbols at once, with one account."""
    import vectorbt

    close = pd.DataFrame(data["close"], index=pd.DatetimeIndex(data["days"]))
    entries, exits = (pd.DataFrame(data[name], index=close.index) for name in ("entries", "exits"))

    def run() -> Any:  # noqa: ANN401 vectorbt ships no types
        share = CASH_USD / close.shape[1] / close
        return vectorbt.Portfolio.from_signals(
            close, entries, exits, size=share, init_cash=CASH_USD, fees=0.0005, group_by=True, cash_sharing=True
        )

    run().orders.count()  # compiles
    begun = time.perf_counter()
    orders = int(run().orders.count())
    return {"took_s": time.perf_counter() - begun, "orders": orders}


def run_backtesting(data: Data) -> dict[str, Any]:
    """Run the precomputed signals symbol by symbol, each with an account of its own: the library knows one symbol."""
    strategy, days = signals_strategy(), pd.DatetimeIndex(data["days"])
    run_symbol(strategy, days, data, 0)  # warms up
    begun = time.perf_counter()
    orders = sum(run_symbol(strategy, days, data, column) for column in range(data["close"].shape[1]))
    return {"took_s": time.perf_counter() - begun, "orders": orders}


def run_symbol(strategy: Any, days: pd.DatetimeIndex, data: Data, column: int) -> int:  # noqa: ANN401 it ships no types
    """Run one symbol, and return the number of its orders: each trade has two."""
    from backtesting import Backtest

    close = data["close"][:, column]
    bars = pd.DataFrame(
        {
            **dict.fromkeys(("Open", "High", "Low", "Close"), close),
            "entry": data["entries"][:, column],
            "exit": data["exits"][:, column],
        },
        index=days,
    )
    made = Backtest(bars, strategy, cash=CASH_USD, commission=0.0005, finalize_trades=True)
    return 2 * int(made.run()["# Trades"])


@cache
def signals_strategy() -> Any:  # noqa: ANN401 it ships no types
    """Return the strategy that follows the precomputed signals."""
    from backtesting import Strategy

    class Signals(Strategy):  # type: ignore[misc] # it ships no types
        def init(self) -> None:
            """Prepare nothing: the signals are columns."""

        def next(self) -> None:
            """Buy with all cash at an entry, close at an exit."""
            if self.data.entry[-1]:
                self.buy()
            elif self.data.exit[-1] and self.position:
                self.position.close()

    return Signals


WAYS: Mapping[str, Callable[[Data], dict[str, Any]]] = {
    **{model: forecast(model) for model in ("AutoETS", "AutoTheta", "AutoCES", "AutoARIMA")},
    "vectorbt": run_vectorbt,
    "backtesting.py": run_backtesting,
}


def main() -> None:
    """Answer each way that is asked for."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # progress bars and notes are not answers
    data = np.load(sys.argv[1])
    for line in sys.stdin:
        answers.write(json.dumps(WAYS[line.strip()](data)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
