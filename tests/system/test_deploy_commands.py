"""make plan, deploy and destroy, with real Terraform on small roots and moto as AWS.

The whole root is deployed in test_terraform.py.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from rich.console import Console

from scripts import ROOT, console
from scripts.cloud import terraform
from scripts.cloud.aws import Cloud, connect
from scripts.cloud.plan import reason_to_build, show_strategies
from scripts.cloud.preflight import check_existing
from scripts.cloud.terraform import Terraform, TerraformError, Variables, explain, strategies
from scripts.console import CommandError
from scripts.layer import target
from scripts.testkit import aws as moto
from tests import terraform_here
from tests.warm.python import python as warm_python

ACCOUNT, REGION, PROJECT = "123456789012", "us-east-1", "prophet-trader"
STATE_BUCKET = f"{PROJECT}-state-{ACCOUNT}-{REGION}"
BUCKET = f"{PROJECT}-{ACCOUNT}-{REGION}"
VARIABLES = """
terraform { required_version = "~> 1.11" }
variable "architecture" { default = "x86_64" }
variable "function_zip" { default = null }
variable "layer_zip" { default = null }
variable "permissions_boundary" { default = null }
variable "project" { default = "prophet-trader" }
variable "python" { default = "3.13" }
variable "size" { default = 1 }
variable "strategies" {
  type    = map(object({ mode = optional(string, "paper"), settings = optional(map(string), {}) }))
  default = { trend = {} }
  validation {
    condition     = length(var.strategies) > 0
    error_message = "strategies is empty: name at least one."
  }
}
"""
LIGHT = """
resource "terraform_data" "this" { input = "${var.size} ${coalesce(var.permissions_boundary, "none")}" }
output "input" { value = terraform_data.this.output }
"""
"""A root that needs neither a provider nor AWS."""


@pytest.fixture(autouse=True)
def _terraform(monkeypatch: pytest.MonkeyPatch) -> None:
    terraform_here.require()
    for name in [*os.environ]:
        if name.startswith("TF_VAR_") or name in {"PROJECT", "STRATEGY", "JSON", "OUT", "PLAN", "LOCK", "CONFIRM"}:
            monkeypatch.delenv(name)
    for name, value in terraform_here.QUICK.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def root(aws: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terraform:
    """Return the light root in a new folder, with an empty account."""
    monkeypatch.setattr(terraform, "check_version", lambda: None)  # one more start of Terraform for each command
    folder = tmp_path / "terraform"
    folder.mkdir()
    (folder / "variables.tf").write_text(VARIABLES)
    (folder / "main.tf").write_text(LIGHT)
    return Terraform(connect(), folder)


def again(root: Terraform, region: str = REGION) -> Terraform:
    """Return the root as the next command sees it, in another region if one is given."""
    session = boto3.Session(region_name=region)
    return Terraform(Cloud(project=PROJECT, account=ACCOUNT, session=session), root.folder)


def make_state_bucket() -> None:
    boto3.client("s3").create_bucket(Bucket=STATE_BUCKET)


def apply_all(root: Terraform) -> Terraform:
    """Plan and apply the root."""
    root.init()
    root.plan(root.folder / "a.tfplan")
    root.apply(root.folder / "a.tfplan", 1)
    return root


def changes_anything(root: Terraform) -> bool:
    root.init()
    return root.plan(root.folder / "b.tfplan")


def state_file(root: Terraform, suffix: str = "") -> Path:
    return root.folder / f"terraform.tfstate{suffix}"


# --- which strategies exist ---


def test_the_default_strategy_is_trend(root: Terraform, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.folder / "main.tf").write_text('terraform { required_providers { x = { source = "none/such" } } }')
    monkeypatch.chdir(root.folder.parent)
    assert strategies() == ["trend"]


def test_strategies_can_be_set_in_tfvars(root: Terraform) -> None:
    (root.folder / "terraform.tfvars").write_text("strategies = { fast = {}, slow = {} }")
    assert root.variables().strategies == ["fast", "slow"]


def test_strategies_can_be_set_in_the_environment(root: Terraform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_VAR_strategies", '{"one" = {}}')
    assert root.variables().strategies == ["one"]


def test_a_name_that_aws_would_refuse_is_refused(root: Terraform) -> None:
    (root.folder / "terraform.tfvars").write_text('strategies = { "Trend!" = {} }')
    with pytest.raises(CommandError, match=r"invalid names: Trend!; a name must be at most 32 lower-case letters"):
        root.variables()


def test_strategies_are_known_if_another_variable_is_invalid(root: Terraform) -> None:
    with (root.folder / "variables.tf").open("a") as file:
        file.write('variable "zip" {\n default = "none.zip"\n validation {\n condition = var.zip == local.zip\n')
        file.write(' error_message = "There is no zip."\n }\n}\n')
    assert root.variables().strategies == ["trend"]


def test_strategies_are_known_while_another_user_holds_the_lock(root: Terraform) -> None:
    make_state_bucket()
    root.init()
    lock()
    assert root.variables().strategies == ["trend"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("strategies = {", "Missing expression"),
        ('strategies = "trend"', "Invalid value for input variable"),
        ('strategies = { trend = { settings = "x" } }', "Invalid value for input variable"),
    ],
)
def test_invalid_variables_are_reported_in_terraforms_words(text: str, words: str, root: Terraform) -> None:
    (root.folder / "terraform.tfvars").write_text(text)
    with pytest.raises(TerraformError) as error:
        root.variables()
    assert str(error.value).startswith(f"Terraform: {words}\n\n  on terraform.tfvars line 1")
    assert "CRASH" not in str(error.value)


def test_a_missing_root_is_reported(tmp_path: Path, root: Terraform) -> None:
    with pytest.raises(
        CommandError, match=r"/variables\.tf does not exist in /.*; run make in the folder of the Makefile"
    ):
        Terraform(root.cloud, tmp_path / "elsewhere").variables()


def test_a_project_set_only_in_tfvars_is_reported(root: Terraform) -> None:
    (root.folder / "terraform.tfvars").write_text('project = "second"')
    with pytest.raises(CommandError, match=r"project is second, but PROJECT is prophet-trader: .* PROJECT=second"):
        root.variables()


# --- where the state is ---


def test_without_bootstrap_the_state_is_in_the_folder(root: Terraform) -> None:
    apply_all(root)
    assert state_file(root).is_file()
    assert not (root.folder / "backend.tf").exists()


def test_after_bootstrap_the_state_is_in_its_bucket(root: Terraform) -> None:
    make_state_bucket()
    apply_all(root)
    assert not state_file(root).exists()
    assert state_in_bucket()["resources"][0]["type"] == "terraform_data"


def state_in_bucket() -> dict[str, Any]:
    state: dict[str, Any] = json.load(
        boto3.client("s3").get_object(Bucket=STATE_BUCKET, Key="prophet-trader.tfstate")["Body"]
    )
    return state


def test_a_state_in_the_folder_moves_into_the_bucket_and_is_kept_as_a_backup(root: Terraform) -> None:
    apply_all(root)
    before = state_file(root).read_text()
    make_state_bucket()
    moved = again(root)
    moved.init()
    assert state_in_bucket()["resources"] == json.loads(before)["resources"]
    assert not state_file(root).exists()
    assert state_file(root, ".migrated-backup").read_text() == before


def test_a_moved_state_still_matches_the_deployment(root: Terraform) -> None:
    apply_all(root)
    make_state_bucket()
    (root.folder / "terraform.tfvars").write_text('permissions_boundary = "none"')  # or bootstrap would set it
    assert not changes_anything(again(root))


def test_a_killed_move_is_completed(root: Terraform) -> None:
    apply_all(root)
    make_state_bucket()
    state_file(root).rename(state_file(root, ".moving"))
    again(root).init()
    assert state_in_bucket()["resources"]


def test_a_state_in_the_folder_never_overwrites_the_one_in_the_bucket(root: Terraform) -> None:
    apply_all(root)
    older = state_file(root).read_text()
    make_state_bucket()
    again(root).init()
    state_file(root).write_text(older)
    with pytest.raises(TerraformError, match=r"and .*terraform\.tfstate both hold a state"):
        again(root).init()
    assert state_file(root).read_text() == older


def test_one_folder_serves_two_regions(root: Terraform) -> None:
    make_state_bucket()
    apply_all(root)
    assert changes_anything(again(root, "eu-west-1")), "nothing is deployed in the other region"
    (root.folder / "terraform.tfstate").unlink(missing_ok=True)
    assert not changes_anything(again(root)), "the first region must be unchanged"


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:sns:eu-west-1:{ACCOUNT}:{PROJECT}-alarms",
        f"arn:aws:sns:{REGION}:999999999999:{PROJECT}-alarms",
        f"arn:aws:sns:{REGION}:{ACCOUNT}:second-alarms",
    ],
    ids=["region", "account", "project"],
)
def test_the_state_of_another_deployment_is_refused(arn: str, root: Terraform) -> None:
    apply_all(root)
    state = json.loads(state_file(root).read_text())
    state["outputs"]["alarm_topic_arn"] = {"value": arn, "type": "string"}
    state_file(root).write_text(json.dumps(state))
    with pytest.raises(CommandError, match=r"terraform\.tfstate is the state of .* not of prophet-trader in account"):
        again(root).init()


def test_the_users_own_backend_is_left_alone(root: Terraform) -> None:
    make_state_bucket()
    own = 'terraform {\n  backend "local" {\n    path = "mine.tfstate"\n  }\n}\n'
    (root.folder / "backend.tf").write_text(own)
    apply_all(root)
    assert (root.folder / "backend.tf").read_text() == own
    assert (root.folder / "mine.tfstate").is_file()


def test_after_bootstrap_its_boundary_limits_the_functions(root: Terraform) -> None:
    make_state_bucket()
    assert apply_all(root).outputs()["input"] == f"1 arn:aws:iam::{ACCOUNT}:policy/{PROJECT}-boundary"


# --- failures ---


def lock() -> None:
    """Lock the state as another user's deployment would."""
    held = {"ID": "1234-abc", "Operation": "OperationTypeApply", "Who": "ann@laptop", "Created": "2026-11-23T19:00:00Z"}
    body = json.dumps({**held, "Info": "", "Version": "1.11.4", "Path": "x"})
    boto3.client("s3").put_object(Bucket=STATE_BUCKET, Key="prophet-trader.tfstate.tflock", Body=body)


