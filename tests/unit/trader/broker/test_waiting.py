"""Tests of waiting for the broker."""

from scripts.testkit.alpaca_api import AlpacaApi
from scripts.testkit.alpaca_direct import DirectBroker
from trader.broker.waiting import cancel


def test_without_orders_nothing_is_asked() -> None:
    alpaca = AlpacaApi()
    assert cancel((), DirectBroker(alpaca)) == ()
    assert alpaca.requests == []
