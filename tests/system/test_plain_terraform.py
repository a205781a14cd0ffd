"""Terraform without make, as docs/how-to/terraform-without-make.md shows it: on one laptop, and then on another.

The whole root in copies of what git has, real Terraform, and moto's server as AWS. The steps build on each other in the
order of this file: each is a fixture that begins where the previous one ended, so read the first error. The bucket's
lifecycle is left out, because it takes Terraform's provider a minute; test_terraform.py deploys it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest

from scripts import ROOT
from scripts.cloud.aws import connect
from scripts.cloud.terraform import Terraform
from scripts.testkit import aws
from tests import terraform_here
from tests.docs.consoles import Typed, commands_on, find_difference

PROJECT, ACCOUNT, REGION = "prophet-trader", "123456789012", "us-east-1"
BUCKET, STATE_BUCKET = (f"{PROJECT}{part}-{ACCOUNT}-{REGION}" for part in ("", "-state"))
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/{PROJECT}-boundary"
KEYS = [f"/{PROJECT}/trend/{name}" for name in ("alpacauser", "alpacapw")]
PAGE = ROOT / "docs" / "how-to" / "terraform-without-make.md"
RECORD = "runs/trend/2026-01-02/20260102T1500Z.json"
PASSED_ON = ("PATH", "TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TMPDIR")
ZIPS = {"TF_VAR_layer_zip": "tests/zips/layer.zip", "TF_VAR_function_zip": "tests/zips/function.zip"}

PASTED = "pastedInATest"
"""What stands for a key."""

MISTAKES = {"MAX_ORDER_PER_RUN": "3", "UNIVERS": "AAPL", "SIGNAL": "trnd"}
"""Settings with a misspelt name, or a misspelt value."""


@dataclass(frozen=True)
class Laptop:
    """A folder with the Terraform files of a fresh clone, the shell's variables there, and what was typed so far."""

    folder: Path
    env: Mapping[str, str]
    typed: list[tuple[str, str]] = field(default_factory=list)  # each command, and what it printed

    def run(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, with what a person types while it runs; colors are off."""
        more = {"TF_CLI_ARGS": "-no-color"}
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**self.env, **more},
            input=answer,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        self.typed.append((" ".join(words), done.stdout + done.stderr))
        return done

    def must(self, *words: str, answer: str = "") -> str:
        """Run a Terraform command that must succeed, and return what it printed, warnings included."""
        done = self.run("terraform", *words, answer=answer)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def refusal(self, *words: str) -> str:
        """Run a Terraform command that must fail, and return its error."""
        done = self.run("terraform", *words)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def follow(self, text: str, answer: str = "") -> None:
        """Run the commands that a message gives: the lines that are indented."""
        commands = re.findall(r"^  ((?:cp|terraform) .*)$", text, re.MULTILINE)
        assert len(commands) == 2, text
        for command in commands:
            done = self.run(*shlex.split(command), answer=answer)
            assert done.returncode == 0, done.stdout + done.stderr


def unwrap(text: str) -> str:
    """Return Terraform's text without the line breaks that it inserts."""
    return " ".join(text.split())


def clone(folder: Path) -> Path:
    """Copy terraform/ as git has it, but without the bucket's lifecycle; return the copy."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "terraform"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    bucket = folder / "terraform/modules/artifact_bucket/main.tf"
    text, count = re.subn(
        r'^resource "aws_s3_bucket_lifecycle_configuration".*?^\}\n', "", bucket.read_text(), flags=re.M | re.S
    )
    assert count == 1, "the bucket has a lifecycle"
    bucket.write_text(text)
    return folder / "terraform"


@pytest.fixture(scope="module")
def account() -> Iterator[dict[str, str]]:
    """Provide an empty AWS account, in which nobody has run make bootstrap."""
    terraform_here.require()
    with aws.account() as variables:
        yield variables


@pytest.fixture(scope="module")
def laptop(account: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """Initialize a fresh clone."""
    folder = clone(tmp_path_factory.mktemp("laptop"))
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    provider = terraform_here.attach_provider(account, folder)
    made = Laptop(folder, {**passed_on, **account, **provider, **ZIPS, "TF_IN_AUTOMATION": "1"})
    made.must("init")
    return made


@pytest.fixture(scope="module")
def other_laptop(laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """Initialize another fresh clone, with the same credentials."""
    made = Laptop(clone(tmp_path_factory.mktemp("other")), laptop.env, laptop.typed)
    made.must("init")
    return made


# --- the lock file ---


@pytest.mark.parametrize("root", [".", "bootstrap"])
def test_the_lock_file_fits_the_provider(laptop: Laptop, root: str, tmp_path: Path) -> None:
    folder = shutil.copytree(
        laptop.folder, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform", "tests")
    )
    env = {name: value for name, value in laptop.env.items() if name != terraform_here.ATTACH}
    Laptop(folder / root, env).must("init", "-backend=false", "-lockfile=readonly")


def test_a_provider_with_another_checksum_is_refused(laptop: Laptop, tmp_path: Path) -> None:
    lock = (laptop.folder / ".terraform.lock.hcl").read_text()
    (tmp_path / ".terraform.lock.hcl").write_text(re.sub(r"(h1:|zh:)\w{4}", r"\1AAAA", lock))
    shutil.copy(laptop.folder / "versions.tf", tmp_path)
    env = {name: value for name, value in laptop.env.items() if name != terraform_here.ATTACH}
    assert "checksums" in Laptop(tmp_path, env).refusal("init", "-backend=false")


# --- settings ---


@pytest.fixture(scope="module")
def complaint(laptop: Laptop) -> str:
    """Return what a plan says of misspelt settings."""
    choices = laptop.folder / "terraform.tfvars.json"
    choices.write_text(json.dumps({"strategies": {"trend": {"settings": MISTAKES}}}))
    said = unwrap(laptop.refusal("plan"))
    choices.unlink()
    return said


def test_a_misspelt_setting_is_refused(complaint: str) -> None:
    assert "strategies: MAX_ORDER_PER_RUN, UNIVERS: no setting has this name" in complaint


@pytest.mark.parametrize("name", ["MAX_ORDERS_PER_RUN", "UNIVERSE"])
def test_the_refusal_lists_the_settings(complaint: str, name: str) -> None:
    assert re.search(rf"the settings are .*\b{name}\b", complaint)


def test_a_misspelt_value_is_refused_with_the_allowed_ones(complaint: str) -> None:
    assert 'SIGNAL = "trnd": allowed are trend, interval, horizon' in complaint


# --- the first deployment ---


@pytest.fixture(scope="module")
def applied(laptop: Laptop) -> str:
    """Deploy before any key is stored; return what Terraform says."""
    return laptop.must("apply", answer="yes\n")


def test_keys_that_are_not_stored_are_reported(applied: str) -> None:
    missing = " and no ".join(KEYS)
    assert f"There is no {missing} with the tag project={PROJECT}: run make secrets STRATEGY=trend" in unwrap(applied)


def test_the_next_steps_are_an_output(applied: str, laptop: Laptop) -> None:
    assert applied
    steps = laptop.must("output", "-raw", "next_steps")
    assert "\n  make secrets STRATEGY=trend\n  make resume STRATEGY=trend\n" in steps


def put_parameter(command: str) -> None:
    """Do what a command of the AWS command line says."""
    options: dict[str, Any] = {}
    for word in shlex.split(re.sub(r'"\$\w+"', PASTED, command))[3:]:
        if word.startswith("--"):
            name = word.removeprefix("--").capitalize()
            options[name] = True
        else:
            options[name] = word
    if tags := options.get("Tags"):
        options["Tags"] = [dict(part.split("=") for part in tags.split(","))]
    boto3.client("ssm").put_parameter(**options)


@pytest.fixture(scope="module")
def second_plan(applied: str, laptop: Laptop) -> str:
    """Store the keys and turn the halt switch off as the page says, and plan again; return what Terraform says."""
    assert applied
    commands = [typed.command for typed in commands_on(PAGE) if typed.command.startswith("aws ssm put-parameter ")]
    assert len(commands) == len(KEYS) + 1
    for command in commands:
        put_parameter(command)
    return laptop.must("plan")


def test_a_second_plan_changes_nothing(second_plan: str) -> None:
    assert "No changes." in second_plan


def test_keys_that_are_stored_are_not_reported(second_plan: str) -> None:
    assert "Warning" not in second_plan


def test_no_key_is_in_the_state(second_plan: str, laptop: Laptop) -> None:
    assert second_plan
    assert PASTED not in laptop.must("state", "pull")


def test_the_strategy_may_trade(second_plan: str) -> None:
    assert second_plan
    assert boto3.client("ssm").get_parameter(Name=f"/{PROJECT}/trend/halt")["Parameter"]["Value"] == "false"


def test_without_bootstrap_the_role_has_no_boundary(applied: str) -> None:
    assert applied
    assert "PermissionsBoundary" not in boto3.client("iam").get_role(RoleName=f"{PROJECT}-trend")["Role"]


def test_another_laptop_does_not_deploy_it_a_second_time(second_plan: str, other_laptop: Laptop) -> None:
    assert second_plan
    refusal = unwrap(other_laptop.refusal("plan"))
    assert f"{PROJECT} is deployed in account {ACCOUNT}, region {REGION}, but Terraform's state is not here" in refusal


# --- after make bootstrap ---


@pytest.fixture(scope="module")
def advice(second_plan: str, laptop: Laptop) -> str:
    """Run make bootstrap beside the local state; return what a plan says then."""
    assert second_plan
    done = subprocess.run(
        [sys.executable, "-m", "scripts", "bootstrap"],
        cwd=laptop.folder.parent,
        env={**laptop.env, "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return laptop.refusal("plan")


def test_after_bootstrap_a_local_state_is_refused(advice: str) -> None:
    assert f"the state belongs in the bucket {STATE_BUCKET}" in unwrap(advice)


@pytest.fixture(scope="module")
def moved(advice: str, laptop: Laptop) -> Laptop:
    """Move the state into the bucket as the advice says, and apply."""
    laptop.follow(advice, answer="yes\n")
    laptop.must("apply", answer="yes\n")
    return laptop


def test_the_local_state_is_moved_into_the_bucket(moved: Laptop) -> None:
    kept = json.loads(boto3.client("s3").get_object(Bucket=STATE_BUCKET, Key=f"{PROJECT}.tfstate")["Body"].read())
    assert "aws_lambda_function" in {each["type"] for each in kept["resources"]}
    assert not (moved.folder / "terraform.tfstate").read_text()


@pytest.mark.usefixtures("moved")
def test_the_boundary_of_bootstrap_is_found() -> None:
    role = boto3.client("iam").get_role(RoleName=f"{PROJECT}-trend")["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY


@pytest.fixture(scope="module")
def joined(moved: Laptop, other_laptop: Laptop) -> Laptop:
    """Do on another laptop what Terraform advises there."""
    assert moved
    other_laptop.follow(other_laptop.refusal("plan"))
    return other_laptop


def test_on_another_laptop_a_plan_changes_nothing(joined: Laptop) -> None:
    assert "No changes." in joined.must("plan")


def test_make_plan_goes_on_from_there(joined: Laptop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in joined.env.items():
        monkeypatch.setenv(name, value)
    root = Terraform(connect(), joined.folder)
    root.init()
    assert f'bucket       = "{STATE_BUCKET}"' in (joined.folder / "backend.tf").read_text()
    assert not root.plan(tmp_path / "plan")


# --- the end ---


@pytest.fixture(scope="module")
def end(joined: Laptop) -> subprocess.CompletedProcess[str]:
    """Destroy everything while the journal has a record."""
    boto3.client("s3").put_object(Bucket=BUCKET, Key=RECORD, Body=b"{}")
    return joined.run("terraform", "destroy", answer="yes\n")


def test_a_journal_is_not_deleted_by_accident(end: subprocess.CompletedProcess[str]) -> None:
    assert "BucketNotEmpty" in end.stderr
    assert boto3.client("s3").get_object(Bucket=BUCKET, Key=RECORD)["Body"].read() == b"{}"


def test_before_it_destroys_terraform_says_how_to_end(end: subprocess.CompletedProcess[str]) -> None:
    before = end.stdout.partition("Destroying...")[0]
    assert "make destroy" in before
    assert f"terraform apply -target=module.artifact_bucket -var delete_journal_of={BUCKET}" in before


@pytest.mark.usefixtures("end")
def test_a_journal_is_deleted_on_request(joined: Laptop) -> None:
    joined.must("apply", "-target=module.artifact_bucket", "-var", f"delete_journal_of={BUCKET}", answer="yes\n")
    joined.must("destroy", answer="yes\n")
    assert [each["Name"] for each in boto3.client("s3").list_buckets()["Buckets"]] == [STATE_BUCKET]


# --- the pages ---


@pytest.mark.parametrize(
    "typed",
    [typed for typed in commands_on(PAGE) if typed.command.startswith(("terraform ", "cp "))],
    ids=lambda typed: typed.command.replace("/", "-"),
)
@pytest.mark.usefixtures("end")
def test_the_page_shows_what_was_typed_and_printed(laptop: Laptop, typed: Typed) -> None:
    printed = [text for command, text in laptop.typed if command == typed.command]
    assert printed, "no test has typed it"
    assert not typed.shown or None in [find_difference(typed.shown, text) for text in printed]


def test_the_page_on_the_provider_speaks_of_all_that_is_used() -> None:
    page = (ROOT / "docs/decisions/terraform-provider.md").read_text()
    patterns = re.findall(r"`(aws_[a-z0-9_*]+)`", page)
    texts = [path.read_text() for path in (ROOT / "terraform").rglob("*.tf") if ".terraform" not in path.parts]
    used = {kind for text in texts for kind in re.findall(r'^\s*(?:resource|data) "(aws_\w+)"', text, re.MULTILINE)}
    assert used
    assert [kind for kind in sorted(used) if not any(fnmatchcase(kind, pattern) for pattern in patterns)] == []
