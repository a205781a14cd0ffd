"""Charts written without a library, compared with Matplotlib's ticks."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.ticker import MaxNLocator

from scripts.report.drawing import Drawing, find_ticks

WIDTH, HEIGHT = 360.0, 180.0


def drawing(low: float = 0.0, high: float = 100.0) -> Drawing:
    return Drawing((WIDTH, HEIGHT), (30.0, 10.0, 20.0, 20.0), x=(0.0, 10.0), y=(low, high))


def markup(drawn: Drawing, title: str = "A title", description: str = "What it shows") -> str:
    return str(drawn.element(title, description, (0.0, 8.0)))


@given(st.floats(0.01, 1e5), st.floats(1e-5, 10.0))
@example(0.01, 1e-5)
@example(100.0, 0.02)
@example(95.0, 0.010001)
@example(1_000.0, 0.0009)
def test_its_ticks_are_those_of_matplotlib(low: float, width_fraction: float) -> None:
    high = low * (1 + width_fraction)
    theirs = [each for each in MaxNLocator(4).tick_values(low, high) if low <= each <= high]
    ours = find_ticks(low, high, count=4)
    assert [each for each in ours if low <= each <= high] == pytest.approx(theirs, rel=1e-12)
    assert len(ours) >= 2


def test_data_are_drawn_within_the_margins() -> None:
    drawn = drawing()
    drawn.line(np.array([0.0, 10.0]), np.array([0.0, 100.0]), "ink", 1.0)
    assert '<path d="M30 160L340 10" style="fill: none; stroke: var(--ink); stroke-width: 1;' in markup(drawn)


def test_an_area_is_closed_along_its_other_line() -> None:
    drawn = drawing()
    drawn.area(np.array([0.0, 10.0]), np.array([0.0, 0.0]), np.array([50.0, 100.0]), "accent", 0.22)
    assert '<path d="M30 160L340 160L340 10L30 85Z" style="fill: var(--accent); fill-opacity: 0.22"/>' in markup(drawn)


def test_prices_beside_the_axis_have_a_line_each() -> None:
    drawn = drawing(0, 4_200)
    drawn.ticks([(0.0, "Dec 2021")], size=9)
    found = markup(drawn)
    assert re.findall(r">([^<]+)</text>", found) == ["Dec 2021", "0", "1,500", "3,000"]
    assert found.count("stroke: var(--grid)") == 3


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
    drawn.ticks([(0.0, "Dec 2021")], size=9)
    drawn.dots([1.0], [2.0], "tone", 3)
    drawn.dash(1.0, 2.0, "tone", 9, 1.8)
    assert " id=" not in markup(drawn)
    assert "clip-path" not in markup(drawn)
