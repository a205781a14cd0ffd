"""A sweep's results: the rows of the table, the CSV file, JSON and the heat map."""

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from scripts.backtest.model import Options
from scripts.report.formatting import MINUS, NOTHING
from scripts.sweep import console, heatmap, html
from scripts.sweep.executors import Failure
from scripts.sweep.grid import combinations, read
from scripts.sweep.grid import settings as settings_of
from scripts.sweep.results import FIGURES, Outcome
from scripts.sweep.sweep import Swept
from scripts.sweep.tasks import Figures
from scripts.sweep.walk_forward import WITHOUT_A_YEAR, Part
from tests.builders import settings

PARTS = tuple(
    Part(number=number, start=date(2021, 4 * number - 3, 1), end=date(2021, 4 * number, 28), times=())
    for number in (1, 2, 3)
)
SHORT_PARTS = (*PARTS[:2], replace(PARTS[2], end=date(2021, 11, 30)))
"""The last part is a day shorter than three months."""
OPTIONS = Options(settings=settings())


def figures(sharpe_ratio: float | None) -> Figures:
    return {**dict.fromkeys(FIGURES, 1.0), "sharpe_ratio": sharpe_ratio}


def without_a_year(bar_sharpe_ratio: float | None) -> Figures:
    """Return the figures of a part shorter than three months."""
    return {**dict.fromkeys(FIGURES, 1.0), **dict.fromkeys(WITHOUT_A_YEAR), "bar_sharpe_ratio": bar_sharpe_ratio}


def outcome(grid: str, means: Mapping[str, float | None], samples: int | None = None) -> Outcome:
    """Return a sweep's outcome; `means` maps each setting's words to its Sharpe ratio out of sample.

    On the first part, which must not count, every setting has a Sharpe ratio of 9.
    """
    axes = read(grid)
    found, left_out = settings_of(combinations(axes, samples, 1), {})
    rows = tuple((figures(9.0), figures(means[each.words]), figures(means[each.words])) for each in found)
    return Outcome(
        metric="sharpe_ratio",
        axes=axes,
        settings=found,
        left_out=left_out,
        parts=PARTS,
        swept=Swept(rows=rows, computed=len(rows) * 3, taken_up=0),
        has_default=False,
    )


FOUR = outcome(
    "HISTORY_BARS=120,250 SLIPPAGE=0,0.001",
    {
        "HISTORY_BARS=120 SLIPPAGE=0": 0.5,
        "HISTORY_BARS=120 SLIPPAGE=0.001": -0.25,
        "HISTORY_BARS=250 SLIPPAGE=0": 1.75,
        "HISTORY_BARS=250 SLIPPAGE=0.001": None,
    },
)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_best_come_first_and_one_without_a_figure_last() -> None:
    assert [row[:3] for row in console.best_rows(FOUR)] == [
        ("1", "HISTORY_BARS=250\nSLIPPAGE=0", "1.75"),
        ("2", "HISTORY_BARS=120\nSLIPPAGE=0", "0.50"),
        ("3", "HISTORY_BARS=120\nSLIPPAGE=0.001", f"{MINUS}0.25"),
        ("4", "HISTORY_BARS=250\nSLIPPAGE=0.001", NOTHING),
    ]


def test_a_failed_backtest_is_named_and_is_in_the_file(tmp_path: Path) -> None:
    rows = ((figures(1.0), Failure(why="its worker died"), figures(1.0)), *FOUR.swept.rows[1:])
    failed = replace(FOUR, swept=replace(FOUR.swept, rows=rows))
    failed.write_csv(tmp_path / "results.csv")
    (line,) = console.list_failures(failed)
    assert line.startswith("failed: HISTORY_BARS=120 SLIPPAGE=0 on part 2 (2021-05-01 to 2021-08-28): its worker died;")
    with (tmp_path / "results.csv").open() as file:
        row = list(csv.DictReader(file))[1]
    assert (row["setting"], row["part"], row["sharpe_ratio"], row["failed"]) == ("1", "2", "", "its worker died")


