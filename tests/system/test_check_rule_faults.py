"""make check-rule refuses five rules or more of each kind of fault, by the check that is meant for it, with the line.

The line that is to be named ends with `# here`; where two are at fault, the first is. No sandbox is needed to find
these faults; tests/system/test_check_rule.py has the children in one.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent, indent

import pytest

from scripts.rules import run
from scripts.rules.check import REACHING, Verdict, judge
from scripts.rules.source import read_layer
from trader.model import Closes

pytestmark = pytest.mark.slow

DECISION_S, LOADING_S, ENDLESS_S = 2.5, 3.0, 0.75
"""The limits of a decision and of loading here, and of both for what is endless: it is so after any limit."""

ENDLESS = re.compile(r"while True:|in itertools\.count\(|b in view\.closes\.values\(")
"""What has no end, or none within the limits."""

FUTURE, STATE, SAME, SHOWN, SIZE, AWS, OF_BOT, LOADS, SAMPLE, FLAT, NEW = (
    "no future",
    "keeps nothing between slots",
    "the same in every process",
    "changes nothing that it is shown",
    "time and memory for 500 symbols",
    "on AWS: its packages are in the layer",
    "its imports of the bot",
    "one rule in the file",
    "the sample’s prices",  # noqa: RUF001 as a table prints it
    "prices that never change",
    "a listing of yesterday",
)

HEAD = """
import functools, importlib, itertools, os, platform, random, socket, subprocess, sys, time, urllib.request, uuid
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from trader.alpha.rule import *
from trader.model import SAMPLE_PRICES

FilePrices = importlib.import_module("trader." + "prices.file").FilePrices
LATER, COUNT, NUMBERS, GENERATED = {}, 0, itertools.count(), (each for each in range(10**9))


def add(value, kept=[]):
    kept.append(value)  # default
    return sum(kept)


def make_counter():
    count = 0

    def add_one():
        nonlocal count
        count += 1
        return count

    return add_one


class Box:
    def __init__(self):
        self.total, self.rule = 0, lambda value: value

    def add(self, value):
        self.total += self.rule(value)
        return self.total


@dataclass
class Stamped:
    at: datetime = field(default_factory=datetime.now)


COUNTER, BOX = make_counter(), Box()


def find_root(values):
    while getattr(values.base, "base", None) is not None:
        values = values.base
    return values


"""

RULE = """
class Mine(Rule):
    bars = 20
    seen = {}
    count = 0

    class Memory:
        peaks = {}

    @staticmethod
    def keep(value, kept=[]):
        kept.append(value)
        return len(kept)

    def decide(self, view):  # decide
"""

EACH = """
for s, c in view.closes.items():
    x = {}  # here
    yield view.judge(s, x, up=x > 0, down=x < 0, reason="r")
