"""How the trades ended, and what they made on average."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.backtest.trades import ExitKind, Trade
from scripts.backtest.yearly import Span


def measure_trading(
    made: Sequence[Trade], turnover_usd: float, equity_usd: NDArray[np.float64], span: Span | None
) -> dict[str, Any]:
    """Return what the trades made, by what ended them; JSON-safe.

    `turnover_usd` is the value of all fills, purchases and sales. A figure without a trade to measure is None. Those of
    gains and losses are of closed trades, after commission:

    - `profit_factor`: the sum of the gains over that of the losses
    - `turnover_ratio`: half of `turnover_usd` over the mean equity, so that a portfolio that is replaced once counts 1;
      per year, or over the whole span if it is too short for a year (`is_turnover_yearly`)
    """
    closed = [trade for trade in made if not trade.is_open]
    gains, losses = ([trade for trade in closed if is_of(trade.pnl_usd)] for is_of in (_is_gain, _is_loss))
    lost_usd = -_sum(losses)
    return {
        "profit_factor": _sum(gains) / lost_usd if lost_usd else None,
        "mean_gain_usd": _mean(trade.pnl_usd for trade in gains),
        "mean_loss_usd": _mean(trade.pnl_usd for trade in losses),
        "mean_gain_fraction": _mean(trade.return_fraction for trade in gains),
        "mean_loss_fraction": _mean(trade.return_fraction for trade in losses),
        "turnover_ratio": _turn_over(turnover_usd, equity_usd, span),
        "is_turnover_yearly": span is not None,
        "exits": [_exit(kind, [trade for trade in made if trade.exit_kind is kind]) for kind in _kinds(made)],
    }


def _is_gain(pnl_usd: float) -> bool:
    return pnl_usd > 0


def _is_loss(pnl_usd: float) -> bool:
    return pnl_usd < 0


def _turn_over(turnover_usd: float, equity_usd: NDArray[np.float64], span: Span | None) -> float | None:
    mean_usd = float(equity_usd.mean()) if len(equity_usd) else 0.0
    if mean_usd <= 0:
        return None
    return turnover_usd / 2 / mean_usd / (span.years if span else 1.0)


def _kinds(made: Sequence[Trade]) -> list[ExitKind]:
    """Return what ended at least one trade, in the order of ExitKind."""
    seen = {trade.exit_kind for trade in made}
    return [kind for kind in ExitKind if kind in seen]


def _exit(kind: ExitKind, ended: Sequence[Trade]) -> Mapping[str, Any]:
    return {
        "kind": kind.value,
        "trades": len(ended),
        "win_fraction": fmean(_is_gain(trade.pnl_usd) for trade in ended),
        "pnl_usd": _sum(ended),
        "mean_return_fraction": fmean(trade.return_fraction for trade in ended),
        "mean_bars_held": fmean(trade.bars_held for trade in ended),
    }


def _sum(made: Iterable[Trade]) -> float:
    return math.fsum(trade.pnl_usd for trade in made)


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None
