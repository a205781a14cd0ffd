"""What rules/moving_averages.py decides. Run it: make test TESTS=rules/tests/test_moving_averages.py"""

import pytest

from scripts.testkit.rules import decide
from trader.alpha.base import RuleError
from trader.model import Direction

RULE = "rules/moving_averages.py"


@pytest.mark.parametrize(
    ("closes", "direction", "gap"),
    [
        # of 2 and of 4 closes: 12 and 11, 10 and 10, 9 and 10
        ([10, 10, 10, 14], Direction.UP, 12 / 11 - 1),
        ([9, 11, 12, 8], Direction.FLAT, 0),
        ([12, 10, 9, 9], Direction.DOWN, 9 / 10 - 1),
    ],
)
def test_the_side_of_the_fast_average_decides(closes: list[float], direction: Direction, gap: float) -> None:
    found = decide(RULE, {"KO": closes}, fast=2, slow=4)["KO"]
    assert found.direction is direction
    assert found.gap_fraction == pytest.approx(gap)


def test_closes_before_the_slow_average_do_not_count() -> None:
    assert decide(RULE, {"KO": [900, 10, 10, 10, 14]}, fast=2, slow=4) == decide(
        RULE, {"KO": [10, 10, 10, 14]}, fast=2, slow=4
    )


def test_a_symbol_without_enough_closes_is_left_alone() -> None:
    assert set(decide(RULE, {"KO": [10, 10, 14], "PEP": [10, 10, 10, 14]}, fast=2, slow=4)) == {"PEP"}


def test_the_reason_names_both_averages() -> None:
    found = decide(RULE, {"KO": [10, 10, 10, 14]}, fast=2, slow=4)["KO"]
    assert found.reason == "the average of 2 days is +9.1% from that of 4 days"


@pytest.mark.parametrize("fast", [4, 5])
def test_a_fast_average_that_is_not_faster_is_an_error(fast: int) -> None:
    with pytest.raises(RuleError, match=f"RULE_FAST={fast} must be below RULE_SLOW=4; change one of them"):
        decide(RULE, {"KO": [10, 10, 10, 14]}, fast=fast, slow=4)
