from tests.builders import daily
from trader.stages.universe import candidates, returns, sp500, top_performers


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


def test_performance_is_the_return_over_the_look_back() -> None:
    assert returns({"AAPL": daily([50, 100, 110, 125])}, 2) == {"AAPL": 0.25}


def test_a_symbol_with_too_few_bars_has_no_performance() -> None:
    assert returns({"NEW": daily([1, 2, 3])}, 3) == {}


def test_the_best_are_chosen_and_ties_are_broken_by_name() -> None:
    assert top_performers({"B": 0.1, "A": 0.1, "C": 0.3, "D": -0.2}, 3) == ("C", "A", "B")


def test_a_universe_smaller_than_its_size_is_taken_whole() -> None:
    assert top_performers({"A": 0.1}, 20) == ("A",)
