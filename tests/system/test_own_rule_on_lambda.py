"""A rule from a file decides in the deployed function: its own zip, the layer, and AWS's runtime interface."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lambda_function import run
from scripts.layer import manifest
from scripts.layer.archive import unpack
from scripts.layer.emulator import prepare_function
from scripts.layer.package import package
from scripts.layer.target import Target
from scripts.rules.write import write
from scripts.testkit.lambda_runtime import RuntimeInterface, running
from tests.whole_bars import SYMBOLS, read_example, write_bars

TARGET = Target("3.13", "x86_64")
pytestmark = pytest.mark.skipif(not TARGET.runs_here, reason="left out: the layer runs only on Linux x86_64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the function's zip with two rules in it, and unpack it and the layer."""
    if reason := manifest.reason_to_build(TARGET):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; CI must have run make layer")
        pytest.skip(f"left out: {reason}; run make layer")
    folder = tmp_path_factory.mktemp("deployed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write("golden_cross")
    (folder / "rules/breakout.py").write_text(read_example())
    unpack(package(zip_file=folder / "function.zip", rules=folder / "rules"), folder / "task")
    unpack(TARGET.zip, folder / "layer")
    return folder


@contextmanager
def start(folder: Path, **variables: str) -> Iterator[RuntimeInterface]:
    """Start the function from its zip, in the runtime interface."""
    function = prepare_function(TARGET, folder / "task", [folder / "layer/python"])
    own = {"JOURNAL": f"folder:{folder}/journal", "ACCOUNT_FILE": f"{folder}/account.json", "RULE_DAYS": "20"}
    with running(function, {**own, **variables}) as interface:
        yield interface


@pytest.fixture(scope="module")
def deployed(folder: Path) -> Iterator[RuntimeInterface]:
    """Start the function with the rule that make rule writes."""
    with start(folder, SIGNAL="rules/golden_cross.py", UNIVERSE="AAPL,XOM,KO") as interface:
        yield interface


def test_the_file_decides_and_what_it_buys_has_a_stop(deployed: RuntimeInterface) -> None:
    report = deployed.invoke({"time": "2022-12-01T20:45:00Z"})
    assert report["status"] == "TRADED"
    assert {each["symbol"]: each["direction"] for each in report["insights"]} == {
        "AAPL": "UP",
        "XOM": "DOWN",
        "KO": "UP",
    }
    assert all(order["stop_loss_usd"] for order in report["orders"])


def test_without_a_forecast_no_prophet_is_imported(deployed: RuntimeInterface) -> None:
    deployed.invoke({"time": "2022-12-02T20:45:00Z"})
    maps = Path(f"/proc/{deployed._function.name}/maps").read_text()
    assert [name for name in ("prophet", "stan", "tbb") if f"/{name}" in maps] == []


def test_a_rule_on_whole_bars_decides_there_as_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    write_bars(folder / "bars.csv")
    env = {
        "SIGNAL": "rules/breakout.py",
        "UNIVERSE": ",".join(SYMBOLS),
        "PRICE_FILE": str(folder / "bars.csv"),
        "STRATEGY": "bars",
        "ACCOUNT_FILE": f"{folder}/account_of_bars.json",
    }
    with start(folder, **env) as interface:
        there = interface.invoke({"time": "2022-11-30T20:45:00Z"})
    here = run({"time": "2022-11-30T20:45:00Z"}, env={**env, "RULE_DAYS": "20", "MODE": "dry-run"})
    assert len(there["insights"]) == len(SYMBOLS)
    assert there["insights"] == here["insights"]
