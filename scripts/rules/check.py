"""The verdict on a rule: what its children reported, as one line for each check. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from scripts.console import format_count
from scripts.rules.kinds import EXTRA_BARS, FUTURE, KINDS, NO_VOLUME, SAMPLE, SYMBOLS
from scripts.rules.report import BACKWARD, FORWARD, FRESH, Change, Report, Tried
from scripts.rules.source import Finding, Layer, find_intrusions, find_lacking, find_peeks, find_suspect

MAX_DURATION_S, MAX_MEMORY_MB = 5.0, 200.0
"""The most that one decision on 500 symbols may take, of memory beyond that of the imports."""


class Verdict(StrEnum):
    """The result of one check."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the result: what was checked, the verdict, and what was found; only AWS needs it if `is_of_aws`."""

    check: str
    verdict: Verdict
    found: str
    is_of_aws: bool = False


@dataclass(frozen=True, slots=True)
class Reports:
    """The reports of all parts; None for a part that was not begun."""

    watched: Report
    orders: Report
    big: Report | None


AS_IT_REACHES = "not before it reaches for nothing outside"
REACHING = "no file, network, process, clock, chance or environment"


def passes(lines: Sequence[Line], *, on_aws: bool) -> bool:
    """Check whether a rule passed, here or on AWS, where it must pass all."""
    return all(each.verdict is Verdict.PASSED for each in lines if on_aws or not each.is_of_aws)


def judge(sources: Mapping[str, str], reports: Reports, layer: Layer | None) -> Sequence[Line]:
    """Return a line for each check."""
    if reports.watched.unloadable or (reports.watched.reached and not reports.watched.bars):
        first = [_judge_loading(reports.watched), _judge_reaching(reports)]
    else:
        first = [
            _judge_loading(reports.watched),
            *_judge_kinds(reports.watched),
            _judge_reaching(reports),
            _judge_showing(reports.watched),
            _judge_keeping(reports),
            _judge_repeating(sources, reports),
            _judge_future(sources, reports),
            _judge_size(reports),
        ]
    return [*first, _judge_intrusions(sources), _judge_imports(sources, layer)]


def _judge_loading(report: Report) -> Line:
    check = "one rule in the file"
    if report.reached and not report.bars:
        return Line(check, Verdict.NOT_CHECKED, f"stopped at {report.reached[0].where}")
    if report.unloadable:
        return Line(check, Verdict.FAILED, report.unloadable)
    with_parameters = "".join(f", {name}={value:g}" for name, value in report.parameters.items())
    whole = " of open, high, low, close and volume" if report.ohlcv else ""
    return Line(check, Verdict.PASSED, f"needs {format_count(report.bars, 'bar')}{whole}{with_parameters}")


def _judge_kinds(report: Report) -> Iterator[Line]:
    """Yield a line for each kind of view; an error that several have is said once."""
    said: set[str] = set()
    for kind in KINDS:
        if kind == NO_VOLUME and not report.ohlcv:
            continue
        line = _judge_kind(kind, report)
        yield replace(line, found="as above") if line.found in said else line
        said |= {line.found} if line.verdict is not Verdict.PASSED else set()


def _judge_kind(kind: str, report: Report) -> Line:
    """Judge the decisions on one kind of view: types and values."""
    tried = [each for each in report.tried if each.kind == kind]
    wrong = [each.problem for each in tried if each.problem and not each.is_refused]
    if wrong:
        return Line(KINDS[kind], Verdict.FAILED, wrong[0])
    if refused := [each for each in tried if each.is_refused]:
        return Line(KINDS[kind], Verdict.NOT_CHECKED, f"stopped at {_cut_reason(refused[0].problem)}")
    if not tried:
        return Line(KINDS[kind], *_not_tried(report.stopped, is_first=kind == SAMPLE))
    count = sum(len(each.insights) for each in tried)
    at = f" at {len(tried)} slots" if len(tried) > 1 else ""
    if kind == SAMPLE and not count:
        silent = "it said nothing of any symbol, so nothing of what follows says much"
        return Line(KINDS[kind], Verdict.PASSED, f"0 insights{at}: {silent}")
    made_up = "; opens, highs, lows and volumes are made up" if report.ohlcv and kind == SAMPLE else ""
    return Line(KINDS[kind], Verdict.PASSED, f"{format_count(count, 'insight')}{at}{made_up}")


