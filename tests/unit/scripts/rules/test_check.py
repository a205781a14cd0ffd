"""The verdict on a rule, from what its children reported."""

from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata

import pytest

from scripts.rules.check import Line, Reports, Verdict, judge, passes
from scripts.rules.kinds import FUTURE, KINDS, SAMPLE
from scripts.rules.report import BACKWARD, FORWARD, FRESH, Change, Reach, Report, Tried
from scripts.rules.run import describe
from scripts.rules.source import Layer

SOURCES = {"rules/mine.py": "import numpy\n"}
NO_LAYER = Layer({}, [], [])
UP, DOWN = ["KO", "UP", "0.5", "it rose"], ["KO", "DOWN", "-0.5", "it fell"]


def tried(order: str, kind: str, insight: list[str] = UP, problem: str = "") -> Tried:
    return Tried(order=order, kind=kind, key=f"{kind} 2022-12-01", insights=[insight], problem=problem)


def reports() -> Reports:
    """Return the reports on a rule without a fault."""
    kinds = [tried(FRESH, kind) for kind in KINDS]
    sample = [tried(FRESH, FUTURE), tried(FORWARD, SAMPLE), tried(BACKWARD, SAMPLE)]
    base = Report(bars=20, decide="rules/mine.py, line 8")
    return Reports(
        replace(base, tried=kinds),
        replace(base, tried=[*kinds, *sample]),
        replace(base, duration_s=0.5, memory_mb=12.0, tried=[]),
    )


def failed(given: Reports, sources: Mapping[str, str] = SOURCES, layer: Layer | None = None) -> list[str]:
    """Return what is said of the checks that failed."""
    return [each.found for each in judge(sources, given, layer) if each.verdict is Verdict.FAILED]


def test_a_rule_without_a_fault_passes_here() -> None:
    lines = judge(SOURCES, reports(), None)
    assert passes(lines, on_aws=False)
    assert failed(reports()) == []


def test_without_the_layer_s_description_nothing_is_said_for_aws() -> None:
    assert not passes(judge(SOURCES, reports(), None), on_aws=True)


def test_a_package_that_the_layer_lacks_fails_for_aws_only() -> None:
    lines = judge(SOURCES, reports(), NO_LAYER)
    assert passes(lines, on_aws=False)
    assert not passes(lines, on_aws=True)
    assert failed(reports(), layer=NO_LAYER) == ["rules/mine.py, line 1: imports numpy, which the layer lacks"]


@pytest.mark.parametrize(
    ("given", "layer", "words"),
    [
        (reports(), None, "rules/mine.py passed here; for AWS, check it in a clone"),
        (reports(), NO_LAYER, "rules/mine.py passed for this machine only"),
        (reports(), Layer({"numpy": metadata.version("numpy")}, [], []), "rules/mine.py passed, here and for AWS"),
        (replace(reports(), big=None), None, "rules/mine.py did not pass: 0 checks failed"),
    ],
)
def test_the_verdict_says_where_the_rule_can_be_used(given: Reports, layer: Layer | None, words: str) -> None:
    assert describe("rules/mine.py", judge(SOURCES, given, layer)).startswith(words)


def with_orders(order: str, kind: str, insight: list[str]) -> Reports:
    given = reports()
    changed = [
        tried(order, kind, insight) if (each.order, each.kind) == (order, kind) else each for each in given.orders.tried
    ]
    return replace(given, orders=replace(given.orders, tried=changed))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (with_orders(FORWARD, SAMPLE, DOWN), "KO is UP, 0.5 or DOWN, -0.5 on 2022-12-01 if the slots before it"),
        (with_orders(BACKWARD, SAMPLE, DOWN), "on 2022-12-01 if later slots were decided before"),
        (with_orders(FRESH, FUTURE, DOWN), "on 2022-12-01 if later closes are in memory"),
        (with_orders(FRESH, "tiny", DOWN), "KO is UP, 0.5 or DOWN, -0.5 on 2022-12-01 (prices of 0.0001 USD)"),
    ],
)
def test_a_difference_fails_with_the_line_of_decide(given: Reports, words: str) -> None:
    (found,) = failed(given)
    assert found.startswith("rules/mine.py, line 8: ")
    assert words in found


def with_watched(**changes: object) -> Reports:
    given = reports()
    return replace(given, watched=replace(given.watched, **changes))  # type: ignore[arg-type] # of a Report


def test_a_reach_is_said_once() -> None:
    assert failed(with_watched(reached=[Reach("clock", "rules/mine.py, line 9", "it reads the clock")])) == [
        "rules/mine.py, line 9: it reads the clock"
    ]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("state", "rules/mine.py, line 9: it changes COUNT, which the next slot would see"),
        ("view", "rules/mine.py, line 9: it changes COUNT"),
        ("chance", "rules/mine.py, line 9: it draws from the global random state"),
    ],
)
def test_a_change_fails(what: str, words: str) -> None:
    assert failed(with_watched(changed=[Change(what, "COUNT", "rules/mine.py, line 9")])) == [words]


def test_a_stop_is_said_once_and_nothing_passes_without_having_been_tried() -> None:
    stopped = "rules/mine.py, line 9: it took longer than 5 s"
    given = with_watched(stopped=stopped, tried=[])
    given = replace(given, orders=replace(given.orders, stopped=stopped, tried=[]), big=None)
    lines = judge(SOURCES, given, None)
    assert failed(given) == ["rules/mine.py, line 9: it took longer than 5 s"]
    assert [each.check for each in lines if each.verdict is Verdict.PASSED] == [
        "one rule in the file",
        "its imports of the bot",
    ]


def test_a_stop_of_the_other_process_fails_too() -> None:
    given = reports()
    assert failed(replace(given, orders=replace(given.orders, stopped="it hangs"))) == ["it hangs"]


@pytest.mark.parametrize(("duration_s", "memory_mb"), [(5.1, 10.0), (0.1, 201.0)])
def test_too_much_time_or_memory_fails(duration_s: float, memory_mb: float) -> None:
    given = reports()
    assert given.big
    (found,) = failed(replace(given, big=replace(given.big, duration_s=duration_s, memory_mb=memory_mb)))
    assert "at most 5 s and 200 MB are allowed" in found


def test_what_cannot_be_loaded_has_its_reason_and_the_imports() -> None:
    given = with_watched(unloadable="rules/mine.py, line 3: invalid syntax", tried=[], bars=0)
    lines: list[Line] = list(judge(SOURCES, given, NO_LAYER))
    assert failed(given) == ["rules/mine.py, line 3: invalid syntax"]
    assert lines[-1].is_of_aws


def test_a_report_comes_back_as_it_was_written() -> None:
    given = with_watched(
        reached=[Reach("clock", "line 9", "it reads")], changed=[Change("state", "A", "line 1")]
    ).watched
    back = Report.read(given.write())
    assert (back.reached, back.changed, back.tried[0].key) == (given.reached, given.changed, given.tried[0].key)


@pytest.mark.parametrize("text", ["", "[]", '{"other": 1}', "5"])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no report|Expecting value"):
        Report.read(text)
