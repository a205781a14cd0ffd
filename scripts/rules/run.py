"""`make check-rule SIGNAL=rules/mine.py`: run a rule where it cannot do harm, and say whether it can be relied on."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from signal import SIGXCPU

import scripts
import trader
from scripts import console
from scripts.console import CommandError
from scripts.layer import sandbox
from scripts.rules.check import MAX_DURATION_S, Line, Reports, Verdict, judge, list_failed, passes
from scripts.rules.passed import write_note
from scripts.rules.report import BIG, ORDERS, WATCHED, Job, Report
from scripts.rules.source import read_layer
from trader.alpha import loader, own
from trader.alpha.base import RuleError
from trader.model import SAMPLE_PRICES, Closes
from trader.prices.file import FilePrices
from trader.prices.series import Series
from trader.progress import no_progress
from trader.settings import SettingsError

BUDGET_S = 9.0
"""The processor time for all decisions of a part."""

MAX_LOADING_S = 10.0
"""The time that Lambda gives a function to begin, and so the rule's file to be loaded with all that it imports."""

KILLED_AFTER_S = 60.0
"""The time after which a part is ended from outside, if it uses no processor time and no limit of its own ends it."""

SHOWN_PACKAGES = ("numpy", "pandas")

TIME_ZONES = {WATCHED: "UTC", ORDERS: "<+13>-13", BIG: "UTC"}
SEEDS = {WATCHED: 1, ORDERS: 2, BIG: 1}
"""What must make no difference: the time zone of the machine; the hash seed and the random state."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the check of a rule found, the file that notes it, and why it ran without a sandbox, if it did."""

    lines: Sequence[Line]
    note: Path
    walls: str

    @property
    def is_passed(self) -> bool:
        """True if it passed here, and for AWS too where that can be checked."""
        return passes(self.lines, on_aws=False) and not list(list_failed(self.lines))


def main() -> None:
    """Check the rule; exit with 0 only if it passed, and for AWS too where that can be checked."""
    with console.plain_errors("interrupted; there is no result"):
        signal, variables = read_variables(os.environ)
        began = time.monotonic()
        result = check(signal, variables)
        if console.wants_json():
            console.print_json(write_json(signal, result, time.monotonic() - began))
        else:
            show(signal, result)
    sys.exit(console.USABLE if result.is_passed else console.FAILED)


def check(signal: str, variables: Mapping[str, str]) -> Result:
    """Check a rule with the variables of its parameters, and note the result. Raises SettingsError for wrong ones."""
    sources = read_sources(signal)
    walls = sandbox.missing()
    reports = try_rule(signal, sources, variables, has_sandbox=not walls)
    lines = judge(sources, reports, read_layer())
    note = write_note(
        signal,
        sources,
        reports.watched.parameters,
        passes_here=passes(lines, on_aws=False),
        passes_on_aws=passes(lines, on_aws=True),
        versions={each: metadata.version(each) for each in SHOWN_PACKAGES},
        time=datetime.now(UTC),
    )
    return Result(lines, note, walls)


def read_variables(env: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Return SIGNAL and the variables of the rule's parameters. Raises SettingsError if SIGNAL is no file."""
    signal = env.get("SIGNAL", "").strip()
    if not own.is_file(signal):
        what = "ships with the project" if signal in loader.names() else "is no rule of your own"
        problem = f"SIGNAL={signal} {what}" if signal else "SIGNAL is not given"
        raise SettingsError([f"{problem}; give the path of a file, such as SIGNAL=rules/mine.py"])
    return signal, own.list_given(env)


def read_sources(signal: str) -> Mapping[str, str]:
    """Return the texts of a rule's files. Raises SettingsError if they cannot be read."""
    try:
        return {path: source.decode() for path, source in own.list_sources(signal)}
    except RuleError as error:
        raise SettingsError([f"SIGNAL={signal}: {error}"]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"SIGNAL={signal}: its text is not UTF-8"]) from error


