"""What was held before a run, and what its insights sum up to, as pages and the terminal show it."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scripts.report import formatting
from scripts.report.console import show
from scripts.report.html import write_page
from tests.pages import Elements
from tests.run_record import record


def position(quantity: float, paid_usd: float | None, price_usd: float) -> dict[str, Any]:
    return {"quantity": quantity, "average_price_usd": paid_usd, "price_usd": price_usd}


def exit_of(symbol: str, **prices: float | None) -> dict[str, Any]:
    return {"symbol": symbol, "side": "sell", "stop_price_usd": None, **prices}


@pytest.fixture
def made() -> dict[str, Any]:
    """Return a record of a run that held three symbols: in a bracket, without a stop, and at an unknown price."""
    run = record()
    run["observation"]["positions"] = {
        "BBB": position(10, 50.0, 55.0),
        "AAA": position(4, 100.0, 98.0),
        "CCC": position(1, None, 20.0),
    }
    run["observation"]["open_orders"] = [
        exit_of("AAA", stop_price_usd=97.0),
        exit_of("AAA", limit_price_usd=140.0),
        {**exit_of("BBB", stop_price_usd=60.0), "side": "buy"},
    ]
    return run


def test_what_is_held_shows_its_gain_and_its_stop(made: dict[str, Any]) -> None:
    aaa, bbb, ccc = formatting.holdings(made)
    assert (aaa.symbol, aaa.stop_usd) == ("AAA", 97.0)
    assert aaa.gain_fraction == pytest.approx(-0.02)
    assert aaa.distance_fraction == pytest.approx(-1 / 98)
    assert bbb.gain_fraction == pytest.approx(0.1)
    assert (bbb.stop_usd, bbb.distance_fraction) == (None, None)
    assert (ccc.paid_usd, ccc.gain_fraction) == (None, None)


def test_a_run_that_did_not_look_shows_no_holdings(made: dict[str, Any]) -> None:
    del made["observation"]
    assert formatting.holdings(made) == []


@pytest.mark.parametrize("width", [80, 104])
def test_the_terminal_has_a_row_for_each_holding(made: dict[str, Any], width: int) -> None:
    out = io.StringIO()
    show(made, Console(file=out, width=width))
    lines = out.getvalue().splitlines()
    (row,) = [line.split() for line in lines if line.startswith(" AAA") and "97.00" in line]
    assert row == ["AAA", "4", "100.00", "98.00", "−2.0%", "97.00", "−1.0%"]  # noqa: RUF001 as a table prints it
    assert max(map(len, lines)) <= width


def test_the_page_has_a_row_for_each_holding_and_marks_what_was_named(made: dict[str, Any], tmp_path: Path) -> None:
    made["report"]["unprotected"] = ["BBB"]
    write_page(made, tmp_path / "run.html")
    page = Elements(tmp_path / "run.html")
    assert "Held before this run" in page.text
    assert (tmp_path / "run.html").read_text().count('class="number alarm">none') == 1


def test_insights_are_summed_up() -> None:
    made = record()
    made["report"]["insights"] = [{"direction": each} for each in ("UP", "DOWN", "UP", "FLAT")]
    assert formatting.direction_words(made) == "2 UP, 1 FLAT, 1 DOWN"
    del made["report"]["insights"]
    assert formatting.direction_words(made) == ""
