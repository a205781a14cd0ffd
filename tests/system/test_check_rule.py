"""make check-rule lets a good rule pass, and refuses others with the line and the reason.

Each rule runs in processes of its own: as the command runs it, or, where this tells nothing more, in copies of a Python
that has imported pandas. The line that is to be named ends with `# here`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from scripts.layer import sandbox
from scripts.rules import run
from scripts.rules.check import Reports, judge
from scripts.rules.passed import find_obstacle
from scripts.rules.report import BIG, ORDERS, WATCHED, Job, Report
from scripts.rules.source import read_layer
from scripts.rules.write import write
from tests.whole_bars import read_example
from trader.settings import SettingsError

HEAD = "import numpy as np\nimport pandas as pd\n\nfrom trader.alpha.rule import *\n"
HAS_SANDBOX = not sandbox.missing()

type Watch = Callable[..., Report]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_rule(lines: str, top: str = "") -> Mapping[str, str]:
    """Return the sources of a rule whose decide() has these lines."""
    body = "".join(f"        {line}\n" for line in dedent(lines).strip().splitlines())
    text = (
        f"{HEAD}{dedent(top)}\nclass Mine(Rule):\n    bars = 20\n    seen = {{}}\n\n    def decide(self, view):\n{body}"
    )
    return {"rules/mine.py": text}


def make_job(sources: Mapping[str, str], part: str) -> Job:
    return Job(
        part=part,
        signal="rules/mine.py",
        sources=sources,
        variables={},
        closes=run.read_sample(),
        seed=run.SEEDS[part],
        limit_s=5.0,
        budget_s=run.BUDGET_S,
        loading_s=run.MAX_LOADING_S,
    )


@pytest.fixture
def watch(python_of_rules: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Return a function that runs a rule in a copied process."""
    monkeypatch.setattr(sys, "executable", str(python_of_rules))

    def run_copy(sources: Mapping[str, str], part: str = WATCHED, limit_s: float = 5.0) -> Report:
        return run.run_child(replace(make_job(sources, part), limit_s=limit_s), has_sandbox=False)

    return run_copy


def find_line(sources: Mapping[str, str]) -> str:
    """Return how the line that ends with `# here` is named."""
    lines = sources["rules/mine.py"].splitlines()
    return next(f"rules/mine.py, line {number}" for number, line in enumerate(lines, 1) if line.endswith("# here"))


def call_main(monkeypatch: pytest.MonkeyPatch, **variables: str) -> int:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_rule_that_make_rule_writes_passes_and_may_be_deployed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signal = write("golden_cross").as_posix()
    assert call_main(monkeypatch, SIGNAL=signal, RULE_DAYS="20", JSON="1") == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["verdict"] for each in told["checks"]} == {"passed"}
    assert (told["passes_here"], told["passes_on_aws"]) == (True, True)
    assert find_obstacle(signal, {"days": 20}) is None
    assert "RULE_DAYS=50" in str(find_obstacle(signal, {"days": 50}))


