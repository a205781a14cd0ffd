"""`make rule NAME=golden_cross`: write a rule that works, to be changed into one of your own."""

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
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def main() -> None:
    """Write the file, and say what to try next."""
    with console.plain_errors("interrupted; nothing was written"):
        path = write(os.environ.get("NAME", "").strip())
        if console.wants_json():
            console.print_json({"path": path.as_posix()})
            return
        console.OUT.print(f"{path.as_posix()} written: it buys above the average of fifty days. Next:")
        for line in (
            f"make run SIGNAL={path.as_posix()} MODE=dry-run",
            f"make backtest SIGNAL={path.as_posix()} RULE_DAYS=20",
            f"make check-rule SIGNAL={path.as_posix()}",
        ):
            console.OUT.print(f"  {line}", soft_wrap=True)


def write(name: str) -> Path:
    """Write the example under a name. Raises SettingsError for a name that cannot be, CommandError if it is there."""
    if problem := find_problem(name):
        raise SettingsError([f"NAME={name!r}: {problem}"])
    path = FOLDER / f"{name}.py"
    if path.exists():
        raise CommandError(f"{path.as_posix()} is there already and stays as it is; choose another NAME, or delete it")
    text = resources.files(__package__).joinpath("example.py.txt").read_text(encoding="utf-8")
    title = "".join(part.capitalize() for part in name.split("_"))
    write_text(path, text.replace("CLASS", title).replace("DAYS", "fifty"))
    return path


def find_problem(name: str) -> str:
    """Return why a rule cannot have a name; empty if it can."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        return "must be a name in small letters, digits and _, such as golden_cross"
    if name in sys.stdlib_module_names or name == "trader":
        return "is the name of a module of Python; choose another one"
    return ""
