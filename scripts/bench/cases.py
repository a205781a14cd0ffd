"""The cases of `make bench`: what each measures, and which are measured if none is named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

from scripts.bench.harness import Measurement
from trader.progress import Progress
from trader.settings import SettingsError


class When(StrEnum):
    """When a case is measured: if none is named, also with CASES=all, or only if it is named itself."""

    DEFAULT = "default"
    ALL = "all"
    NAMED = "named"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case: its name, what it measures, and the function that does, as module:function."""

    name: str
    what: str
    main: str
    when: When = When.DEFAULT

    def measure(self, progress: Progress) -> Sequence[Measurement]:
        """Measure. Raises CommandError if something is missing; the message says what."""
        module, _, function = self.main.partition(":")
        measure: Callable[[Progress], Sequence[Measurement]] = getattr(import_module(module), function)
        return list(measure(progress))


IN = "scripts.bench"
CASES: Mapping[str, Case] = {
    each.name: each
    for each in (
        Case(name="run", what="make run", main=f"{IN}.whole_commands:run"),
        Case(name="sample", what="a backtest of two years", main=f"{IN}.whole_commands:sample"),
        Case(name="backtest", what="ten years of an index", main=f"{IN}.index_backtests:ten_years", when=When.ALL),
        Case(name="growth", what="the growth of a backtest's cost", main=f"{IN}.growth:measure", when=When.ALL),
        Case(name="forecasts", what="the forecast stage of a run", main=f"{IN}.forecast_stage:measure"),
        Case(name="engine", what="the engines", main=f"{IN}.engine_times:measure"),
        Case(name="files", what="reading price files", main=f"{IN}.price_files:measure"),
        Case(name="yahoo", what="asking Yahoo for prices", main=f"{IN}.yahoo:measure"),
        Case(name="report", what="a report on 90 days of 15-minute slots", main=f"{IN}.reports:measure", when=When.ALL),
        Case(name="sweep", what="a sweep", main=f"{IN}.rooms:sweep", when=When.ALL),
        Case(name="scale", what="a sweep of a whole market", main=f"{IN}.scale:measure", when=When.NAMED),
        Case(name="usual", what="Prophet in next()", main=f"{IN}.backtests:measure", when=When.ALL),
        Case(name="layer", what="the layer's bytes", main=f"{IN}.rooms:layer", when=When.ALL),
        Case(name="bill", what="what Lambda bills", main=f"{IN}.rooms:bill", when=When.ALL),
        Case(name="peers", what="other programs", main=f"{IN}.peers:measure", when=When.ALL),
        Case(name="tests", what="the project's tests", main=f"{IN}.rooms:tests", when=When.NAMED),
    )
}

ALL = "all"


def choose(text: str) -> Sequence[Case]:
    """Return the cases that CASES names. Raises SettingsError for a word that is no case."""
    if not text:
        return [case for case in CASES.values() if case.when is When.DEFAULT]
    chosen: dict[str, Case] = {}
    for word in text.split(","):
        if word == ALL:
            chosen |= {case.name: case for case in CASES.values() if case.when is not When.NAMED}
        elif word in CASES:
            chosen[word] = CASES[word]
        else:
            raise SettingsError([f"CASES: there is no case {word!r}; write {ALL}, or some of {', '.join(CASES)}"])
    return list(chosen.values())
