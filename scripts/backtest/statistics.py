"""The figures of a backtest, compared with a benchmark, buy-and-hold and cash: JSON-safe, always the same."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.backtest import buy_and_hold, membership
from scripts.backtest.accuracy import calibration
from scripts.backtest.against import ROUNDING, measure_against
from scripts.backtest.model import DELISTING, Options, Result
from scripts.backtest.ratios import empyrical
from scripts.backtest.rhythm import by_day
from scripts.backtest.rolling import roll_sharpe
from scripts.backtest.trades import Trade, trades
from scripts.backtest.trading import measure_trading
from scripts.backtest.yearly import TOO_SHORT, Span, annualize, measure_span
from trader.codec import encode
from trader.model import NEW_YORK, Denial, Note, Side

type Numbers = NDArray[np.float64]

VERSION = 4
"""The version of the format of figures(), and so of backtest.json."""

ENDED_BARS = 5
"""A symbol without a price in so many bars at the end of the span has ended."""

MIN_BARS = 2
"""With fewer returns there is no volatility."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityCurve:
    """The value of an account at each bar, for the strategy or a comparison."""

    cash_usd: float  # before the first bar
    equity_usd: Numbers  # at each bar's close
    invested_usd: Numbers
    span: Span | None  # None: too short to be annualized
    cash_growth: Numbers  # of cash at CASH_RATE, at each bar
    trades: Sequence[Trade] = ()
    commission_usd: float = 0.0

    @property
    def returns(self) -> Numbers:
        """The return of each bar, as a fraction; the first is relative to the starting cash. 0 after an equity of 0."""
        before = np.concatenate([[self.cash_usd], self.equity_usd])[:-1]
        change: Numbers = np.divide(self.equity_usd, before, out=np.ones_like(before), where=before > 0) - 1
        return change

    @property
    def excess(self) -> Numbers:
        """The return of each bar above that of cash."""
        excess = self.returns - (self.cash_growth - 1)
        # What rounding leaves of cash itself is no risk.
        return np.where(np.abs(excess) < ROUNDING, 0.0, excess) if np.any(self.cash_growth != 1) else excess

    @property
    def exposure(self) -> Numbers:
        """The invested fraction of the equity at each bar."""
        nothing = np.zeros_like(self.equity_usd)
        return np.divide(self.invested_usd, self.equity_usd, out=nothing, where=self.equity_usd > 0)

    @property
    def drawdown(self) -> Numbers:
        """The equity's change from its highest value so far, as a fraction: negative or 0."""
        returns = self.returns
        if not len(returns):
            return returns
        found: Numbers = empyrical.stats.drawdown_series(returns)
        return found

    @property
    def longest_under_water_bars(self) -> int:
        """The longest run of bars that ended below an earlier peak, or below the starting cash."""
        runs = "".join("w" if below else " " for below in self.drawdown < -ROUNDING).split()
        return max((len(run) for run in runs), default=0)

    def key_figures(self) -> dict[str, float | None]:
        """Return the key figures of this account; see the function key_figures."""
        returns, span = self.returns, self.span
        closed = [trade for trade in self.trades if not trade.is_open]
        final_usd = float(self.equity_usd[-1]) if len(returns) else self.cash_usd
        growth = final_usd / self.cash_usd
        drawdown = float(self.drawdown.min(initial=0.0))
        annual = _finite(annualize(growth, span.years)) if span else None
        yearly = self._measure(span.bars_a_year if span else None)
        by_bar = self._measure(1)
        return {
            "total_return_fraction": growth - 1,
            "annual_return_fraction": annual,
            "annual_volatility_fraction": yearly["volatility"],
            "sharpe_ratio": yearly["sharpe"],
            "sortino_ratio": yearly["sortino"],
            "calmar_ratio": _over(annual, drawdown),
            "bar_volatility_fraction": by_bar["volatility"],
            "bar_sharpe_ratio": by_bar["sharpe"],
            "bar_sortino_ratio": by_bar["sortino"],
            "return_over_drawdown_ratio": _over(growth - 1, drawdown),
            "max_drawdown_fraction": drawdown,
            "longest_under_water_bars": self.longest_under_water_bars,
            "exposure_fraction": _finite(float(np.mean(self.exposure))) if len(returns) else None,
            "trades": len(closed),
            "win_fraction": _share(trade.pnl_usd > 0 for trade in closed),
            "commission_usd": self.commission_usd,
            "final_equity_usd": final_usd,
        }

    def _measure(self, bars: float | None) -> dict[str, float | None]:
        """Return volatility and ratios for a period of so many bars; None without a period or enough returns."""
        returns = {"volatility": self.returns, "sharpe": self.excess, "sortino": self.excess}
        if bars is None or len(self.returns) < MIN_BARS:
            return dict.fromkeys(RATIOS)
        with np.errstate(all="ignore"):  # an undefined ratio becomes None
            return {name: _finite(of(returns[name], annualization=bars)) for name, of in RATIOS.items()}


