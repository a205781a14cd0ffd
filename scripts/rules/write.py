"""`make rule NAME=golden_cross`: write a rule that works, and its test, to be changed into ones of your own."""

import keyword
import os
import re
import sys
from importlib import resources
from pathlib import Path

from scripts import console
from scripts.console import CommandError
from scripts.files import write_text
from trader.settings import SettingsError

FOLDER = Path("rules")
TESTS = FOLDER / "tests"
"""The folder for the tests of rules; the function's zip does not take it."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def main() -> None:
    """Write the file, and say what to try next."""
    with console.plain_errors("interrupted; nothing was written"):
        path = write(os.environ.get("NAME", "").strip())
        test = find_test(path)
        if console.wants_json():
            console.print_json({"path": path.as_posix(), "test": test.as_posix()})
            return
        console.OUT.print(f"{path.as_posix()} written: it buys above the average of fifty days. Next:")
        for line in (
            f"make run SIGNAL={path.as_posix()} MODE=dry-run",
            f"make backtest SIGNAL={path.as_posix()} RULE_DAYS=20",
            f"make check-rule SIGNAL={path.as_posix()}",
            f"make test TESTS={test.as_posix()}",
        ):
            console.OUT.print(f"  {line}", soft_wrap=True)


def write(name: str) -> Path:
    """Write the example and its test under a name, and return the path of the example.

    Raises SettingsError for a name that cannot be, CommandError if one of them is there.
    """
    if problem := find_problem(name):
        raise SettingsError([f"NAME={name!r}: {problem}"])
    path = FOLDER / f"{name}.py"
    for each in (path, find_test(path)):
        if each.exists():
            raise CommandError(
                f"{each.as_posix()} is there already and stays as it is; choose another NAME, or delete it"
            )
    title = "".join(part.capitalize() for part in name.split("_"))
    write_text(path, _read("example.py.txt").replace("CLASS", title).replace("DAYS", "fifty"))
    write_text(find_test(path), _read("example_test.py.txt").replace("NAME", name))
    return path


def find_test(path: Path) -> Path:
    """Return the path of a rule's test."""
    return TESTS / f"test_{path.name}"


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def find_problem(name: str) -> str:
    """Return why a rule cannot have a name; empty if it can."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        return "must be a name in small letters, digits and _, such as golden_cross"
    if name in sys.stdlib_module_names or name == "trader":
        return "is the name of a module of Python; choose another one"
    return ""
