"""`make export YEAR=2026`: a year's fills, lots, income and fees as CSV files, reconciled with journal and account.

It reads the broker's activities since the account's beginning, the broker's orders and the journal, and changes nothing
but its files. DEPLOYED=1 exports a deployed strategy.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from rich.padding import Padding
from rich.text import Text

from scripts import console
from scripts.cloud.aws import UsageError
from scripts.cloud.tables import TableRow, show_table
from scripts.console import format_count
from scripts.export import alpaca, embedded, files
from scripts.export import year as years
from scripts.export.differences import REMEDIES
from scripts.export.statement import Group, Statement
from scripts.export.year import Year
from scripts.files import OUT
from scripts.owner import retention
from scripts.owner.records import READERS
from scripts.run.reconcile import EPOCH, local, present, read_deployed_settings, to_standard_error
from scripts.run.reconciliation import RecordedOrders, read_record
from trader.broker.alpaca import AlpacaBroker
from trader.broker.base import OrderId
from trader.broker.embedded import EmbeddedBroker
from trader.journal.base import JournalError
from trader.journal.entry import Journal
from trader.logs import printable
from trader.model import NEW_YORK
from trader.progress import Progress
from trader.settings import Settings
from trader.wiring import make_order_history, open_journal

MAX_SHOWN = 20
"""The most differences that the terminal shows; the file and JSON have all."""

MIN_YEAR = 2000

LIMITS = (
    "Possible wash sales are looked for in this account only: other accounts, options and similar funds are not known. "
    "Costs and terms are without them. This is no tax advice; the broker's Form 1099-B is what the tax office gets."
)


def main() -> None:
    """Export the year. Exits with 1 if something does not add up."""
    with console.plain_errors(
        interrupted="interrupted; files already written are kept, and make export can be repeated"
    ):
        to_standard_error()
        settings = read_deployed_settings(os.environ) if console.flag("DEPLOYED") else local(os.environ)
        journal = open_journal(settings.journal, settings.strategy)
        now = present(settings, journal, datetime.now(UTC))
        number = choose_year(os.environ, now)
        with console.progress() as progress:
            made, notes = make(settings, journal, number, now, progress)
        folder = Path(os.environ.get("OUT") or OUT / "export" / f"{settings.strategy}-{number}")
        paths = files.write(made, folder)
    if console.wants_json():
        console.print_json(write_json(made, notes, paths))
    else:
        show(made, notes, folder)
    sys.exit(console.FAILED if made.differences else console.USABLE)


def choose_year(env: Mapping[str, str], now: datetime) -> int:
    """Return YEAR, or the present one. Raises UsageError if it is no year, or has not begun."""
    current = now.astimezone(NEW_YORK).year
    text = env.get("YEAR", "").strip() or str(current)
    if not re.fullmatch(r"\d{4}", text) or not MIN_YEAR <= int(text) <= current:
        at = f"{now.astimezone(NEW_YORK):%Y-%m-%d}"
        raise UsageError(
            f"YEAR={text:.40}: must be a year from {MIN_YEAR} to {current}; for this account it is {at} now. "
            f"make export YEAR={current}"
        )
    return int(text)


def make(
    settings: Settings, journal: Journal, number: int, now: datetime, progress: Progress
) -> tuple[Year, Sequence[str]]:
    """Return the year and what is to be said beside it. Raises BrokerError or JournalError if something is not read."""
    slots = journal.list_slots(EPOCH)
    oldest = min(slots["json"], default=None)
    statement, notes = read_statement(settings, journal, oldest, now, progress)
    placed = {slot for slot in slots["started"] if slot.astimezone(NEW_YORK).year == number}
    named = {parts.slot for order in statement.orders if (parts := OrderId.parse(order.client_order_id))}
    wanted = sorted((placed | {slot for slot in named if slot.astimezone(NEW_YORK).year == number}) & slots["json"])
    made = years.make(
        statement,
        read_records(journal, wanted, progress),
        strategy=settings.strategy,
        number=number,
        today=now.astimezone(NEW_YORK).date(),
        oldest=oldest,
    )
    kept = retention.find(settings)
    empty = "" if oldest else f"No run is on record yet in {settings.journal}, so nothing is compared with a record."
    return made, [*notes, *filter(None, [empty, kept.warn(now) if kept else "", _say_open(made, now)])]


def read_statement(
    settings: Settings, journal: Journal, oldest: datetime | None, now: datetime, progress: Progress
) -> tuple[Statement, Sequence[str]]:
    """Return the account's statement, and what it cannot say."""
    broker = make_order_history(settings, now)
    if isinstance(broker, AlpacaBroker):
        return alpaca.read(broker, now, progress), []
    assert isinstance(broker, EmbeddedBroker), "there are two brokers"
    opening_usd = find_opening_usd(journal, oldest)
    note = (
        "The embedded account's file does not say with how much it began: STARTING_CASH_USD of the "
        f"{'settings of today' if opening_usd is None else 'oldest record'} is taken. It has no fees and no interest."
    )
    began_usd = settings.starting_cash_usd if opening_usd is None else opening_usd
    return embedded.read(broker.read_book(), settings.account_file, began_usd), [note]


