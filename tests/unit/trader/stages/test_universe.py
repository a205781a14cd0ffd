from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tests.builders import daily
from trader.model import Code, Denial
from trader.prices.base import Coverage
from trader.stages.universe import candidates, explain_absence, find_nearest, returns, sp500, top_performers


def test_the_index_has_some_five_hundred_different_symbols() -> None:
    assert 490 <= len(set(sp500())) == len(sp500()) <= 510


def test_the_index_spells_share_classes_as_alpaca_does() -> None:
    assert "BRK.B" in sp500()


def test_the_index_is_narrowed_to_what_the_sources_have() -> None:
    assert candidates(("sp500",), {"MSFT", "AAPL", "ZZZZ"}) == ("AAPL", "MSFT")


def test_the_index_stays_whole_if_no_source_can_list_symbols() -> None:
    assert candidates(("sp500",), None) == sp500()


def test_a_listed_symbol_that_no_source_has_stays_a_candidate() -> None:
    assert candidates(("AAPL", "ZZZZ"), {"AAPL"}) == ("AAPL", "ZZZZ")


def test_the_members_of_the_day_take_the_place_of_today_s() -> None:
    assert candidates(("sp500",), {"AAPL", "GONE"}, ("AAPL", "GONE", "OTHER")) == ("AAPL", "GONE")


def test_the_members_of_the_day_are_no_matter_for_a_list_of_symbols() -> None:
    assert candidates(("KO",), None, ("AAPL",)) == ("KO",)


def test_performance_is_the_return_over_the_look_back() -> None:
    assert returns({"AAPL": daily([50, 100, 110, 125])}, 2) == {"AAPL": 0.25}


def test_a_symbol_with_too_few_bars_has_no_performance() -> None:
    assert returns({"NEW": daily([1, 2, 3])}, 3) == {}


def test_the_best_are_chosen_and_ties_are_broken_by_name() -> None:
    assert top_performers({"B": 0.1, "A": 0.1, "C": 0.3, "D": -0.2}, 3) == ("C", "A", "B")


def test_a_universe_smaller_than_its_size_is_taken_whole() -> None:
    assert top_performers({"A": 0.1}, 20) == ("A",)


# --- why there are no prices ---------------------------------------------------------------------------------------

FIRST, LAST, LATER = (datetime(2022, month, 3, 20, 45, tzinfo=UTC) for month in (1, 6, 12))
FILE = Coverage("mine.csv", {"AAPL": (FIRST, LAST), "MSFT": (FIRST, LAST)})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("APPL", "AAPL"), ("TSAL", "TSLA"), ("MSTF", "MSFT"), ("GOGL", "GOOGL"), ("NVDAA", "NVDA"), ("METTA", "META")],
)
def test_a_misspelled_symbol_is_guessed(typed: str, meant: str) -> None:
    assert find_nearest(typed, ()) == meant


@pytest.mark.parametrize("typed", ["SPY", "QQQQQ", "ZZZZ", ""])
def test_a_symbol_that_is_short_or_like_no_other_is_not_guessed(typed: str) -> None:
    assert find_nearest(typed, ()) is None


def test_a_symbol_with_prices_is_a_better_guess_than_one_without() -> None:
    assert find_nearest("APPL", {"APPX", "ZZZZ"}) == "APPX"


def stale(symbol: str) -> Denial:
    return Denial(symbol=symbol, code=Code.STALE_PRICE, detail="file: last price is of 2022-06-03")


def explain(
    *universe: str, now: datetime, denials: Sequence[Denial] = (), ranked: int = 0, coverage: Coverage | None = FILE
) -> str:
    return explain_absence(universe, now, denials, ranked, coverage)


def test_a_file_without_any_candidate_is_named_with_what_it_has() -> None:
    assert explain("EEM", "EFA", now=LAST) == (
        "mine.csv has no prices of UNIVERSE=EEM,EFA, but of AAPL, MSFT; "
        "set UNIVERSE to symbols of the file, or PRICE_FILE to a file that has them"
    )


def test_a_misspelled_universe_is_named_with_the_guess() -> None:
    assert "; did you mean AAPL? Otherwise set UNIVERSE" in explain("APPL", now=LAST)
    assert "; did you mean AAPL for APPL? Otherwise set UNIVERSE" in explain("APPL", "ZZZZ", now=LAST)


def test_a_run_before_the_first_price_is_told_the_days_of_the_file() -> None:
    early = datetime(2010, 1, 4, 20, 45, tzinfo=UTC)
    assert explain("sp500", now=early) == (
        "mine.csv has prices of UNIVERSE=sp500 from 2022-01-03 to 2022-06-03, and this run is for 2010-01-04; "
        "set AT to a later day"
    )


def test_a_run_after_the_last_price_is_told_the_days_of_the_file() -> None:
    assert explain("sp500", now=LATER, denials=[stale("AAPL"), stale("MSFT")]) == (
        "mine.csv has prices of UNIVERSE=sp500 from 2022-01-03 to 2022-06-03, which are older at 2022-12-03, the day "
        "of this run, than MAX_PRICE_AGE_S allows; set AT to a day of the file, or PRICE_FILE to newer prices"
    )


def test_without_a_file_the_lacking_candidates_are_counted_with_an_example() -> None:
    assert explain("A", "B", "C", now=LAST, denials=[stale("A"), stale("B")], ranked=1, coverage=None) == (
        "2 of 3 candidates of UNIVERSE=A,B,C have no usable prices (2 STALE_PRICE); "
        "A: file: last price is of 2022-06-03"
    )
