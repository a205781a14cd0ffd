"""The wording of a backtest's report, shared by the terminal and the page so that they never disagree."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from scripts.backtest.report import survivorship
from scripts.backtest.trades import STILL_OPEN
from scripts.console import format_count
from scripts.report.formatting import MINUS, NOTHING, change, new_york, percent, plain, quantity, usd
from trader.model import Json
from trader.prices.jumps import name_split

MAX_NAMED = 5
"""Maximum number of symbols named in a sentence."""

MIN_RETURN = 0.0005
"""Smallest return, positive or negative, that is not reported as `Made nothing`; smaller ones round to 0.0%."""

BARS = {"1d": "daily", "1h": "hourly", "15m": "15-minute", "5m": "5-minute", "1m": "1-minute"}
"""Adjective for each bar interval."""


class MetricLine(NamedTuple):
    """A key figure of the accounts, with its meaning."""

    label: str
    strategy: str
    benchmark: str
    buy_and_hold: str
    cash: str
    means: str


class Caveat(NamedTuple):
    """A limit of what the figures show."""

    what: str
    words: str


def headline(figures: Json) -> str:
    """Summarize the backtest in one sentence, without a period."""
    made, held = (figures["key_figures"][name] for name in ("strategy", "buy_and_hold"))
    words = _format_result(made["total_return_fraction"])
    if not figures["costs"]["fills"]:
        words = "Bought nothing"
    elif figures["options"]["commission_fraction"] or figures["options"]["slippage_fraction"]:
        words += " after costs"
    else:
        words += " without any costs"
    words += f" in {span(figures)}"
    if held:
        words += (
            f", while buying and holding {_universe(figures)} {_format_result(held['total_return_fraction']).lower()}"
        )
    return words if figures["is_complete"] else f"{describe_interruption(figures)}: {words[0].lower()}{words[1:]}"


def describe_interruption(figures: Json) -> str:
    """Say at which bar the backtest was interrupted."""
    last = figures["data"]["last_bar"]
    return f"Interrupted on {day(figures, last)}" if last else "Interrupted before the first bar"


def span(figures: Json) -> str:
    """Format the length of the traded span: `2 years`."""
    first, last = figures["data"]["first_bar"], figures["data"]["last_bar"]
    if figures["data"]["bars"] < 2:
        return "one bar" if last else "no bars"
    days = (new_york(last) - new_york(first)).days + 1
    if days < 60:
        return format_count(days, "day")
    if days < 548:
        return f"{days / 30.44:.0f} months"
    return f"{days / 365.25:.1f}".removesuffix(".0") + " years"


def dates(figures: Json) -> str:
    """Format the first and last traded bars, with the number of bars."""
    data = figures["data"]
    if not data["bars"]:
        return "no bars"
    ends = f"{day(figures, data['first_bar'])} to {day(figures, data['last_bar'])}"
    return f"{ends}, {format_count(data['bars'], BARS[data['bar_interval']] + ' bar')}"


def day(figures: Json, time: str) -> str:
    """Format the New York day of a bar, with its time if bars are shorter than a day."""
    return f"{new_york(time):{'%-d %b %Y' if figures['data']['bar_interval'] == '1d' else '%-d %b %Y, %H:%M'}}"


def moment(figures: Json, time: str | None) -> str:
    """Format a trade's entry or exit as `day` does; `still open` if there is no exit yet."""
    return day(figures, time) if time else STILL_OPEN


def share(fraction: float | None) -> str:
    """Format an unsigned percentage with one decimal."""
    return NOTHING if fraction is None else f"{fraction:.1%}"


def format_signed(fraction: float | None) -> str:
    """Format a percentage with its sign; without one if it rounds to 0."""
    if fraction is None:
        return NOTHING
    return percent(fraction) if round(fraction, 3) else "0.0%"


def ratio(value: float | None) -> str:
    """Format a bare number with two decimals; 0.00 has no sign."""
    return NOTHING if value is None else f"{round(value, 2) + 0.0:.2f}".replace("-", MINUS)


def fine_share(fraction: float | None) -> str:
    """Format an unsigned percentage with two decimals, as for one bar."""
    return NOTHING if fraction is None else f"{fraction:.2%}"


