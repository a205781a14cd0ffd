"""The notebook of the tutorial does what it shows: every cell is run, in a copy of the repository.

AWS is moto's server, Terraform is real. UPDATE_NOTEBOOK=1 writes the outputs into the notebook, after a change.
"""

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import nbformat
import pytest
from nbclient import NotebookClient

from scripts import ROOT
from scripts.layer import manifest
from scripts.testkit import aws
from tests import terraform_here
from tests.docs.consoles import normalize
from tests.system.test_terraform import PASSED_ON, TARGET, copy_repository

NOTEBOOK = Path("docs", "tutorial", "from-idea-to-deploy.ipynb")
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "2026-01-01 00:00"),
    (re.compile(r"\b[0-9a-f]{8,64}\b"), "0" * 8),  # hashes
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not TARGET.runs_here, reason="left out: the deployed function runs only on Linux x86_64"),
]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Run the notebook where a reader does, with the keys that make secrets stores; return it, and the copy."""
    terraform_here.require()
    if reason := manifest.reason_to_build(TARGET):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; CI must have run make layer")
        pytest.skip(f"left out: the layer to deploy is not up to date: {reason}; run make layer")
    folder = tmp_path_factory.mktemp("notebook") / "prophet-trader"
    copy_repository(folder)
    for mark in (".set-up", ".set-up-dev"):
        (folder / ".venv" / mark).touch()
    notebook = read(folder / NOTEBOOK)
    for cell in notebook.cells:
        cell.pop("outputs", None)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("no_proxy", "127.0.0.1")
        variables = stack.enter_context(aws.account())
        for name in ("alpacauser", "alpacapw"):
            path = f"/prophet-trader/near-high/{name}"
            boto3.client("ssm").put_parameter(Name=path, Value="key of a test", Type="SecureString")
        env = {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            **variables,
            **terraform_here.attach_provider(variables, folder / "terraform"),
            "HOME": str(tmp_path_factory.mktemp("home")),
            "TF_IN_AUTOMATION": "1",
        }
        client = NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": str((folder / NOTEBOOK).parent)}}
        )
        client.execute(env=env)
    if os.environ.get("UPDATE_NOTEBOOK") == "1":
        nbformat.write(without_traces(notebook), ROOT / NOTEBOOK)  # type: ignore[no-untyped-call]
    return notebook, folder


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def without_traces(notebook: Any) -> Any:
    """Return a notebook with one output for each cell, and without what says when and where it was run."""
    for cell in notebook.cells:
        cell.metadata = {}
        if lines := print_of(cell):
            text = "".join(f"{line}\n" for line in lines)
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]  # type: ignore[no-untyped-call]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def print_of(cell: Any) -> Sequence[str]:
    """Return the lines that a cell printed, without blank ones around them; an error would have ended the execution."""
    printed = "".join(output.get("text", "") for output in cell.get("outputs", ()))
    text = "\n".join(line.rstrip() for line in printed.split("\n")).strip("\n")
    return text.split("\n") if text else []


def compare(cell: Any) -> Sequence[str]:
    """Return what a cell printed, without what differs between two executions."""
    lines = [normalize(line) for line in print_of(cell)]
    for pattern, text in VARYING:
        lines = [pattern.sub(text, line) for line in lines]
    return lines


def test_every_cell_prints_what_the_notebook_shows(executed: tuple[Any, Path]) -> None:
    shown = read(ROOT / NOTEBOOK)
    assert [cell.source for cell in executed[0].cells] == [cell.source for cell in shown.cells]
    for there, here in zip(executed[0].cells, shown.cells, strict=True):
        assert compare(there) == compare(here), there.source


def test_the_rule_is_deployed(executed: tuple[Any, Path]) -> None:
    assert any(line.startswith(" Deployed: ") for line in print_of(executed[0].cells[-2]))


def test_the_notebook_names_no_place_of_the_machine_that_ran_it() -> None:
    text = (ROOT / NOTEBOOK).read_text(encoding="utf-8").replace("\\n", "\n")
    tops = "|".join({"home", "Users", *(re.escape(each.name) for each in Path("/").iterdir() if each.is_dir())})
    assert re.findall(rf"(?<![\w.])/(?:{tops})/[^\s\"]*|site-packages", text) == []