def test_a_locked_state_names_who_holds_it_and_how_to_free_it(root: Terraform) -> None:
    make_state_bucket()
    root.init()
    lock()
    with pytest.raises(TerraformError) as error:
        root.plan(root.folder / "a.tfplan")
    assert "locked: ann@laptop has been working on it since 2026-11-23 19:00:00 UTC" in str(error.value)
    assert str(error.value).endswith("(cd terraform && terraform force-unlock 1234-abc)")


def test_a_plan_can_be_made_without_the_lock(root: Terraform) -> None:
    make_state_bucket()
    root.init()
    lock()
    assert root.plan(root.folder / "a.tfplan", lock=False)


def test_an_invalid_value_is_reported_with_only_its_own_message(root: Terraform) -> None:
    (root.folder / "terraform.tfvars").write_text("strategies = {}")
    root.init()
    with pytest.raises(TerraformError) as error:
        root.plan(root.folder / "a.tfplan")
    assert str(error.value) == "Terraform: strategies is empty: name at least one."


def test_an_old_plan_is_not_applied(root: Terraform) -> None:
    apply_all(root)
    (root.folder / "terraform.tfvars").write_text("size = 2")
    for name in ("b", "c"):
        root.plan(root.folder / f"{name}.tfplan")
    root.apply(root.folder / "b.tfplan", 1)
    with pytest.raises(TerraformError, match=r"Saved plan is stale(.|\n)*make a new plan: make plan OUT="):
        root.apply(root.folder / "c.tfplan", 1)


