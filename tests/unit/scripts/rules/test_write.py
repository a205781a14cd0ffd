"""make rule writes a file that works, and never over another one."""

from pathlib import Path

import pytest

from scripts.console import CommandError
from scripts.rules.write import write
from tests.builders import settings
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
    text = write("mine").read_text()
    assert [word for word in ("CLASS", "DAYS") if word in text] == []


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
