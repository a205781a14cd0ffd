"""Accuracy of the forecasts: how often prices ended inside the interval, and errors compared with a naive forecast."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.backtest.forecasts import find_spec
from scripts.backtest.model import Result, Scored

NOMINAL_FRACTION = 0.80
"""The fraction of actual prices that should lie in an interval from the 10th to the 90th percentile."""

INTERRUPTED = "the backtest was interrupted before its forecasts were scored"
TOO_SHORT = "the span has no price at the horizon of any forecast"


def calibration(result: Result) -> dict[str, Any]:
    """Return the accuracy overall and by symbol, JSON-safe; `overall` is None, with a `reason`, if nothing was scored.

    `has_forecasts` is false for a rule that reads none. `is_sampled` is true if the forecasts were made only to be
    scored, because the rule itself does not look ahead.
    """
    settings = result.options.settings
    spec = find_spec(settings)
    is_sampled = spec is not None and (not spec.looks_ahead or bool(result.options.decide_every))
    begin = {
        "has_forecasts": spec is not None,
        "nominal_fraction": NOMINAL_FRACTION,
        "is_sampled": is_sampled,
    }
    if not result.scored:
        reason = TOO_SHORT if result.is_complete else INTERRUPTED
        if spec is None:
            reason = f"SIGNAL={settings.signal} reads none"
        return {**begin, "reason": reason, "overall": None, "by_symbol": []}
    scored: dict[str, list[Scored]] = {}
    for each in result.scored:
        scored.setdefault(each.symbol, []).append(each)
    return {
        **begin,
        "reason": "",
        "overall": _scores(result.scored),
        "by_symbol": [{"symbol": symbol, **_scores(scored[symbol])} for symbol in sorted(scored)],
    }


def _scores(scored: Sequence[Scored]) -> dict[str, float | None]:
    """Measure errors as fractions of the price at the time of the forecast, so that symbols can be combined.

    `bias_fraction` is positive if the forecasts were too high. `error_ratio` is the forecasts' mean absolute error
    divided by that of the naive forecast, the last price: above 1, Prophet was worse.
    """
    price, yhat, lower, upper, actual = np.array(
        [[each.price_usd, each.yhat_usd, each.lower_usd, each.upper_usd, each.actual_usd] for each in scored]
    ).T
    error = float(np.mean(np.abs(yhat - actual) / price))
    naive = float(np.mean(np.abs(price - actual) / price))
    above, below = float(np.mean(actual > upper)), float(np.mean(actual < lower))
    return {
        "forecasts": len(scored),
        "inside_fraction": float(np.mean((lower <= actual) & (actual <= upper))),
        "above_fraction": above,
        "below_fraction": below,
        "mean_absolute_error_fraction": error,
        "naive_mean_absolute_error_fraction": naive,
        "bias_fraction": float(np.mean((yhat - actual) / price)),
        "error_ratio": error / naive if naive else None,
    }
