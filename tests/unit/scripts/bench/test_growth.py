"""How a backtest's cost grows: the line through the points, and its picture."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest

from scripts.bench import growth, growth_chart, harness, index_backtests
from scripts.bench.growth import Line, line_of
from scripts.bench.harness import Usage
from trader.progress import no_progress

LINEAR = {250: 3.0, 750: 5.0, 1_250: 7.0, 2_250: 11.0}
SQUARE = {at: at**2 / 1e6 for at in LINEAR}
SVG = "{http://www.w3.org/2000/svg}"


def test_points_on_a_line_have_no_residual() -> None:
    line = Line.through(LINEAR)
    assert (round(line.start, 6), round(line.slope, 6), round(line.residual_fraction, 6)) == (2.0, 0.004, 0.0)


def test_linear_growth_reaches_the_target() -> None:
    made = line_of("cost by bars", "bar", LINEAR)
    assert (made.is_reached, "4.0 ms a bar" in made.measured, made.what) == (True, True, "cost by bars, 250 to 2,250")


def test_quadratic_growth_misses_it() -> None:
    assert not line_of("cost by bars", "bar", SQUARE).is_reached


def test_the_points_are_kept() -> None:
    figures = line_of("cost by bars", "bar", LINEAR).figures
    assert {name: value for name, value in figures.items() if name.startswith(growth_chart.AT)} == {
        f"{growth_chart.AT}{at}": cpu_s for at, cpu_s in LINEAR.items()
    }


def test_a_point_counts_with_the_lower_cost_of_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = iter([5.0, 7.0, 3.0, 9.0])

    def use(*_: object) -> Usage:
        return Usage(wall_s=1.0, cpu_s=next(costs), peak=1, largest=1, printed="{}")

    monkeypatch.setattr(harness, "use", use)
    monkeypatch.setattr(growth, "write_index", lambda *_: ({}, 0))
    assert growth.cost({250: (5, 250, 5), 500: (5, 500, 5)}, no_progress) == {250: 3.0, 500: 7.0}


def test_the_picture_has_a_panel_for_each_line_and_a_dot_for_each_point() -> None:
    lines = [line_of(f"cost by {unit}s", unit, LINEAR).as_json() for unit in ("bar", "symbol")]
    picture = ET.fromstring(growth_chart.draw(lines))
    assert len(list(picture.iter(f"{SVG}circle"))) == 2 * len(LINEAR)
    assert {"cost by bars, 250 to 2,250", "cost by symbols, 250 to 2,250", "2,250"} <= {
        element.text for element in picture.iter(f"{SVG}text")
    }


@pytest.mark.parametrize(("value", "above"), [(0.7, 0.8), (3.1, 4.0), (9.0, 10.0), (41.0, 60.0), (100.0, 100.0)])
def test_the_axis_ends_at_a_number_that_is_easy_to_read(value: float, above: float) -> None:
    assert growth_chart.round_up(value) == pytest.approx(above)


def test_an_index_is_traded_once_each_bar_has_a_whole_history(tmp_path: Path) -> None:
    settings, _ = index_backtests.write_index(tmp_path, 6, 300, 4)
    days = pd.read_csv(tmp_path / "prices-6-300.csv")["timestamp"]
    assert (settings["START"], settings["UNIVERSE_SIZE"], settings["UNIVERSE"].count(",")) == (days[250], "4", 5)


def test_no_more_fits_are_counted_than_symbols_are_chosen(tmp_path: Path) -> None:
    _, best = index_backtests.write_index(tmp_path, 6, 300, 2)
    _, whole = index_backtests.write_index(tmp_path, 6, 300, 6)
    assert (best <= 2 * 50, best < whole <= 6 * 50) == (True, True)
