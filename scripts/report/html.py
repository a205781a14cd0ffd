"""A run in the browser: one HTML page that contains everything it shows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scripts.report import formatting, since, templating
from scripts.report.charts import Charts
from scripts.report.formatting import DecisionRow
from scripts.report.since import Before
from scripts.report.values import Values
from trader.journal.base import STARTED
from trader.model import Code, Json, Outcome
from trader.settings import Settings

ARROWS = {"UP": "▲ UP", "FLAT": "● FLAT", "DOWN": "▼ DOWN", "": ""}
ALARMING = frozenset(
    {
        *(Outcome.FAILED, STARTED, Outcome.INTERRUPTED),
        *(Code.HALTED, Code.ACCOUNT_BLOCKED, Code.DAILY_LOSS_STOP, Code.DRAWDOWN_STOP, Code.EQUITY_UNKNOWN),
        *(Code.OUT_OF_TIME, Code.ACCOUNT_TAKEN),
    }
)


def write_page(record: Json, path: Path, before: Before | None = None) -> None:
    """Write the page of a journal record to `path`, creating its folder if needed and replacing an older page.

    With the run `before`, it says what happened since.
    Symbols and the broker's messages are untrusted: the template escapes everything but the charts.
    """
    environment = templating.environment()
    environment.filters["arrow"] = ARROWS.__getitem__
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template("run.html.j2").render(_contents(record, before)), encoding="utf-8")


def _contents(record: Json, before: Before | None) -> dict[str, Any]:
    report, settings = record["report"], record.get("settings") or {}
    rows = formatting.rows(record)
    listed, repeated = formatting.sum_up(rows)
    drawn = [row for row in rows if _closes(record, row)]
    return {
        "headline": re.sub(r"(\d) ", "\\1\N{NO-BREAK SPACE}", formatting.headline(record, rows)),
        "status": report["status"],
        "detail": formatting.plain(report["detail"]),
        "stopped": formatting.explain(record),
        "unprotected": formatting.unprotected_words(record),
        "reasons": formatting.unprotected_reasons(record),
        "recovered": formatting.recovered_words(record),
        "prices": formatting.plain((record.get("observation") or {}).get("prices") or ""),
        "price_notes": formatting.price_notes(record),
        "stops": formatting.stops_placed(record),
        "settled": formatting.settled_orders(record),
        "unprotected_remedy": formatting.UNPROTECTED_REMEDY,
        "alarming": report["status"] in ALARMING,
        "strategy": formatting.plain(report["strategy"]),
        "legend": formatting.legend(record, rows),
        "signal": formatting.signal_words(settings),
        "mode": formatting.mode_words(record),
        "live": report["mode"] == "live",
        "slot": formatting.slot_words(record).replace("New York", "New\N{NO-BREAK SPACE}York"),
        "slot_iso": report["slot"],
        "tiles": [_tile(*line) for line in formatting.account_lines(record)],
        "since": since.describe(record, before) if before else [],
        "changed": since.list_settings(settings, Settings().public()) if settings else [],
        "holdings": [(each, "") for each in formatting.holdings(record)],
        "directions": formatting.direction_words(record),
        "has_charts": bool(drawn),
        "has_forecasts": bool(report["forecasts"]),
        "charts": _charts(record, drawn),
        "band": _band(settings),
        "words": formatting.rule_words(record),
        "rows": listed,
        "repeated": repeated,
        "glossary": [(code, formatting.EXPLANATIONS[code]) for code in formatting.denial_codes(record)],
        "settings": [(name, formatting.setting_words(value)) for name, value in settings.items()],
        "timings": formatting.timing_words(report["timings_s"]),
    }


def _charts(record: Json, rows: Sequence[DecisionRow]) -> Iterator[tuple[DecisionRow, Markup, Values]]:
    """Draw the charts one at a time, as the template requests them, each with the values behind it."""
    charts = Charts(record.get("settings") or {})
    for row in rows:
        closes = _closes(record, row)
        if closes is not None:
            yield row, *charts.draw(row, closes)


def _closes(record: Json, row: DecisionRow) -> Json | None:
    """Return the closes to draw for a row; None without an insight or forecast, or if the journal kept no prices."""
    observed: Mapping[str, Json] = (record.get("observation") or {}).get("closes", {})
    closes = observed.get(row.symbol) if row.forecast or row.insight else None
    return closes if closes and closes["usd"] else None


def _tile(label: str, before_usd: float, after_usd: float | None) -> dict[str, str]:
    if after_usd is None:
        return {"label": label, "now": formatting.usd(before_usd), "before": "", "change": ""}
    difference = after_usd - before_usd
    change = formatting.change(difference) if round(difference, 2) else "no change"
    return {"label": label, "now": formatting.usd(after_usd), "before": formatting.usd(before_usd), "change": change}


def _band(settings: Json) -> str:
    """Format the dead band around the line; empty for a rule without one."""
    fraction = formatting.dead_band_fraction(settings)
    return "" if fraction is None else f"{fraction:.2%}".replace(".00%", "%")
