"""How the engines are compared."""

import pytest

from scripts.bench import engine_times
from scripts.bench.engine_times import LOOP, compare

MAP = "ENGINE=map, 500 symbols"


def test_an_engine_is_compared_with_the_loop_of_its_own_round() -> None:
    slow_phase = {LOOP: [0.06, 0.6, 0.06], MAP: [0.00001, 0.0001, 0.00001]}
    (_, line) = compare(slow_phase)
    assert (line.figures["times_as_fast"], line.is_reached) == (6_000.0, True)


def test_the_target_depends_on_the_number_of_symbols() -> None:
    found = {LOOP: [0.06], "ENGINE=map, 20 symbols": [0.06 / 2_000], MAP: [0.06 / 2_000]}
    assert [(line.target, line.is_reached) for line in compare(found)] == [
        ("", True),
        ("≥ 1,500 times", True),
        ("≥ 3,000 times", False),
    ]


def test_a_way_fits_every_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_times, "MIN_RATIOS", {4: None})
    assert 0 < engine_times.ways()["ENGINE=map, 4 symbols"]() < 1


def test_the_memory_is_that_of_a_process_of_its_own() -> None:
    line = engine_times.memory()
    assert 50 < float(line.measured.removesuffix(" MB")) < 300