def try_rule(signal: str, sources: Mapping[str, str], variables: Mapping[str, str], *, has_sandbox: bool) -> Reports:
    """Try a rule in processes of its own. Raises SettingsError for parameters that it does not have."""
    job = Job(
        part=WATCHED,
        signal=signal,
        sources=sources,
        variables=variables,
        closes=read_sample(),
        seed=SEEDS[WATCHED],
        limit_s=MAX_DURATION_S,
        budget_s=BUDGET_S,
        loading_s=MAX_LOADING_S,
    )
    jobs = [replace(job, part=part, seed=SEEDS[part]) for part in (WATCHED, ORDERS, BIG)]
    with ThreadPoolExecutor(2) as threads:
        watched, orders = threads.map(lambda each: run_child(each, has_sandbox=has_sandbox), jobs[:2])
    if watched.usage:
        raise SettingsError(watched.usage)
    is_worth_it = not any(each.stopped or each.unloadable or each.reached for each in (watched, orders))
    return Reports(watched, orders, run_child(jobs[2], has_sandbox=has_sandbox) if is_worth_it else None)


def read_sample() -> Mapping[str, Closes]:
    """Return the closes that ship with the project. The children get them, so that none of them reads the file."""
    prices = FilePrices(SAMPLE_PRICES)
    found = prices.read(sorted(prices.symbols()), 5_000, prices.last_bar(), no_progress)
    return {symbol: each.closes for symbol, each in found.items() if isinstance(each, Series)}


def run_child(job: Job, *, has_sandbox: bool) -> Report:
    """Do a job in a process of its own, in the sandbox if there is one. Raises CommandError if that is impossible."""
    ours = [
        Path(each).resolve().parent for each in (trader.__path__[0], scripts.__path__[0])
    ]  # make gives relative ones
    places = sandbox.enclosing([*ours, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable)])
    words = [*(sandbox.command({}, places) if has_sandbox else []), sys.executable, "-m", "scripts.rules.child"]
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(map(str, ours)),
        "PYTHONHASHSEED": str(job.seed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TZ": TIME_ZONES[job.part],
        "HOME": "/tmp",  # noqa: S108 the sandbox has no other
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                words,
                input=pickle.dumps(job),
                env=env,
                cwd=folder,
                capture_output=True,
                timeout=KILLED_AFTER_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Report(stopped=f"{job.signal}: it was ended after {KILLED_AFTER_S:g} s")
    try:
        return Report.read(done.stdout.decode())
    except (ValueError, TypeError, KeyError) as error:
        last = "".join(done.stderr.decode(errors="replace").strip().splitlines()[-1:])
        if last:  # before the rule began, from when on nothing is written there
            raise CommandError(f"the process that tries {job.signal} could not begin: {last}") from error
        is_slow = done.returncode in {-SIGXCPU, 128 + SIGXCPU}  # of the process, or as bubblewrap tells it
        what = "took too long in compiled code" if is_slow else f"ended with {done.returncode} before it had a result"
        return Report(stopped=f"{job.signal}: its process {what}")


# --- the result ------------------------------------------------------------------------------------------------------


def write_json(signal: str, result: Result, duration_s: float) -> Mapping[str, object]:
    """Return the result as JSON."""
    return {
        "rule": signal,
        "sha256": result.note.stem,
        "passes_here": passes(result.lines, on_aws=False),
        "passes_on_aws": passes(result.lines, on_aws=True),
        "checks": [asdict(each) for each in result.lines],
        "note": result.note.as_posix(),
        "sandbox": not result.walls,
        "duration_s": round(duration_s, 2),
    }


def show(signal: str, result: Result) -> None:
    """Print a line for each check, and the verdict."""
    table = console.table("Check", "Verdict", "Found", whole=["Verdict"])
    for each in result.lines:
        style = "red" if each.verdict is Verdict.FAILED else "dim" if each.verdict is Verdict.NOT_CHECKED else ""
        table.add_row(each.check, each.verdict.value, each.found, style=style)
    console.OUT.print(table)
    console.OUT.print(describe(signal, result.lines), soft_wrap=True)
    if result.walls:
        console.note(f"it ran without a sandbox, stopped only at what Python reports: {result.walls}")


def describe(signal: str, lines: Sequence[Line]) -> str:
    """Return the verdict as a sentence."""
    if passes(lines, on_aws=True):
        return f"{signal} passed, here and for AWS"
    if passes(lines, on_aws=False) and not list(list_failed(lines)):
        return f"{signal} passed here; for AWS, check it in a clone of the repository"
    if passes(lines, on_aws=False):
        return f"{signal} passed for this machine only: runs and backtests can use it, and AWS cannot"
    count = len(list(list_failed(lines)))
    return f"{signal} did not pass: {console.format_count(count, 'check')} failed; do not deploy it"
