"""The wheel: installed into an empty environment, it gives the command prophet-trader, which works in any folder."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import uv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import ROOT
from trader.alpaca.client import INSTALL_SDK

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SDK = "alpaca-trade-api"

REMOVE_WHAT_IS_NOT_REQUIRED = """
import subprocess, sys
from importlib.metadata import distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

needed, queue = set(), ["prophet-trader"]
while queue:
    name = canonicalize_name(queue.pop())
    if name not in needed:
        needed.add(name)
        wanted = map(Requirement, requires(name) or ())
        queue += [each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})]
others = {canonicalize_name(each.name) for each in distributions()} - needed
subprocess.run([*sys.argv[1:], *sorted(others)], check=True)
"""
"""A program that leaves only what pip would have installed: the wheel, and all that its dependencies require."""

IMPORT_COMMANDS = """
from importlib import import_module
from scripts.command import iterate_all
for name, _, command in iterate_all():
    if not command.needs_clone:
        import_module(command.main.partition(":")[0])
"""


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, with none of the settings and paths of the one who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"} or name.startswith("UV_")}
    env = {**kept, "COLUMNS": "200", **variables}
    return subprocess.run([*map(str, command)], cwd=folder, env=env, capture_output=True, text=True, check=False)


def install(python: Path, *arguments: str | Path) -> None:
    """Install packages from uv's cache, or from the index if they are not in the cache."""
    command = [uv.find_uv_bin(), "pip", "install", "--no-config", "--no-deps", "--python", python, *arguments]
    if run(*command, "--offline", folder=python.parent).returncode != 0:
        done = run(*command, folder=python.parent)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project's wheel, built from this repository."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that has only the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    find = uv.find_uv_bin()
    made = run(find, "venv", "--no-config", "--python", sys.executable, folder / "venv", folder=folder)
    assert made.returncode == 0, made.stderr
    python = folder / "venv" / "bin" / "python"
    install(python, "--require-hashes", "--requirements", ROOT / "requirements" / "run.txt")
    install(python, wheel)
    uninstall = (find, "pip", "uninstall", "--no-config", "--python", python)
    done = run(python, "-c", REMOVE_WHAT_IS_NOT_REQUIRED, *uninstall, folder=folder)
    assert done.returncode == 0, done.stderr
    return python.parent


@pytest.fixture(scope="module")
def installed(bin_folder: Path) -> Path:
    """Return the installed command."""
    return bin_folder / "prophet-trader"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return an empty folder for what the clone's own command prints, to compare with."""
    folder = tmp_path / "clone"
    folder.mkdir()
    return folder


# --- the wheel ---


def test_the_wheel_has_all_of_the_function_and_of_the_commands(wheel: Path) -> None:
    tracked = run("git", "ls-files", "function", "scripts", folder=ROOT).stdout.split()
    wanted = {
        name.removeprefix("function/") for name in tracked if not name.endswith(".sh") and (ROOT / name).is_file()
    }
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_wheel_has_its_types_and_its_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "trader/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_wheel_has_nothing_but_the_function_and_the_commands(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"trader", "scripts", "lambda_function.py"}


# --- what is installed with it ---


def test_all_that_the_layer_has_but_alpacas_sdk_is_required_by_the_wheel() -> None:
    required = set(PROJECT["project"]["dependencies"])
    assert set(PROJECT["dependency-groups"]["lambda"]) - required == {f"{SDK}>=3.2"}


def test_all_that_alpacas_sdk_imports_is_installed_with_the_wheel(bin_folder: Path, tmp_path: Path) -> None:
    package = next(Path(sys.prefix).glob("lib/python*/site-packages/alpaca_trade_api"))
    (tmp_path / package.name).symlink_to(package)
    done = run(bin_folder / "python", "-c", "import alpaca_trade_api", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_the_advised_release_of_alpacas_sdk_is_the_locked_one() -> None:
    assert f"\n{INSTALL_SDK.split()[-1]} \\\n" in (ROOT / "layer" / "requirements.txt").read_text(encoding="utf-8")


def test_the_overrides_lift_each_pin_of_alpacas_sdk_to_an_old_release() -> None:
    lines = (ROOT / "requirements" / "overrides.in").read_text(encoding="utf-8").splitlines()
    lifted = {canonicalize_name(Requirement(line).name) for line in lines if not line.startswith("#")}
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements" / "run.txt").read_text(), re.MULTILINE))
    pins = [Requirement(each) for each in requires(SDK) or ()]
    unmet = {
        canonicalize_name(pin.name) for pin in pins if not pin.specifier.contains(locked[canonicalize_name(pin.name)])
    }
    assert unmet <= lifted


# --- the command ---


@pytest.mark.slow
def test_the_command_runs_in_an_empty_folder_as_it_does_in_a_clone(
    installed: Path, tmp_path: Path, clone: Path
) -> None:
    paths = f"{ROOT / 'function'}{os.pathsep}{ROOT}"
    ours = run(installed, "run", folder=tmp_path)
    theirs = run(sys.executable, "-m", "scripts", "run", folder=clone, PYTHONPATH=paths)
    assert ours.returncode == 0, ours.stderr
    assert without_times(ours.stdout) == without_times(theirs.stdout)


def without_times(text: str) -> str:
    """Return a run's output without the seconds that its stages took."""
    return re.sub(r" +", " ", re.sub(r"\b\d+\.\d\d s\b", "", text))


@pytest.mark.slow
def test_all_commands_that_need_no_clone_can_be_imported_when_installed(bin_folder: Path, tmp_path: Path) -> None:
    done = run(bin_folder / "python", "-c", IMPORT_COMMANDS, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_help_lists_the_commands(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "backtest" in done.stdout


def test_a_command_that_needs_the_repository_says_so(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "deploy", folder=tmp_path)
    assert done.returncode == 3
    assert "run it in a clone" in " ".join(done.stderr.split())


def test_without_alpacas_sdk_a_run_says_how_to_install_it(installed: Path, tmp_path: Path) -> None:
    keys = {"ALPACAUSER": "key", "ALPACAPW": "secret", "APCA_API_BASE_URL": "http://127.0.0.1:9"}
    done = run(installed, "run", "--broker", "alpaca", folder=tmp_path, **keys)
    assert done.returncode == 3
    assert INSTALL_SDK in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
