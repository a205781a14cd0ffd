"""Paths on the architecture page exist, and its tree lists every package and the bot's other modules."""

import re
from pathlib import Path

import pytest

from scripts import ROOT

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
TREE = PAGE.split("```")[1]
PATH = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|md|toml|svg))`")
ROOMS = [
    folder
    for parent in ("function/trader", "scripts")
    for folder in sorted((ROOT / parent).iterdir())
    if folder.is_dir() and not folder.name.startswith("__")
]


@pytest.mark.parametrize("path", sorted(set(PATH.findall(PAGE))))
def test_a_path_on_the_page_exists(path: str) -> None:
    assert any((ROOT / parent / path).exists() for parent in ("", "function", "function/trader", "docs/images"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: f"{room.parent.name}/{room.name}")
def test_each_package_is_in_the_tree(room: Path) -> None:
    assert f"{room.name}/" in TREE


def test_the_bots_other_modules_are_in_the_tree() -> None:
    modules = {path.name for path in (ROOT / "function" / "trader").glob("*.py")} - {"__init__.py"}
    assert [name for name in sorted(modules) if name not in TREE] == []
