"""A trend line's corners: pairs that are made when they are asked for, and are a tuple of pairs to everybody else."""

import pickle
from datetime import UTC, datetime, timedelta

import numpy as np

from trader.codec import decode, encode
from trader.model import Forecast, Line

TIMES = [datetime(2022, 12, 9, tzinfo=UTC) + timedelta(days=day) for day in range(3)]
USD = [100.0, 101.5, 99.25]
PAIRS = tuple(zip(TIMES, USD, strict=True))
LINE = Line(TIMES, np.array(USD))


def made(line: Line | tuple[tuple[datetime, float], ...]) -> Forecast:
    return Forecast(symbol="AAPL", time=TIMES[-1], price_usd=99.0, trend_usd=99.25, line=line)


def test_a_line_is_a_sequence_of_pairs() -> None:
    assert (len(LINE), LINE[0], LINE[-1], LINE[1:], list(LINE)) == (3, PAIRS[0], PAIRS[-1], PAIRS[1:], list(PAIRS))
    assert {type(usd) for _, usd in LINE} == {float}


def test_a_line_equals_a_tuple_of_its_pairs() -> None:
    assert PAIRS == LINE == Line(TIMES, np.array(USD)) == PAIRS
    assert PAIRS[:2] != LINE != Line(TIMES, np.array(USD) + 1)
    assert list(PAIRS) != LINE
    assert (hash(LINE), repr(LINE)) == (hash(PAIRS), repr(PAIRS))
    assert made(LINE) == made(PAIRS)


def test_a_record_does_not_tell_them_apart() -> None:
    assert encode(made(LINE)) == encode(made(PAIRS))
    read = decode(Forecast, encode(made(LINE)))
    assert (read, type(read.line)) == (made(PAIRS), tuple)


def test_a_line_can_be_sent_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(made(LINE))) == made(PAIRS)
