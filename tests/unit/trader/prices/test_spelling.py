import pytest

from trader.prices.spelling import note_renamed, spell


@pytest.mark.parametrize(
    "text",
    ["BRK.B", "brk.b", "BRK-B", "BRK/B", "BRK_B", "BRK B", "NYSE:BRK.B", "nyse: brk-b", "BRK-B.US", "BRK/B US Equity"],
)
def test_the_same_share_is_spelled_as_by_alpaca(text: str) -> None:
    assert spell(text) == "BRK.B"


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("aapl", "AAPL"),
        (" AAPL ", "AAPL"),
        ("AAPL.US", "AAPL"),
        ("NASDAQ:AAPL", "AAPL"),
        ("NYSEARCA:SPY", "SPY"),
        ("AAPL US Equity", "AAPL"),
        ("AAPL UW Equity", "AAPL"),
        ("US", "US"),
        ("LSE:VOD", "LSE:VOD"),
        ("VOD.L", "VOD.L"),
        ("VOD LN Equity", "VOD LN EQUITY"),
        ("BTC-USD", "BTC-USD"),
        ("^GSPC", "^GSPC"),
        ("A", "A"),
    ],
)
def test_other_symbols_keep_what_tells_them_apart(text: str, symbol: str) -> None:
    assert spell(text) == symbol


def test_spelling_twice_changes_nothing() -> None:
    for text in ("brk-b", "NYSE:BRK/B", "AAPL.US", "LSE:VOD", "BTC-USD", "bf_b us equity"):
        assert spell(spell(text)) == spell(text)


def test_symbols_that_stay_as_they_are_need_no_note() -> None:
    assert note_renamed([("AAPL", "AAPL"), (" KO ", "KO")]) == ()
