"""What rules/exponential_smoothing.py decides. Run it: make test TESTS=rules/tests/test_exponential_smoothing.py"""

import sys
from importlib.abc import MetaPathFinder

import pytest

from scripts.testkit.rules import decide
from trader.alpha import own
from trader.alpha.base import RuleError
from trader.model import Direction

RULE = "rules/exponential_smoothing.py"
RISING = [100.0 + number for number in range(60)]
"""One USD more each day, up to 159: on a straight line Holt's forecast is the line."""


@pytest.mark.parametrize(
    ("least", "direction"),
    [(0.031, Direction.UP), (0.032, Direction.FLAT)],  # 164 / 159 is 3.145 % more
)
def test_a_forecast_gain_must_be_large_enough(least: float, direction: Direction) -> None:
    found = decide(RULE, {"KO": RISING}, days=60, ahead=5, least=least)["KO"]
    assert found.gap_fraction == pytest.approx(164 / 159 - 1, rel=1e-4)
    assert found.direction is direction


@pytest.mark.parametrize(
    ("least", "direction"),
    [(0.049, Direction.DOWN), (0.051, Direction.FLAT)],  # 95 / 100 is 5 % less
)
def test_a_forecast_loss_must_be_large_enough(least: float, direction: Direction) -> None:
    assert decide(RULE, {"KO": RISING[::-1]}, days=60, ahead=5, least=least)["KO"].direction is direction


def test_the_slope_of_late_counts_more_than_that_of_long_ago() -> None:
    closes = [*RISING, *(159.0 - number for number in range(1, 31))]  # up to 159, and down to 129 by one USD a day
    found = decide(RULE, {"KO": closes}, days=90, ahead=5)["KO"]
    assert found.gap_fraction == pytest.approx(124 / 129 - 1, abs=0.002)


def test_closes_before_those_that_are_smoothed_do_not_count() -> None:
    assert decide(RULE, {"KO": [1.0, 900.0, *RISING]}, days=60) == decide(RULE, {"KO": RISING}, days=60)


def test_the_reason_names_the_forecast() -> None:
    found = decide(RULE, {"KO": RISING}, days=60, ahead=5)["KO"]
    assert found.reason == "+3.1% in 5 days, says exponential smoothing of 60 days"


class Without(MetaPathFinder):
    """Lets Python find no statsforecast, as where it is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 as importlib calls it
        if fullname == "statsforecast":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def test_without_its_package_the_error_names_it_and_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "statsforecast"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(), *sys.meta_path])
    own._execute.cache_clear()
    with pytest.raises(RuleError) as failed:
        decide(RULE, {"KO": RISING})
    what = "the package statsforecast is not installed; in a clone, make setup installs it"
    assert str(failed.value).endswith(f"ImportError: {what}")