def find_opening_usd(journal: Journal, oldest: datetime | None) -> float | None:
    """Return STARTING_CASH_USD of the oldest record; None if it does not say it."""
    try:
        record = journal.entry(oldest).load() if oldest else {}
        return float(record["settings"]["starting_cash_usd"])
    except (JournalError, KeyError, TypeError, ValueError):
        return None


def read_records(journal: Journal, slots: Sequence[datetime], progress: Progress) -> list[RecordedOrders]:
    """Return the orders of the slots' records, read side by side; one that cannot be read says why."""

    def read(slot: datetime) -> RecordedOrders:
        try:
            return read_record(slot, journal.entry(slot).load())
        except JournalError as error:
            return RecordedOrders(slot=slot, problem=str(error))

    found = []
    with ThreadPoolExecutor(READERS) as threads:
        for done, each in enumerate(threads.map(read, slots), 1):
            progress("records", done, len(slots))
            found.append(each)
    return found


def _say_open(made: Year, now: datetime) -> str:
    """Say that the year's last losses may still become wash sales; empty if they cannot."""
    days = (now.astimezone(NEW_YORK).date() - made.until).days
    if days > years.WINDOW.days:
        return ""
    return "A buy within the next 30 days can still make a wash sale of a loss: export again after that."


# --- how it says it --------------------------------------------------------------------------------------------------


def write_json(year: Year, notes: Sequence[str], paths: Sequence[Path]) -> Mapping[str, object]:
    """Return the year as JSON: numbers are texts, because they are exact."""
    rows = {name.removesuffix(".csv"): list(files.list_json(each)) for name, each in files.list_rows(year).items()}
    return {
        "strategy": year.strategy,
        "account": year.account,
        "year": year.number,
        "until": year.until.isoformat(),
        "agrees": not year.differences,
        "gains_usd": {
            "short": files.plain(year.gain_usd(is_long=False)),
            "long": files.plain(year.gain_usd(is_long=True)),
            "possibly_disallowed": files.plain(year.disallowed_usd),
        },
        "income_usd": {str(each): files.plain(year.income_usd(each)) for each in Group if each.is_income},
        "cash": {
            "start_usd": files.plain(year.cash_usd[0]),
            "lines": [{"what": what, "usd": files.plain(usd)} for what, usd in year.cash],
            "unexplained_usd": files.plain(year.unexplained_usd),
            "end_usd": files.plain(year.cash_usd[1]),
        },
        "notes": [*notes, LIMITS],
        **rows,
        "files": [each.as_posix() for each in paths],
    }