def test_what_the_layer_lacks_is_said_and_the_rule_serves_this_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("golden_cross")
    path.write_text(path.read_text().replace("from collections", "import scipy\nfrom collections"))
    assert call_main(monkeypatch, SIGNAL=path.as_posix(), JSON="1") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["passes_here"], told["passes_on_aws"]) == (True, False)
    assert told["checks"][-1]["found"] == "rules/golden_cross.py, line 3: imports scipy, which the layer lacks"
    assert "did not pass its check for AWS" in str(find_obstacle(path.as_posix(), {"days": 50}))


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "SIGNAL is not given"),
        ({"SIGNAL": "trend"}, "SIGNAL=trend ships with the project; give the path of a file"),
        ({"SIGNAL": "rules/none.py"}, "there is no file rules/none.py"),
        ({"SIGNAL": "../mine.py"}, "must be a path within the current folder"),
    ],
)
def test_what_is_no_file_is_wrong_usage(
    variables: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIGNAL", raising=False)
    assert call_main(monkeypatch, **variables) == 2
    assert problem in " ".join(capsys.readouterr().err.split())


def test_a_parameter_that_the_rule_does_not_have_is_wrong_usage(
    python_of_rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(python_of_rules))
    signal = write("golden_cross").as_posix()
    with pytest.raises(SettingsError, match="RULE_DAY is not a parameter"):
        run.try_rule(signal, run.read_sources(signal), {"RULE_DAY": "5"}, has_sandbox=False)


# --- open, high, low and volume --------------------------------------------------------------------------------------


def make_rule_on_bars(lines: str) -> Mapping[str, str]:
    (text,) = make_rule(lines).values()
    return {"rules/mine.py": text.replace("bars = 20", "bars = 20\n    ohlcv = True")}


def test_the_rule_of_the_page_passes_on_bars_that_are_made_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rules").mkdir()
    Path("rules/breakout.py").write_text(read_example())
    assert call_main(monkeypatch, SIGNAL="rules/breakout.py", JSON="1") == 0
    told = {each["check"]: each for each in json.loads(capsys.readouterr().out)["checks"]}
    assert {each["verdict"] for each in told.values()} == {"passed"}
    assert told["the sample’s prices"]["found"].endswith("opens, highs, lows and volumes are made up")  # noqa: RUF001
    assert "bars without a volume" in told


ON_BARS = "for s, b in view.bars.items():\n    x = {}  # here\n    yield view.judge(s, x, up=x > 0, reason='r')"


@pytest.mark.parametrize(
    ("expression", "kind", "problem"),
    [
        ("float(1 / b['volume'].iloc[-1])", "no volume", "the strength of"),
        ("1 / (b['high'].iloc[-1] - b['low'].iloc[-1]).item()", "constant", "ZeroDivisionError"),
        ("b.iloc[-3, 1] / len(b) if len(b) > 2 else [][0]", "sample", ""),
    ],
)
def test_awkward_bars_are_tried(expression: str, kind: str, problem: str, watch: Watch) -> None:
    report = watch(make_rule_on_bars(ON_BARS.format(expression)))
    found = [each.problem for each in report.tried if each.kind == kind]
    assert found
    assert all(problem in each for each in found)
    assert bool(problem) == any(found)


def test_a_rule_that_writes_into_bars_fails(watch: Watch) -> None:
    sources = make_rule_on_bars("view.bars['AAPL'].iloc[-1, 1] = 1.0  # here\nreturn []")
    report = watch(sources)
    assert f"{find_line(sources)}: ValueError: assignment destination is read-only" in report.tried[0].problem


# --- one fault each --------------------------------------------------------------------------------------------------

EACH = "for s, c in view.closes.items():\n    x = {}  # here\n    yield view.judge(s, x, up=x > 0, reason='r')"


READER = "from trader.prices.file import FilePrices\nfrom trader.model import SAMPLE_PRICES\n"


@pytest.mark.parametrize(
    ("lines", "top", "kind"),
    [
        (EACH.format("float(pd.read_csv('prices.csv')[s].iloc[-1])"), "", "file"),
        (EACH.format("len(FilePrices(SAMPLE_PRICES).bars().notes)"), READER, "file"),
        (EACH.format("os.environ['HOME'] == s"), "import os\n", "environment"),
        (EACH.format("socket.create_connection(('127.0.0.1', 9)) is None"), "import socket\n", "network"),
        (EACH.format("os.system('true')"), "import os\n", "process"),
        (EACH.format("time.time() % 2"), "import time\n", "clock"),
        (EACH.format("np.random.normal()"), "", "chance"),
        ("yield 5", "HERE = open('log.txt', 'a')  # here\n", "file"),
    ],
)  # fmt: skip
def test_a_rule_that_reaches_out_is_caught_at_the_line(lines: str, top: str, kind: str, watch: Watch) -> None:
    sources = make_rule(lines, top)
    reached = watch(sources).reached
    assert (reached[0].kind, reached[0].where) == (kind, find_line(sources))


@pytest.mark.parametrize("has_sandbox", [HAS_SANDBOX, False])
def test_with_and_without_a_sandbox_nothing_is_written(folder: Path, *, has_sandbox: bool) -> None:
    sources = make_rule(EACH.format(f"open({str(folder / 'log.txt')!r}, 'w').write(s)"))
    assert run.run_child(make_job(sources, WATCHED), has_sandbox=has_sandbox).reached[0].where == find_line(sources)
    assert run.run_child(make_job(sources, BIG), has_sandbox=has_sandbox).reached
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "top", "what"),
    [
        (EACH.format("self.seen.setdefault(s, c.iloc[-1]) - c.iloc[-1]"), "", ("state", "Mine.seen")),
        (EACH.format("c.sample(1).iloc[0] - c.iloc[-1]"), "", ("chance", "")),
        ("""
         for s, c in view.closes.items():
             a = c.to_numpy()
             a.flags.writeable = True
             a[-2] = 1.0  # here
             yield view.judge(s, 1, reason='r')
         """, "", ("view", "view.closes['AAPL']")),
    ],
)  # fmt: skip
def test_what_a_decision_changes_is_found_with_its_line(
    lines: str, top: str, what: tuple[str, str], watch: Watch
) -> None:
    sources = make_rule(lines, top)
    (changed,) = watch(sources).changed
    assert (changed.what, changed.name, changed.where) == (*what, find_line(sources))


