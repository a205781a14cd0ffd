"""The ledger in out/: every setting that was ever tried, so that the luck of the best one can be estimated.

A line for each backtest or sweep says which symbols and days it traded, and the Sharpe ratio per bar of each setting.
Two trials are on the same data if they share days and symbols, whatever file the prices came from.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from scripts.backtest.model import Options
from scripts.console import note
from scripts.files import LEDGER, writing

PLACES = ("journal", "account_file", "price_file", "halt_parameter", "strategy")
"""Settings that only name something: the same rule with other names is not tried twice."""


UNTRADED = {"start", "end", "out", "benchmark", "cash_rate", "intraday_file"}
"""Options that are the days, or that no trade depends on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """The settings of one command, each with its Sharpe ratio per bar (None without one), by their identity."""

    symbols: Sequence[str]
    start: date
    end: date
    sharpe_by_setting: Mapping[str, float | None]

    def is_on_data_of(self, other: "Trials") -> bool:
        """Check whether both share days and symbols."""
        share_days = self.start <= other.end and other.start <= self.end
        return share_days and not set(self.symbols).isdisjoint(other.symbols)


def identify(options: Options) -> str:
    """Return a short hash of all settings that the trades depend on, but not of the days."""
    settings = {name: value for name, value in options.settings.public().items() if name not in PLACES}
    own = {name: getattr(options, name) for name in options.__dataclass_fields__ if name != "settings"}
    if not options.decide_every:
        del own["decide_every"]  # so that the identities of the trials before this option stay
    kept = {**settings, **{name: value for name, value in own.items() if name not in UNTRADED}}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def record(folder: Path, trials: Trials) -> Mapping[str, float | None]:
    """Append a command's trials; return all trials so far on the same data, these among them.

    Raises UnwritableError. Lines that are not the ledger's are left alone and named in a note.
    """
    path = folder / LEDGER
    known: dict[str, float | None] = {}
    for before in _read(path):
        if (
            before.start <= trials.end
            and trials.start <= before.end
            and not set(trials.symbols).isdisjoint(before.symbols)
        ):
            known |= before.sharpe_by_setting
    line = json.dumps(asdict(trials), default=str, allow_nan=False) + "\n"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line)
    return {**known, **trials.sharpe_by_setting}


def _read(path: Path) -> Iterator[Trials]:
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        note(f"{path} cannot be read ({error}), so the settings tried before are not counted")
        return
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            yield Trials(
                symbols=list(map(str, entry["symbols"])),
                start=date.fromisoformat(entry["start"]),
                end=date.fromisoformat(entry["end"]),
                sharpe_by_setting={str(name): _sharpe(value) for name, value in entry["sharpe_by_setting"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            note(f"{path}, line {number}: this is no line of the ledger ({type(error).__name__}), and does not count")


def _sharpe(value: object) -> float | None:
    """Return a Sharpe ratio from the ledger. Raises TypeError if it is neither a finite number nor None."""
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise TypeError(f"{value!r:.40} is no Sharpe ratio")
    return value