def fine_ratio(value: float | None) -> str:
    """Format a bare number with three decimals, as for one bar; 0.000 has no sign."""
    return NOTHING if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Format a whole number."""
    return NOTHING if value is None else f"{value:,.0f}"


def money(value: float | None) -> str:
    """Format dollars and cents."""
    return NOTHING if value is None else usd(value)


def lines(figures: Json) -> list[MetricLine]:
    """Return the key figures of the accounts; those of a benchmark that there is not are dashes."""
    strategy, benchmark, held, cash = (
        figures["key_figures"][name] or {} for name in ("strategy", "benchmark", "buy_and_hold", "cash")
    )
    return [
        MetricLine(
            label=label,
            strategy=words(strategy.get(name)),
            benchmark=words(benchmark.get(name)),
            buy_and_hold=words(held.get(name)),
            cash=words(cash.get(name)),
            means=means,
        )
        for label, name, words, means in KEY_FIGURES
    ]


KEY_FIGURES: tuple[tuple[str, str, Callable[[float | None], str], str], ...] = (
    ("Return", "total_return_fraction", format_signed, "over the whole span, after costs"),
    ("Annual return", "annual_return_fraction", format_signed, "the return, compounded to one year by the dates"),
    ("Annual volatility", "annual_volatility_fraction", share, "annualized standard deviation of the bars' returns"),
    ("Sharpe ratio", "sharpe_ratio", ratio, "annualized mean return above that of cash, over its volatility"),
    ("Sortino ratio", "sortino_ratio", ratio, "the same, but only negative returns count as risk"),
    ("Calmar ratio", "calmar_ratio", ratio, "annual return over maximum drawdown"),
    ("Maximum drawdown", "max_drawdown_fraction", format_signed, "the largest fall of the equity from a peak"),
    ("Under water, bars", "longest_under_water_bars", count, "the longest run of bars below an earlier peak"),
    ("Invested", "exposure_fraction", share, "mean share of the equity in positions"),
    ("Closed trades", "trades", count, "round trips; shares sold in parts count once for each part"),
    ("Won", "win_fraction", share, "share of closed trades with a profit after commission"),
    ("Commission, USD", "commission_usd", money, "over the whole span"),
    ("Equity at the end, USD", "final_equity_usd", money, "with open positions at their last close"),
)


BAR_FIGURES: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("Volatility per bar", "bar_volatility_fraction", fine_share),
    ("Sharpe ratio per bar", "bar_sharpe_ratio", fine_ratio),
    ("Sortino ratio per bar", "bar_sortino_ratio", fine_ratio),
    ("Return over maximum drawdown", "return_over_drawdown_ratio", ratio),
)
"""Label, name and formatter of the figures that take the place of yearly ones where there are none."""


class IntervalLine(NamedTuple):
    """The interval of a figure, of each account and of its difference from the strategy."""

    label: str
    strategy: str
    buy_and_hold: str
    difference: str
    benchmark: str
    difference_from_benchmark: str


def interval_lines(figures: Json) -> list[IntervalLine]:
    """Return the intervals of the figures that have one; none if there are no intervals at all."""
    measured = figures["uncertainty"] or {}
    found = measured.get("intervals", {})
    labels = [(label, name, words) for label, name, words, _ in KEY_FIGURES] + list(BAR_FIGURES)
    return [
        IntervalLine(label, *(_interval(found.get(who, {}).get(name), words) for who in ACCOUNTS))
        for label, name, words in labels
        if name in found.get("strategy", {})
        and not (name == "bar_sharpe_ratio" and "sharpe_ratio" in found["strategy"])
    ]


ACCOUNTS = IntervalLine._fields[1:]


def _interval(ends: list[float] | None, words: Callable[[float | None], str]) -> str:
    return f"{words(ends[0])} to {words(ends[1])}" if ends else NOTHING


def describe_uncertainty(figures: Json) -> str:
    """Say what the intervals are, and whether the difference from buy-and-hold may be chance."""
    measured = figures["uncertainty"]
    if measured["reason"]:
        return f"No intervals: {measured['reason']}."
    how = (
        f"{measured['level_fraction']:.0%} of {measured['replications']:,} histories drawn from this one, in blocks of "
        f"{format_count(measured['mean_block_bars'], 'bar')} on average, lie within these intervals (stationary "
        f"bootstrap)."
    )
    verdicts = [
        _describe_difference(measured["intervals"].get(name, {}), other)
        for name, other in (("difference", "buy and hold"), ("difference_from_benchmark", "the benchmark"))
    ]
    return " ".join(filter(None, [how, *verdicts]))


def _describe_difference(by_name: Json, other: str) -> str:
    """Say whether the difference from another account may be chance; nothing without an interval."""
    ends = by_name.get("sharpe_ratio") or by_name.get("bar_sharpe_ratio")
    if not ends:
        return ""
    if ends[0] <= 0 <= ends[1]:
        return f"The difference from {other} may be chance: its interval for the Sharpe ratio contains 0."
    better = "better" if ends[0] > 0 else "worse"
    return f"The strategy's Sharpe ratio is {better} than that of {other} by more than chance explains."


def describe_benchmark(figures: Json) -> str:
    """Say what the benchmark is and what the strategy made against it, or how to set one."""
    if not figures["benchmark"]:
        return "none; set BENCHMARK to a symbol such as SPY, or to a price file, to compare with an index"
    against, source = figures["against_benchmark"], figures["benchmark"]["source"]
    if not against:
        return plain(source)
    parts = [f"{plain(source)}, bought once at the same costs"]
    if against["beta"] is not None:
        alpha = (
            f"alpha {format_signed(against['alpha_fraction'])} a year, "
            if against["alpha_fraction"] is not None
            else ""
        )
        parts.append(f"{alpha}beta {ratio(against['beta'])}, correlation {ratio(against['correlation'])}")
    if against["information_ratio"] is not None:
        parts.append(f"information ratio {ratio(against['information_ratio'])}")
    parts.append(
        f"as much of it as the strategy had invested on average, and cash, made "
        f"{format_signed(against['mix_return_fraction'])}: the strategy made "
        f"{format_signed(against['exposure_adjusted_return_fraction'])} against that"
    )
    return "; ".join(parts)


def describe_cash(figures: Json) -> str:
    """Say what cash earned."""
    rate = figures["options"]["cash_rate"]
    if rate == "0%":
        return "Cash earned nothing (CASH_RATE=0)"
    named = f"{rate} a year" if rate.endswith("%") else f"the rates in {plain(rate)}"
    return f"Cash earned {named}, the strategy's {usd(figures['interest_usd'])} USD, which it could not invest"


def describe_trials(figures: Json) -> str:
    """Say how many settings were tried on the same days, and what that makes of the Sharpe ratio."""
    tried = figures["trials"]
    if tried["probability"] is None:
        return f"{format_count(tried['settings'], 'setting')} tried on these days so far."
    chance = f"{tried['probability']:.0%}"
    if tried["settings"] == 1:
        return (
            "The only setting tried on these days so far: the probability that its true Sharpe ratio is above 0 is "
            f"{chance}."
        )
    return (
        f"{tried['settings']:,} settings tried on these days so far. The best of so many without any skill would have "
        f"a Sharpe ratio of about {ratio(tried['sharpe_by_luck'])}; the probability that this one's true ratio is "
        f"higher is {chance} (deflated Sharpe ratio)."
    )


def describe_best(tried: Json) -> str:
    """Say what the number of settings tried on the same days makes of the best one's Sharpe ratio."""
    of = f"{format_count(tried['settings'], 'setting')} tried on these days so far"
    if tried["probability"] is None:
        return f"{of}."
    return (
        f"{of}: the best of so many without any skill would have a Sharpe ratio of about "
        f"{ratio(tried['sharpe_by_luck'])}, and the best setting's true ratio is higher with a probability of "
        f"{tried['probability']:.0%} (deflated Sharpe ratio)."
    )


