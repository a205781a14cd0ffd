"""What rules/rsi_reversion.py decides. Run it: make test TESTS=rules/tests/test_rsi_reversion.py"""

from collections.abc import Sequence

import pandas as pd
import pytest

from rules.rsi_reversion import calculate_rsi
from scripts.testkit.rules import decide
from trader.model import Direction

RULE = "rules/rsi_reversion.py"

BY_HAND = {
    # by hand, with fractions, for 3 days: the closes from 10 on, and the average gain and loss after each
    (13, 12, 15): (2, 1 / 3),  # gains 3, 0, 3; losses 0, 1, 0
    (13, 12, 15, 14): (4 / 3, 5 / 9),  # (2 * 2 + 0) / 3 and (2 * 1/3 + 1) / 3
    (13, 12, 15, 14, 16): (14 / 9, 10 / 27),
    (13, 12, 15, 14, 16, 12): (28 / 27, 128 / 81),
    (13, 12, 15, 14, 16, 12, 6): (56 / 81, 742 / 243),
}


@pytest.mark.parametrize(("closes", "averages"), BY_HAND.items())
def test_the_index_is_that_of_a_calculation_by_hand(closes: Sequence[float], averages: tuple[float, float]) -> None:
    gain, loss = averages
    assert calculate_rsi(pd.Series([10.0, *closes]), 3) == pytest.approx(100 - 100 / (1 + gain / loss))


def test_the_last_row_of_that_table_is_18_and_a_half() -> None:
    assert calculate_rsi(pd.Series([10.0, 13, 12, 15, 14, 16, 12, 6]), 3) == pytest.approx(100 * 168 / 910)


def test_only_gains_are_100_only_losses_0_and_neither_50() -> None:
    found = [calculate_rsi(pd.Series(closes), 3) for closes in ([1.0, 2, 3, 4], [4.0, 3, 2, 1], [1.0, 1, 1, 1])]
    assert found == [100, 0, 50]


@pytest.mark.parametrize(
    ("last", "direction"),
    [
        # After 20 closes of 100, a gain of a and then a loss of b, the index of 2 days is 100 * a / (a + 2 * b).
        ((106, 99), Direction.FLAT),  # 30
        ((106, 98.9), Direction.UP),
        ((114, 111), Direction.FLAT),  # 70
        ((114, 111.1), Direction.DOWN),
    ],
)
def test_beyond_its_bounds_it_decides_and_on_them_it_does_not(last: tuple[float, float], direction: Direction) -> None:
    assert decide(RULE, {"KO": [100.0] * 20 + [*last]}, days=2)["KO"].direction is direction


def test_the_more_oversold_comes_first() -> None:
    found = decide(RULE, {"KO": [100.0] * 20 + [106, 98], "PEP": [100.0] * 20 + [106, 90]}, days=2)
    assert found["PEP"].strength > found["KO"].strength > 0


def test_older_closes_do_not_change_the_index() -> None:
    closes = [100 + number % 7 for number in range(40)]
    assert decide(RULE, {"KO": [1.0, 500.0, *closes]}, days=2) == decide(RULE, {"KO": closes}, days=2)


def test_the_reason_names_the_index() -> None:
    assert decide(RULE, {"KO": [100.0] * 20 + [106, 99]}, days=2)["KO"].reason == "the RSI of 2 days is 30.0"
