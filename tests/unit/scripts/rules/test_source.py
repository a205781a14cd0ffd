"""What the text of a rule shows: later bars that it asks for, and packages that the layer lacks."""

from importlib import metadata

import pytest

from scripts.rules.source import Layer, find_intrusions, find_lacking, find_peeks, find_suspect, read_layer

LAYER = Layer(
    {"numpy": metadata.version("numpy"), "pandas": "1.0", "matplotlib": metadata.version("matplotlib")},
    removed=["matplotlib", "**/tests", "numpy/f2py"],
    kept=[],
)


def peek(line: str) -> list[str]:
    return [each.where for each in find_peeks({"rules/mine.py": f"\n{line}\n"})]


@pytest.mark.parametrize(
    "line",
    [
        "x = closes.shift(-1)",
        "x = closes.shift(periods=-days)",
        "x = closes.diff(-1)",
        "x = closes.pct_change(-5)",
        "x = np.roll(closes, -1)",
        "x = closes.rolling(5, center=True).mean()",
        "x = closes.bfill()",
    ],
)
def test_a_later_bar_is_named_with_its_line(line: str) -> None:
    assert peek(line) == ["rules/mine.py, line 2"]


@pytest.mark.parametrize(
    "line", ["x = closes.shift(1)", "x = closes.diff()", "x = closes.rolling(5).mean()", "x = np.roll(a, 1)", "x = ("]
)
def test_earlier_bars_are_allowed(line: str) -> None:
    assert peek(line) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import math, numpy", []),
        ("from trader.alpha.rule import Rule", []),
        ("import beside", []),
        ("import scipy.stats", ["imports scipy, which the layer lacks"]),
        ("import no_such_package", ["imports no_such_package, which the layer lacks"]),
        ("from matplotlib import pyplot", ["imports matplotlib, which the layer lacks"]),
        ("from numpy import f2py", ["imports numpy.f2py, which the layer lacks"]),
        ("importlib.import_module('scipy')", ["imports scipy, which the layer lacks"]),
        ("import scripts.console", ["imports scripts, which the layer lacks"]),
        (
            "import pandas",
            [f"imports pandas, of which the layer has 1.0, and this machine {metadata.version('pandas')}"],
        ),
    ],
)
def test_what_the_layer_lacks(line: str, expected: list[str]) -> None:
    sources = {"rules/beside.py": "", "rules/mine.py": line}
    assert [each.what for each in find_lacking(sources, LAYER)] == expected


def test_the_layer_of_this_repository_has_what_the_bot_needs_and_not_what_is_pruned() -> None:
    layer = read_layer()
    assert layer
    assert {"numpy", "pandas", "prophet"} <= set(layer.versions)
    assert [each for each in ("numpy", "matplotlib.pyplot", "botocore.data") if layer.lacks(each)] == [
        "matplotlib.pyplot"
    ]


@pytest.mark.parametrize("line", ["for s in {*names}: ...", "s = set(names)", "t = slot.astimezone()"])
def test_the_line_that_can_make_processes_differ(line: str) -> None:
    assert find_suspect({"rules/mine.py": f"\n{line}\n"}) == "rules/mine.py, line 2"


def test_a_time_zone_makes_no_difference() -> None:
    assert find_suspect({"rules/mine.py": "t = slot.astimezone(zone)"}) == ""


@pytest.mark.parametrize(
    "line",
    [
        "import trader.stages.risk",
        "from trader.stages import risk",
        "from trader.prices.file import FilePrices",
        "import trader",
        "importlib.import_module('trader.settings')",
        "importlib.import_module('.settings', 'trader')",
    ],
)
def test_a_part_of_the_bot_that_is_not_made_for_rules_is_named(line: str) -> None:
    (found,) = find_intrusions({"rules/mine.py": f"\n{line}\n"})
    assert found.where == "rules/mine.py, line 2"
    assert "which is not made for rules; they find what they need in trader.alpha.rule" in found.what


@pytest.mark.parametrize(
    "line", ["from trader.alpha.rule import Rule", "from trader.alpha import rule", "from trader.model import Position"]
)
def test_what_is_made_for_rules_may_be_imported(line: str) -> None:
    assert not list(find_intrusions({"rules/mine.py": line}))
