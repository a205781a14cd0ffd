"""Alpha: a forecast and the price beside it become an insight. Pure."""

from trader.model import NEW_YORK, Direction, Forecast, Insight


def insight(forecast: Forecast, signal: str, threshold_fraction: float) -> Insight:
    """What the `signal` reads from one forecast; `threshold_fraction` is the dead band around the trend line."""
    if signal == "trend":
        return against_trend(forecast, threshold_fraction)
    return against_interval(forecast)


def against_trend(forecast: Forecast, threshold_fraction: float) -> Insight:
    """UP below the trend line, DOWN above it, FLAT within the dead band."""
    gap = forecast.price_usd / forecast.trend_usd - 1
    direction = (
        Direction.UP if gap < -threshold_fraction else Direction.DOWN if gap > threshold_fraction else Direction.FLAT
    )
    where = f"{abs(gap):.1%} {'below' if gap < 0 else 'above'} its trend line at {forecast.trend_usd:,.2f}"
    return Insight(
        symbol=forecast.symbol,
        direction=direction,
        price_usd=forecast.price_usd,
        gap_fraction=gap,
        reason=f"price {forecast.price_usd:,.2f} is {where}",
    )


def against_interval(forecast: Forecast) -> Insight:
    """UP if the forecast interval reaches further above the price than below it, DOWN if further below.

    The rule of Sean Kelley's Backtrader strategy (2018) and of the function this project began as: the move to the
    interval's upper end against the move to its lower end.
    """
    if forecast.lower_usd is None or forecast.upper_usd is None or forecast.horizon_time is None:
        raise ValueError(f"the forecast of {forecast.symbol} has no interval, which this signal reads")
    upper_move = forecast.upper_usd / forecast.price_usd - 1
    lower_move = forecast.lower_usd / forecast.price_usd - 1
    if upper_move > 0 and abs(upper_move) > abs(lower_move):
        direction, gap = Direction.UP, upper_move
    elif lower_move < 0 and abs(lower_move) > abs(upper_move):
        direction, gap = Direction.DOWN, lower_move
    else:
        direction, gap = Direction.FLAT, upper_move + lower_move
    return Insight(
        symbol=forecast.symbol,
        direction=direction,
        price_usd=forecast.price_usd,
        gap_fraction=gap,
        reason=f"forecast for {forecast.horizon_time.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York: "
        f"{lower_move:+.1%} to {upper_move:+.1%} of the price",
    )