def describe_year(figures: Json) -> str:
    """Say how the yearly figures were annualized, or why there are none."""
    if reason := figures["data"]["no_yearly_figures"]:
        return f"No figures for a year: {reason}"
    bars_a_year = f"{figures['data']['bars_a_year']:,.1f}".removesuffix(".0")
    return f"Yearly figures go by the dates of the span, with {bars_a_year} bars in a year"


def describe_split(figures: Json, restated: Json) -> str:
    """Say what a split made of the shares held: `31 Aug 2020, 4:1: 10 shares became 40`."""
    before, after = quantity(restated["quantity_before"]), quantity(restated["quantity_after"])
    paid = f", and {usd(restated['cash_usd'])} USD in cash for a fraction" if restated["cash_usd"] else ""
    return f"{day(figures, restated['time'])}, {name_split(restated['ratio'])}: {before} shares became {after}{paid}"


def splits_of_holdings(figures: Json) -> list[Json]:
    """Return the splits of shares that were held."""
    return [each for each in figures["restatements"] if each["quantity_before"]]


def costs(figures: Json) -> str:
    """Say what commission and slippage cost, and on what turnover."""
    paid, options = figures["costs"], figures["options"]
    return (
        f"{format_count(paid['fills'], 'order')} filled for {usd(paid['turnover_usd'])} USD in all: commission "
        f"{usd(paid['commission_usd'])} USD ({_rate(options['commission_fraction'])} of an order's value), slippage "
        f"{usd(paid['slippage_usd'])} USD ({_rate(options['slippage_fraction'])} of the price; none on a take-profit)"
    )


