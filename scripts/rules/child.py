"""The program that runs a rule where it cannot do harm: it reads a Job from its input, and writes a Report.

`python -m scripts.rules.child` is started by scripts.rules.run, in the sandbox if there is one.
"""

import os
import pickle
import random
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.rules import views
from scripts.rules.kinds import FUTURE, SAMPLE
from scripts.rules.report import BACKWARD, BIG, FORWARD, FRESH, WATCHED, Change, Job, Report, Tried
from scripts.rules.surroundings import Surroundings
from scripts.rules.views import Trial
from scripts.rules.watch import STATE, Printed, Traces, Watch, each_line, list_names, take_traces
from trader.alpha import loader, own
from trader.alpha.base import AlphaModel, RuleError, View
from trader.alpha.confinement import RuleTimeoutError
from trader.model import BAR_LENGTH, Insight
from trader.settings import Settings, SettingsError

MAX_ADDRESS_BYTES = 4 * 1024**3
"""The most memory that a child may ask for, so that a rule without end does not take the machine's."""


MAX_PROCESSOR_S = 15
"""The processor time of the whole process, after which the system ends it: a rule may hang in compiled code."""


class _StoppedError(Exception):
    """The time for all decisions is over."""


def main() -> None:
    """Do the job, and write the report to what was the standard output; a rule's own prints go nowhere."""
    job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301 from the command that started this process
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(nowhere, number)
        limit_resources()
        output.write(Trying(job).run().write())
        output.flush()
        os._exit(0)  # whatever threads a rule has started


