"""The export as CSV files: plain decimals with a point, days in New York, one heading."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from scripts.export.lots import Lot
from scripts.export.statement import Entry, Fill, Group
from scripts.export.year import Sale, Year
from scripts.files import write_text
from trader.model import NEW_YORK

type Cell = str | Decimal | None
type Row = Mapping[str, Cell]

HEADINGS: Mapping[str, tuple[str, ...]] = {
    "fills.csv": (
        *("date", "time", "symbol", "side", "quantity", "price_usd", "amount_usd", "origin"),
        *("client_order_id", "slot", "order_id", "fill_id"),
    ),
    "lots.csv": (
        *("symbol", "quantity", "bought", "sold", "cost_usd", "proceeds_usd", "gain_usd", "term"),
        *("possible_wash_sale_quantity", "possible_disallowed_loss_usd", "possible_replacements"),
        *("bought_by", "sold_by", "buy_fill_id", "sale_fill_id"),
    ),
    "held.csv": ("symbol", "quantity", "bought", "cost_usd", "buy_fill_id"),
    "income.csv": ("date", "kind", "type", "symbol", "quantity", "amount_usd", "remark", "entry_id"),
    "deposits.csv": ("date", "type", "amount_usd", "remark", "entry_id"),
    "activities.csv": ("date", "type", "symbol", "quantity", "amount_usd", "remark", "entry_id", "as_received"),
    "differences.csv": ("kind", "date", "symbol", "amount_usd", "details", "reference"),
}
"""The files and their columns."""


def write(year: Year, folder: Path) -> list[Path]:
    """Write all files, also those without a row. Raises UnwritableError."""
    paths = []
    for name, rows in list_rows(year).items():
        paths.append(folder / name)
        write_text(paths[-1], to_csv(HEADINGS[name], rows))
    return paths


def list_rows(year: Year) -> Mapping[str, Sequence[Row]]:
    """Return the rows of each file."""
    entries = year.entries
    return {
        "fills.csv": [_fill_row(year, each) for each in year.fills],
        "lots.csv": [_sale_row(year, each) for each in year.sales],
        "held.csv": [_lot_row(each) for each in year.held],
        "income.csv": [_income_row(each) for each in entries if each.group.is_income],
        "deposits.csv": [_entry_row(each) for each in entries if each.group is Group.FLOW],
        "activities.csv": [
            {**_entry_row(each), "as_received": each.raw}
            for each in entries
            if each.group in {Group.SHARES, Group.UNKNOWN}
        ],
        "differences.csv": [
            {
                "kind": each.kind.lower(),
                "date": each.day.isoformat() if each.day else "",
                "symbol": each.symbol,
                "amount_usd": each.usd,
                "details": each.words,
                "reference": each.reference,
            }
            for each in year.differences
        ],
    }


def to_csv(headings: Sequence[str], rows: Iterable[Row]) -> str:
    """Return a table as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([_format(row.get(heading)) for heading in headings] for row in rows)
    return out.getvalue()


def plain(number: Decimal) -> str:
    """Return a number without an exponent and without zeros that say nothing."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


def _format(cell: Cell) -> str:
    if isinstance(cell, Decimal):
        return plain(cell)
    text = cell or ""
    return (
        f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    )  # else Excel takes it for a formula


def _fill_row(year: Year, fill: Fill) -> Row:
    origin = year.origins[fill.fill_id]
    return {
        "date": fill.day.isoformat(),
        "time": f"{fill.at.astimezone(NEW_YORK):%H:%M:%S}",
        "symbol": fill.symbol,
        "side": fill.side,
        "quantity": fill.quantity,
        "price_usd": fill.price_usd,
        "amount_usd": fill.cash_usd,
        "origin": origin.why,
        "client_order_id": origin.client_order_id,
        "slot": f"{origin.slot.astimezone(NEW_YORK):%Y-%m-%d %H:%M}" if origin.slot else "",
        "order_id": fill.order_id,
        "fill_id": fill.fill_id,
    }


def _sale_row(year: Year, sale: Sale) -> Row:
    closed, wash = sale.closed, sale.wash
    bought = closed.bought
    replacements = wash.replacements if wash else ()
    return {
        "symbol": closed.sold.symbol,
        "quantity": closed.quantity,
        "bought": bought.day.isoformat() if bought else "",
        "sold": closed.sold.day.isoformat(),
        "cost_usd": closed.cost_usd,
        "proceeds_usd": closed.proceeds_usd,
        "gain_usd": closed.gain_usd,
        "term": "" if closed.is_long is None else "long" if closed.is_long else "short",
        "possible_wash_sale_quantity": sum((each.quantity for each in replacements), Decimal(0)) if wash else None,
        "possible_disallowed_loss_usd": wash.disallowed_usd if wash else None,
        "possible_replacements": "; ".join(
            f"{plain(each.quantity)} of {each.bought.day}, {each.bought.fill_id}" for each in replacements
        ),
        "bought_by": year.origins[bought.fill_id].why if bought else "",
        "sold_by": year.origins[closed.sold.fill_id].why,
        "buy_fill_id": bought.fill_id if bought else "",
        "sale_fill_id": closed.sold.fill_id,
    }


def _lot_row(lot: Lot) -> Row:
    return {
        "symbol": lot.bought.symbol,
        "quantity": lot.quantity,
        "bought": lot.bought.day.isoformat(),
        "cost_usd": lot.cost_usd,
        "buy_fill_id": lot.bought.fill_id,
    }


def _income_row(entry: Entry) -> Row:
    return {**_entry_row(entry), "kind": entry.group}


def _entry_row(entry: Entry) -> Row:
    remarks = [*(["canceled: it moved nothing, and counts nowhere"] if entry.is_canceled else []), entry.words]
    return {
        "date": entry.day.isoformat(),
        "type": entry.kind,
        "symbol": entry.symbol,
        "quantity": entry.quantity,
        "amount_usd": entry.amount_usd,
        "remark": "; ".join(filter(None, remarks)),
        "entry_id": entry.entry_id,
    }


def list_json(rows: Iterable[Row]) -> Iterator[Mapping[str, str | None]]:
    """Yield rows for JSON: numbers stay exact, as texts."""
    for row in rows:
        yield {name: plain(cell) if isinstance(cell, Decimal) else cell for name, cell in row.items()}
