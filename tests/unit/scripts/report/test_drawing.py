"""Charts written without a library."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from scripts.report.drawing import Drawing, join_with_gaps, make_steps

WIDTH, HEIGHT = 360.0, 180.0


def drawing(low: float = 0.0, high: float = 100.0) -> Drawing:
    return Drawing((WIDTH, HEIGHT), (30.0, 10.0, 20.0, 20.0), x=(0.0, 10.0), y=(low, high))


def markup(drawn: Drawing, title: str = "A title", description: str = "What it shows") -> str:
    return str(drawn.element(title, description, (0.0, 8.0)))


def test_a_stepped_line_has_each_value_until_halfway_to_the_next() -> None:
    x, y = make_steps(np.array([0.0, 2.0, 4.0]), np.array([5.0, 6.0, 7.0]))
    assert [*zip(x.tolist(), y.tolist(), strict=True)] == [(0, 5), (1, 5), (1, 6), (3, 6), (3, 7), (4, 7)]


def test_data_are_drawn_within_the_margins() -> None:
    drawn = drawing()
    drawn.line(np.array([0.0, 10.0]), np.array([0.0, 100.0]), "ink", 1.0)
    assert '<path d="M30 160L340 10" style="fill: none; stroke: var(--ink); stroke-width: 1;' in markup(drawn)


def test_an_area_is_closed_along_its_other_line() -> None:
    drawn = drawing()
    drawn.area(np.array([0.0, 10.0]), np.array([0.0, 0.0]), np.array([50.0, 100.0]), "accent", 0.22)
    assert '<path d="M30 160L340 160L340 10L30 85Z" style="fill: var(--accent); fill-opacity: 0.22"/>' in markup(drawn)


def test_a_line_and_an_area_have_a_gap_without_a_value() -> None:
    drawn = drawing()
    x, values = np.arange(6.0), np.array([math.nan, 0.0, 10.0, math.nan, 0.0, 10.0])
    drawn.line(x, values, "ink", 1.0)
    drawn.area(x, np.zeros(6), values, "accent", 0.2)
    line, area = re.findall(r'd="([^"]*)"', markup(drawn))
    assert line == "M61 160L92 145M154 160L185 145"
    assert area == "M61 160L92 160L92 145L61 160ZM154 160L185 160L185 145L154 160Z"


def test_several_lines_can_be_drawn_as_one() -> None:
    drawn = drawing()
    drawn.line(*join_with_gaps([((0, 1), (0.0, 0.0)), ((2, 3), (10.0, 10.0))]), "down", 1.1, dashes="2 2")
    drawn.line(*join_with_gaps([]), "ink", 1.0)
    style = "fill: none; stroke: var(--down); stroke-width: 1.1; stroke-dasharray: 2 2"
    assert re.findall("<path.*/>", markup(drawn)) == [f'<path d="M30 160L61 160M92 145L123 145" style="{style}"/>']


def test_spans_are_filled_from_the_bottom_to_the_top() -> None:
    drawn = drawing()
    drawn.bands([(0, 1), (2, 3)], "up", 0.16)
    drawn.bands([], "down", 0.16)
    assert re.findall(r"<path.*/>", markup(drawn)) == [
        '<path d="M30 160H61V10H30ZM92 160H123V10H92Z" style="fill: var(--up); fill-opacity: 0.16"/>'
    ]


@pytest.mark.parametrize(("is_up", "path"), [(True, "M61 82l3 6h-6z"), (False, "M61 88l3 -6h-6z")])
def test_a_mark_points_up_or_down(is_up: bool, path: str) -> None:
    drawn = drawing()
    drawn.triangles([(1.0, 50.0)], "up", 6, is_up=is_up)
    assert f'<path d="{path}" style="fill: var(--up)"/>' in markup(drawn)


def test_prices_beside_the_axis_have_a_line_each() -> None:
    drawn = drawing(0, 4_200)
    drawn.scale_y()
    found = markup(drawn)
    assert re.findall(r">([^<]+)</text>", found) == ["0", "1,500", "3,000"]
    assert found.count("stroke: var(--grid)") == 3


def test_values_below_the_axis_have_a_line_each() -> None:
    drawn = drawing()
    drawn.scale_x()
    found = markup(drawn)
    assert re.findall(r">([^<]+)</text>", found) == ["0.0", "2.5", "5.0", "7.5", "10.0"]
    assert found.count("stroke: var(--grid)") == 5


def test_words_at_an_end_of_the_axis_stay_within_it() -> None:
    drawn = drawing()
    drawn.label_x([(0.0, "Dec 2021"), (5.0, "Jan 2022"), (10.0, "Feb 2022")])
    assert re.findall(r"text-anchor: (\w+)", markup(drawn)) == ["start", "middle", "end"]


def test_lines_are_named_at_their_ends_one_below_the_other() -> None:
    drawn = drawing()
    drawn.name_ends(8.0, [(10.0, "Cash\n10", "muted"), (90.0, "Held\n90", "ink"), (11.0, "Strategy\n11", "accent")])
    found = markup(drawn)
    assert re.findall(r">([^<]+)</text>", found) == ["Held", "90", "Strategy", "11", "Cash", "10"]
    lines = [float(y) for y in re.findall(r'y="([\d.]+)"', found)]
    assert all(later - earlier > 12 for earlier, later in pairwise(lines))
    assert max(lines) < HEIGHT - 20.0
    assert found.count("font-weight: 700") == 2  # both lines of the strategy


def test_words_are_escaped() -> None:
    drawn = drawing()
    drawn.label(1.0, 1.0, "<b>&", "ink", size=10)
    found = markup(drawn, title="<i>", description='"&"')
    assert "<b>" not in found
    assert "<i>" not in found
    assert "&lt;b&gt;&amp;</text>" in found


def test_screen_readers_have_a_title_and_a_description() -> None:
    assert 'role="img" data-left="30.0" data-right="278.0"><title>A title</title><desc>What it shows</desc>' in markup(
        drawing()
    )


def test_a_chart_has_no_ids_that_another_chart_could_have_too() -> None:
    drawn = drawing()
    drawn.label_x([(0.0, "Dec 2021")])
    drawn.scale_y()
    drawn.dots([1.0], [2.0], "tone", 3)
    drawn.dash(1.0, 2.0, "tone", 9, 1.8)
    assert " id=" not in markup(drawn)
    assert "clip-path" not in markup(drawn)
