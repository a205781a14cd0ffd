"""The report of `make gauntlet`."""

from collections.abc import Sequence
from io import StringIO

import pytest
from rich.console import Console

from scripts import console
from scripts.console import CommandError
from tests.fault_injection.__main__ import as_json, main, seed, show
from tests.fault_injection.fault_matrix import Outcome
from tests.fault_injection.random_slots import Tally
from tests.fault_injection.runner import Result
from tests.fault_injection.tables import FAULTS, as_markdown
from tests.fault_injection.weeks import Growth

FINE = Outcome(where="alpaca GET /clock", what="slow", outcome="TRADED; 3 orders", violations=())
ALSO_FINE = Outcome(where="alpaca GET /clock", what="stale", outcome="TRADED; 3 orders", violations=())
BAD = Outcome(
    where="alpaca POST /orders", what="hang", outcome="TRADED; 4 orders", violations=("doubled: buy AAA 2 times",)
)


def growth(end_mb: float = 101.0, end_files: int = 12, violations: tuple[str, ...] = ()) -> Growth:
    return Growth(
        slots=72,
        orders=9,
        settled_mb=100.0,
        end_mb=end_mb,
        settled_files=10,
        end_files=end_files,
        statuses={"TRADED": 72},
        violations=violations,
    )


def result(
    *outcomes: Outcome,
    told: Sequence[Outcome] = (),
    failures: Sequence[tuple[int, str]] = (),
    grown: Growth | None = None,
) -> Result:
    tallies = [Tally(slots=250, orders=100, faults={"yahoo GET chart: 429": 3}, statuses={"TRADED": 250})]
    grown = grown or growth()
    return Result(outcomes=outcomes, told=told, tallies=tallies, failures=failures, growth=grown, seconds=60.0, seed=1)


@pytest.fixture
def text(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    out = StringIO()
    monkeypatch.setattr(console, "OUT", Console(file=out, width=120))
    return out


def test_every_line_says_so_if_all_invariants_hold(text: StringIO) -> None:
    show(result(FINE))
    assert (text.getvalue().count(" holds "), "BROKEN" in text.getvalue()) == (4, False)


def test_faults_that_end_in_the_same_way_share_a_row(text: StringIO) -> None:
    show(result(FINE, ALSO_FINE))
    assert "slow, stale" in text.getvalue()


def test_a_violation_is_named_with_its_fault(text: StringIO) -> None:
    show(result(FINE, BAD))
    assert "doubled" in text.getvalue()
    assert "2 faults, one at a time: 1 with every invariant held" in text.getvalue()


def test_a_failed_sequence_is_shown_with_its_command(text: StringIO) -> None:
    show(result(FINE, failures=[(7, "state.slot(delivery='twice')")]))
    assert "make gauntlet SEED=7" in text.getvalue()
    assert "state.slot(delivery='twice')" in text.getvalue()


@pytest.mark.parametrize(
    "broken",
    [
        result(FINE, BAD),
        result(FINE, told=[BAD]),
        result(FINE, failures=[(7, "words")]),
        result(FINE, grown=growth(end_mb=105.1)),
        result(FINE, grown=growth(end_files=30)),
        result(FINE, grown=growth(violations=("short: AAA -1",))),
    ],
)
def test_a_single_failure_makes_the_report_fail(broken: Result) -> None:
    assert not as_json(broken)["holds"]


def test_the_page_gets_a_row_for_each_outcome() -> None:
    assert as_markdown([FINE, ALSO_FINE, BAD], FAULTS)[2:] == [
        "| alpaca GET /clock | slow, stale | TRADED; 3 orders |",
        "| alpaca POST /orders | hang | **BROKEN** TRADED; 4 orders |",
    ]


def test_a_seed_that_is_not_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "seven")
    with pytest.raises(CommandError, match="SEED=seven: must be a whole number"):
        seed()


def test_ci_fails_if_a_fault_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["gauntlet"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code not in (0, None)
    assert "left out: machine: /tmp is full: bubblewrap is not installed" in " ".join(capsys.readouterr().err.split())
