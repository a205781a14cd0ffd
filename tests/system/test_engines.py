"""`make parity`, and what the engines are timed on: their results for the engines, and for worse ones."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from scripts.bench import engines, parity
from scripts.bench.parity import ParityCase
from tests.commands import Command, in_process
from trader.forecasting.map import model
from trader.forecasting.map.forecaster import MapForecaster
from trader.forecasting.map.model import Batch, Calendar, Fit, Fits
from trader.progress import no_progress

SMALL = ("--windows", "2", "--symbols", "2", "--bars", "120")


@pytest.fixture(scope="module", autouse=True)
def _fitted_once() -> Iterator[None]:
    """Let Stan and the independent method fit each model once for all tests: these change only map's models."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("by_stan", "reference"):
            patch.setattr(parity, name, remember(getattr(parity, name)))
        yield


def remember(fit: Callable[..., Fit]) -> Callable[..., Fit]:
    """Return a function that remembers the models that it has fitted, by the values of its arguments."""
    known: dict[object, Fit] = {}

    def fit_once(*arguments: object) -> Fit:
        key = tuple(map(content, arguments))
        if key not in known:
            known[key] = fit(*arguments)
        return known[key]

    return fit_once


def content(argument: object) -> object:
    """Return what tells an argument of a fit from others."""
    if isinstance(argument, Calendar):
        return argument.times_ns.tobytes(), tuple(argument.seasonalities)
    return argument.tobytes() if isinstance(argument, np.ndarray) else argument


@pytest.fixture
def compare_engines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setattr(parity, "pool", lambda: ThreadPoolExecutor(2))  # threads see what a test has changed
    return in_process(parity.main, monkeypatch, capsys)


def test_a_comparison_has_a_json_form(compare_engines: Command, tmp_path: Path) -> None:
    code, out, _ = compare_engines(*SMALL, "--json", "--picture", str(tmp_path / "parity.svg"))
    found = json.loads(out)
    assert code == 0
    assert [(row["what"], row["fits"], row["worse"]) for row in found["models"]] == [
        ("120 bars", 4, 0),
        ("120 bars, weekly", 4, 0),
        ("120 bars, prior 0.5", 4, 0),
    ]
    assert [row["what"] for row in found["decisions"]] == ["signal trend", "signal interval", "signal horizon"]
    assert ElementTree.parse(tmp_path / "parity.svg").getroot().tag.endswith("svg")


def summary(row: ParityCase = parity.ROWS[0]) -> parity.Summary:
    """Return the summary of a case with two models in two windows."""
    with ThreadPoolExecutor(2) as executor:  # threads see what a test has changed
        (only,) = parity.models([row], 2, 2, executor, no_progress)
    return only


def test_a_comparison_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    some = parity.Decisions(what="a signal", decisions=4, differ=1, median_gap_points=0.5, median_apart_points=7.5)
    parity.show([summary()], [some])
    said = " ".join(capsys.readouterr().out.split())
    assert "0 of 4" in said
    assert "1 (25.0%) │ 0.50 7.50 points" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--windows", "0"], "WINDOWS='0': must be a whole number from 1 to 100"),
        (["--symbols", "99"], "SYMBOLS='99': must be a whole number from 1 to 20"),
        (["--bars", "10"], "BARS='10': must be one of 120, 250, 500, 1000"),
        (["--picture", "no/such/parity.svg"], "there is no folder no/such; make it first"),
    ],
)
def test_an_impossible_comparison_is_refused_before_any_work(
    compare_engines: Command, words: list[str], said: str
) -> None:
    code, _, errors = compare_engines(*words)
    assert (code, said in errors) == (2, True)


def spoilt(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply a change to every model of the map engine."""
    real = model.fit

    def other(batches: Sequence[Batch], *arguments: Any, **more: Any) -> Fits:
        found = real(batches, *arguments, **more)
        changed = [change(each) if isinstance(each, Fit) else each for each in found.fits]
        return Fits.reference(batches, changed, found.paths)

    monkeypatch.setattr(model, "fit", other)


def test_a_map_engine_worse_than_stan_fails_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(lambda each: replace(each, sigma=1.5 * each.sigma), monkeypatch)
    assert (summary().worse, summary().is_reached) == (4, False)


def test_a_map_engine_off_the_optimum_fails_though_stan_is_worse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoilt(lambda each: replace(each, sigma=1.0005 * each.sigma), monkeypatch)
    assert (summary().worse, summary().is_reached) == (0, False)


def test_a_residual_that_is_too_large_fails_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(lambda each: replace(each, residual=2e-6), monkeypatch)
    assert not summary().is_reached


def test_a_missed_target_sets_the_exit_code(compare_engines: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    missed = replace(summary(), worse=1)
    monkeypatch.setattr(parity, "models", lambda *_: [missed])
    monkeypatch.setattr(parity, "decisions", lambda *_: [])
    assert compare_engines("--json")[0] == 1


def test_a_model_that_map_hands_to_prophet_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(lambda _: "its mode was not found", monkeypatch)
    (only, _) = parity.compare(ParityCase(what="a test", bars=120), 2000, 2)
    assert only.is_handed_over


def test_made_up_symbols_fill_the_number_and_resemble_real_ones() -> None:
    made = engines.closes(45, 120)
    assert len(made) == 45
    assert {len(series) for series in made.values()} == {120}
    daily = {name: float(series.pct_change().std()) for name, series in made.items()}
    real = [daily[name] for name in daily if not name.startswith("MADE")]
    assert min(real) / 2 < np.median([daily[name] for name in daily if name.startswith("MADE")]) < 2 * max(real)


def test_a_measurement_needs_a_forecast_of_every_symbol() -> None:
    with pytest.raises(AssertionError, match="every symbol has a trend line"):
        engines.forecast_s(engines.ours(), {"AAPL": engines.closes(1, 250)["AAPL"].iloc[:5]})


def test_the_measured_engine_is_the_bots() -> None:
    assert isinstance(engines.ours(), MapForecaster)
    engines.loop(engines.closes(1, 60))


def test_the_progress_of_a_comparison_is_reported() -> None:
    told: list[tuple[str, int, int]] = []
    with ThreadPoolExecutor(1) as executor:
        parity.decisions(parity.SIGNALS[:1], 2, 1, executor, lambda *step: told.append(step))
        assert parity.decisions(parity.SIGNALS[:1], 2, 1, executor, no_progress)[0].decisions == 2
    assert told == [("decisions", 1, 2), ("decisions", 2, 2)]
