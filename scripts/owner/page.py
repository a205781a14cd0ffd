"""The report as one page that needs no network."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import accumulate
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from scripts.cloud.logs import new_york
from scripts.owner import controls, gap_table
from scripts.owner.answer import Answer, list_rest, list_returns, previous_session, sum_up, sum_up_trips
from scripts.report import formatting, templating
from scripts.report.drawing import DATES, FULL, MARGINS, ROOM_FOR_NAMES, Drawing
from scripts.report.scales import MIN_DAYS_OF_DATES, date_pattern, find_limits, pick_evenly
from trader.model import NEW_YORK

TEMPLATES = Path(__file__).with_name("templates")

type Line = tuple[str, str, float, Sequence[float]]
"""A line of the chart: its name, color and width, and its values."""


def write(answer: Answer, path: Path) -> None:
    """Write the page of a report. Symbols and the broker's words are untrusted: the template escapes all of them."""
    environment = templating.environment(TEMPLATES)
    environment.filters |= {"change": formatting.change, "day": format_day, "fine": gap_table.format_fraction}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template("report.html.j2").render(_contents(answer)), encoding="utf-8")


def format_day(moment: datetime) -> str:
    """Return the day of a moment in New York."""
    return f"{moment.astimezone(NEW_YORK):%Y-%m-%d}"


def _contents(answer: Answer) -> dict[str, Any]:
    trades = answer.trades
    return {
        "strategy": answer.strategy,
        "headline": sum_up(answer),
        "period": f"{new_york(answer.since)[:10]} to {new_york(answer.until)[:16]} New York",
        "warnings": [
            *([f"The trades are not known: {answer.problem}"] if answer.problem else []),
            *([f"There is no comparison: {answer.compared.problem}"] if answer.compared.problem else []),
            *map(
                gap_table.describe_difference, answer.gap.differences[: gap_table.MAX_DIFFERENCES] if answer.gap else ()
            ),
        ],
        "charts": list(_draw(answer)),
        "gap": gap_table.list_rows(answer.gap) if answer.gap else [],
        "parts": [gap_table.describe_item(each) for each in answer.gap.items[: gap_table.MAX_ITEMS]]
        if answer.gap
        else [],
        "group": [(each.name, formatting.percent(each.control_return), controls.judge(each)) for each in answer.group],
        "bot_return": formatting.percent(answer.group[0].bot_return) if answer.group else "",
        "conclusion": controls.conclude(answer.group),
        "gap_notes": list(gap_table.list_notes(answer)),
        "returns": list_returns(answer),
        "benchmark": answer.compared.name or "Benchmark",
        "held": [
            (each, format_day(answer.bought_at[each.symbol]) if each.symbol in answer.bought_at else "earlier")
            for each in answer.held
        ],
        "trips": list(reversed(trades.trips)) if trades else [],
        "trips_words": sum_up_trips(trades.trips) if trades else "",
        "rest": list_rest(answer),
    }


def _draw(answer: Answer) -> Iterator[Markup]:
    """Draw the strategy and the benchmark, in each size."""
    days, lines = list_lines(answer)
    if not lines:
        return
    last = ", ".join(f"{name} {formatting.percent(values[-1])}" for name, _, _, values in lines)
    for size in FULL:
        drawing = _draw_one(size, days, lines)
        yield drawing.element("Equity in percent", f"From {days[0]} to {days[-1]}: {last}.", css_class=f"chart {size}")


def list_lines(answer: Answer) -> tuple[list[date], list[Line]]:
    """Return the days and the lines of the chart, in percent of where they began; none if there are not two days.

    All begin at 0, at the close before the first day.
    """
    curve = answer.curve
    if curve is None or len(curve.days) < 2:
        return [], []
    days = [previous_session(curve.days[0].day), *(each.day for each in curve.days)]
    growths = accumulate([1.0, *curve.growths], mul)
    lines: list[Line] = [(answer.strategy, "accent", 2.0, [growth - 1 for growth in growths])]
    if tested := gap_table.list_test(answer):
        lines.append(("the test", "muted", 1.2, [0.0, *tested]))
    others = [answer.compared.measure(days[0], day) for day in days[1:]]
    if None not in others:
        lines.append((answer.compared.name, "ink", 1.2, [0.0, *(each or 0.0 for each in others)]))
    return days, lines


def _draw_one(size: str, days: Sequence[date], lines: Sequence[Line]) -> Drawing:
    end = len(days) - 1
    limits = find_limits(*(np.array(values) for _, _, _, values in lines))
    drawing = Drawing(FULL[size], MARGINS, x=(0, end * (1 + ROOM_FOR_NAMES[size])), y=limits)
    pattern = date_pattern(max((days[-1] - days[0]).days, MIN_DAYS_OF_DATES))
    drawing.label_x((place, f"{days[place]:{pattern}}") for place in pick_evenly(len(days), DATES[size]))
    drawing.scale_y(are_fractions=True)
    for _, color, width, values in reversed(lines):
        drawing.line(np.arange(end + 1.0), np.array(values), color, width)
    between = " " if size == "wide" else "\n"
    drawing.name_ends(
        end,
        [(values[-1], f"{name}{between}{formatting.percent(values[-1])}", color) for name, color, _, values in lines],
    )
    return drawing