def test_a_missing_plan_is_reported_with_the_way_to_make_it(root: Terraform) -> None:
    with pytest.raises(
        CommandError, match=r"the plan x\.tfplan does not exist; make one with: make plan OUT=x\.tfplan"
    ):
        root.show(Path("x.tfplan"))


def test_the_advice_on_an_existing_log_group_works(
    aws: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = f"/aws/lambda/{PROJECT}-trend"
    boto3.client("logs").create_log_group(logGroupName=group)
    boto3.client("logs").create_log_stream(logGroupName=group, logStreamName="of an earlier run")
    folder = tmp_path / "the real root"
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "backend.tf")
    shutil.copytree(ROOT / "terraform", folder, ignore=ignored)
    for name, value in terraform_here.attach_provider(aws, folder).items():
        monkeypatch.setenv(name, value)
    (folder / "terraform.tfvars").write_text(
        'layer_zip = "tests/zips/layer.zip"\nfunction_zip = "tests/zips/function.zip"\n'
    )
    root = Terraform(connect(), folder)
    root.init()
    root.plan(tmp_path / "plan")
    (problem,) = check_existing(root.cloud, root.show(tmp_path / "plan"), folder).problems
    command = problem.split("what is in it: ")[1].split("\n")[0]
    env = {name: value for name, value in os.environ.items() if name != "AWS_REGION"}
    done = subprocess.run(["/bin/sh", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    root.plan(tmp_path / "plan")
    assert check_existing(root.cloud, root.show(tmp_path / "plan"), folder).problems == []
    assert boto3.client("logs").describe_log_streams(logGroupName=group)["logStreams"]


DENIED = "api error AccessDenied: not authorized to perform lambda:Create"
BROKEN = f"""
resource "terraform_data" "first" {{}}
resource "terraform_data" "second" {{
  depends_on = [terraform_data.first]
  provisioner "local-exec" {{ command = "echo {DENIED} >&2; exit 1" }}
}}
"""


def test_an_apply_that_fails_halfway_says_so_and_what_to_do(root: Terraform) -> None:
    (root.folder / "main.tf").write_text(BROKEN)
    with pytest.raises(TerraformError) as error:
        apply_all(root)
    assert "not authorized to perform lambda:Create" in str(error.value)
    assert "these credentials do not allow that" in str(error.value)
    said = "1 of 1 changes were made before the error and stay; the same command continues from there"
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("creating S3 Bucket (x): BucketAlreadyExists", r"bucket_name = "),
        ("creating S3 Bucket (x): BucketAlreadyOwnedByYou", r"bucket_name = "),
        ("No valid credential sources found", r"log in"),
        ("api error ExpiredToken: the token has expired", r"log in"),
        ("api error AccessDeniedException: nobody", r"AWS_PROFILE"),
        ("ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution", r"leave out"),
        ("Failed to query available provider packages", r"check the network connection"),
        ("deleting S3 Bucket: BucketNotEmpty", r"make destroy again"),
        ("creating CloudWatch Logs Log Group (x): ResourceAlreadyExistsException: it exists", r"make plan names each"),
        ("creating IAM Role (x): EntityAlreadyExists: Role with name x already exists", r"make plan names each"),
        ("creating SSM Parameter (x): ParameterAlreadyExists: it already exists", r"make plan names each"),
        ("creating Lambda Function (x): ResourceConflictException: Function already exist: x", r"make plan names each"),
    ],
)
def test_known_errors_end_with_what_to_do(said: str, hint: str) -> None:
    first, *more = str(explain([said])).splitlines()
    assert first == f"Terraform: {said}"
    assert re.search(hint, "\n".join(more))