def _not_tried(stopped: str, *, is_first: bool) -> tuple[Verdict, str]:
    """Return what to say of something that a stop prevented; its reason is said once."""
    return (Verdict.FAILED, stopped) if is_first else (Verdict.NOT_CHECKED, "stopped before")


def _cut_reason(problem: str) -> str:
    """Return the file and the line of a problem."""
    return problem.partition(": ")[0]


def _judge_reaching(reports: Reports) -> Line:
    check = REACHING
    found = _say([f"{each.where}: {each.what}" for each in reports.watched.reached])
    drawn = [each for each in reports.watched.changed if each.what == "chance"]
    if not found and drawn:
        found = f"{drawn[0].where or reports.watched.decide}: it draws from the global random state"
    for report in (reports.orders, reports.big):
        if not found and report:
            found = _say([f"{each.where}: {each.what}" for each in report.reached])
    return Line(check, Verdict.FAILED, found) if found else Line(check, _unless(reports.watched), "none used")


def _judge_showing(report: Report) -> Line:
    check = "changes nothing that it is shown"
    if found := _find_change(report, "view"):
        return Line(check, Verdict.FAILED, f"{found.where or report.decide}: it changes {found.name}")
    return Line(check, _unless(report), "prices, positions and forecasts stay")


def _judge_keeping(reports: Reports) -> Line:
    """Judge what stays from one decision to the next: names that change, then decisions that depend on the order."""
    check = "keeps nothing between slots"
    if found := _find_change(reports.watched, "state"):
        where = found.where or reports.watched.decide
        return Line(check, Verdict.FAILED, f"{where}: it changes {found.name}, which the next slot would see")
    if _judge_reaching(reports).verdict is Verdict.FAILED:
        return Line(check, Verdict.NOT_CHECKED, AS_IT_REACHES)
    if reports.orders.stopped and not reports.watched.stopped:
        return Line(check, Verdict.FAILED, reports.orders.stopped)
    fresh = _select(reports.orders, lambda each: each.order == FRESH and each.kind == SAMPLE)
    for order, words in ((FORWARD, "the slots before it"), (BACKWARD, "later slots")):
        for each in reports.orders.tried:
            if each.order == order and (other := fresh.get(each.key)) and (what := _compare(other, each)):
                text = f"{reports.orders.decide}: {what} on {_day(each)} if {words} were decided before"
                return Line(check, Verdict.FAILED, text)
    return Line(check, _unless(reports.orders, reports.watched), "the same forward, backward and twice")


def _judge_repeating(sources: Mapping[str, str], reports: Reports) -> Line:
    check = "the same in every process"
    if _judge_reaching(reports).verdict is Verdict.FAILED:
        return Line(check, Verdict.NOT_CHECKED, AS_IT_REACHES)
    others = _select(reports.orders, lambda each: each.order == FRESH and each.kind != FUTURE)
    for each in reports.watched.tried:
        other = others.get(each.key)
        if other and not each.problem and (what := _compare(each, other)):
            where = find_suspect(sources) or reports.watched.decide
            return Line(check, Verdict.FAILED, f"{where}: {what} on {_day(each)} ({KINDS[each.kind]})")
    found = "with another hash seed, random seed and time zone"
    return Line(check, _unless(reports.orders, reports.watched), found)


def _judge_future(sources: Mapping[str, str], reports: Reports) -> Line:
    check = "no future"
    if peeks := [_write(each) for each in find_peeks(sources)]:
        return Line(check, Verdict.FAILED, _say(peeks))
    if _judge_reaching(reports).verdict is Verdict.FAILED:
        return Line(check, Verdict.NOT_CHECKED, AS_IT_REACHES)
    fresh = _select(reports.orders, lambda each: each.order == FRESH and each.kind == SAMPLE)
    for each in reports.orders.tried:
        other = fresh.get(each.key.replace(FUTURE, SAMPLE))
        if each.kind == FUTURE and other and (what := _compare(other, each)):
            text = f"{reports.orders.decide}: {what} on {_day(each)} if later closes are in memory"
            return Line(check, Verdict.FAILED, text)
    return Line(check, _unless(reports.orders), "the same whether later closes exist or not")