def test_the_default_is_shown_but_never_chosen_or_ranked(tmp_path: Path) -> None:
    rows = (*FOUR.swept.rows, (figures(50.0), figures(60.0), figures(70.0)))
    with_default = replace(FOUR, swept=replace(FOUR.swept, rows=rows), has_default=True)
    assert [fold.default for fold in with_default.folds] == [60.0, 70.0]
    assert [fold.out_of_sample for fold in with_default.folds] == [fold.out_of_sample for fold in FOUR.folds]
    assert with_default.ranking == FOUR.ranking
    assert list(console.best_rows(with_default))[-1] == (
        "",
        "default: without GRID",
        "65.00",
        "50.00",
        "60.00",
        "70.00",
    )


def test_the_json_has_no_nan_or_infinity() -> None:
    assert json.loads(json.dumps(FOUR.as_json(), allow_nan=False))["best"][0]["out_of_sample"] == 1.75


# --- parts shorter than three months ---------------------------------------------------------------------------------


def shortened(metric: str = "sharpe_ratio") -> Outcome:
    """Return FOUR with a part that is too short for yearly figures; the Sharpe ratios are those of a bar."""
    per_bar = (0.025, -0.0125, 0.075, 0.05)
    rows = tuple((without_a_year(0.5), without_a_year(each), without_a_year(each)) for each in per_bar)
    return replace(FOUR, metric=metric, parts=SHORT_PARTS, swept=replace(FOUR.swept, rows=rows))


def shown(outcome: Outcome, folder: Path) -> list[str]:
    """Return what the terminal, the page, the picture and the JSON show."""
    out = io.StringIO()
    console.show(outcome, Console(file=out, width=140))
    html.write(outcome, folder)
    return [
        out.getvalue(),
        re.sub(r"<style>.*?</style>", "", (folder / "sweep.html").read_text(), flags=re.DOTALL),
        (folder / "sweep.svg").read_text(),
        json.dumps({**outcome.as_json(), "metric": ""}),
    ]


def test_short_parts_are_ranked_by_the_figure_without_a_year() -> None:
    short = shortened()
    assert short.ranking == [2, 3, 0, 1]
    assert [row[2] for row in console.best_rows(short)] == ["0.075", "0.050", "0.025", f"{MINUS}0.013"]
    assert [fold.chosen for fold in short.folds] == [0, 2]


@pytest.mark.parametrize(
    ("metric", "criterion"),
    [
        ("sharpe_ratio", "bar_sharpe_ratio"),
        ("sortino_ratio", "bar_sortino_ratio"),
        ("calmar_ratio", "return_over_drawdown_ratio"),
        ("annual_return_fraction", "total_return_fraction"),
        ("annual_volatility_fraction", "bar_volatility_fraction"),
        ("win_fraction", "win_fraction"),
    ],
)
def test_each_yearly_metric_has_a_counterpart_for_short_parts(metric: str, criterion: str) -> None:
    assert (shortened(metric).criterion, replace(FOUR, metric=metric).criterion) == (criterion, metric)


def test_the_reader_is_told_what_short_parts_are_ranked_by(tmp_path: Path) -> None:
    terminal, page, _, answer = shown(shortened(), tmp_path)
    for text in (terminal, page):
        assert "have no figures for a year, so settings are ranked by the Sharpe ratio per bar instead of" in text
    assert json.loads(answer)["ranked_by"] == "bar_sharpe_ratio"
    assert "ranked by" not in shown(FOUR, tmp_path)[0]


@pytest.mark.parametrize("metric", list(WITHOUT_A_YEAR))
def test_no_table_page_or_picture_of_short_parts_has_a_yearly_figure(metric: str, tmp_path: Path) -> None:
    yearly = console.label(metric)
    for text in shown(shortened(metric), tmp_path):
        without_reason = re.sub(r"instead of the [^.]*\.", "", text)
        assert not re.search(rf"{yearly}(?! per bar)", without_reason)


def test_the_file_has_no_yearly_figures_of_short_parts(tmp_path: Path) -> None:
    shortened().write_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row[name] for row in rows for name in WITHOUT_A_YEAR} == {""}
    assert rows[1]["bar_sharpe_ratio"] == "0.025"


# --- the heat map ----------------------------------------------------------------------------------------------------


def test_each_cell_of_the_heat_map_has_the_mean_of_its_values() -> None:
    found = texts(heatmap.draw(FOUR).file)
    assert [each for each in found if re.search(rf"\.\d\d$|{NOTHING}", each)] == [
        "0.50",
        "1.75",
        f"{MINUS}0.25",
        NOTHING,
        *(f"{MINUS}0.25", "1.75"),  # the ends of the color scale
    ]
    assert {"HISTORY_BARS", "SLIPPAGE", "120", "250", "0.001"} <= set(found)