RATIOS = {
    "volatility": empyrical.annual_volatility,
    "sharpe": empyrical.sharpe_ratio,
    "sortino": empyrical.sortino_ratio,
}


def key_figures(result: Result) -> dict[str, float | None]:
    """Return the strategy's key figures; None where one is undefined, such as a ratio without volatility.

    `trades` counts closed round trips, `win_fraction` is the fraction of those with a profit after commission,
    `exposure_fraction` is the mean invested fraction, and `longest_under_water_bars` the longest run of bars below an
    earlier peak of the equity. The others, with r the returns of the bars, n the number of bars
    in a year and years the length of the span by its dates (see measure_span), are:

    - `annual_return_fraction`: (final / start) ** (1 / years) - 1, see annualize
    - `annual_volatility_fraction`: std(r) * sqrt(n), with the sample's standard deviation
    - `sharpe_ratio`: mean(e) / std(e) * sqrt(n), with e the returns above those of cash at CASH_RATE
    - `sortino_ratio`: mean(e) / sqrt(mean(min(e, 0) ** 2)) * sqrt(n)
    - `calmar_ratio`: `annual_return_fraction` / -`max_drawdown_fraction`

    These five are None for a span shorter than three months. The same measures without a year, for any span, are
    `total_return_fraction`, `bar_volatility_fraction`, `bar_sharpe_ratio` and `bar_sortino_ratio` (n = 1), and
    `return_over_drawdown_ratio`. Volatility, Sharpe and Sortino are those of empyrical, whose documentation names their
    sources; the Calmar ratio is Young's (1991), over the whole span instead of the last three years.
    """
    return _strategy(result, trades(result)).key_figures()


def excess_returns(result: Result) -> Numbers:
    """Return the strategy's return at each bar above that of cash at CASH_RATE."""
    return _strategy(result, ()).excess


