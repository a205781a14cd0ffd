"""The price file of the benchmarks is as large as asked for, as ragged as an index, and always the same."""

from pathlib import Path

import numpy as np
import pytest

from scripts.bench import ragged
from trader.prices.file import FilePrices

SYMBOLS, BARS = 40, 200


def is_priced(seed: int = 1) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return ragged.make(SYMBOLS, BARS, seed).notna().to_numpy()


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        ragged.write(tmp_path / name, 3, 50, seed=7)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_another_seed_gives_other_prices() -> None:
    assert not ragged.make(3, 50, 7).equals(ragged.make(3, 50, 8))


def test_the_file_is_read_as_daily_closes_of_all_its_symbols(tmp_path: Path) -> None:
    symbols = ragged.write(tmp_path / "prices.csv", 30, 60)
    found = FilePrices(tmp_path / "prices.csv").bars()
    assert list(found.clean.series) == symbols
    assert (len(found.calendar), found.notes) == (60, ())


@pytest.mark.parametrize(("place", "fraction"), [(0, ragged.LATE_FRACTION), (-1, ragged.ENDED_FRACTION)])
def test_some_symbols_come_late_and_some_end_early(place: int, fraction: float) -> None:
    absent = (~is_priced()[place]).sum()
    in_gaps = ragged.GAPPY_FRACTION * SYMBOLS
    assert fraction * SYMBOLS <= absent <= fraction * SYMBOLS + in_gaps


def test_some_symbols_have_gaps() -> None:
    there = is_priced()
    spans = [column[column.argmax() : BARS - column[::-1].argmax()] for column in there.T]
    assert 0 < sum(not span.all() for span in spans) <= ragged.GAPPY_FRACTION * SYMBOLS


def test_symbols_are_named_apart_beyond_the_letters_of_one_place() -> None:
    names = [ragged.name(number) for number in range(1_000)]
    assert (len(set(names)), names[0], names[-1]) == (1_000, "RAAA", "RBML")
