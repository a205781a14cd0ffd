"""Tests of the choice of the memory with which Lambda bills least."""

from dataclasses import replace
from datetime import date

import pytest

from scripts.bench import memories
from scripts.bench.memories import MeasuredEngine, MemoryMeasurement, compare, to_bill
from scripts.cloud import cost
from scripts.cloud.cost import Estimate
from scripts.cloud.measure import Measured
from trader.model import Engine

COUNTS = {"first": 20, "later": 490, "closed": 270, "digest": 20}


def run(waited_s: float, computed_s: float) -> Measured:
    bare = Measured(billed_s=0, init_s=0, peak_mb=150, log_bytes=0, kept_bytes=0)
    return replace(bare, waited_s=waited_s, computed_s=computed_s).at(1_769)


def measured(*, first: Measured | None = None, brackets: Measured | None = None) -> MeasuredEngine:
    """Return an engine whose later run waits for 3 s and computes for 1 s on a whole processor."""
    runs = {"first": first or run(10, 5), "later": run(3, 1), "closed": run(0.3, 0.5), "digest": run(5, 20)}
    month = Estimate(schedule="", memory_mb=1_769, first_day=date(2026, 11, 1), counts=COUNTS, measured=runs)
    return MeasuredEngine(engine=Engine.MAP, month=month, in_brackets={5: brackets or run(5, 1)})


def lines(of: MeasuredEngine) -> dict[int, MemoryMeasurement]:
    found = {}
    for line in compare(of):
        assert isinstance(line, MemoryMeasurement)
        found[line.memory_mb] = line
    return found


@pytest.fixture(autouse=True)
def _default_of_1024(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MEMORY_MB", 1_024)


def test_a_later_run_takes_its_waits_and_its_computing_over_the_share() -> None:
    found = lines(measured())
    assert found[1_024].figures["later_s"] == pytest.approx(3 + 1.7275, abs=1e-3)
    assert found[512].figures["later_s"] == pytest.approx(3 + 3.455, abs=1e-3)
    assert found[512].figures["later_gb_s"] == pytest.approx((3 + 3.455) / 2, abs=1e-3)


def test_the_default_misses_its_target_if_less_memory_is_cheaper() -> None:
    assert not lines(measured())[1_024].is_reached


def test_the_default_is_the_cheapest_if_with_less_memory_a_run_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "MIN_STRATEGIES", 1)
    long = run(0, 50)  # 173 s at 512 MB, 115 s at 768 MB, 86 s at 1,024 MB
    assert lines(measured(first=long))[1_024].is_reached
    assert lines(measured(brackets=long))[1_024].is_reached


def test_a_run_that_is_too_long_with_any_memory_is_no_reason_for_the_default() -> None:
    assert not lines(measured(first=run(200, 1)))[1_024].is_reached


def test_too_few_free_strategies_miss_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MEMORY_MB", 512)
    assert lines(measured())[512].is_reached
    monkeypatch.setattr(memories, "MIN_STRATEGIES", 1_000)
    assert not lines(measured())[512].is_reached


def test_the_bill_is_judged_at_1024_mb_and_the_strategies_at_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MEMORY_MB", 512)
    later, free = to_bill(measured())
    assert "1,024 MB" in later.what
    assert later.figures["billed_s"] == pytest.approx(4.7275, abs=1e-3)
    assert "512 MB" in free.what
    assert free.figures["strategies"] == lines(measured())[512].figures["strategies"]