def test_a_repeated_error_is_reported_once() -> None:
    assert str(explain(["it is broken", "it is broken"])) == "Terraform: it is broken"


def only_terraform(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a script the only terraform on the PATH."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "terraform"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"))


@pytest.mark.parametrize("version", ["1.10.5", "0.15.0", "2.0.1"])
def test_an_unsupported_version_of_terraform_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_terraform(tmp_path, f"""echo '{{"terraform_version": "{version}"}}'""", monkeypatch)
    with pytest.raises(CommandError, match=rf"terraform {re.escape(version)} is not supported: install 1\.11 or newer"):
        terraform.check_version()


@pytest.mark.parametrize("version", ["1.11.0", "1.12.3", "1.20.0-rc1"])
def test_a_newer_version_of_terraform_is_accepted(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_terraform(tmp_path, f"""echo '{{"terraform_version": "{version}"}}'""", monkeypatch)
    terraform.check_version()


def test_without_terraform_the_error_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        CommandError, match=r"^terraform is not installed: install version 1\.11 or newer from https://"
    ):
        terraform.check_version()


# --- Ctrl-C ---

SLOW = """
resource "terraform_data" "first" {}
resource "terraform_data" "second" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" { command = "touch begun; sleep 60" }
}
"""
APPLY = """
from pathlib import Path
from scripts import console
from scripts.cloud.aws import connect
from scripts.cloud.terraform import Terraform
with console.plain_errors(interrupted="interrupted"):
    root = Terraform(connect())
    root.init()
    root.plan(Path("a.tfplan"))
    root.apply(Path("a.tfplan"), 2)
"""


