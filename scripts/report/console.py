"""A run in the terminal: the outcome, the decisions, the account. Plain text when piped."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from scripts import console
from scripts.report import formatting
from scripts.report.formatting import DecisionRow, Holding
from trader.journal.base import STARTED
from trader.model import Direction, Json, Outcome

WIDE_COLUMNS = 128  # at this width or more, the order and its result each have a column
NARROW_COLUMNS = 104  # below this width, columns are one space apart instead of two
SMALL_COLUMNS = 100  # below this width, the legs of a bracket have their own line
RESULT_CHARACTERS = 140  # enough for the reason why a symbol has no prices
ARROWS = {Direction.UP: ("▲ UP", "green"), Direction.FLAT: ("● FLAT", "dim"), Direction.DOWN: ("▼ DOWN", "red")}
ALARMING = (Outcome.FAILED, STARTED, Outcome.INTERRUPTED)
KIND_STYLES = {"order": "bold", "unsent": "bold", "refused": "yellow", "unprotected": "yellow"}


def show(record: Json, out: Console) -> None:
    """Print a journal record: first what happened, then why."""
    rows = formatting.rows(record)
    parts = (
        _heading(record, rows),
        _decisions(record, rows, out.width),
        _holdings(record),
        _account(record),
        _timings(record),
    )
    out.print()
    for part in parts:
        if part is not None:
            out.print(part)
            out.print()


def _heading(record: Json, rows: Sequence[DecisionRow]) -> RenderableType:
    report = record["report"]
    stopped = formatting.explain(record)
    settings = record.get("settings") or {}
    whose = f"{formatting.signal_words(settings)}{formatting.mode_words(record)}{formatting.engine_words(settings)}"
    lines = [
        Text(formatting.headline(record, rows), style="bold red" if report["status"] in ALARMING else "bold"),
        *_warn_of_unprotected(record),
        _label("Strategy", f"{report['strategy']}, {whose}", report["mode"] == "live"),
        _label("Slot", formatting.slot_words(record)),
        _label("Status", ": ".join(filter(None, (report["status"], formatting.plain(report["detail"]))))),
    ]
    if recovered := formatting.recovered_words(record):
        lines.append(_label("Recovered", recovered))
    lines += [_label("Stop", words) for words in formatting.stops_placed(record)]
    lines += [_label("Settled", words, is_sale) for words, is_sale in formatting.settled_orders(record)]
    if described := (record.get("observation") or {}).get("prices"):
        lines.append(_label("Prices", described))
    lines += [_label("Note", words) for words in formatting.price_notes(record)]
    if stopped:
        lines += [_label("Meaning", stopped.means), _label("What to do", stopped.remedy)]
    return Padding(Group(*lines), (0, 1), expand=False)


def _warn_of_unprotected(record: Json) -> Iterator[RenderableType]:
    words = formatting.unprotected_words(record)
    if words:
        yield Text(words, style="bold red")
        for symbol, reason in formatting.unprotected_reasons(record):
            yield _label(symbol, reason)
        yield _label("What to do", formatting.UNPROTECTED_REMEDY)


def _label(name: str, words: str, alarming: bool = False) -> RenderableType:
    return console.label(name, formatting.plain(words), width=10, style="bold red" if alarming else "")


def _decisions(record: Json, rows: Sequence[DecisionRow], width: int) -> RenderableType | None:
    listed, repeated = formatting.sum_up(rows)
    parts = [*_list_rows(listed, width), *map(_summary, repeated)]
    if legend := formatting.legend(record, rows):
        parts.insert(1, Padding(Text(legend, style="dim"), (0, 1), expand=False))
    return Group(*parts) if parts else None


def _list_rows(rows: Sequence[DecisionRow], width: int) -> Iterator[RenderableType]:
    if not rows:
        return
    narrow = width < NARROW_COLUMNS
    has_trend = any(row.forecast for row in rows) or not any(row.insight for row in rows)
    table = _table("Symbol", "Price", *(["Trend"] if has_trend else []), "Gap", narrow=narrow)
    table.add_column("Insight", no_wrap=True)
    table.add_column("Target", justify="right", no_wrap=True)
    wide = width >= WIDE_COLUMNS
    if wide:
        table.add_column("Order or refusal", no_wrap=True)
    table.add_column("Result or reason" if wide else "Order or refusal", overflow="fold")
    for row in rows:
        table.add_row(
            *_facts(row, has_trend=has_trend), *((_action(row), _result(row)) if wide else (_both(row, width),))
        )
    yield Padding(table, (0, 0, 0, 1), expand=False) if narrow else table
    if any(row.held for row in rows):
        yield Text(" * held before the run", style="dim")


def _table(first: str, *right: str, narrow: bool = False) -> Table:
    return console.table(first, *right, numbers=right, whole=[first], padding=(0, 0, 0, 0 if narrow else 1))


def _facts(row: DecisionRow, *, has_trend: bool) -> Iterator[Text]:
    yield Text(f"{row.symbol or 'account'}{' *' if row.held else ''}", style="bold" if row.kind == "order" else "")
    trend_usd = row.forecast["trend_usd"] if row.forecast else None
    for value, words in (
        (row.price_usd, formatting.usd),
        *([(trend_usd, formatting.usd)] if has_trend else []),
        (row.gap_fraction, formatting.percent),
    ):
        yield Text("" if value is None else words(value))
    label, style = ARROWS[Direction(row.direction)] if row.direction else ("", "")
    yield Text(label, style=style)
    yield Text("" if row.target is None else formatting.quantity(row.target))


def _action(row: DecisionRow) -> Text:
    return Text(row.action, style=_style(row))


def _style(row: DecisionRow) -> str:
    return "bold red" if row.is_alarming else KIND_STYLES.get(row.kind, "dim")


def _result(row: DecisionRow) -> Text:
    if row.is_alarming:
        return Text(row.result, style="red")  # never cut: the instructions may be at its end
    style = {"order": "", "unsent": ""}.get(row.kind, "dim")
    # Cut between words, so that no number is truncated.
    return Text(textwrap.shorten(row.result, RESULT_CHARACTERS, placeholder=" …"), style=style)


def _both(row: DecisionRow, width: int) -> Text:
    legs = formatting.bracket_words(row.order) if row.order else []
    if row.order and legs and width < SMALL_COLUMNS:
        buy = Text(formatting.order_words(row.order, legs=False), style=_style(row))
        return Text.assemble(buy, " · ", _result(row), "\n", Text(" · ".join(legs), style="dim"))
    between = " · " if row.order else ": " if row.kind == "left alone" else "\n"
    return Text.assemble(_action(row), between, _result(row))


def _summary(rows: Sequence[DecisionRow]) -> RenderableType:
    symbols = textwrap.shorten(", ".join(row.symbol for row in rows), 40, placeholder=" …")
    example = "" if len({row.result for row in rows}) == 1 else f"{rows[0].symbol}: "
    words = f" {len(rows)} symbols {rows[0].action} ({symbols}): {example}{rows[0].result}"
    return Text(textwrap.shorten(words, 160, placeholder=" …"), style=_style(rows[0]))


def _holdings(record: Json) -> RenderableType | None:
    held = formatting.holdings(record)
    return table_of_holdings({"Held before": [each.symbol for each in held]}, held) if held else None


def table_of_holdings(first: Mapping[str, Sequence[str]], held: Sequence[Holding], *, marks: bool = False) -> Padding:
    """Return a table of holdings; `first` are its first columns. It marks in red what a run named, if it is to."""
    numbers = ("Shares", "Paid", "Price", "Gain", "Stop", "To stop")
    table = console.table(*first, *numbers, numbers=numbers, whole=list(first), padding=(0, 0, 0, 0))
    for *names, each in zip(*first.values(), held, strict=True):
        table.add_row(
            *names,
            formatting.quantity(each.quantity),
            *("" if usd is None else formatting.usd(usd) for usd in (each.paid_usd, each.price_usd)),
            "" if each.gain_fraction is None else formatting.percent(each.gain_fraction),
            "none" if each.stop_usd is None else formatting.usd(each.stop_usd),
            "" if each.distance_fraction is None else formatting.percent(each.distance_fraction),
            style="bold red" if marks and each.is_named else "",
        )
    return Padding(table, (0, 0, 0, 1), expand=False)


def _account(record: Json) -> RenderableType | None:
    lines = formatting.account_lines(record)
    if not lines:
        return None
    traded = lines[0][2] is not None
    table = _table("Account (USD)", *(("Before", "After", "Change") if traded else ("Now",)))
    for label, before, after in lines:
        values = [formatting.usd(before)]
        if after is not None:
            values += [formatting.usd(after), formatting.change(after - before)]
        table.add_row(label, *values)
    return table


def _timings(record: Json) -> RenderableType | None:
    timings_s = record["report"]["timings_s"]
    if not timings_s:
        return None
    return Padding(Text(formatting.timing_words(timings_s), style="dim"), (0, 1), expand=False)
