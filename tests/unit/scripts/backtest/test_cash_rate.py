"""What cash earns: by calendar day, in the figures alone."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.backtest.cash_rate import CashRate, read
from scripts.backtest.statistics import figures
from tests.backtest_results import fill, panel, result
from trader.model import NEW_YORK

FOUR_PERCENT = read("0.04")


def bars(*days: str) -> list[pd.Timestamp]:
    return [pd.Timestamp(day, tz=NEW_YORK) for day in days]


def write(path: Path, *rows: str) -> str:
    path.write_text("\n".join(["DATE,DTB3", *rows]) + "\n", encoding="utf-8")
    return str(path)


def test_a_rate_is_earned_for_each_calendar_day() -> None:
    friday_to_monday = FOUR_PERCENT.growth(bars("2021-01-08", "2021-01-11"))
    assert friday_to_monday == pytest.approx([1.0, 1.04 ** (3 / 365.25)], rel=1e-14)


def test_bars_within_a_day_earn_nothing() -> None:
    assert FOUR_PERCENT.growth(bars("2021-01-08 10:00", "2021-01-08 15:00")).tolist() == [1.0, 1.0]


def test_without_a_rate_cash_is_exactly_what_it_was() -> None:
    assert CashRate().growth(bars("2021-01-08", "2021-01-11", "2022-01-11")).tolist() == [1.0] * 3


def test_dated_rates_change_on_their_day_and_a_missing_one_keeps_the_rate_before(tmp_path: Path) -> None:
    rate = read(write(tmp_path / "DTB3.csv", "2021-01-04,2.0", "2021-01-05,.", "2021-01-07,3.0", "2021-01-08,"))
    assert rate.rates == ((date(2021, 1, 4), 0.02), (date(2021, 1, 7), 0.03))
    found = rate.growth(bars("2021-01-05", "2021-01-09"))  # two days at 2%, two at 3%
    assert found[1] == pytest.approx((1.02**2 * 1.03**2) ** (1 / 365.25), rel=1e-14)


def test_rates_that_begin_after_the_first_bar_are_refused_with_a_remedy(tmp_path: Path) -> None:
    rate = read(write(tmp_path / "DTB3.csv", "2021-01-07,3.0"))
    lack = rate.explain_lack(bars("2021-01-05")[0])
    assert lack is not None
    assert "set START=2021-01-07 or later" in lack
    assert rate.explain_lack(bars("2021-01-07")[0]) is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["2021-01-04,high"], "line 2 is '2021-01-04,high'"),
        (["4 Jan 2021,2"], "line 2 is '4 Jan 2021,2'"),
        (["2021-01-04,400"], "line 2 is '2021-01-04,400'"),
        (["2021-01-04"], "line 2 has 1 columns"),
        (["2021-01-05,2", "2021-01-04,2"], "sort it"),
        (["2021-01-05,."], "this one has none"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path: Path, rows: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match="a CSV file") as caught:
        read(write(tmp_path / "DTB3.csv", *rows))
    assert expected in str(caught.value)


def test_a_file_without_a_header_does_not_lose_its_first_rate(tmp_path: Path) -> None:
    path = tmp_path / "DTB3.csv"
    path.write_text("2021-01-04,2\n2021-01-05,3\n")
    with pytest.raises(ValueError, match="line 1 is no header, but a day"):
        read(str(path))


@pytest.mark.parametrize("text", ["4", "nan", "missing.csv"])
def test_what_is_neither_a_rate_nor_a_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a number from -0\.05 to 0\.5|No such file"):
        read(text)


def test_idle_cash_earns_the_rate_and_invested_cash_does_not() -> None:
    over = panel({"AAA": [10.0] * 3}, pd.DatetimeIndex(["2021-01-04", "2021-01-05", "2021-01-06"]))
    half = result(over, [fill(over, 1, "AAA", 50, 10.0)], options={"cash_rate": FOUR_PERCENT})
    day = 1.04 ** (1 / 365.25) - 1
    first = 1_000 * day  # on all the cash; then half of it is invested, and the interest stays
    assert figures(half)["curve"]["equity_usd"] == pytest.approx(
        [1_000, 1_000 + first, 1_000 + first + (500 + first) * day]
    )


def test_cash_grows_at_the_rate() -> None:
    over = panel({"AAA": [10.0] * 262})
    cash = figures(result(over, options={"cash_rate": FOUR_PERCENT}))["key_figures"]["cash"]
    assert cash["annual_return_fraction"] == pytest.approx(0.04)
    assert cash["sharpe_ratio"] is None


def test_sharpe_and_sortino_are_of_returns_above_those_of_cash() -> None:
    closes = [10.0, 11.0, 9.9, 10.5]
    over = panel({"AAA": closes}, pd.DatetimeIndex(["2021-01-04", "2021-01-05", "2021-01-06", "2021-01-07"]))
    found = figures(result(over, [fill(over, 0, "AAA", 100, 10.0)], options={"cash_rate": FOUR_PERCENT}))
    made = np.array([0.0, 0.1, -0.1, 10.5 / 9.9 - 1]) - [0, *[1.04 ** (1 / 365.25) - 1] * 3]
    strategy = found["key_figures"]["strategy"]
    assert strategy["bar_sharpe_ratio"] == pytest.approx(made.mean() / made.std(ddof=1))
    assert strategy["bar_sortino_ratio"] == pytest.approx(made.mean() / np.sqrt(np.mean(np.minimum(made, 0) ** 2)))


def test_a_strategy_without_a_trade_has_no_sharpe_ratio_at_any_rate() -> None:
    idle = figures(result(panel({"AAA": [10.0] * 262}), options={"cash_rate": FOUR_PERCENT}))
    assert idle["key_figures"]["strategy"]["sharpe_ratio"] is None
    assert idle["interest_usd"] == pytest.approx(idle["key_figures"]["cash"]["final_equity_usd"] - 1_000)