def test_a_division_by_zero_is_found_on_constant_prices(watch: Watch) -> None:
    sources = make_rule(EACH.format("(c.iloc[-1] - c.mean()) / c.std()"))
    problems = {each.kind: each.problem for each in watch(sources).tried if each.problem}
    assert list(problems) == ["constant"]
    assert problems["constant"].startswith(f"{find_line(sources)}: RuntimeWarning: invalid value")


@pytest.mark.parametrize("part", [WATCHED, BIG])
def test_a_rule_that_takes_long_is_stopped_at_its_line(part: str, watch: Watch) -> None:
    sources = make_rule("while True: pass  # here")
    found = watch(sources, part, limit_s=0.2)
    stopped = found.stopped
    assert stopped == f"{find_line(sources)}: it took longer than 0.2 s"


def test_other_orders_of_slots_show_what_is_kept_elsewhere(watch: Watch) -> None:
    sources = make_rule("np.mine = getattr(np, 'mine', 0) + 1\n" + EACH.format("np.mine"))
    reports = Reports(watch(sources), watch(sources, ORDERS), None)
    found = {each.check: each.found for each in judge(sources, reports, read_layer())}
    assert "if the slots before it were decided before" in found["keeps nothing between slots"]


def test_the_order_of_a_set_is_seen_in_another_process(watch: Watch) -> None:
    sources = make_rule("for s in {*view.closes}:  # here\n    yield view.judge(s, 1, reason='r')")
    reports = Reports(watch(sources), watch(sources, ORDERS), None)
    found = {each.check: each.found for each in judge(sources, reports, read_layer())}
    assert found["the same in every process"].startswith(f"{find_line(sources)}: its insights come in another order")


def test_time_zones_and_the_files_of_packages_are_no_reach() -> None:
    top = """
    from functools import cache
    from zoneinfo import ZoneInfo

    @cache
    def weigh(n):
        return np.ones(n) / n
    """
    sources = make_rule(
        "hour = view.slot.astimezone(ZoneInfo('America/New_York')).hour\n" + EACH.format("hour + weigh(20).sum()"), top
    )
    found = run.run_child(make_job(sources, WATCHED), has_sandbox=HAS_SANDBOX)
    assert (found.reached, found.changed, [each.problem for each in found.tried if each.problem]) == ([], [], [])
