"""The day that `make digest DAY=` names."""

import pytest

from scripts.cloud.aws import UsageError
from scripts.owner.digest import choose_day
from tests.builders import settings


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("yesterday", "must be a day such as"),
        ("2999-01-02", "is in the future"),
        ("2022-12-26", "the exchange is closed all day"),
        ("2022-12-24", "the exchange is closed all day"),
    ],
)
def test_a_day_of_which_there_is_no_digest_is_refused(day: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose_day(day, settings())


def test_a_day_that_ends_early_is_a_trading_day() -> None:
    assert str(choose_day("2022-11-25", settings())) == "2022-11-25"
