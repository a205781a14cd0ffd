"""Prophet's answers for a machine without Stan: the same forecasts, or an error that says what to do."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from scripts.backtest import answers, options, prices
from scripts.backtest.compute import Table, Task, ask_prophet, compute
from scripts.backtest.forecasts import Blocks
from scripts.backtest.model import BacktestError
from trader.forecasting.map import model

AT = datetime(2022, 12, 9, 5, tzinfo=UTC)
"""A bar of the sample, for which Prophet is asked."""


@pytest.fixture(scope="module", autouse=True)
def no_model_is_good_enough() -> Iterator[None]:
    """Let the map engine hand every model to Prophet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "CONVERGED", 0.0)
        yield


@pytest.fixture(scope="module")
def task() -> Task:
    wanted = options.from_env({"ENGINE": "map"})
    panel = prices.load(wanted)
    (found,) = Blocks(panel, wanted, prices.span(panel, wanted)).sample([(AT, "GE")])
    return found


@pytest.fixture(scope="module")
def by_prophet(task: Task) -> Table:
    return compute(task)


def test_an_answer_stands_for_prophets_package(task: Task, by_prophet: Table) -> None:
    ((bar, fit_bar),) = task.bars["GE"]
    kept = answers.read(answers.write({answers.question(task, "GE", bar, fit_bar): by_prophet["GE", AT]}))
    with answers.using(kept):
        assert compute(task) == by_prophet


def test_a_question_without_an_answer_says_what_to_do_instead(task: Task) -> None:
    with (
        answers.using({}),
        pytest.raises(BacktestError, match=r"GE at 2022-12-09 needs Prophet's package.*make backtest"),
    ):
        compute(task)


def test_afterwards_prophet_is_asked_again(task: Task, by_prophet: Table) -> None:
    with answers.using({}):
        pass
    assert compute(task) == by_prophet


def test_another_rule_is_another_question(task: Task) -> None:
    ((bar, fit_bar),) = task.bars["GE"]
    wanted = options.from_env({"ENGINE": "map", "SIGNAL": "interval"})
    panel = prices.load(wanted)
    (other,) = Blocks(panel, wanted, prices.span(panel, wanted)).sample([(AT, "GE")])
    assert answers.question(other, "GE", bar, fit_bar) != answers.question(task, "GE", bar, fit_bar)


def test_prophet_itself_gives_the_bar_for_which_it_was_asked(task: Task, by_prophet: Table) -> None:
    assert dict(ask_prophet(task, "GE", task.bars["GE"])) == by_prophet
