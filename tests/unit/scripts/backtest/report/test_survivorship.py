"""What the report says of companies whose prices are missing."""

from typing import Any

import pytest

from scripts.backtest.report.survivorship import describe
from trader.model import SAMPLE_PRICES, Json

ALL_PRICED = {"members": 521, "unpriced_symbols": [], "member_days": 1_000, "unpriced_fraction": 0.0}


def figures(membership: Json | None = None, **data: Any) -> dict[str, Any]:
    return {
        "settings": {"price_sources": ["file"], "price_file": data.pop("price_file", "mine.csv")},
        "data": {"ended_symbols": [], "symbols": ["AAA", "BBB"], "membership": membership, **data},
    }


def lacking(*symbols: str, fraction: float = 0.021) -> Json:
    return {**ALL_PRICED, "unpriced_symbols": list(symbols), "unpriced_fraction": fraction}


@pytest.mark.parametrize(
    ("membership", "words"),
    [
        pytest.param(
            ALL_PRICED,
            "Candidates are the members of the S&P 500 on each day, 521 in this span. All of them have prices.",
            id="all have prices",
        ),
        pytest.param(
            lacking("AAA", "BBB"),
            "2 of them (AAA, BBB) have no price here, and 2.1% of all members' days have none. Companies that failed, "
            "were taken over or left the index are missing most often, so all results may look better",
            id="some have none",
        ),
        pytest.param(lacking(*"ABCDEFG"), "7 of them (A, B, C, D, E and others)", id="many have none"),
        pytest.param(
            lacking(), "All of them have prices, but 2.1% of all members' days have none.", id="some days have none"
        ),
        pytest.param(lacking(fraction=0.0004), "but less than 0.1% of all members' days have none", id="few days"),
    ],
)
def test_the_members_without_prices_are_counted(membership: Json, words: str) -> None:
    assert words in describe(figures(membership))


def test_the_members_of_each_day_were_not_chosen_with_hindsight() -> None:
    assert "chose" not in describe(figures(ALL_PRICED))


def test_listed_symbols_were_chosen_by_someone_who_knows_what_became_of_them() -> None:
    assert describe(figures()).startswith("Whoever chose the symbols knew that they still exist")


def test_the_sample_was_chosen_with_hindsight_and_lacks_most_members() -> None:
    said = describe(figures(lacking("AAA", fraction=0.96), price_file=str(SAMPLE_PRICES)))
    assert said.startswith("The sample contains 20 companies that are large today, chosen with hindsight")
    assert "1 of them (AAA) have no price here, and 96.0% of all members' days have none" in said


def test_members_whose_prices_end_are_named_too() -> None:
    said = describe(figures(lacking("CCC"), ended_symbols=["BBB"]))
    assert said.startswith("1 of the 2 symbols has no prices at the end of the span (BBB)")
    assert "1 of them (CCC) have no price here" in said