def test_the_heat_map_averages_over_a_third_varied_setting() -> None:
    grid = "HISTORY_BARS=120 SLIPPAGE=0,0.001 UNIVERSE_SIZE=5,10 REFIT_EVERY=1,5"
    means = {
        each.words: 1.0 + each.options.refit_every_bars
        for each in settings_of(combinations(read(grid), None, 1), {})[0]
    }
    drawn = heatmap.draw(outcome(grid, means))
    assert drawn.title == "Sharpe ratio, mean out of sample, averaged over REFIT_EVERY"
    assert texts(drawn.file).count("4.00") == 4


def test_a_single_varied_setting_is_drawn_as_bars() -> None:
    drawn = heatmap.draw(outcome("HISTORY_BARS=120,250", {"HISTORY_BARS=120": 0.5, "HISTORY_BARS=250": -1.5}))
    assert {"120", "250", "0.50", f"{MINUS}1.50", "HISTORY_BARS"} == set(texts(drawn.file))


def test_a_range_is_drawn_in_sections() -> None:
    words = [each.words for each in settings_of(combinations(read("HISTORY_BARS=100..180"), 40, 1), {})[0]]
    drawn = heatmap.draw(outcome("HISTORY_BARS=100..180", dict.fromkeys(words, 0.5), samples=40))
    assert [each for each in texts(drawn.file) if " to " in each][:2] == ["100 to 110", "110 to 120"]


def test_a_sweep_without_figures_is_drawn_without_values() -> None:
    nothing = outcome("HISTORY_BARS=120 SLIPPAGE=0", {"HISTORY_BARS=120 SLIPPAGE=0": None})
    assert NOTHING in texts(heatmap.draw(nothing).file)


def test_the_scale_names_the_lowest_and_the_highest_color() -> None:
    grid = "HISTORY_BARS=120,250 SLIPPAGE=0,0.001"
    words = [f"HISTORY_BARS={bars} SLIPPAGE={slippage}" for bars in (120, 250) for slippage in ("0", "0.001")]
    found = texts(heatmap.draw(outcome(grid, dict(zip(words, (0.25, 1.5, -0.75, 0.5), strict=True)))).file)
    assert found.count("0.25") == 1
    assert (found.count(f"{MINUS}0.75"), found.count("1.50")) == (2, 2)  # in its cell, and at the scale


def test_one_color_needs_no_scale() -> None:
    grid = "HISTORY_BARS=120,250 SLIPPAGE=0,0.001"
    words = [f"HISTORY_BARS={bars} SLIPPAGE={slippage}" for bars in (120, 250) for slippage in ("0", "0.001")]
    assert texts(heatmap.draw(outcome(grid, dict.fromkeys(words, 0.5))).file).count("0.50") == 4


def test_the_page_has_a_drawing_as_wide_as_its_card_and_one_for_a_phone() -> None:
    element = str(heatmap.draw(FOUR).element)
    widths = [float(width) for width in re.findall(r'viewBox="0 0 ([\d.]+) ', element)]
    assert widths[0] > 1_100 > 400 > widths[1]


def test_a_mean_that_rounds_to_0_has_no_sign() -> None:
    drawn = heatmap.draw(outcome("HISTORY_BARS=120,250", {"HISTORY_BARS=120": -0.001, "HISTORY_BARS=250": 0.5}))
    assert "0.00" in texts(drawn.file)


def test_drawing_a_sweep_twice_gives_identical_bytes() -> None:
    assert heatmap.draw(FOUR) == heatmap.draw(FOUR)


# --- settings implied by another one ---------------------------------------------------------------------------------

RULES = outcome("SIGNAL=trend,horizon", {"SIGNAL=trend": 0.5, "SIGNAL=horizon": 0.1})


def test_the_settings_of_the_rule_horizon_are_named() -> None:
    assert "HISTORY_BARS=5000 STOP_LOSS_FRACTION=0 TAKE_PROFIT_FRACTION=0" in RULES.caution


def test_only_common_values_are_called_the_same_for_all() -> None:
    named = dict(html.same_for_all(RULES))
    assert "UNIVERSE_SIZE" in named
    assert {"HISTORY_BARS", "STOP_LOSS_FRACTION", "SIGNAL"}.isdisjoint(named)