class ExitLine(NamedTuple):
    """The trades that ended in the same way."""

    label: str
    trades: str
    won: str
    result: str
    mean_return: str
    bars_held: str


EXITS = {
    "rule": "By the rule",
    "stop-loss": "By the stop loss",
    "take-profit": "By the take profit",
    "delisting": "By the end of the prices",
    "split": "As a fraction left by a split",
    "open": "Still open",
}
"""Label of each ExitKind."""


def exit_lines(figures: Json) -> list[ExitLine]:
    """Return a line for each way in which trades ended."""
    return [
        ExitLine(
            label=EXITS[row["kind"]],
            trades=count(row["trades"]),
            won=share(row["win_fraction"]),
            result=change(row["pnl_usd"]),
            mean_return=format_signed(row["mean_return_fraction"]),
            bars_held=count(row["mean_bars_held"]),
        )
        for row in figures["trading"]["exits"]
    ]


def describe_trading(figures: Json) -> str:
    """Say what the closed trades made on average, and how often the account was turned over; no period."""
    made = figures["trading"]
    parts = [] if made["profit_factor"] is None else [f"profit factor {ratio(made['profit_factor'])}"]
    for name, label in (("gain", "mean gain"), ("loss", "mean loss")):
        if made[f"mean_{name}_usd"] is not None:
            fraction, usd_each = made[f"mean_{name}_fraction"], made[f"mean_{name}_usd"]
            parts.append(f"{label} {format_signed(fraction)}, {change(usd_each)} USD")
    if made["turnover_ratio"] is not None:
        period = "a year" if made["is_turnover_yearly"] else "over the span"
        parts.append(f"turnover {made['turnover_ratio']:,.1f} times the equity {period}")
    return "; ".join(parts)


def describe_exits(figures: Json) -> str:
    """Say how many trades ended in which way: `226 by the rule, 281 by the stop loss`."""
    return ", ".join(f"{line.trades} {line.label[0].lower()}{line.label[1:]}" for line in exit_lines(figures))


def describe_making(figures: Json) -> str:
    """Say when and by which version the backtest was made; empty if that is not known."""
    made = figures["made"]
    if not made:
        return ""
    at = datetime.fromisoformat(made["at"])
    version = f" {made['version']}" if made["version"] else ""
    engine = f", engine {made['engine']}" if "engine" in made else ""
    return f"Made on {at:%-d %b %Y at %H:%M} UTC by prophet-trader{version}, code {made['code']}{engine}"


def calibration(figures: Json) -> str:
    """Describe how good the forecasts were, in a sentence or two."""
    scores = figures["calibration"]["overall"]
    if scores is None:
        return f"No forecasts to score: {figures['calibration']['reason']}."
    naive = scores["naive_mean_absolute_error_fraction"]
    against = f"compared with {share(naive)} for simply taking the last price"
    if scores["error_ratio"] is not None:
        against += f": the forecasts' is {scores['error_ratio']:.2f} times as large"
    inside, above, below, error = (
        share(scores[name])
        for name in ("inside_fraction", "above_fraction", "below_fraction", "mean_absolute_error_fraction")
    )
    return (
        f"{format_count(scores['forecasts'], 'forecast')}{_describe_sample(figures)}: {inside} of the prices ended "
        f"inside the interval ({figures['calibration']['nominal_fraction']:.0%} should), {above} above it, "
        f"{below} below. "
        f"The mean error was {error} of the price, {against}."
    )