def show(year: Year, notes: Sequence[str], folder: Path) -> None:
    """Print the sums of the year, what does not add up, and where the files are."""
    out = console.OUT
    span = f"{year.number}" if year.until.month == 12 and year.until.day == 31 else f"{year.number} to {year.until}"
    out.print(Text(f" {year.strategy}, {year.account}, {span}\n", style="dim"), soft_wrap=True)
    show_gains(year)
    show_cash(year)
    show_differences(year)
    for note in [*notes, LIMITS]:
        out.print(Padding(Text(note, style="dim"), (0, 0, 0, 1)))
    counts = [(each, len(rows)) for each, rows in files.list_rows(year).items()]
    out.print()
    out.print(console.label(" Files", ", ".join(f"{name} {count:,}" for name, count in counts), width=8))
    out.print(console.label(" in", f"{folder.as_posix()}/", width=8))


def show_gains(year: Year) -> None:
    """Print gains by term, and what of the losses may be disallowed."""
    table = console.table("Sold", "Lots", "Cost", "Proceeds", "Gain", numbers=["Lots", "Cost", "Proceeds", "Gain"])
    terms = {"short term": False, "long term": True, "without a known buy": None}
    for name, is_long in terms.items():
        closed = [each.closed for each in year.sales if each.closed.is_long is is_long]
        if closed or is_long is not None:
            cost_usd = sum((each.cost_usd or Decimal(0) for each in closed), Decimal(0))
            proceeds_usd = sum((each.proceeds_usd for each in closed), Decimal(0))
            known = is_long is not None
            cells = (_usd(cost_usd), _usd(proceeds_usd), _usd(proceeds_usd - cost_usd))
            table.add_row(name, f"{len(closed):,}", *(cells if known else ("?", cells[1], "?")))
    console.OUT.print(table)
    washes = [each for each in year.sales if each.wash]
    if washes:
        words = f"{format_count(len(washes), 'lot')} in possible wash sales: {_usd(year.disallowed_usd)} USD of losses"
        console.OUT.print(Text(f" {words} may be disallowed", style="yellow"), soft_wrap=True)
    console.OUT.print()


def show_cash(year: Year) -> None:
    """Print how gains, income and fees became the movement of the cash."""
    table = console.table("Cash", "USD", numbers=["USD"])
    table.add_row("at the start", _usd(year.cash_usd[0]))
    for what, usd in year.cash:
        table.add_row(f"  {what}", _usd(usd))
    if abs(year.unexplained_usd) >= Decimal("0.005"):
        table.add_row("  not explained", _usd(year.unexplained_usd), style="red")
    table.add_row("at the end", _usd(year.cash_usd[1]))
    console.OUT.print(table)
    console.OUT.print()


def show_differences(year: Year) -> None:
    """Print what does not add up, and the verdict."""
    if not year.differences:
        fills = format_count(len(year.fills), "fill")
        console.OUT.print(Text(f" {fills}: journal, broker and cash agree.\n", style="green"), soft_wrap=True)
        return
    rows = [
        TableRow(
            cells=(
                str(each.day or ""),
                each.kind,
                printable(each.symbol),
                "" if each.usd is None else _usd(each.usd),
                printable(each.words),
            ),
            style="red",
        )
        for each in year.differences[:MAX_SHOWN]
    ]
    show_table(("Date", "What", "Symbol", "USD", "Details"), rows, numbers={"USD"})
    for kind in dict.fromkeys(each.kind for each in year.differences):
        console.OUT.print(Padding(Text(f"{kind}: {REMEDIES[kind]}", style="dim"), (0, 0, 0, 1)))
    count = format_count(len(year.differences), "difference").upper()
    more = f"; the first {MAX_SHOWN} are shown, differences.csv has all" if len(year.differences) > MAX_SHOWN else ""
    console.OUT.print(Text(f" {count}{more}.\n", style="bold red"), soft_wrap=True)


def _usd(number: Decimal) -> str:
    """Return an amount to the cent."""
    return f"{number:,.2f}".replace("-", "−").replace("−0.00", "0.00")  # noqa: RUF001 a minus, as in every table
