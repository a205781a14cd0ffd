"""No action of Terraform lets a halted strategy trade again, with the real halt switch on moto as AWS."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest

from scripts import ROOT
from scripts.testkit import aws as moto
from tests import terraform_here

SWITCH = "/prophet-trader/trend/halt"
RESOURCE = re.search(
    r'^resource "aws_ssm_parameter" "halt" \{\n.*?^\}',
    (ROOT / "terraform/modules/function/main.tf").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
ROOT_MODULE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.100.0" }
  }
}
provider "aws" {
  default_tags { tags = { project = "prophet-trader", edition = var.edition } }
}
variable "edition" { default = "1" }
variable "halt_parameter" { default = "/prophet-trader/trend/halt" }
"""


class Site:
    """A folder with the halt switch alone, of which `edition` sets its description and its tags."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env
        assert RESOURCE, "the module has a halt switch"
        text = RESOURCE[0].replace("var.name", "var.edition")
        (folder / "main.tf").write_text(ROOT_MODULE + text)
        self.terraform("init")

    def terraform(self, *words: str) -> str:
        done = subprocess.run(
            ["terraform", *words, "-no-color"],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def apply(self, *words: str) -> str:
        return self.terraform("apply", "-auto-approve", *words)


def turn(value: str) -> None:
    boto3.client("ssm").put_parameter(Name=SWITCH, Value=value, Overwrite=True)


def switch() -> str:
    return boto3.client("ssm").get_parameter(Name=SWITCH)["Parameter"]["Value"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Apply the switch in an empty account, as make deploy does for a new strategy."""
    terraform_here.require()
    with moto.account() as variables:
        made = Site(tmp_path_factory.mktemp("halt"), {**os.environ, **terraform_here.attach_provider(variables)})
        made.apply()
        yield made


def test_terraform_creates_the_switch_halted(site: Site) -> None:
    assert switch() == "true"


@pytest.mark.parametrize("value", ["false", "true"])
def test_terraform_leaves_the_switch_alone(site: Site, value: str) -> None:
    turn(value)
    site.apply()
    assert switch() == value


def test_a_kept_plan_leaves_a_switch_that_was_halted_after_it(site: Site) -> None:
    turn("false")
    site.terraform("plan", "-var=edition=2", "-out=kept")
    turn("true")
    site.terraform("apply", "kept")
    assert switch() == "true"


@pytest.mark.parametrize("before", ["true", "false", "deleted"])
def test_a_switch_that_is_made_again_is_halted(site: Site, before: str) -> None:
    if before == "deleted":
        boto3.client("ssm").delete_parameter(Name=SWITCH)
        site.apply()
    else:
        turn(before)
        site.apply("-replace=aws_ssm_parameter.halt")
    assert switch() == "true"


def test_the_switch_is_destroyed_and_created_again(site: Site) -> None:
    turn("true")
    site.terraform("destroy", "-auto-approve")
    assert boto3.client("ssm").describe_parameters()["Parameters"] == []
    site.apply()
    assert switch() == "true"
