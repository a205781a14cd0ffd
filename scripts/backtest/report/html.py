"""A backtest's report in the browser: one HTML page that contains everything it shows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from scripts.backtest.model import Result
from scripts.backtest.report import formatting
from scripts.backtest.report.charts import PriceCharts, charts
from scripts.console import format_count
from scripts.report import templating
from scripts.report.formatting import CODE_STATUSES, EXPLANATIONS, change, plain, setting_words, timing_words, usd
from scripts.report.values import Values
from trader.model import Code, Json

TEMPLATES = Path(__file__).with_name("templates")
MAX_CARDS = 60
"""Maximum number of price charts on the page: those of the symbols with the largest gains or losses."""

OPEN_CARDS, OPEN_TRADES, OPEN_SCORES = 24, 30, 12
"""Maximum numbers of price charts, trades and calibration rows shown at once; longer lists are folded."""

MAX_TRADES, MAX_SYMBOLS, MAX_LINES = 2_000, 60, 30
"""Maximum numbers of trades, symbols, and notes, splits or refusals on the page; backtest.json has the rest."""

EXTREMES = 5
"""Number of best and of worst trades shown at once if the list is folded."""

HEAT_FRACTION = 0.10
"""Size of a return that gets the full color in the table of monthly returns."""


class Card(NamedTuple):
    """A traded symbol, with its number of trades, its chart and the values behind it."""

    row: Json
    trades: int
    chart: Markup
    values: Values


def page(figures: Json, result: Result) -> str:
    """Return the whole page. `figures` are those of `result`, which also supplies the prices to draw.

    Symbols, notes and reasons are untrusted: the template escapes everything but the charts.
    """
    environment = templating.environment(TEMPLATES)
    environment.filters |= {
        "plain": plain,
        "share": formatting.share,
        "signed": formatting.format_signed,
        "ratio": formatting.ratio,
        "change": change,
        "money": formatting.money,
        "day": lambda time: formatting.day(figures, time),
        "moment": lambda time: formatting.moment(figures, time),
    }
    return environment.get_template("backtest.html.j2").render(_contents(figures, result))


def _contents(figures: Json, result: Result) -> dict[str, Any]:
    traded = [row for row in figures["symbols"] if row["trades"] or row["open_trades"]]
    trades = figures["trades"]
    best = sorted(trades, key=lambda trade: -trade["pnl_usd"])
    return {
        "figures": figures,
        "headline": formatting.headline(figures),
        "interrupted": "" if figures["is_complete"] else formatting.describe_interruption(figures),
        "dates": formatting.dates(figures),
        "strategy": figures["settings"]["strategy"],
        "signal": figures["settings"]["signal"],
        "tiles": _tiles(figures),
        "lines": formatting.lines(figures),
        "intervals": formatting.interval_lines(figures),
        "uncertainty": formatting.describe_uncertainty(figures) if figures["uncertainty"] else "",
        "trials": formatting.describe_trials(figures) if figures["trials"] else "",
        "caveats": formatting.caveats(figures),
        "exits": formatting.exit_lines(figures),
        "trading": formatting.describe_trading(figures),
        "making": formatting.describe_making(figures),
        "command": figures["made"]["command"] if figures["made"] else "",
        "costs": formatting.costs(figures),
        "benchmark": formatting.describe_benchmark(figures),
        "cash": formatting.describe_cash(figures),
        "yearly": formatting.describe_year(figures),
        "times": [formatting.day(figures, time) for time in figures["curve"]["times"]],
        "charts": charts(figures),
        "months": MONTHS,
        "years": [_year(year) for year in figures["monthly_returns"]],
        "traded": traded,
        "untraded": [row["symbol"] for row in figures["symbols"] if row not in traded],
        "calibration": formatting.calibration(figures),
        "has_forecasts": figures["calibration"]["has_forecasts"],
        "calibration_folded": len(figures["calibration"]["by_symbol"]) > OPEN_SCORES,
        "max_symbols": MAX_SYMBOLS,
        "max_lines": MAX_LINES,
        "trades": trades[:MAX_TRADES],
        "extremes": [*best[:EXTREMES], *best[-EXTREMES:]] if len(trades) > OPEN_TRADES else [],
        "cards": _cards(figures, result, traded),
        "card_count": min(len(traded), MAX_CARDS),
        "cards_open": len(traded) <= OPEN_CARDS,
        "refusals": figures["refusals"][:MAX_LINES],
        "denials": [(code, count, _means(code)) for code, count in figures["denials"].items()],
        "statuses": [(status, count, _means(status)) for status, count in figures["statuses"].items()],
        "splits": [
            (each["symbol"], formatting.describe_split(figures, each))
            for each in formatting.splits_of_holdings(figures)
        ],
        "notes": figures["data"]["notes"][:MAX_LINES],
        "settings": [
            (name, setting_words(value)) for part in ("options", "settings") for name, value in figures[part].items()
        ],
        "timings": timing_words(figures["timings_s"]),
    }


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _tiles(figures: Json) -> list[dict[str, str]]:
    made, held = (figures["key_figures"][name] for name in ("strategy", "buy_and_hold"))
    cash_usd, paid = figures["options"]["cash_usd"], figures["costs"]
    other = held or {}

    def beside(name: str) -> str:
        return f"buy and hold {formatting.format_signed(other.get(name))}"

    return [
        {
            "label": "Equity at the end, USD",
            "value": usd(made["final_equity_usd"]),
            "beside": f"{usd(cash_usd)} at the start, {change(made['final_equity_usd'] - cash_usd)}",
        },
        {
            "label": "Return",
            "value": formatting.format_signed(made["total_return_fraction"]),
            "beside": beside("total_return_fraction"),
        },
        {
            "label": "Maximum drawdown",
            "value": formatting.format_signed(made["max_drawdown_fraction"]),
            "beside": beside("max_drawdown_fraction"),
        },
        {
            "label": "Costs, USD",
            "value": usd(paid["commission_usd"] + paid["slippage_usd"]),
            "beside": f"commission and slippage on {format_count(paid['fills'], 'order')}",
        },
    ]


def _year(year: Json) -> dict[str, Any]:
    return {**year, "cells": [(each, _heat(each)) for each in year["months"]], "total_heat": _heat(year["total"])}


def _heat(fraction: float | None) -> str:
    """Return the strength of a cell's color as a CSS percentage; empty without a number."""
    return "" if fraction is None else f"{min(abs(fraction) / HEAT_FRACTION, 1) * 60:.0f}%"


def _cards(figures: Json, result: Result, traded: Sequence[Json]) -> Iterator[Card]:
    """Draw the cards one at a time, as the template requests them."""
    largest = sorted(traded, key=lambda row: -abs(row["pnl_usd"]))[:MAX_CARDS]
    trades = defaultdict(list)
    for trade in figures["trades"]:
        trades[trade["symbol"]].append(trade)
    pictures = PriceCharts(figures, result)
    for row in (row for row in traded if row in largest):
        made = trades[row["symbol"]]
        yield Card(row, len(made), *pictures.draw(row["symbol"], made))


def _means(word: str) -> str:
    return EXPLANATIONS[Code(word)].means if word in CODE_STATUSES else OUTCOMES.get(word, "")


OUTCOMES: Mapping[str, str] = {
    "TRADED": "Orders were placed.",
    "NOTHING_TO_DO": "There was nothing to buy or sell.",
}