"""

FAULTS = [
    # The next bar.
    (FUTURE, "c.shift(-1).fillna(0).iloc[-1] - c.iloc[-1]"),
    (FUTURE, "c.diff(periods=-1).fillna(0).iloc[-1]"),
    (FUTURE, "c.bfill().iloc[-1] - c.mean()"),
    (FUTURE, "np.roll(c.to_numpy(), -1)[-2] - c.iloc[-2]"),
    (REACHING, "pd.read_csv(SAMPLE_PRICES)[s].iloc[-1]"),
    (REACHING, "FilePrices(SAMPLE_PRICES).bars().clean.series['KO'].closes.iloc[-1]"),
    (STATE, "max(LATER.setdefault(s, []) + [LATER[s].append(c.iloc[-1]) or 0]) - c.iloc[-1]"),
    # A centered window.
    (FUTURE, "c.iloc[-1] - c.rolling(5, center=True).mean().ffill().iloc[-1]"),
    (FUTURE, "c.iloc[-1] - c.rolling(window=9, min_periods=1, center=True).median().iloc[-1]"),
    (FUTURE, "c.ewm(5).mean().shift(-2).ffill().iloc[-1] - c.iloc[-1]"),
    (FUTURE, "(np.roll(c.to_numpy(), -2) + np.roll(c.to_numpy(), 2)).mean()"),
    (FUTURE, "c.to_frame().rolling(3, center=True).mean().ffill().iloc[-1, 0] - c.iloc[-1]"),
    # The clock.
    (REACHING, "datetime.now().hour - 12"),
    (REACHING, "date.today().weekday() - 2"),
    (REACHING, "time.time() % 2 - 1"),
    (REACHING, "pd.Timestamp('now').minute - 30"),
    (REACHING, "pd.Timestamp.today().minute - 30"),
    (REACHING, "time.localtime().tm_hour - 12"),
    (REACHING, "pd.Period.now('M').month - 6"),
    (REACHING, "pd.to_datetime(['now'])[0].minute - 30"),
    (REACHING, "Stamped().at.minute - 30"),
    (REACHING, "len(os.environb.get(b'PATH'))"),
    (REACHING, "len(platform.node())"),
    (SAME, "view.slot.astimezone().hour - 12"),
    # Chance.
    (REACHING, "random.random()"),
    (REACHING, "np.random.normal()"),
    (REACHING, "np.random.default_rng().normal()"),
    (REACHING, "c.sample(1).iloc[0] - c.iloc[-1]"),
    (REACHING, "uuid.uuid4().int % 3 - 1"),
    (REACHING, "hash(s) % 7 - 3"),
    (SAME, "list({*view.closes}).index(s) - 5"),
    # State.
    (STATE, "self.seen.setdefault(s, c.iloc[-1]) - c.iloc[-1]"),
    (STATE, "next(NUMBERS) - 5"),
    (STATE, "setattr(Mine, 'count', Mine.count + 1) or Mine.count"),
    (STATE, "globals().update(COUNT=COUNT + 1) or COUNT"),
    (STATE, "LATER.setdefault(view.slot, c.iloc[-1])"),
    (STATE, "self.Memory.peaks.setdefault(s, c.iloc[-1]) - c.iloc[-1]"),
    (STATE, "next(GENERATED)"),
    # Division by zero.
    (FLAT, "(c.iloc[-1] - c.mean()) / c.std()"),
    (FLAT, "1 / float(c.max() - c.min())"),
    (FLAT, "100 - 100 / (1 + c.diff().clip(lower=0).mean() / -c.diff().clip(upper=0).mean())"),
    (FLAT, "np.log(c.std())"),
    (FLAT, "np.nan_to_num(c.iloc[-1] / np.ptp(c.to_numpy())) % 2"),
    # The environment, files, network, processes.
    (REACHING, "float(os.environ.get('DAYS', 1))"),
    (REACHING, "len(os.getenv('PATH'))"),
    (REACHING, "len(os.environ['PATH'])"),
    (REACHING, "os.path.exists('flag')"),
    (REACHING, "Path('flag').exists()"),
    (REACHING, "open('log.txt', 'a').write(s)"),
    (REACHING, "Path('log.txt').write_text(s)"),
    (REACHING, "c.to_csv('prices.csv') or 1"),
    (REACHING, "os.makedirs('a/b') or 1"),
    (REACHING, "np.save('prices.npy', c.to_numpy()) or 1"),
    (REACHING, "socket.create_connection(('127.0.0.1', 9)) and 1"),
    (REACHING, "socket.socket() and 1"),
    (REACHING, "urllib.request.urlopen('http://127.0.0.1:9') and 1"),
    (REACHING, "importlib.import_module('requests').get('http://127.0.0.1:9') and 1"),
    (REACHING, "socket.gethostbyname('localhost') and 1"),
    (REACHING, "os.system('true')"),
    (REACHING, "subprocess.run(['true']).returncode"),
    (REACHING, "os.fork()"),
    (REACHING, "os.popen('true') and 1"),
    (REACHING, "os._exit(0) or 1"),
    # What it returns.
    (SAMPLE, "'a lot'"),
    (SAMPLE, "None"),
    (SAMPLE, "c"),
    (SAMPLE, "float('nan')"),
    (SAMPLE, "[].pop()"),
    (REACHING, "print('x' * 100_000) or 1"),
    # Time and memory.
    (SAMPLE, "max(1 for _ in itertools.count())"),
    (REACHING, "time.sleep(30) or 1"),
]
"""Faults of an expression for each symbol."""

WHOLE = [
    (SHOWN, "for s, c in view.closes.items():\n    a = c.to_numpy()\n    a.flags.writeable = 1\n    a[0] = 1  # here"),
    (SHOWN, "view._seen.closes.pop('AAPL', 0)  # here\nyield from []"),
    (SHOWN, "view._seen.positions.clear() or view._seen.closes.clear()  # here\nyield from []"),
    (SAMPLE, "for s, c in view.closes.items():\n    c.iloc[-1] = 1.0  # here\n    yield view.judge(s, 1, reason='r')"),
    (SAMPLE, "view.slot = None  # here\nyield from []"),
    (SAMPLE, "yield 'BUY'  # here"),
    (SAMPLE, "for s in view.closes: yield view.judge(s, 1, reason=5)  # here"),
    (SAMPLE, "while True: yield view.judge('KO', 1, reason='r')  # here"),
    (SAMPLE, "for s in view.closes: yield view.judge(s, 1, reason='r' * 10**6)  # here"),
    (NEW, "for s in view.positions: view.closes[s]  # here\nyield from []"),
    (SAME, "for s in {*view.closes}:  # here\n    yield view.judge(s, 1, reason='r')"),
    (SAMPLE, "while True: pass  # here\nyield"),
    (SAMPLE, "while True:\n    try: sum(range(10**6))  # here\n    except Exception: pass\nyield"),
    (SIZE, "for a in view.closes.values():\n    for b in view.closes.values(): a.corr(b)  # here\nyield from []"),
    (STATE, "sys.modules['trader.stages.risk']._Limits.refuse = lambda *_: iter(())  # here\nyield from []"),
    (STATE, "sys.modules['trader.stages.risk'].MAX_GAP_FRACTION = 9.0  # here\nyield from []"),
    (STATE, "pd.Series.mean = lambda self: 1.0  # here\nyield from []"),
    (STATE, "np.mean = max  # here\nyield from []"),
    (STATE, "sys.setrecursionlimit(10**6)  # here\nyield from []"),
    (STATE, "sys.path.append('elsewhere')  # here\nyield from []"),
    (AWS, "import scipy.stats  # here\nyield from []"),
    (AWS, "import statsmodels  # here\nyield from []"),
    (AWS, "importlib.import_module('jinja2')  # here\nyield from []"),
    (AWS, "from scripts import console  # here\nyield from []"),
]  # fmt: skip
"""Faults of a whole decide()."""

AT_LOADING = [
    (AWS, "import matplotlib  # here"),
    (AWS, "from click import echo  # here"),
    (REACHING, "START = time.time()  # here"),
    (REACHING, "open('log.txt', 'a')  # here"),
    (REACHING, "WEIGHTS = np.random.rand(3)  # here"),
    (STATE, "sys.modules['trader.model'].tick_usd = max  # here"),
    (STATE, "pd.DataFrame.sum = len  # here"),
    (OF_BOT, "import trader.stages.risk  # here"),
    (OF_BOT, "from trader.settings import Settings  # here"),
    (OF_BOT, "from trader.stages import portfolio  # here"),
    (OF_BOT, "importlib.import_module('trader.alpha.own')  # here"),
    (OF_BOT, "from trader.alpha.own import LIMIT_S  # here"),
    (LOADS, "from rules import mine  # here"),
    (LOADS, "while True: pass  # here"),
    (LOADS, "import talib  # here"),
    (LOADS, "class Other(Rule  # here"),
]
"""Faults of lines before the class."""

BY_ORDER = [
    "x = self.keep(c.iloc[-1])",
    "x = COUNTER()",
    "x = BOX.add(1)",
    "np.mine = getattr(np, 'mine', 0) + 1\n    x = np.mine",
    "x = add(c.iloc[-1])",
    "x = float(np.ravel(find_root(c.to_numpy()))[-1] - c.iloc[-1])",
]
"""Faults that are in another line, or that only the order of the slots shows, or memory with later closes."""


@pytest.fixture(scope="module")
def closes() -> Mapping[str, Closes]:
    """Return the closes that each check gives its children, read once."""
    return run.read_sample()


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, python_of_rules: Path, closes: Mapping[str, Closes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make an empty folder the current one, and start the children from that Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(python_of_rules))
    monkeypatch.setattr(run, "read_sample", lambda: closes)
    Path("rules").mkdir()


def write(body: str, top: str = "") -> str:
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    return HEAD + dedent(top) + "\n" + RULE + lines


def check(text: str) -> dict[str, str]:
    """Return what is said of each check that failed."""
    Path("rules/mine.py").write_text(text)
    sources = run.read_sources("rules/mine.py")
    decision_s, loading_s = (ENDLESS_S, ENDLESS_S) if ENDLESS.search(text) else (DECISION_S, LOADING_S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "MAX_DURATION_S", decision_s)
        patch.setattr(run, "MAX_LOADING_S", loading_s)
        reports = run.try_rule("rules/mine.py", sources, {}, has_sandbox=False)
    return {each.check: each.found for each in judge(sources, reports, read_layer()) if each.verdict is Verdict.FAILED}


def assert_refused(text: str, expected: str) -> None:
    found = check(text)
    number = next(number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# here"))
    lines = {each.partition(": ")[0] for each in found.values() if each != "as above"}
    assert expected in found
    assert f"rules/mine.py, line {number}" in lines


@pytest.mark.parametrize(("expected", "expression"), FAULTS)
def test_a_faulty_expression(expected: str, expression: str) -> None:
    text = write(EACH.replace("{}", expression))
    found = check(text)
    number = next(number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# here"))
    assert expected in found
    assert any(f"rules/mine.py, line {each}" in found[expected] for each in (number, number + 1))


@pytest.mark.parametrize(("expected", "body"), WHOLE)
def test_a_faulty_decision(expected: str, body: str) -> None:
    assert_refused(write(body), expected)


@pytest.mark.parametrize(("expected", "line"), AT_LOADING)
def test_a_faulty_file(expected: str, line: str) -> None:
    assert_refused(write("yield from []", line), expected)


@pytest.mark.parametrize("lines", BY_ORDER)
def test_a_fault_that_only_the_order_or_the_memory_shows(lines: str) -> None:
    found = check(write(EACH.replace("x = {}  # here", lines)))
    assert {STATE, FUTURE} & set(found)


HONEST = [
    "import enum\n\n\nclass Sign(enum.Flag):\n    RISES, CALM = enum.auto(), enum.auto()\n",
    "import numpy as np\n\nclip = np.vectorize(lambda value: min(value, 1.0), otypes=[float])\n",
    "import decimal\n\ndecimal.getcontext().prec = 12\n",
    "class Mixed:\n    bar_interval = '15m'\n",
]
"""What stands before the class of a rule that has no fault, although it looks like one."""

USING = [
    "x = 1 if (Sign.RISES | Sign.CALM) & Sign.RISES else 0",
    "x = float(clip(c.to_numpy())[-1])",
    "decimal.getcontext().prec = 6; x = float(decimal.Decimal(1) / 3)",
    "x = 1",
]


@pytest.mark.parametrize(("top", "line"), list(zip(HONEST, USING, strict=True)))
def test_an_honest_rule_passes(top: str, line: str) -> None:
    bases = "Mixed, Rule" if "Mixed" in top else "Rule"
    each = EACH.strip().replace("x = {}  # here", line)
    body = indent(each, " " * 8)
    rule = f"class Mine({bases}):\n    bars = 20\n\n    def decide(self, view):\n{body}"
    assert check(f"{top}\n\nfrom trader.alpha.rule import Rule\n\n\n{rule}") == {}
