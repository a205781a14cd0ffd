"""The model of a sweep on many cores, and its parts measured at a tiny size."""

from dataclasses import replace
from functools import partial

import pytest

from scripts.bench import scale
from scripts.bench.scale import Size
from scripts.bench.scale_model import FITTING, LAST, MAIN, OPENING, SENDING, TRADING, Costs, estimate
from scripts.sweep.cluster import cluster
from tests.warm.python import python_of_clusters

COSTS = Costs(
    cells=4_000,
    groups=40,
    fits=50_000,
    fit_s=20e-6,
    cell_s=10.0,
    open_s=1.0,
    plan_s=5.0,
    group_s=1.0,
    task_s=0.002,
    report_s=10.0,
    shared_mb=200.0,
    worker_mb=900.0,
    main_mb=2_000.0,
)


def test_one_core_does_everything_one_after_another() -> None:
    made = estimate(COSTS, 1)
    assert made.seconds[FITTING] == pytest.approx(40 * 50_000 * 20e-6)
    assert made.seconds[TRADING] == 40_000
    assert made.seconds[MAIN] == pytest.approx(5 + 40 + 10)
    assert made.seconds[LAST] == 0
    assert made.bottleneck == TRADING


def test_more_cores_divide_the_tasks_and_nothing_else() -> None:
    one, many = estimate(COSTS, 1), estimate(COSTS, 250)
    assert many.seconds[TRADING] == pytest.approx(one.seconds[TRADING] / 250)
    assert many.seconds[MAIN] >= one.seconds[MAIN]


def test_the_last_tasks_keep_the_others_waiting() -> None:
    made = estimate(COSTS, 3_000)  # two rounds of backtests, of which the second is a third full
    assert made.seconds[TRADING] + made.seconds[LAST] >= 2 * COSTS.cell_s


def test_the_main_process_bounds_what_has_very_short_tasks() -> None:
    made = estimate(replace(COSTS, cell_s=0.01, open_s=0.1), 256)
    assert made.seconds[MAIN] > 4_000 * 0.002
    assert made.bottleneck == made.next_bottleneck == MAIN


def test_each_computer_has_the_memory_and_the_network_of_its_own_workers() -> None:
    sixteen, many = estimate(COSTS, 16), estimate(COSTS, 256)
    assert sixteen.computer_mb == many.computer_mb == 16 * 900
    assert sixteen.seconds[SENDING] == 0, "one computer reads them from a file"
    assert many.seconds[SENDING] == pytest.approx(16 * 200 / 100)


def test_a_worker_opens_no_more_prices_than_it_has_tasks() -> None:
    assert estimate(COSTS, 1).seconds[OPENING] == 40
    assert estimate(replace(COSTS, fits=1_000), 40).seconds[OPENING] == 1


def test_a_tiny_sweep_is_measured_and_modeled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "cluster", partial(cluster, python=python_of_clusters()))
    tiny = Size(symbols=6, bars=400, grid="SIGNAL_THRESHOLD_FRACTION=0.01,0.02", folds=1, timed_bars=(2, 4))
    lines = scale.extrapolate(tiny, lambda *_: None)
    assert [line.what for line in lines[-3:]] == [
        f"by the model, {cores} core{'s' * (cores > 1)}" for cores in (1, 16, 256)
    ]
    assert all(figure >= 0 for line in lines for figure in line.figures.values())
    assert all(line.bound for line in lines[-3:])