def figures(result: Result) -> dict[str, Any]:
    """Return the whole report, JSON-safe; only `timings_s` differs if the same backtest is run again.

    `made`, `schedule`, `uncertainty` and `trials` are None: make backtest adds them, see describe_making, compare of
    rhythms, and measure of uncertainty and trials. With DECIDE_EVERY all figures of an account are those of its equity
    at the close of each session, so that they mean the same as with one decision a day.

    The strategy is compared with `buy_and_hold`, the universe bought once at the same costs, with `benchmark`, likewise
    (None without one; `against_benchmark` is explained at measure_against), and with `cash`, which earns CASH_RATE. The
    strategy's cash earns it too, but only in these figures: the bot does not see the interest, so no decision depends
    on it. `bars_a_year` is measured from the traded bars; for a span too short to be annualized it is None,
    and `no_yearly_figures` has the reason.
    """
    made, days = trades(result), by_day(result)
    strategy, cash, holding = _strategy(days, made), _cash(days), buy_and_hold.universe(days)
    held = _measure_holding(days, holding) if holding else None
    bought = holding.symbols if holding else ()
    benchmark, costs = _benchmark(days), _costs(result)
    return {
        "version": VERSION,
        "is_complete": result.is_complete,
        "options": _options(result.options),
        "settings": result.options.settings.public(),
        "data": {
            **_data(days),
            "buy_and_hold_symbols": list(bought),
            "not_in_buy_and_hold": [str(each) for each in result.panel.close.columns if each not in set(bought)],
        },
        "key_figures": {
            "strategy": strategy.key_figures(),
            "buy_and_hold": held.key_figures() if held else None,
            "benchmark": benchmark.key_figures() if benchmark else None,
            "cash": cash.key_figures(),
        },
        "benchmark": _name_benchmark(result),
        "against_benchmark": measure_against(strategy, benchmark) if benchmark else None,
        "interest_usd": _interest_usd(days),
        "schedule": None,
        "made": None,
        "uncertainty": None,
        "trials": None,
        "costs": costs,
        "trading": measure_trading(made, costs["turnover_usd"], strategy.equity_usd, _span(days)),
        "curve": _curve(days, strategy, held, benchmark, cash),
        "monthly_returns": _monthly(days, strategy, held, benchmark),
        "symbols": _by_symbol(days, made),
        "trades": encode(made),
        "restatements": encode(result.restatements),
        "refusals": encode(result.refusals),
        "denials": _counts(each.code for each in _denials(result)),
        "statuses": _counts(bar.status for bar in result.bars),
        "calibration": calibration(result),
        "timings_s": dict(result.timings_s),
    }


def _curve(
    result: Result, strategy: EquityCurve, held: EquityCurve | None, benchmark: EquityCurve | None, cash: EquityCurve
) -> dict[str, Any]:
    return {
        "times": [encode(bar.time) for bar in result.bars],
        "equity_usd": strategy.equity_usd.tolist(),
        "drawdown_fraction": strategy.drawdown.tolist(),
        "exposure_fraction": strategy.exposure.tolist(),
        "buy_and_hold_usd": held.equity_usd.tolist() if held else None,
        "buy_and_hold_drawdown_fraction": held.drawdown.tolist() if held else None,
        "benchmark_usd": benchmark.equity_usd.tolist() if benchmark else None,
        "benchmark_drawdown_fraction": benchmark.drawdown.tolist() if benchmark else None,
        "cash_usd": cash.equity_usd.tolist(),
        "rolling_sharpe": roll_sharpe(strategy.excess, _span(result)),
    }


def _strategy(result: Result, made: Sequence[Trade]) -> EquityCurve:
    equity_usd = np.array([bar.equity_usd for bar in result.bars], dtype=np.float64)
    return EquityCurve(
        cash_usd=result.options.cash_usd,
        cash_growth=_cash_growth(result),
        equity_usd=equity_usd + _interest(result),
        invested_usd=equity_usd - np.array([bar.cash_usd for bar in result.bars], dtype=np.float64),
        span=_span(result),
        trades=made,
        commission_usd=math.fsum(fill.commission_usd for fill in result.fills),
    )


def _measure_holding(result: Result, holding: buy_and_hold.Holding) -> EquityCurve:
    return EquityCurve(
        cash_usd=result.options.cash_usd,
        cash_growth=_cash_growth(result),
        equity_usd=holding.equity_usd,
        invested_usd=holding.equity_usd,
        span=_span(result),
        commission_usd=holding.commission_usd,
    )


def _cash(result: Result) -> EquityCurve:
    growth = _cash_growth(result)
    return EquityCurve(
        cash_usd=result.options.cash_usd,
        cash_growth=growth,
        equity_usd=result.options.cash_usd * np.cumprod(growth),
        invested_usd=np.zeros(len(result.bars)),
        span=_span(result),
    )