def _judge_size(reports: Reports) -> Line:
    """Judge time and memory of one decision."""
    report = reports.big
    check = f"time and memory for {SYMBOLS} symbols"
    if report is None:
        return Line(check, Verdict.NOT_CHECKED, "stopped before")
    problem = report.stopped or report.unloadable or next((each.problem for each in report.tried if each.problem), "")
    if problem:
        return Line(check, Verdict.FAILED, problem)
    if report.duration_s is None or report.memory_mb is None:
        return Line(check, Verdict.NOT_CHECKED, "nothing was measured")
    found = f"{report.duration_s:.2f} s and {report.memory_mb:.0f} MB for {report.bars + EXTRA_BARS} closes each"
    if report.duration_s > MAX_DURATION_S or report.memory_mb > MAX_MEMORY_MB:
        allowed = f"at most {MAX_DURATION_S:g} s and {MAX_MEMORY_MB:g} MB are allowed"
        return Line(check, Verdict.FAILED, f"{report.decide}: {found}; {allowed}")
    return Line(check, Verdict.PASSED, found)


def _judge_intrusions(sources: Mapping[str, str]) -> Line:
    check = "its imports of the bot"
    if found := [_write(each) for each in find_intrusions(sources)]:
        return Line(check, Verdict.FAILED, _say(found))
    return Line(check, Verdict.PASSED, "only what is made for rules")


def _judge_imports(sources: Mapping[str, str], layer: Layer | None) -> Line:
    check = "on AWS: its packages are in the layer"
    if layer is None:
        return Line(check, Verdict.NOT_CHECKED, "the layer is described in the repository", is_of_aws=True)
    lacking = [_write(each) for each in find_lacking(sources, layer)]
    if lacking:
        return Line(check, Verdict.FAILED, _say(lacking), is_of_aws=True)
    return Line(check, Verdict.PASSED, "all, in the versions of this machine", is_of_aws=True)


# --- comparing -------------------------------------------------------------------------------------------------------


def _compare(one: Tried, other: Tried) -> str:
    """Return what differs between two decisions on the same view; empty if nothing does."""
    if one.problem or other.problem:
        return "" if one.problem == other.problem else f"another error ({other.problem or one.problem})"
    first, second = ([list(each) for each in tried.insights] for tried in (one, other))
    if first == second:
        return ""
    differing = [(a, b) for a, b in zip(first, second, strict=False) if a != b]
    if sorted(first) == sorted(second):
        return "its insights come in another order"
    if not differing or {a[0] for a in first} != {b[0] for b in second}:
        return f"it decides {len(first)} and {len(second)} symbols"
    a, b = next((a, b) for a, b in zip(sorted(first), sorted(second), strict=True) if a != b)
    shown = [(f"{each[1]}, {float(each[2]):.6g}" if a[1:3] != b[1:3] else repr(each[3])) for each in (a, b)]
    return f"{a[0]} is {shown[0]} or {shown[1]}"


def _select(report: Report, is_wanted: Callable[[Tried], bool]) -> Mapping[str, Tried]:
    return {each.key: each for each in report.tried if is_wanted(each)}


def _find_change(report: Report, what: str) -> Change | None:
    return next((each for each in report.changed if each.what == what), None)


def _unless(*reports: Report) -> Verdict:
    """Return that a check passed, unless something kept a part from its end."""
    is_whole = all(
        not (each.stopped or each.unloadable) and not any(tried.problem for tried in each.tried) for each in reports
    )
    return Verdict.PASSED if is_whole else Verdict.NOT_CHECKED


def _day(tried: Tried) -> str:
    return tried.key.rpartition(" ")[2]


def _write(finding: Finding) -> str:
    return f"{finding.where}: {finding.what}"


def _say(found: Sequence[str]) -> str:
    """Return the first of several findings, and how many there are."""
    different = list(dict.fromkeys(found))
    more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
    return f"{different[0]}{more}" if different else ""


def list_failed(lines: Sequence[Line]) -> Iterator[Line]:
    """Yield the lines that failed."""
    return (each for each in lines if each.verdict is Verdict.FAILED)