@pytest.mark.parametrize("reason", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "ended by CI"])
def test_an_interrupted_deployment_saves_and_unlocks_its_state(reason: signal.Signals, root: Terraform) -> None:
    (root.folder / "main.tf").write_text(SLOW)
    with python("-c", APPLY, cwd=root.folder.parent) as command:
        wait_for(root.folder / "begun")
        command.send_signal(reason)
        _, said = command.communicate(timeout=30)
    assert (command.returncode, said.splitlines()[-1]) == (130, "interrupted")
    assert {each["name"] for each in again(root).state()} >= {"first"}
    assert changes_anything(again(root)), "the lock must be free"


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"no {path} after 30 s"
        time.sleep(0.05)


def python(*words: str, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a separate Python process that can import this repository's modules."""
    path = f"{ROOT / 'function'}{os.pathsep}{ROOT}"
    return subprocess.Popen(
        [*warm_python(), *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- the layer ---


def choices(**changed: str) -> Variables:
    asked = {"architecture": "x86_64", "python": "3.13", "function_zip": None, "layer_zip": None, **changed}
    return Variables(strategies=["trend"], parameters={"trend": {}}, **asked)  # type: ignore[arg-type]


def test_the_layer_to_build_is_the_one_terraform_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "DIST", tmp_path)
    wanted = choices(python="3.14", architecture="arm64")
    assert reason_to_build(wanted) == "prophet-layer-python3.14-arm64.zip does not exist"


def test_the_users_own_layer_need_not_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "DIST", tmp_path)
    assert reason_to_build(choices(layer_zip="mine.zip")) == ""


# --- the table ---


@pytest.fixture
def show_row(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that shows a strategy's row on one line."""

    def call(**its: object) -> str:
        show_strategies({"trend": {"schedule": "cron(0 15 ? * * *)", "function_name": "f", **PAPER, **its}})
        return " ".join(capsys.readouterr().out.splitlines()[-1].split())

    return call


PAPER = {"environment": {"MODE": "paper"}}


def test_a_strategy_is_shown_with_its_settings_and_schedule(show_row: Callable[..., str]) -> None:
    assert show_row(version="7") == "trend paper 7 cron(0 15 ? * * *) f"


def test_real_money_is_named_in_capitals(show_row: Callable[..., str]) -> None:
    assert show_row(environment={"MODE": "live"}).startswith("TREND LIVE: REAL MONEY")


def test_the_strategies_fit_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "OUT", Console(force_terminal=True, width=80, color_system=None, highlight=False))
    show_strategies({"trend": {"schedule": "cron(0/15 13-21 ? * MON-FRI *)", "function_name": "f" * 40, **PAPER}})
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "Function " + "f" * 40 in out


def test_a_schedule_that_is_switched_off_is_shown_as_off(show_row: Callable[..., str]) -> None:
    assert "off (cron(0 15 ? * * *))" in show_row(enabled=False)


# --- the commands ---

SMALL = """
data "aws_caller_identity" "this" {}
data "aws_region" "this" {}
locals { bucket = "${var.project}-${data.aws_caller_identity.this.account_id}-${data.aws_region.this.name}" }
resource "aws_s3_bucket" "this" { bucket = local.bucket }
resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration { status = "Enabled" }
}
resource "aws_s3_object" "code" {
  bucket      = aws_s3_bucket_versioning.this.bucket
  key         = "function/function.zip"
  source      = var.function_zip
  source_hash = filesha256(var.function_zip)
}
resource "aws_sns_topic" "alarms" { name = "${var.project}-alarms" }
resource "aws_ssm_parameter" "halt" {
  for_each = var.strategies
  name     = "/${var.project}/${each.key}/halt"
  type     = "String"
  value    = "false"
}
output "alarm_topic_arn" { value = aws_sns_topic.alarms.arn }
output "artifact_bucket" { value = aws_s3_bucket.this.id }
output "dashboard_url" { value = "https://example.com/dashboard" }
output "strategies" {
  value = { for name, its in var.strategies : name => {
    function_name  = "${var.project}-${name}"
    version        = aws_s3_object.code.version_id
    schedule       = "cron(0/15 13-21 ? * MON-FRI *)"
    halt_parameter = "/${var.project}/${name}/halt"
    parameters     = ["/${var.project}/${name}/alpacapw", "/${var.project}/${name}/alpacauser"]
    environment = merge(its.settings, {
      STRATEGY   = name, BROKER = "alpaca", MODE = its.mode, JOURNAL = "s3://${local.bucket}"
      ALPACAUSER = "ssm:/${var.project}/${name}/alpacauser", ALPACAPW = "ssm:/${var.project}/${name}/alpacapw"
    })
  } }
}
"""
"""A root shaped like the real one, of resources that are quick to create."""


type Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Provide a folder with the small root, and an account; each later step builds on the one before."""
    terraform_here.require()
    folder = tmp_path_factory.mktemp("site")
    (folder / "terraform").mkdir()
    (folder / "terraform" / "variables.tf").write_text(VARIABLES)
    (folder / "terraform" / "main.tf").write_text(SMALL)
    (folder / "function.zip").write_bytes(b"code")
    (folder / "terraform" / "terraform.tfvars").write_text('function_zip = "../function.zip"\nlayer_zip = "none.zip"\n')
    with (
        moto.account() as variables,
        patch.dict(os.environ, terraform_here.attach_provider(variables, folder / "terraform")),
    ):
        yield folder


def run(site: Path, command: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as make does, without a terminal."""
    with python("-m", "scripts", command, *words, cwd=site, **variables) as process:
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ran(site: Path, command: str, *words: str, **variables: str) -> str:
    """Run a command that must succeed, and return what it printed."""
    done = run(site, command, *words, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_in_ssm() -> list[str]:
    return sorted(item["Name"] for item in boto3.client("ssm").describe_parameters()["Parameters"])


def buckets() -> list[str]:
    return [item["Name"] for item in boto3.client("s3").list_buckets()["Buckets"]]


def test_a_plan_shows_what_is_new_and_missing_and_makes_nothing(site: Path) -> None:
    done = run(site, "plan", OUT="a.tfplan")
    assert done.returncode == 3
    assert "aws_s3_bucket.this will be created" in done.stdout
    assert "/prophet-trader/trend/alpacauser: not in SSM yet; run make secrets STRATEGY=trend" in done.stderr
    assert "Traceback" not in done.stderr
    assert (buckets(), (site / "a.tfplan").exists()) == ([], False)


def test_without_keys_or_with_bad_settings_nothing_is_deployed(site: Path) -> None:
    with also(site, 'strategies = { trend = { settings = { SIGNAL = "up" } } }'):
        done = run(site, "deploy")
    assert (done.returncode, done.stdout) == (3, "")
    assert "make secrets STRATEGY=trend" in done.stderr
    assert "trend: SIGNAL='up': must be one of trend, interval, horizon" in done.stderr
    assert (buckets(), names_in_ssm()) == ([], [])


def test_a_rule_that_did_not_pass_its_check_is_not_deployed(site: Path) -> None:
    ran(site, "rule", NAME="mine")
    with also(site, 'strategies = { trend = { settings = { SIGNAL = "rules/mine.py", RULE_DAYS = "20" } } }'):
        unchecked = run(site, "plan")
        checked = run(site, "plan", CHECK_RULES="1")
    problem = "trend: SIGNAL=rules/mine.py has not been checked as it is now; make check-rule SIGNAL=rules/mine.py"
    assert (unchecked.returncode, problem in unchecked.stderr) == (3, True)
    assert "RULE_DAYS is not a setting" not in unchecked.stderr
    assert ("checking rules/mine.py" in checked.stderr, "SIGNAL=rules/mine.py" in checked.stderr) == (True, False)
    assert buckets() == []


@contextmanager
def also(site: Path, tfvars: str) -> Iterator[None]:
    """Add variables for the duration of the block."""
    more = site / "terraform" / "x.auto.tfvars"
    more.write_text(tfvars)
    yield
    more.unlink()


def test_there_is_nothing_to_destroy_before_anything_is_deployed(site: Path) -> None:
    assert ran(site, "destroy") == f"Nothing of {PROJECT} exists in account {ACCOUNT}, region {REGION}.\n"


@pytest.fixture(scope="module")
def with_keys(site: Path) -> Path:
    """Store the keys, as make secrets does."""
    for name in ("alpacauser", "alpacapw"):
        boto3.client("ssm").put_parameter(Name=f"/{PROJECT}/trend/{name}", Value="secret", Type="SecureString")
    return site


@pytest.fixture(scope="module")
def a_plan(with_keys: Path) -> dict[str, Any]:
    """Plan the first deployment, keep the plan, and return make plan's JSON."""
    told: dict[str, Any] = json.loads(ran(with_keys, "plan", "--json", OUT="a.tfplan"))
    return told


def test_a_plan_as_json_lists_the_changes(a_plan: dict[str, Any], with_keys: Path) -> None:
    assert (a_plan["add"], a_plan["change"], a_plan["destroy"], a_plan["plan"]) == (5, 0, 0, "a.tfplan")
    assert {"address": "aws_s3_bucket.this", "actions": ["create"]} in a_plan["changes"]
    assert a_plan["outputs"]["strategies"]["trend"]["environment"]["MODE"] == "paper"
    assert buckets() == []


def test_a_plan_needs_a_finished_layer(with_keys: Path) -> None:
    with also(with_keys, 'layer_zip = null\npython = "3.99"\n'):
        done = run(with_keys, "plan")
    assert done.returncode == 3
    assert "prophet-layer-python3.99-x86_64.zip does not exist; build the layer with" in done.stderr
    assert "make layer PYTHON=3.99" in done.stderr


def test_a_layer_that_cannot_be_built_is_not_deployed(with_keys: Path) -> None:
    with also(with_keys, 'layer_zip = null\npython = "3.99"\n'):
        done = run(with_keys, "deploy")
    assert (done.returncode, done.stdout, buckets()) == (3, "", [])
    assert "building the layer" in done.stderr
    assert "PYTHON=3.99: must be one of 3.13, 3.14" in done.stderr


def test_a_file_changed_since_the_plan_is_not_deployed(a_plan: dict[str, Any], with_keys: Path) -> None:
    (with_keys / "function.zip").write_bytes(b"other")
    done = run(with_keys, "deploy", PLAN="a.tfplan")
    (with_keys / "function.zip").write_bytes(b"code")
    assert (done.returncode, buckets()) == (3, [])
    assert "function.zip has changed since the plan was made" in done.stderr


@pytest.fixture(scope="module")
def live_site(a_plan: dict[str, Any], with_keys: Path) -> tuple[Path, str]:
    """Deploy the kept plan; return the folder and the output."""
    return with_keys, ran(with_keys, "deploy", PLAN="a.tfplan")


def test_a_kept_plan_is_deployed_unchanged(live_site: tuple[Path, str]) -> None:
    assert "Deployed: 5 changes." in live_site[1]
    assert buckets() == [BUCKET]


def test_a_deployment_shows_its_dashboard_and_the_next_steps(live_site: tuple[Path, str]) -> None:
    assert "Dashboard: https://example.com/dashboard" in live_site[1]
    assert "make invoke (a run now), make logs QUERY=orders, make halt (stops trading)" in live_site[1]


def test_a_second_deployment_changes_nothing_and_says_so(live_site: tuple[Path, str]) -> None:
    assert "Nothing to change: AWS matches terraform/." in ran(live_site[0], "deploy")


def test_a_folder_without_the_state_neither_deploys_nor_destroys(live_site: tuple[Path, str], tmp_path: Path) -> None:
    for name in ("terraform/main.tf", "terraform/variables.tf", "terraform/terraform.tfvars", "function.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((live_site[0] / name).read_bytes())
    done = run(tmp_path, "deploy")
    assert done.returncode == 3
    assert f"the bucket {BUCKET} already exists, but it is not in Terraform's state here" in done.stderr
    done = run(tmp_path, "destroy", CONFIRM=PROJECT)
    assert done.returncode == 3
    assert "Terraform's state is not here" in " ".join(done.stderr.split())
    assert buckets() == [BUCKET]


@pytest.fixture(scope="module")
def in_use(live_site: tuple[Path, str]) -> Path:
    """Add what the bot leaves (journal objects in two versions, a log group) and what others own; return the folder."""
    s3 = boto3.client("s3")
    for key in ("runs/trend/2026-11-23/20261123T1500Z.json", "universe/trend/2026-11-23.json", "runs/trend/x.claim"):
        for text in (b"{}", b'{"version": 1}'):
            s3.put_object(Bucket=BUCKET, Key=key, Body=text)
    s3.delete_object(Bucket=BUCKET, Key="runs/trend/x.claim")
    boto3.client("logs").create_log_group(logGroupName="/aws/lambda/prophet-trader-trend")
    boto3.client("logs").create_log_group(logGroupName="/aws/lambda/prophet-trader-other-project")
    boto3.client("ssm").put_parameter(Name="/prophet-trader-2/trend/alpacapw", Value="x", Type="SecureString")
    return live_site[0]


@pytest.fixture(scope="module")
def unnamed(in_use: Path) -> subprocess.CompletedProcess[str]:
    """Ask for the destruction, but do not name the project."""
    return run(in_use, "destroy")


def test_nothing_is_destroyed_without_the_projects_name(unnamed: subprocess.CompletedProcess[str]) -> None:
    assert (unnamed.returncode, unnamed.stdout) == (3, "")
    assert "nothing was destroyed: there is no terminal to ask on; set CONFIRM=prophet-trader" in unnamed.stderr
    assert len(boto3.client("s3").list_object_versions(Bucket=BUCKET)["Versions"]) == 7


def test_nothing_is_destroyed_with_another_name(in_use: Path) -> None:
    done = run(in_use, "destroy", CONFIRM="yes")
    assert (done.returncode, done.stdout) == (3, "")
    assert "nothing was destroyed: 'yes' is not prophet-trader" in done.stderr
    assert len(boto3.client("s3").list_object_versions(Bucket=BUCKET)["Versions"]) == 7


def test_the_loss_is_shown_before_the_destruction(unnamed: subprocess.CompletedProcess[str]) -> None:
    said = unnamed.stderr
    assert f"This will be permanently destroyed in account {ACCOUNT}, region {REGION}:" in said
    assert f"bucket {BUCKET}: 1 record of runs" in said
    assert "strategies: trend" in said


def test_a_journal_that_cannot_be_kept_stops_the_destruction(in_use: Path) -> None:
    (in_use / "file").write_text("")
    done = run(in_use, "destroy", CONFIRM=PROJECT, KEEP_JOURNAL="file")
    assert done.returncode == 3
    assert "nothing was destroyed: KEEP_JOURNAL: file/" in done.stderr
    assert len(boto3.client("s3").list_object_versions(Bucket=BUCKET)["Versions"]) == 7


@pytest.fixture(scope="module")
def aftermath(in_use: Path) -> tuple[Path, dict[str, Any]]:
    """Destroy everything but keep the journal; return the folder and make destroy's JSON."""
    return in_use, json.loads(ran(in_use, "destroy", "--json", CONFIRM=PROJECT, KEEP_JOURNAL="kept"))


def test_everything_of_the_project_is_gone_and_nothing_else(aftermath: tuple[Path, dict[str, Any]]) -> None:
    groups = boto3.client("logs").describe_log_groups()["logGroups"]
    assert (buckets(), boto3.client("sns").list_topics()["Topics"]) == ([], [])
    assert names_in_ssm() == ["/prophet-trader-2/trend/alpacapw"]
    assert [group["logGroupName"] for group in groups] == ["/aws/lambda/prophet-trader-other-project"]


def test_the_kept_journal_is_unchanged(aftermath: tuple[Path, dict[str, Any]]) -> None:
    kept = aftermath[0] / "kept"
    found = {str(path.relative_to(kept)): path.read_text() for path in kept.rglob("*") if path.is_file()}
    assert found == {
        "runs/trend/2026-11-23/20261123T1500Z.json": '{"version": 1}',
        "universe/trend/2026-11-23.json": '{"version": 1}',
    }


def test_make_destroy_reports_the_destruction_as_json(aftermath: tuple[Path, dict[str, Any]]) -> None:
    told = aftermath[1]
    assert (told["destroyed"], told["strategies"], told["resources"], told["records"]) == (True, ["trend"], 5, 1)
    assert told["keys"] == [f"/{PROJECT}/trend/alpacapw", f"/{PROJECT}/trend/alpacauser"]


def test_a_second_make_destroy_finds_nothing(aftermath: tuple[Path, dict[str, Any]]) -> None:
    assert "Nothing of prophet-trader exists" in ran(aftermath[0], "destroy")


def test_without_credentials_no_command_gives_a_traceback(tmp_path: Path, aws: Mapping[str, str]) -> None:
    for command in ("plan", "deploy", "destroy"):
        done = run(tmp_path, command, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", HOME=str(tmp_path))
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("no AWS credentials found")
