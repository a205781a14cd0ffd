"""Terraform's own tests of all validations and conditionals in root and modules, on a mock provider."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.checks import terraform_files
from tests import terraform_here

TERRAFORM = ROOT / "terraform"
MODULES = sorted(folder for folder in (TERRAFORM / "modules").iterdir() if folder.is_dir())
BLOCK = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)


def terraform(folder: Path, *arguments: str) -> str:
    """Run Terraform and return its output; if it fails, fail the test with that output."""
    result = subprocess.run(
        ["terraform", *arguments],
        cwd=folder,
        env={**os.environ, "TF_IN_AUTOMATION": "1", **terraform_here.attach_provider()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the configuration without what a deployment may have left in it, and initialize the copy."""
    terraform_here.require()
    folder = tmp_path_factory.mktemp("terraform") / "terraform"
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "backend.tf")
    shutil.copytree(TERRAFORM, folder, ignore=ignored)
    terraform(folder, "init", "-backend=false", "-no-color")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((TERRAFORM / "tests").glob("*.tftest.hcl")), ids=lambda file: file.stem)
def test_terraforms_own_tests_pass(copy: Path, file: Path) -> None:
    said = terraform(copy, "test", "-no-color", f"-filter=tests/{file.name}")
    assert re.search(r"Success! [1-9]\d* passed, 0 failed\.", said), said


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", sorted((TERRAFORM / "examples").glob("*/terraform.tfvars")), ids=lambda file: file.parent.name
)
def test_each_example_can_be_planned(copy: Path, example: Path) -> None:
    said = terraform(copy, "test", "-no-color", "-filter=tests/examples.tftest.hcl", f"-var-file={example}")
    assert "Success! 1 passed, 0 failed." in said


def test_terraforms_copies_of_values_in_the_code_are_up_to_date() -> None:
    stale = [str(path) for path, text in terraform_files.files().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run make terraform-files to update them"


@pytest.mark.parametrize("folder", [TERRAFORM, TERRAFORM / "bootstrap", *MODULES], ids=lambda folder: folder.name)
def test_each_folder_has_a_readme_with_its_inputs_and_outputs(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    names = [name for kind, name, _ in BLOCK.findall((folder / "variables.tf").read_text())]
    assert [name for name in names if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_has_at_most_ten_inputs(module: Path) -> None:
    inputs = [name for kind, name, _ in BLOCK.findall((module / "variables.tf").read_text()) if kind == "variable"]
    assert 1 <= len(inputs) <= 10


def test_every_variable_of_the_root_has_a_default() -> None:
    required = [
        name for kind, name, body in BLOCK.findall((TERRAFORM / "variables.tf").read_text()) if "  default" not in body
    ]
    assert required == []


@pytest.mark.parametrize("folder", [TERRAFORM, *MODULES], ids=lambda folder: folder.name)
def test_every_variable_and_output_has_a_description(folder: Path) -> None:
    blocks = [block for file in ("variables.tf", "outputs.tf") for block in BLOCK.findall((folder / file).read_text())]
    assert blocks
    assert [name for _, name, body in blocks if "  description" not in body] == []