def _benchmark(result: Result) -> EquityCurve | None:
    """Return the benchmark bought in fractional shares at the close of the first bar; None without one."""
    if result.benchmark is None or not result.bars:
        return None
    closes = pd.DataFrame({result.benchmark.name: result.benchmark.closes[: len(result.bars)]})
    holding = buy_and_hold.hold(closes, result.options)
    assert holding is not None, "it has a price at the first bar"
    return _measure_holding(result, holding)


def _name_benchmark(result: Result) -> dict[str, str] | None:
    given = result.benchmark
    return {"name": given.name, "source": given.source} if given else None


def _cash_growth(result: Result) -> Numbers:
    return result.options.cash_rate.growth([bar.time for bar in result.bars])


def _interest(result: Result) -> Numbers:
    """Return the interest up to each bar, in USD: on the cash since the bar before, and on earlier interest."""
    found, interest_usd, cash_usd = [], 0.0, 0.0
    for bar, growth in zip(result.bars, _cash_growth(result).tolist(), strict=True):
        interest_usd += (interest_usd + cash_usd) * (growth - 1)
        cash_usd = bar.cash_usd
        found.append(interest_usd)
    return np.array(found, dtype=np.float64)


def _interest_usd(result: Result) -> float:
    """Return the strategy's interest over the whole span."""
    return float(_interest(result)[-1]) if result.bars else 0.0


def _span(result: Result) -> Span | None:
    return measure_span([bar.time for bar in result.bars])


def _options(options: Options) -> dict[str, Any]:
    """Return the options that the result depends on; the output folder is left out."""
    return {
        "start": options.start.isoformat() if options.start else None,
        "end": options.end.isoformat() if options.end else None,
        "cash_usd": options.cash_usd,
        "commission_fraction": options.commission_fraction,
        "slippage_fraction": options.slippage_fraction,
        "refit_every_bars": options.refit_every_bars,
        "fills_at_close": options.fills_at_close,
        "benchmark": options.benchmark,
        "cash_rate": options.cash_rate.words,
        "decide_every": options.decide_every,
        "intraday_file": options.intraday_file,
    }


def _data(result: Result) -> dict[str, Any]:
    index, span = result.panel.close.index, _span(result)
    return {
        "source": result.panel.source,
        "has_ohlc": result.panel.has_ohlc,
        "bar_interval": result.options.settings.bar_interval,
        "bars_a_year": span.bars_a_year if span else None,
        "no_yearly_figures": "" if span else TOO_SHORT,
        "symbols": [str(symbol) for symbol in result.panel.close.columns],
        "ended_symbols": _find_ended(result),
        "membership": membership.measure(result),
        "history_from": encode(index[0].to_pydatetime()) if len(index) else None,
        "first_bar": encode(result.bars[0].time) if result.bars else None,
        "last_bar": encode(result.bars[-1].time) if result.bars else None,
        "bars": len(result.bars),
        "notes": encode(_list_notes(result)),
    }


def _list_notes(result: Result) -> list[Note]:
    """Return the notes on all prices, each once: the benchmark may be a symbol of the universe."""
    of_benchmark = result.benchmark.notes if result.benchmark else ()
    return [*result.panel.notes, *(each for each in of_benchmark if each not in result.panel.notes)]


def _find_ended(result: Result) -> list[str]:
    """Return the symbols that had prices within the span, but none in its last few bars."""
    if not result.bars:
        return []
    times = pd.DatetimeIndex([bar.time for bar in result.bars])
    is_priced = result.panel.close.reindex(times).notna()
    ended = is_priced.any() & ~is_priced.iloc[-ENDED_BARS:].any()
    return [str(symbol) for symbol in ended.index[ended]]


