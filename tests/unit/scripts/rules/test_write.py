"""make rule writes a file that works, and never over another one."""

import os
import subprocess
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.console import CommandError
from scripts.rules.write import find_test, write
from tests.builders import settings
from tests.warm.python import python
from trader.alpha import loader
from trader.settings import SettingsError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_written_rule_can_be_used() -> None:
    rule = loader.load(settings(SIGNAL=write("golden_cross").as_posix(), RULE_DAYS=30))
    assert (rule.facts.min_bars, rule.forecast_spec) == (30, None)


def test_the_class_has_the_name_of_the_file() -> None:
    assert "class GoldenCross(Rule):" in write("golden_cross").read_text()


def test_nothing_of_the_pattern_is_left_in_it() -> None:
    path = write("mine")
    text = path.read_text() + find_test(path).read_text()
    assert [word for word in ("CLASS", "DAYS", "NAME") if word in text] == []


def test_the_test_of_the_written_rule_passes_and_can_fail() -> None:
    path = write("mine")
    assert run_tests() == "4 passed"
    path.write_text(path.read_text().replace("up=gap > 0, down=gap < 0", "up=gap < 0, down=gap > 0"))
    assert run_tests() == "2 failed, 2 passed"


def run_tests() -> str:
    """Run the test beside the rule, as its first line says, and return the counts."""
    words = [*python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", "rules/tests/test_mine.py"]
    paths = os.pathsep.join(map(str, (ROOT / "function", ROOT)))
    env = {**os.environ, "PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    return done.stdout.splitlines()[-1].split(" in ")[0]


def test_a_test_that_is_there_stays_as_it_is() -> None:
    path = write("mine")
    path.unlink()
    with pytest.raises(CommandError, match=r"rules/tests/test_mine\.py is there already"):
        write("mine")


def test_a_rule_that_is_there_stays_as_it_is() -> None:
    path = write("mine")
    path.write_text("mine")
    with pytest.raises(CommandError, match=r"rules/mine\.py is there already"):
        write("mine")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["", "Golden", "golden-cross", "2days", "../x", "a b", "class", "statistics", "trader"]
)
def test_a_name_that_no_module_can_have_is_refused(name: str, folder: Path) -> None:
    with pytest.raises(SettingsError, match="NAME="):
        write(name)
    assert list(folder.iterdir()) == []