def _describe_sample(figures: Json) -> str:
    """Mark the forecasts as a sample if the rule itself does not look ahead."""
    return " sampled for this report" if figures["calibration"]["is_sampled"] else ""


def caveats(figures: Json) -> list[Caveat]:
    """Return the assumptions behind the figures, and their limits."""
    settings, options = figures["settings"], figures["options"]
    found = [Caveat("Costs are assumed", _describe_assumptions(figures))]
    if is_daily(figures):
        found.append(Caveat("One decision a day", ONE_A_DAY))
    elif figures["schedule"] and not figures["schedule"]["is_same"]:
        words = describe_schedule(figures)
        found.append(Caveat("Another schedule than deployed", f"{words[0].upper()}{words[1:]}."))
    if settings["stop_loss_fraction"]:
        found.append(Caveat("The order of prices within a bar is unknown", _within_a_bar(figures)))
    found.append(Caveat("Survivorship", survivorship.describe(figures)))
    if options["refit_every_bars"] > 1:
        found.append(
            Caveat(
                f"REFIT_EVERY={options['refit_every_bars']}",
                "The live bot fits a model on every run; here one model serves several bars, so decisions differ.",
            )
        )
    found.append(Caveat("No promise of profit", NO_PROMISE))
    return found


def is_daily(figures: Json) -> bool:
    """Check whether the backtest decided once a day."""
    return figures["settings"]["bar_interval"] == "1d" and not figures["options"]["decide_every"]


def describe_schedule(figures: Json) -> str:
    """Say how often the backtest decided, how often the bot runs by default, and how to make them agree; no period."""
    schedule = figures["schedule"]
    if schedule["is_same"]:
        return f"tested {schedule['tested']}, as it is deployed"
    words = f"tested {schedule['tested']}; Terraform's default runs {schedule['deployed']}, at other prices"
    if schedule["to_test"]:
        words += f". To test that: {schedule['to_test']} with INTRADAY_FILE=file, or with PRICE_SOURCES=yahoo"
    return f'{words}. To deploy what was tested: daily_at = "15:45"' if is_daily(figures) else words


ONE_A_DAY = (
    "The backtest decides once for each daily bar, near the close, so it tests a bot that runs once a day. Deploy with "
    'daily_at = "15:45": a bot that runs every 15 minutes trades more often, and at other prices.'
)
NO_PROMISE = (
    "What worked in the past may not work again; the more settings were tried on the same prices, the less reliable "
    "the result. Taxes are left out, and orders are assumed not to move prices. Not investment advice."
)


def _describe_assumptions(figures: Json) -> str:
    options = figures["options"]
    if options["fills_at_close"]:
        fills = "Orders are filled at the same close that the decision is based on, which is impossible in practice"
    elif figures["data"]["has_ohlc"]:
        fills = "Orders are filled at the open of the bar after the decision"
    else:
        fills = "Orders are filled at the close of the bar after the decision, because the prices are closes only"
    return (
        f"Commission {_rate(options['commission_fraction'])}, slippage {_rate(options['slippage_fraction'])}; "
        f"real costs can be higher. {fills}. Orders are filled completely, whatever their size."
    )


def _within_a_bar(figures: Json) -> str:
    if figures["data"]["has_ohlc"]:
        return (
            "If a bar reaches both the stop loss and the take profit, its opening tells which came first if it is at "
            "or beyond one of them; otherwise the stop is assumed to come first."
        )
    return (
        "The prices are closes only: a stop loss is filled at the first close at or below it, a take profit at its own "
        "price; prices that were reached only between two closes are not seen."
    )


def _format_result(fraction: float) -> str:
    if abs(fraction) < MIN_RETURN:
        return "Made nothing"
    return f"{'Made' if fraction > 0 else 'Lost'} {abs(fraction):.1%}"


def _universe(figures: Json) -> str:
    bought, left_out = figures["data"]["buy_and_hold_symbols"], figures["data"]["not_in_buy_and_hold"]
    if len(bought) == 1:
        return plain(bought[0])
    return f"the {len(bought)} with prices from the start" if left_out else f"all {len(bought)}"


def _rate(fraction: float) -> str:
    """Format a small share: `0.05%`, `0%`."""
    return f"{fraction * 100:.4f}".rstrip("0").rstrip(".") + "%"