def limit_resources() -> None:
    """Limit the memory and the processor time of this process, where the system can."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (MAX_PROCESSOR_S, MAX_PROCESSOR_S))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))


class Trying:
    """One part of the check, in this process."""

    def __init__(self, job: Job) -> None:
        """Take over a job."""
        self._job = job
        self._watch = Watch(frozenset(job.sources))
        self._report = Report(reached=self._watch.found)
        self._is_watched = job.part == WATCHED
        self._loaded_s = 0.0  # the processor time that loading took: imports of large packages take seconds

    def run(self) -> Report:
        """Load the rule and try it. The report says what went wrong."""
        job = self._job
        own.COUNTS_PROCESSOR_TIME = True  # so that a busy machine refuses nobody
        own.COPIES_VIEW = False  # so that a change can be seen, and later closes that are in memory are found
        own.LIMIT_S = job.loading_s
        random.seed(job.seed)
        np.random.seed(job.seed)
        sys.stdout = sys.stderr = Printed(self._watch)
        self._watch.begin(sees_calls=job.part != BIG)
        if self._is_watched:
            self._turn_warnings_into_errors()
        with own.recorded(job.signal, job.sources):
            try:
                self._settings = self._load()
                self._loaded_s = time.process_time()
                if self._settings:
                    self._try()
            except (_StoppedError, RuleError) as error:
                self._report.stopped = str(error)
        return self._report

    def _load(self) -> Settings | None:
        """Return the settings; None if the rule cannot be loaded with them, which the report then says."""
        surroundings = Surroundings.take() if self._is_watched else None
        try:
            interval = own.read(self._job.signal).bar_interval
            if surroundings:
                self._note_loading(surroundings)
            made_for = {"BAR_INTERVAL": interval} if interval in BAR_LENGTH else {}
            env = {**self._job.variables, **made_for, "SIGNAL": self._job.signal}
            settings = Settings.from_env(env, lambda _: {})
        except SettingsError as error:
            self._report.usage = [each for each in error.problems if each.startswith("RULE_")]
            self._report.unloadable = "" if self._report.usage else error.problems[0]
            return None
        except RuleError as error:
            self._report.unloadable = str(error)
            return None
        own.LIMIT_S = self._job.limit_s
        if self._is_watched:
            self._surroundings = Surroundings.take()
        rule = own.load(settings.signal, dict(settings.rule_parameters), settings.bar_interval, settings.horizon_bars)
        code = rule.rule.decide.__code__
        self._report.decide = f"{code.co_filename}, line {code.co_firstlineno}"
        self._report.bars = rule.facts.min_bars
        self._report.ohlcv = rule.facts.ohlcv
        self._report.parameters = dict(rule.parameters)
        return settings

    def _note_loading(self, before: Surroundings) -> None:
        """Note what loading the file has changed around it, with the line."""
        if name := before.find_change():
            before.restore()
            own._execute.cache_clear()
            with each_line(self._job.sources, lambda: bool(before.find_change())) as found:
                own.read(self._job.signal)
            before.restore()
            self._report.changed.append(Change(STATE, name, found[0] if found else self._job.signal))

    def _turn_warnings_into_errors(self) -> None:
        """Let NumPy's division by zero in the rule's own lines be an error, which names the line."""
        warnings.simplefilter("ignore")
        stems = "|".join(Path(each).stem for each in self._job.sources)
        warnings.filterwarnings("error", category=RuntimeWarning, module=rf"({stems})(_[0-9a-f]{{8}})?$")

    def _try(self) -> None:
        settings, closes = self._settings, self._job.closes
        assert settings
        rule, bars = loader.load(settings), settings.history_bars
        if self._job.part == BIG:
            self._measure(rule, views.make_big(rule, rule.facts.min_bars))
            return
        trials = views.make_trials(closes, rule, bars)
        self._try_each(FRESH, trials, is_fresh=True)
        if not self._is_watched:
            sample = [each for each in trials if each.kind == SAMPLE]
            future = views.make_sample(closes, rule, bars, has_future=True)
            self._try_each(FRESH, [replace(each, kind=FUTURE) for each in future], is_fresh=True)
            self._reload()
            self._try_each(FORWARD, sample)
            self._try_each(BACKWARD, [each for trial in reversed(sample) for each in (trial, trial)])

    def _reload(self) -> AlphaModel:
        """Load the rule's file anew, as a new process would."""
        assert self._settings
        own._execute.cache_clear()
        return loader.load(self._settings)

    def _try_each(self, order: str, trials: Iterable[Trial], *, is_fresh: bool = False) -> None:
        assert self._settings
        for number, trial in enumerate(trials):
            if time.process_time() - self._loaded_s > self._job.budget_s:  # not by the clock: the machine may be busy
                raise _StoppedError(
                    f"{len(self._report.tried)} decisions took {self._job.budget_s:g} s of the processor"
                )
            rule = self._reload() if is_fresh else loader.load(self._settings)
            before = self._trace(rule, trial.view) if self._is_watched else None
            self._report.tried.append(self._decide(order, trial, rule))
            if before and not self._report.tried[-1].is_refused and not self._report.changed:
                change = before.find_change(self._trace(rule, trial.view)) or self._find_outer_change()
                if change:
                    self._report.changed.append(Change(*change, self._find_line(number)))
                    self._surroundings.restore()

    def _decide(self, order: str, trial: Trial, rule: AlphaModel) -> Tried:
        """Let the rule decide. Raises _StoppedError if that takes too long."""
        tried, before = Tried(order=order, kind=trial.kind, key=trial.key), len(self._watch.found)
        try:
            return replace(tried, insights=[describe(each) for each in rule.insights(trial.view)])
        except RuleError as error:
            if isinstance(error.__cause__, RuleTimeoutError):
                raise _StoppedError(str(error)) from error
            return replace(tried, problem=str(error), is_refused=len(self._watch.found) > before)

    # --- what a decision changes -------------------------------------------------------------------------------------

    def _trace(self, rule: AlphaModel, view: View) -> Traces:
        assert isinstance(rule, own.OwnRule)
        return take_traces(list_names(sys.modules[rule.rule.__module__]), view)

    def _find_outer_change(self) -> tuple[str, str] | None:
        name = self._surroundings.find_change()
        return (STATE, name) if name else None

    def _find_line(self, number: int) -> str:
        """Return the line after which something is changed, by deciding once more; empty if nothing is then."""
        assert self._settings
        rule = self._reload()
        trial = list(views.make_trials(self._job.closes, rule, self._settings.history_bars))[number]
        self._surroundings.restore()
        before = self._trace(rule, trial.view)

        def look() -> bool:
            return bool(before.find_change(self._trace(rule, trial.view)) or self._find_outer_change())

        with each_line(self._job.sources, look) as found:
            self._decide(FRESH, trial, rule)
        return found[0] if found else ""

    # --- time and memory ---------------------------------------------------------------------------------------------

    def _measure(self, rule: AlphaModel, view: View) -> None:
        first = next(iter(view.closes))
        self._decide(BIG, Trial(BIG, replace(view, closes={first: view.closes[first]})), rule)  # imports, caches
        before, began = read_memory_mb(), time.process_time()
        self._report.tried.append(replace(self._decide(BIG, Trial(BIG, view), rule), insights=()))
        self._report.duration_s = time.process_time() - began
        self._report.memory_mb = max(0.0, read_peak_mb() - before)


def describe(insight: Insight) -> Sequence[str]:
    """Return an insight as texts, to the last digit."""
    return [insight.symbol, insight.direction.value, repr(float(insight.gap_fraction)), insight.reason]


def read_memory_mb() -> float:
    """Return the memory in use, and forget the peak so far, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return _read_status("VmRSS")
    return read_peak_mb()


def read_peak_mb() -> float:
    """Return the peak of the memory in use."""
    with suppress(OSError):
        return _read_status("VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


def _read_status(name: str) -> float:
    """Return a figure of Linux about this process, in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


if __name__ == "__main__":
    main()
