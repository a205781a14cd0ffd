"""A backtest's report in the terminal. Plain text when piped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scripts import console
from scripts.backtest.report import formatting
from scripts.report.formatting import change, engine_words, plain
from trader.model import Json

if TYPE_CHECKING:
    from scripts.backtest.report import Paths

MAX_SYMBOLS, MAX_NOTES = 30, 5


def show(figures: Json, paths: Paths, out: Console) -> None:
    """Print the result, the details behind it, and the paths of the report."""
    out.print()
    for part in (
        _heading(figures),
        _key_figures(figures),
        _uncertainty(figures),
        _symbols(figures),
        _below(figures),
    ):
        if part is not None:
            out.print(part)
            out.print()
    where = f" Page: {paths.page}    figures: {paths.json}"
    out.print(Text(where, style="dim"), soft_wrap=True)  # a path can be copied whole


def _heading(figures: Json) -> RenderableType:
    settings, source = figures["settings"], figures["data"]["source"]
    lines = [
        Text(formatting.headline(figures), style="bold" if figures["is_complete"] else "bold red"),
        _label("Strategy", f"{settings['strategy']}, signal {settings['signal']}{engine_words(settings)}"),
        _label("Span", f"{formatting.dates(figures)}; prices: {source}"),
    ]
    return Padding(Group(*lines), (0, 1), expand=False)


def _key_figures(figures: Json) -> RenderableType:
    has_benchmark = bool(figures["benchmark"])
    table = _table("", "Strategy", *(["Benchmark"] if has_benchmark else []), "Buy and hold", "Cash")
    for line in formatting.lines(figures):
        benchmark = [line.benchmark] if has_benchmark else []
        strategy, cash = Text(line.strategy, style="bold"), Text(line.cash, style="dim")
        table.add_row(line.label, strategy, *benchmark, line.buy_and_hold, cash)
    missing = Text(f" {formatting.describe_year(figures)}", style="dim")
    return Group(table, missing) if figures["data"]["no_yearly_figures"] else table


def _uncertainty(figures: Json) -> RenderableType | None:
    if not figures["uncertainty"]:
        return None
    words = [formatting.describe_uncertainty(figures)]
    words += [formatting.describe_trials(figures)] if figures["trials"] else []
    said = Padding(Text(" ".join(words), style="dim"), (0, 1), expand=False)
    lines = formatting.interval_lines(figures)
    if not lines:
        return said
    # Five columns of intervals are too wide for 80 characters; the page has them all.
    names = ("less benchmark", "less buy and hold") if figures["benchmark"] else ("Buy and hold", "Difference")
    table = _table("How sure is this?", "Strategy", *names)
    for line in lines:
        others = (
            (line.difference_from_benchmark, line.difference)
            if figures["benchmark"]
            else (line.buy_and_hold, line.difference)
        )
        table.add_row(line.label, Text(line.strategy, style="bold"), *others)
    return Group(table, said)


def _symbols(figures: Json) -> RenderableType | None:
    traded = [row for row in figures["symbols"] if row["trades"] or row["open_trades"]]
    if not traded:
        return None
    half = MAX_SYMBOLS // 2
    is_cut = len(traded) > MAX_SYMBOLS
    table = _table("Symbol", "Result", "of cash", "Trades", "Won", "Bars held", "Buy and hold")
    for row in [*traded[:half], *traded[-half:]] if is_cut else traded:
        table.add_row(*_facts(row))
    hidden = f" ... and {len(traded) - 2 * half} more on the page, between the best and the worst"
    return Group(table, *([Text(hidden, style="dim")] if is_cut else []))


def _facts(row: Json) -> Iterator[Text]:
    yield Text(plain(row["symbol"]))
    yield Text(change(row["pnl_usd"]), style="green" if row["pnl_usd"] >= 0 else "red")
    yield Text(formatting.format_signed(row["contribution_fraction"]))
    yield Text(f"{row['trades']}{' + 1 open' if row['open_trades'] else ''}")
    yield Text(formatting.share(row["win_fraction"]))
    yield Text(formatting.count(row["mean_bars_held"]))
    yield Text(formatting.format_signed(row["buy_and_hold_return_fraction"]), style="dim")


def _below(figures: Json) -> RenderableType:
    lines = [
        _label("Benchmark", formatting.describe_benchmark(figures)),
        *_trading(figures),
        _label("Costs", formatting.costs(figures)),
        *([_label("Schedule", formatting.describe_schedule(figures))] if figures["schedule"] else []),
        *([_label("Cash", formatting.describe_cash(figures))] if figures["options"]["cash_rate"] != "0%" else []),
        *([_label("Forecasts", formatting.calibration(figures))] if figures["calibration"]["has_forecasts"] else []),
        *(_label(each.what, each.words) for each in formatting.caveats(figures) if each.what == "Survivorship"),
        *_splits(figures),
        *_notes(figures["data"]["notes"]),
    ]
    return Padding(Group(*lines), (0, 1), expand=False)


def _trading(figures: Json) -> Iterator[RenderableType]:
    if figures["trading"]["exits"]:
        yield _label("Trades", "; ".join((formatting.describe_exits(figures), formatting.describe_trading(figures))))


def _splits(figures: Json) -> Iterator[RenderableType]:
    splits = formatting.splits_of_holdings(figures)
    for each in splits[:MAX_NOTES]:
        yield _label("Split", f"{each['symbol']}, {formatting.describe_split(figures, each)}")
    if len(splits) > MAX_NOTES:
        yield _label("", f"... and {len(splits) - MAX_NOTES} more on the page")


def _notes(notes: Sequence[Json]) -> Iterator[RenderableType]:
    for note in notes[:MAX_NOTES]:
        yield _label("Prices", ": ".join(filter(None, (note["symbol"], note["what"]))))
    if len(notes) > MAX_NOTES:
        yield _label("", f"... and {len(notes) - MAX_NOTES} more on the page")


def _label(name: str, words: str) -> RenderableType:
    return console.label(name, plain(words), width=12)


def _table(first: str, *right: str) -> Table:
    return console.table(first, *right, numbers=right, whole=[first], padding=(0, 0, 0, 1))