def _costs(result: Result) -> dict[str, float]:
    """Add up the costs; `slippage_usd` is the difference from prices without slippage. Take-profits have none."""
    slippage = result.options.slippage_fraction
    worse = {Side.BUY: slippage / (1 + slippage), Side.SELL: slippage / (1 - slippage)}
    values = [(fill, fill.quantity * fill.price_usd) for fill in result.fills if fill.kind != DELISTING]
    return {
        "fills": len(values),
        "turnover_usd": math.fsum(usd for _, usd in values),
        "commission_usd": math.fsum(fill.commission_usd for fill in result.fills),
        "slippage_usd": math.fsum(usd * worse[fill.side] for fill, usd in values if fill.kind != "take-profit"),
    }


def _monthly(
    result: Result, strategy: EquityCurve, held: EquityCurve | None, benchmark: EquityCurve | None
) -> list[dict[str, Any]]:
    """Return a row for each year: its twelve months (None if not traded), its total, and those of the comparisons."""
    if not result.bars:
        return []
    days = pd.DatetimeIndex([bar.time.astimezone(NEW_YORK).replace(tzinfo=None) for bar in result.bars])
    returns = pd.Series(strategy.returns, index=days)
    months, years = (empyrical.aggregate_returns(returns, period) for period in ("monthly", "yearly"))
    others, market = (
        empyrical.aggregate_returns(pd.Series(curve.returns, index=days), "yearly") if curve else {}
        for curve in (held, benchmark)
    )
    return [
        {
            "year": int(year),
            "months": [_finite(months.get((year, month))) for month in range(1, 13)],
            "total": _finite(total),
            "buy_and_hold": _finite(others.get(year)),
            "benchmark": _finite(market.get(year)),
        }
        for year, total in years.items()
    ]


def _by_symbol(result: Result, made: Sequence[Trade]) -> list[dict[str, Any]]:
    """Return a row for every symbol of the panel, traded or not, with the best result first."""
    alone = buy_and_hold.returns(result)
    of: dict[str, list[Trade]] = {symbol: [] for symbol in alone}
    for trade in made:
        of[trade.symbol].append(trade)
    rows = [_symbol(symbol, of[symbol], alone[symbol], result.options.cash_usd) for symbol in alone]
    return sorted(rows, key=lambda row: (-row["pnl_usd"], row["symbol"]))


def _symbol(symbol: str, made: Sequence[Trade], alone: float | None, cash_usd: float) -> dict[str, Any]:
    closed = [trade for trade in made if not trade.is_open]
    pnl_usd = math.fsum(trade.pnl_usd for trade in made)
    return {
        "symbol": symbol,
        "trades": len(closed),
        "open_trades": len(made) - len(closed),
        "win_fraction": _share(trade.pnl_usd > 0 for trade in closed),
        "pnl_usd": pnl_usd,
        "contribution_fraction": pnl_usd / cash_usd,  # all symbols add up to the total return
        "mean_bars_held": math.fsum(trade.bars_held for trade in made) / len(made) if made else None,
        "buy_and_hold_return_fraction": alone,
    }


def _denials(result: Result) -> Iterable[Denial]:
    for bar in result.bars:
        yield from bar.decision.denials if bar.decision else ()
        yield from (each for each in bar.outcomes if isinstance(each, Denial))


def _counts(words: Iterable[str]) -> Mapping[str, int]:
    """Count the words, the most frequent first."""
    return {str(word): count for word, count in sorted(Counter(words).items(), key=lambda item: (-item[1], item[0]))}


def _over(gain: float | None, drawdown_fraction: float) -> float | None:
    """Divide a return by the maximum drawdown; None if there was no drawdown."""
    return None if gain is None or not drawdown_fraction else gain / -drawdown_fraction


def _share(outcomes: Iterable[bool]) -> float | None:
    listed = list(outcomes)
    return sum(listed) / len(listed) if listed else None


def _finite(value: float | None) -> float | None:
    """Return a value that JSON can hold: None for NaN and infinity."""
    return float(value) if value is not None and math.isfinite(value) else None
