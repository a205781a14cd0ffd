"""The closes of records: read quickly because most are known already, and never other than they are written."""

import json
import pickle
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from scripts.owner.bars import Bars, LazyCloses, cut_out, pack, unpack


def text(closes: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> str:
    """Return the text of a record with closes, as the journal writes it."""
    observed = {symbol: {"times": [*times], "usd": [*usd]} for symbol, (times, usd) in closes.items()}
    return json.dumps({"observation": {"slot": "now", "closes": observed, "denials": []}, "decision": None})


def read(closes: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> dict[str, Bars]:
    found = cut_out(text(closes))
    assert found is not None
    return found[1]


@pytest.mark.parametrize("step", [0, 1, 2, 7, 300])
@pytest.mark.parametrize("rewrites", [False, True])
def test_closes_of_one_slot_after_another_are_those_that_are_written(step: int, rewrites: bool) -> None:
    """A window that slides, or stands still; its last bar is another in the next record, as a bar that was not over."""
    draw = random.Random(step)
    usd = [round(draw.uniform(5, 2000), draw.choice([0, 1, 2, 6])) for _ in range(2500)]
    for first in range(0, 6 * max(step, 1), max(step, 1)):
        now = usd[first : first + 250]
        shown = [*now[:-1], now[-1] + 0.25]
        if rewrites and first % 2:
            shown = [each * 0.99 for each in shown]
        bars = read({"AAA": (range(first, first + 250), shown)})["AAA"]
        assert bars.usd.tolist() == shown
        assert bars.times.tolist() == list(range(first, first + 250))


def test_prices_that_look_alike_are_not_taken_for_each_other() -> None:
    for usd in ([5100.0, 100.0, 100.0, 1.5], [100.0, 100.0, 1.5, 2.0], [100.0, 100.0, 100.0], [100.0], [1.0, 2.0]):
        assert read({"AAA": (range(len(usd)), usd)})["AAA"].usd.tolist() == usd


def test_each_symbol_has_its_own() -> None:
    closes = {"AAA": (range(3), [1.0, 2.0, 3.0]), "B.B": (range(3), [1.0, 2.0, 4.0]), "CCC": ([7], [9.0])}
    assert {symbol: each.usd.tolist() for symbol, each in read(closes).items()} == {
        symbol: usd for symbol, (_, usd) in closes.items()
    }


def test_what_is_left_is_the_record_without_closes() -> None:
    found = cut_out(text({"AAA": ([1, 2], [1.0, 2.0])}))
    assert found is not None
    assert json.loads(found[0]) == json.loads(text({}))


@pytest.mark.parametrize(
    "changed",
    [
        ('"AAA": {"times"', '"A\\"A": {"times"'),
        ('"usd": [1.0, 2.0]}', '"usd": [1.0, 2.0], "more": 1}'),
        ('"AAA"', '"BBB"'),
        ('"closes"', '"others"'),
    ],
)
def test_closes_that_the_journal_does_not_write_like_this_are_left_to_the_codec(changed: tuple[str, str]) -> None:
    whole = text({"AAA": ([1, 2], [1.0, 2.0]), "BBB": ([1, 2], [1.0, 2.0])})
    assert cut_out(whole.replace(*changed, 1)) is None


@pytest.mark.parametrize("usd", ["1.0, -2.0", "1.0, 0.0, 3.0", "1.0", "1.0, NaN", "1.0, Infinity", "1.0, , 2.0", ""])
def test_numbers_that_are_no_prices_are_refused(usd: str) -> None:
    whole = text({"AAA": ([1, 2, 3], [1.0, 2.0, 3.0])})
    read({"AAA": ([1, 2, 3], [1.0, 2.0, 3.0])})
    with pytest.raises(ValueError, match=r"closes of 'AAA'|no numbers|could not convert"):
        cut_out(whole.replace("1.0, 2.0, 3.0", usd))


def test_the_closes_of_many_records_arrive_as_they_were_sent() -> None:
    times = [np.arange(200 + slot) for slot in range(30)]
    sent = [{f"S{number}": Bars(each, each.astype(np.float64) + number) for number in range(20)} for each in times]
    data = pickle.dumps(pack([*sent, {}]))
    arrived = list(unpack(pickle.loads(data)))
    assert arrived.pop() == {}
    for before, after in zip(sent, arrived, strict=True):
        assert {symbol: each.usd.tolist() for symbol, each in before.items()} == {
            symbol: each.usd.tolist() for symbol, each in after.items()
        }
        assert all(before[symbol].times.tolist() == after[symbol].times.tolist() for symbol in before)
    assert len(data) < 1.2 * sum(8 * len(each.usd) for bars in sent for each in bars.values())


def test_no_series_is_made_of_what_no_stage_asks_for() -> None:
    bars = {symbol: Bars(np.array([1, 2]), np.array([1.0, 2.0])) for symbol in ("AAA", "BBB")}
    closes = LazyCloses(bars)
    assert "AAA" in closes
    assert len(closes) == 2
    assert closes.keys() & {"AAA", "CCC"} == {"AAA"}
    assert not any(each._series for each in bars.values())
    assert closes["BBB"].to_list() == [1.0, 2.0]
    assert [bool(each._series) for each in bars.values()] == [False, True]
