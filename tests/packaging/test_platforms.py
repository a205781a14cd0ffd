"""Wheels for other systems: the ones that docs/how-to/install.md names have one for every locked package."""

import re
import subprocess
from pathlib import Path

import pytest
import uv

from scripts import ROOT

PLATFORMS = {
    "Linux, x86_64": "x86_64-manylinux_2_28",
    "Linux, arm64": "aarch64-manylinux_2_28",
    "macOS, Apple silicon": "aarch64-apple-darwin",
    "macOS, Intel": "x86_64-apple-darwin",
    "Windows, x86_64": "x86_64-pc-windows-msvc",
    "Windows, arm64": "aarch64-pc-windows-msvc",
}
"""uv's name of each system in the table of docs/how-to/install.md."""

PAGE = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")


def told(system: str) -> str:
    """Return what the page says of a system's wheels."""
    found = re.search(rf"^\| {re.escape(system)} \| ([^|]*) \|", PAGE, re.MULTILINE)
    assert found, f"{system} is not in the table"
    return found[1]


def find_packages_without_wheels(platform: str, python: str, folder: Path) -> str:
    """Return uv's message about a package without a wheel; "" if all have one. Skip if the index cannot be asked."""
    for name in ("run", "dev"):
        command = [uv.find_uv_bin(), "pip", "install", "--no-config", "--dry-run", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--python-platform", platform, "--python-version", python]
        command += ["--target", str(folder), "--requirements", str(ROOT / "requirements" / f"{name}.txt")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = " ".join(done.stderr.split())
        if "no usable wheels" in said:
            return said
        if done.returncode != 0:
            pytest.skip(f"the package index could not be asked: {said[:200]}")
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.13", "3.14"])
@pytest.mark.parametrize("system", PLATFORMS)
def test_the_page_says_of_which_systems_all_packages_have_wheels(system: str, python: str, tmp_path: Path) -> None:
    said = find_packages_without_wheels(PLATFORMS[system], python, tmp_path)
    assert told(system).startswith("no: " if said else "yes"), said
    assert all(name.lower() in told(system).lower() for name in re.findall(r"Because (\S+?)==", said)), said


def test_each_system_of_the_page_is_checked() -> None:
    table = PAGE.partition("| system |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| ([^|-][^|]*) \|", table, re.MULTILINE)) == set(PLATFORMS)
