"""The variables of a sweep, in addition to those of a backtest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from scripts import console
from scripts.backtest import options
from scripts.sweep.walk_forward import BETTER
from trader.forecasting.map.kernel import cores
from trader.settings import Integer, OneOf, SettingsError, matching

VARIABLES: Mapping[str, Callable[[str], object]] = {
    "SAMPLES": Integer(1, 10_000),
    "SEED": Integer(0, 999_999_999),
    "FOLDS": Integer(1, 50),
    "METRIC": OneOf(tuple(BETTER)),
    "WORKERS": Integer(1, 1_000),
    # Without TLS, whoever can reach a scheduler can run code on it and on all that it talks to.
    "SCHEDULER": matching(
        r"(tcp://(127\.0\.0\.1|localhost)|tls://[^/\s]+):\d+",
        "tcp://127.0.0.1:8786 for a scheduler on this computer, or tls://host:8786, as docs/how-to/choose-settings.md "
        "shows",
    ),
}
"""Parsers of the variables. The field of a variable has the same name in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """The configuration of a sweep."""

    grid: str
    samples: int | None = None  # None: the whole grid
    seed: int = 1
    folds: int = 3
    metric: str = "sharpe_ratio"
    workers: int = 1
    scheduler: str = ""  # empty: processes on this machine
    fresh: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str], grid: str) -> Self:
        """Read and check all variables. Raises SettingsError with all problems."""
        given, problems = options.read(env, VARIABLES)
        if problems:
            raise SettingsError(problems)
        values = {"workers": cores()} | {name.lower(): value for name, value in given.items()}
        return cls(grid=grid, fresh=console.flag("FRESH"), **values)
