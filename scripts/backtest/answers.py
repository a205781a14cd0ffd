"""Prophet's answers, kept for a machine on which Stan does not run: a reader's browser.

The map engine hands a trend line that it cannot determine to Prophet's package. For prices that never change, such as
the sample, all these trend lines can be asked for in advance.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from scripts.backtest import scoring
from scripts.backtest.compute import FALLBACK, Bars, Fallback, Task, ask_prophet, compute
from scripts.backtest.forecasts import Blocks
from scripts.backtest.model import BacktestError, Options, Panel
from scripts.backtest.prices import span
from trader.codec import decode, encode
from trader.model import Denial, Forecast, Json

type Answers = dict[str, Forecast | Denial]
"""Prophet's answers by question; see `question`."""


def question(task: Task, symbol: str, bar: int, fit_bar: int) -> str:
    """Name a trend line: its symbol, the bar that it is for, and everything else that it depends on but the prices."""
    at, fitted_at = (task.closes.index[each].isoformat() for each in (bar, fit_bar))
    return f"{symbol} at {at}, fitted at {fitted_at}, {task.key.history_bars} bars, {task.key.spec}"


def collect(panel: Panel, options: Options) -> Answers:
    """Ask Prophet for every trend line of the traded bars that the map engine hands over, of all symbols.

    That includes those of the report, which measures how accurate the forecasts were.
    """
    answers: Answers = {}

    def keep(task: Task, symbol: str, bars: Bars) -> Iterator[tuple[tuple[str, datetime], Forecast | Denial]]:
        for pair, answer in zip(bars, ask_prophet(task, symbol, bars), strict=True):
            answers[question(task, symbol, *pair)] = answer[1]
            yield answer

    times = span(panel, options)
    blocks = Blocks(panel, options, times)
    symbols = list(panel.close.columns)
    groups = blocks.groups(symbols)
    tasks = [blocks.task(blocks.whole(some, block)) for block in range(len(blocks)) for some in groups]
    with _fallback(keep):
        for task in [*tasks, *scoring.sample_tasks(panel, options, times)]:
            compute(task)
    return answers


@contextmanager
def using(answers: Mapping[str, Forecast | Denial]) -> Iterator[None]:
    """Let these answers stand for Prophet's package. A question without an answer ends in a BacktestError."""

    def look_up(task: Task, symbol: str, bars: Bars) -> Iterable[tuple[tuple[str, datetime], Forecast | Denial]]:
        for bar, fit_bar in bars:
            time = task.closes.index[bar].to_pydatetime()
            answer = answers.get(question(task, symbol, bar, fit_bar))
            if answer is None:
                raise BacktestError(
                    f"the trend line of {symbol} at {time:%Y-%m-%d} needs Prophet's package, which does not run in a "
                    "browser; choose other settings, or run make backtest on a computer"
                )
            yield (symbol, time), answer

    with _fallback(look_up):
        yield


def write(answers: Mapping[str, Forecast | Denial]) -> str:
    """Return the answers as JSON."""
    return json.dumps({name: encode(answer) for name, answer in sorted(answers.items())}, indent=1)


def read(text: str) -> Answers:
    """Read what `write` returned."""
    return {name: _read(answer) for name, answer in json.loads(text).items()}


def _read(answer: Json) -> Forecast | Denial:
    return decode(Denial, answer) if "code" in answer else decode(Forecast, answer)


@contextmanager
def _fallback(fallback: Fallback) -> Iterator[None]:
    token = FALLBACK.set(fallback)
    try:
        yield
    finally:
        FALLBACK.reset(token)
