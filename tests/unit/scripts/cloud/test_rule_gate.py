"""The gate for own rules before a deployment: by the hash of the rule, its parameters, and the zip that is uploaded."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from scripts.cloud import rule_gate
from scripts.layer.archive import sha256
from scripts.rules import run
from scripts.rules.write import write

SIGNAL = "rules/golden_cross.py"
COMMAND = f"make check-rule SIGNAL={SIGNAL} RULE_DAYS=50"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder with the rule that make rule writes the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHECK_RULES", raising=False)
    write("golden_cross")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Check the rule for real, and return the folder with what that left."""
    folder = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write("golden_cross")
        assert run.check(SIGNAL, {}).is_passed
    return folder


@pytest.fixture
def passed(checked: Path, tmp_path: Path) -> None:
    """Make the current folder one in which the rule has been checked."""
    shutil.copytree(checked, tmp_path, dirs_exist_ok=True)


def problems(signal: str = SIGNAL, zips: Sequence[Path] = (), digest: str = "", **variables: str) -> list[str]:
    strategies: dict[str, Any] = {"own": {"environment": {"SIGNAL": signal, **variables}}}
    return list(rule_gate.check(strategies, dict.fromkeys(zips, digest)))


def pack(source: str, *, name: str = "function.zip", rule: str = SIGNAL) -> Path:
    """Write a zip of a function with a rule."""
    with ZipFile(name, "w") as archive:
        archive.writestr("lambda_function.py", "")
        archive.writestr(rule, source)
    return Path(name)


def test_a_rule_that_was_not_checked_is_refused_with_the_command() -> None:
    assert problems() == [
        f"own: SIGNAL={SIGNAL} has not been checked as it is now; {COMMAND}, or CHECK_RULES=1 beside this command"
    ]


@pytest.mark.usefixtures("passed")
def test_a_rule_that_passed_is_let_through() -> None:
    assert problems() == []


@pytest.mark.usefixtures("passed")
def test_a_changed_rule_is_refused() -> None:
    Path(SIGNAL).write_text(Path(SIGNAL).read_text() + "\n")
    assert "has not been checked as it is now" in problems()[0]


@pytest.mark.usefixtures("passed")
def test_other_parameters_are_refused() -> None:
    assert f"was checked with other parameters; {COMMAND[:-2]}20" in problems(RULE_DAYS="20")[0]


def test_check_rules_checks_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_RULES", "1")
    assert problems() == []


def test_a_rule_that_fails_its_check_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_RULES", "1")
    rule = Path(SIGNAL)
    rule.write_text(rule.read_text().replace("closes.iloc[-1] /", "closes.shift(-1).iloc[-2] /"))
    assert problems() == [f"own: SIGNAL={SIGNAL} did not pass its check for AWS; {COMMAND} says why"]


def test_a_rule_that_ships_needs_no_check() -> None:
    assert problems("interval") == []


def test_a_rule_that_is_named_elsewhere_is_refused() -> None:
    found = problems("ssm:/prophet-trader/own/signal")
    assert found == [
        "own: SIGNAL=ssm:/prophet-trader/own/signal can name another rule at any time, unchecked; write the rule itself"
    ]


def test_spaces_around_the_path_do_not_hide_a_rule() -> None:
    assert "has not been checked as it is now" in problems(f" {SIGNAL} ")[0]


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_parameter_does_not_hide_a_rule(text: str) -> None:
    assert "has not been checked as it is now" in problems(RULE_DAYS=text)[0]


def test_a_parameter_that_cannot_be_used_is_refused() -> None:
    assert problems(RULE_DAYS="many") == [
        f"own: SIGNAL={SIGNAL}: a parameter cannot be used: a whole number from 2 to 250"
    ]


def test_a_missing_file_is_named() -> None:
    assert problems("rules/none.py")[0].startswith("own: SIGNAL=rules/none.py: there is no file rules/none.py")


@pytest.mark.usefixtures("passed")
def test_the_zip_must_hold_the_rule_that_passed() -> None:
    assert problems(zips=[pack(Path(SIGNAL).read_text())]) == []
    assert problems(zips=[pack("x = 1\n")]) == [
        f"own: {SIGNAL} has changed since function.zip was made; make a new plan"
    ]


@pytest.mark.usefixtures("passed")
def test_a_rule_outside_of_the_folder_is_not_in_the_zip() -> None:
    assert "function.zip lacks rules/golden_cross.py" in problems(zips=[pack("", rule="rules/other.py")])[0]


@pytest.mark.usefixtures("passed")
def test_the_layers_zip_is_not_asked(tmp_path: Path) -> None:
    with ZipFile("layer.zip", "w") as archive:
        archive.writestr("python/pandas/__init__.py", "")
    assert problems(zips=[Path("layer.zip"), Path("missing.zip")]) == []


@pytest.mark.usefixtures("passed")
def test_a_zip_that_is_not_what_was_uploaded_proves_nothing() -> None:
    zips = [pack(Path(SIGNAL).read_text())]
    assert problems(zips=zips, digest=sha256(zips[0])) == []
    assert problems(zips=zips, digest="another") == [
        "own: function.zip is not what the plan leaves in AWS; make a new plan"
    ]
    assert "gone.zip cannot be read" in problems(zips=[Path("gone.zip")], digest="another")[0]


@pytest.mark.usefixtures("passed")
def test_a_file_beside_the_rule_that_only_the_zip_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_gate, "find_obstacle", lambda *_: None)
    Path(SIGNAL).write_text(f"try:\n    import extra\nexcept ImportError: pass\n{Path(SIGNAL).read_text()}")
    path = pack(Path(SIGNAL).read_text())
    assert problems(zips=[path]) == []
    with ZipFile(path, "a") as archive:
        archive.writestr("rules/extra.py", "")
    assert "function.zip has rules/extra.py, which the rule imports and the folder lacks" in problems(zips=[path])[0]
