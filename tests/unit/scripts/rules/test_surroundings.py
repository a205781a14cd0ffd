"""What a rule's process consists of beside the rule: which changes of it are found, and undone."""

import sys

import pandas as pd
import pytest

from scripts.rules.surroundings import Surroundings
from trader import model
from trader.stages import risk


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (risk, "MAX_GAP_FRACTION", "trader.stages.risk.MAX_GAP_FRACTION"),
        (risk._Limits, "refuse", "trader.stages.risk._Limits.refuse"),
        (pd.Series, "mean", "pandas.Series.mean"),
    ],
)
def test_a_name_that_is_replaced_is_found_and_restored(
    owner: object, name: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, value = Surroundings.take(), getattr(owner, name)
    monkeypatch.setattr(owner, name, object())
    assert before.find_change().endswith(expected.removeprefix("pandas."))
    before.restore()
    assert getattr(owner, name) is value
    assert before.find_change() == ""


def test_a_collection_with_other_content_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Surroundings.take()
    monkeypatch.setitem(model.BAR_LENGTH, "2d", model.BAR_LENGTH["1d"])
    assert before.find_change() == "trader.model.BAR_LENGTH"


def test_a_setting_of_python_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Surroundings.take()
    monkeypatch.syspath_prepend("elsewhere")
    assert sys.path[0] == "elsewhere"
    assert before.find_change() == "sys.path"


def test_a_name_that_was_not_there_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Surroundings.take()
    monkeypatch.setattr(risk, "MORE", 1, raising=False)
    assert before.find_change() == ""
