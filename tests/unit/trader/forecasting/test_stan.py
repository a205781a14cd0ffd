import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prophet import Prophet

from trader.forecasting.prophet import quiet_prophet
from trader.forecasting.stan import Optimizer

PLAIN: dict[str, Any] = {"weekly_seasonality": False, "daily_seasonality": False, "uncertainty_samples": 0}


def walk(bars: int) -> pd.DataFrame:
    steps = np.random.default_rng(3).normal(0, 0.01, bars)
    return pd.DataFrame({"ds": pd.bdate_range("2019-01-02", periods=bars), "y": 100 * np.exp(np.cumsum(steps))})


def program(folder: Path, script: str) -> str:
    path = folder / "model.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def fit(history: pd.DataFrame, model: str | None = None, timeout_s: float = 20) -> Prophet:
    prophet = quiet_prophet()(**PLAIN)
    assert prophet.stan_backend is not None
    prophet.stan_backend.model = model or prophet.stan_backend.model
    return prophet.fit(history, timeout=timeout_s)


@pytest.mark.parametrize(
    ("bars", "configuration"),
    [(60, PLAIN), (250, PLAIN), (250, {}), (700, PLAIN)],
    ids=["few enough for Newton", "a year", "with weekly terms", "with yearly terms"],
)
def test_the_parameters_are_identical_to_prophets_own(bars: int, configuration: dict[str, Any]) -> None:
    theirs = Prophet(**configuration).fit(walk(bars)).params
    ours = quiet_prophet()(**configuration).fit(walk(bars), timeout=20).params
    assert list(ours) == list(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_if_one_optimizer_fails_the_other_is_tried(tmp_path: Path) -> None:
    only_newton = program(tmp_path, f'case "$*" in *newton*) exec "{Optimizer().model}" "$@";; esac; exit 70')
    assert fit(walk(120), only_newton).params["k"].shape == (1, 1)


def test_a_failure_is_reported_in_stans_own_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Stan ended with 70: no such model"):
        fit(walk(120), program(tmp_path, "echo no such model >&2; exit 70"))


def test_a_fit_that_hangs_is_ended(tmp_path: Path) -> None:
    hangs = program(tmp_path, f"echo $$ > {tmp_path}/id; exec sleep 60")
    with pytest.raises(TimeoutError, match=r"did not end within 0\.5 s"):
        fit(walk(120), hangs, timeout_s=0.5)
    assert not Path("/proc", (tmp_path / "id").read_text().strip()).exists()


@pytest.mark.parametrize("script", ["", "exit 70"], ids=["it fits", "it fails"])
def test_nothing_is_left_on_the_disk(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = tmp_path / "tmp"
    used.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(used))
    if script:
        with pytest.raises(RuntimeError):
            fit(walk(120), program(tmp_path, script))
    else:
        fit(walk(120))
    assert list(used.iterdir()) == []


def test_the_other_optimizer_is_not_tried_if_stan_is_killed(tmp_path: Path) -> None:
    killed = program(tmp_path, f'case "$*" in *newton*) exec "{Optimizer().model}" "$@";; esac; kill -KILL $$')
    with pytest.raises(OSError, match="killed by signal 9"):
        fit(walk(120), killed)


@pytest.mark.parametrize(
    "cut", ["head -c -1", "sed '$d'", "sed '$s/,[^,]*$//'"], ids=["last byte", "last row", "last value"]
)
def test_a_truncated_result_is_an_error(cut: str, tmp_path: Path) -> None:
    script = f'''"{Optimizer().model}" "$@" || exit
for word in "$@"; do case "$word" in file=*result.csv) out="${{word#file=}}";; esac; done
{cut} "$out" > "$out.cut" && mv "$out.cut" "$out"'''
    with pytest.raises(OSError, match="was cut off"):
        fit(walk(120), program(tmp_path, script))
