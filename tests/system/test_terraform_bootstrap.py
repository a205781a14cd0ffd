"""`make bootstrap` as a person runs it: real Terraform in a copy of its folder, moto's server as the AWS account."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest

from scripts import ROOT
from scripts.testkit import aws
from tests import terraform_here
from tests.warm.python import python

ACCOUNT, REGION = "123456789012", "us-east-1"
STATE_BUCKET = f"prophet-trader-state-{ACCOUNT}-{REGION}"
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/prophet-trader/trend"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/prophet-trader"
ISSUER = "token.actions.githubusercontent.com"
SETTINGS = ("PATH", "TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR")

type Bootstrap = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def account() -> Iterator[dict[str, str]]:
    """Provide one account for all tests, so that a second project or laptop finds what the first has made."""
    terraform_here.require()
    with aws.account() as variables:
        yield variables | terraform_here.attach_provider(variables)


def copy_configuration(laptop: Path) -> Path:
    """Copy the configuration, without local files, to a laptop; return its folder there."""
    local = shutil.ignore_patterns(".terraform*", "*.tfstate*", "backend.tf")
    shutil.copytree(ROOT / "terraform" / "modules", laptop / "terraform" / "modules")
    return shutil.copytree(ROOT / "terraform" / "bootstrap", laptop / "terraform" / "bootstrap", ignore=local)


@pytest.fixture(scope="module")
def bootstrap(account: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Bootstrap:
    """Return a function that runs the command with given variables, each time on a new laptop."""

    def call(**variables: str) -> subprocess.CompletedProcess[str]:
        laptop = tmp_path_factory.mktemp("laptop")
        copy_configuration(laptop)
        kept = {name: os.environ[name] for name in SETTINGS if name in os.environ}
        done = subprocess.run(
            [*python(), "-m", "scripts", "bootstrap"],
            cwd=laptop,
            env={**kept, **account, "HOME": str(laptop), "PYTHONPATH": f"{ROOT / 'function'}:{ROOT}", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
        assert not list(laptop.rglob("*.tfstate.backup")), "a state was left behind on the laptop"
        return done

    return call


@pytest.fixture(scope="module")
def outputs(bootstrap: Bootstrap) -> dict[str, Any]:
    """Run the command for the first time, for a repository and its branch main; return the outputs."""
    done = bootstrap(REPOSITORY="octo-org/bot", REPOSITORY_IDS="12/345", JSON="1")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def trust(role_arn: str) -> Any:
    role = boto3.client("iam").get_role(RoleName=role_arn.rsplit("/", maxsplit=1)[-1])["Role"]
    document: Any = role["AssumeRolePolicyDocument"]
    return document["Statement"]


def statements(role_arn: str) -> list[dict[str, Any]]:
    iam, name = boto3.client("iam"), role_arn.rsplit("/", maxsplit=1)[-1]
    (policy,) = iam.list_role_policies(RoleName=name)["PolicyNames"]
    assert not iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    document: Any = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    found: list[dict[str, Any]] = document["Statement"]
    return found


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def about(role_arn: str, action: str, resource: str) -> list[dict[str, Any]]:
    """Return the statements of a role's policy that apply to an action on a resource."""
    return [
        each
        for each in statements(role_arn)
        if any(fnmatchcase(action, pattern) for pattern in as_list(each["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in as_list(each["Resource"]))
    ]


def allows(role_arn: str, action: str, resource: str) -> bool:
    """Tell whether IAM would allow the action if all conditions are met."""
    effects = [each["Effect"] for each in about(role_arn, action, resource)]
    return "Allow" in effects and "Deny" not in effects


# --- the configuration alone ---


@pytest.mark.slow
def test_terraforms_own_tests_pass(tmp_path: Path) -> None:
    terraform_here.require()
    folder = copy_configuration(tmp_path)
    for words in (["init", "-backend=false"], ["test"]):
        done = subprocess.run(
            ["terraform", *words, "-no-color"],
            cwd=folder,
            env={**os.environ, **terraform_here.attach_provider()},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout + done.stderr


# --- the state ---


def test_the_state_is_in_the_bucket_from_the_first_run(outputs: dict[str, Any]) -> None:
    assert outputs["state_bucket"] == STATE_BUCKET
    state = boto3.client("s3").get_object(Bucket=STATE_BUCKET, Key="bootstrap.tfstate")["Body"].read()
    assert any(each["type"] == "aws_s3_bucket" for each in json.loads(state)["resources"])


@pytest.mark.usefixtures("outputs")
def test_the_bucket_keeps_old_versions() -> None:
    s3 = boto3.client("s3")
    assert s3.get_bucket_versioning(Bucket=STATE_BUCKET)["Status"] == "Enabled"
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=STATE_BUCKET)


@pytest.mark.usefixtures("outputs")
def test_the_bucket_is_private() -> None:
    s3 = boto3.client("s3")
    block = s3.get_public_access_block(Bucket=STATE_BUCKET)["PublicAccessBlockConfiguration"]
    owner = s3.get_bucket_ownership_controls(Bucket=STATE_BUCKET)["OwnershipControls"]
    assert set(block.values()) == {True}
    assert owner["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


@pytest.mark.usefixtures("outputs")
def test_the_bucket_is_encrypted_at_rest_and_in_transit() -> None:
    s3 = boto3.client("s3")
    (rule,) = s3.get_bucket_encryption(Bucket=STATE_BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=STATE_BUCKET)["Policy"])["Statement"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# --- the boundary ---


JOURNAL = ("runs", "universe", "equity", "accounts", "digests")


def test_the_boundary_allows_only_what_functions_need(outputs: dict[str, Any]) -> None:
    iam = boto3.client("iam")
    version = iam.get_policy(PolicyArn=outputs["boundary_arn"])["Policy"]["DefaultVersionId"]
    document: Any = iam.get_policy_version(PolicyArn=outputs["boundary_arn"], VersionId=version)["PolicyVersion"]
    text = document["Document"]
    found = (json.loads(unquote(text)) if isinstance(text, str) else text)["Statement"]
    bucket = f"arn:aws:s3:::prophet-trader-{ACCOUNT}-{REGION}"
    assert {action: as_list(each["Resource"]) for each in found for action in as_list(each["Action"])} == {
        "logs:CreateLogStream": [f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/prophet-trader-*:*"],
        "logs:PutLogEvents": [f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/prophet-trader-*:*"],
        "ssm:GetParameters": [f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/prophet-trader/*"],
        "kms:Decrypt": [f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*"],
        "s3:GetObject": [f"{bucket}/{folder}/*" for folder in JOURNAL],
        "s3:PutObject": [f"{bucket}/{folder}/*" for folder in JOURNAL],
        "s3:ListBucket": [bucket],
        "sns:Publish": [f"arn:aws:sns:{REGION}:{ACCOUNT}:prophet-trader-alarms"],
        "xray:PutTelemetryRecords": ["*"],
        "xray:PutTraceSegments": ["*"],
    }


# --- GitHub ---


def test_deploy_trusts_only_the_branch_of_the_repository(outputs: dict[str, Any]) -> None:
    assert trust(outputs["deploy_role_arn"]) == [
        {
            "Effect": "Allow",
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"},
            "Condition": {
                "StringEquals": {
                    f"{ISSUER}:aud": "sts.amazonaws.com",
                    f"{ISSUER}:sub": [
                        "repo:octo-org/bot:ref:refs/heads/main",
                        "repo:octo-org@12/bot@345:ref:refs/heads/main",
                    ],
                }
            },
        }
    ]


def test_plan_also_trusts_pull_requests(outputs: dict[str, Any]) -> None:
    (statement,) = trust(outputs["plan_role_arn"])
    assert statement["Condition"]["StringEquals"][f"{ISSUER}:sub"] == [
        "repo:octo-org/bot:pull_request",
        "repo:octo-org@12/bot@345:pull_request",
        "repo:octo-org/bot:ref:refs/heads/main",
        "repo:octo-org@12/bot@345:ref:refs/heads/main",
    ]


@pytest.mark.parametrize("role", ["plan_role_arn", "deploy_role_arn"])
@pytest.mark.parametrize("name", ["alpacauser", "alpacapw", "other"])
@pytest.mark.parametrize("action", ["GetParameter", "GetParameters", "GetParametersByPath", "GetParameterHistory"])
def test_no_github_role_can_read_a_secret(outputs: dict[str, Any], role: str, name: str, action: str) -> None:
    assert not allows(outputs[role], f"ssm:{action}", f"{PARAMETER}/{name}")
    assert not allows(outputs[role], f"ssm:{action}", "arn:aws:ssm:us-east-1:123456789012:parameter/prophet-trader")


@pytest.mark.parametrize("role", ["plan_role_arn", "deploy_role_arn"])
def test_both_roles_can_read_the_halt_switch(outputs: dict[str, Any], role: str) -> None:
    assert allows(outputs[role], "ssm:GetParameter", f"{PARAMETER}/halt")


def test_a_plan_without_make_finds_the_boundary_in_ssm(outputs: dict[str, Any]) -> None:
    found = boto3.client("ssm").get_parameters_by_path(Path="/prophet-trader/_bootstrap")["Parameters"]
    assert [each["Value"] for each in found] == [outputs["boundary_arn"]]


@pytest.mark.parametrize("role", ["plan_role_arn", "deploy_role_arn"])
def test_both_roles_find_the_boundary(outputs: dict[str, Any], role: str) -> None:
    arn = "arn:aws:ssm:us-east-1:123456789012:parameter/prophet-trader/_bootstrap"
    assert allows(outputs[role], "ssm:GetParametersByPath", arn)


def test_deploy_creates_roles_only_inside_the_boundary(outputs: dict[str, Any]) -> None:
    for action in ("CreateRole", "PutRolePolicy", "DeleteRolePolicy", "PutRolePermissionsBoundary"):
        (statement,) = about(outputs["deploy_role_arn"], f"iam:{action}", f"{ROLE}-trend")
        assert statement["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": outputs["boundary_arn"]}}, action


@pytest.mark.parametrize(
    "action", ["AttachRolePolicy", "DeleteRolePermissionsBoundary", "UpdateAssumeRolePolicy", "CreatePolicyVersion"]
)
def test_deploy_cannot_make_itself_an_administrator(outputs: dict[str, Any], action: str) -> None:
    for resource in (f"{ROLE}-trend", f"{ROLE}-ci-deploy", outputs["boundary_arn"]):
        assert not allows(outputs["deploy_role_arn"], f"iam:{action}", resource)


@pytest.mark.parametrize("action", ["PutRolePolicy", "PassRole", "DeleteRole", "TagRole"])
def test_deploy_cannot_change_its_own_roles(outputs: dict[str, Any], action: str) -> None:
    assert allows(outputs["deploy_role_arn"], f"iam:{action}", f"{ROLE}-trend")
    assert not allows(outputs["deploy_role_arn"], f"iam:{action}", f"{ROLE}-ci-plan")


def test_deploy_passes_roles_only_to_lambda(outputs: dict[str, Any]) -> None:
    (statement,) = about(outputs["deploy_role_arn"], "iam:PassRole", f"{ROLE}-trend")
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}


def test_only_deploy_writes_the_state_and_only_that_of_the_root(outputs: dict[str, Any]) -> None:
    state = f"arn:aws:s3:::{STATE_BUCKET}"
    assert allows(outputs["deploy_role_arn"], "s3:PutObject", f"{state}/prophet-trader.tfstate")
    assert allows(outputs["deploy_role_arn"], "s3:DeleteObject", f"{state}/prophet-trader.tfstate.tflock")
    assert not allows(outputs["deploy_role_arn"], "s3:PutObject", f"{state}/bootstrap.tfstate")
    assert not allows(outputs["plan_role_arn"], "s3:PutObject", f"{state}/prophet-trader.tfstate")


def test_neither_role_can_touch_the_journal(outputs: dict[str, Any]) -> None:
    record = f"arn:aws:s3:::prophet-trader-{ACCOUNT}-{REGION}/runs/trend/2026-01-02/x.json"
    for role in ("plan_role_arn", "deploy_role_arn"):
        for action in ("PutObject", "DeleteObject", "DeleteObjectVersion"):
            assert not allows(outputs[role], f"s3:{action}", record)


BUCKET = f"arn:aws:s3:::prophet-trader-{ACCOUNT}-{REGION}"
RECORD = "runs/trend/2026-01-02/20260102T1500Z.json"


@pytest.mark.parametrize("bucket", [BUCKET, f"arn:aws:s3:::{STATE_BUCKET}"], ids=["journal", "state"])
@pytest.mark.parametrize("role", ["plan_role_arn", "deploy_role_arn"])
@pytest.mark.parametrize(
    "action",
    [
        *(
            "CreateBucket",
            "DeleteBucket",
            "DeleteBucketPolicy",
            "PutBucketPolicy",
            "PutBucketAcl",
            "PutBucketVersioning",
        ),
        *("PutLifecycleConfiguration", "PutReplicationConfiguration", "PutBucketOwnershipControls"),
        *("PutBucketPublicAccessBlock", "PutEncryptionConfiguration", "PutBucketObjectLockConfiguration"),
        *("PutInventoryConfiguration", "PutIntelligentTieringConfiguration", "PutBucketNotification"),
    ],
)
def test_no_github_role_can_change_a_bucket(outputs: dict[str, Any], role: str, action: str, bucket: str) -> None:
    assert not allows(outputs[role], f"s3:{action}", bucket)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        *((f"s3:{action}", BUCKET) for action in ("PutBucketPolicy", "PutLifecycleConfiguration", "DeleteBucket")),
        *(
            (f"s3:{action}", f"{BUCKET}/{key}")
            for action in ("DeleteObject", "DeleteObjectVersion", "DeleteObjectTagging", "PutObject", "PutObjectAcl")
            for key in (RECORD, "universe/trend/2026-01-02.json", "equity/trend/peak.json")
        ),
        ("s3:DeleteObjectVersion", f"arn:aws:s3:::{STATE_BUCKET}/prophet-trader.tfstate"),
        ("s3:DeleteObjectVersion", f"arn:aws:s3:::{STATE_BUCKET}/bootstrap.tfstate"),
        ("iam:PassRole", f"{ROLE}-2-ci-deploy"),
        ("iam:PutRolePolicy", f"{ROLE}-ci-deploy"),
    ],
)
def test_deploy_is_denied_it_even_if_a_policy_elsewhere_allows_it(
    outputs: dict[str, Any], action: str, resource: str
) -> None:
    assert "Deny" in [each["Effect"] for each in about(outputs["deploy_role_arn"], action, resource)]


def test_iam_accepts_a_policy_of_this_size(outputs: dict[str, Any]) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": statements(outputs["deploy_role_arn"])})
    assert len("".join(text.split())) <= 10_240 * 0.95, "IAM's limit for all inline policies of a role, without spaces"


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("s3:PutObject", f"{BUCKET}/function/prophet-trader-trend.zip"),
        ("s3:DeleteObjectVersion", f"{BUCKET}/layer/layer.zip"),
        ("s3:GetBucketPolicy", BUCKET),
        ("s3:GetLifecycleConfiguration", BUCKET),
        ("s3:PutObject", f"arn:aws:s3:::{STATE_BUCKET}/prophet-trader.tfstate"),
        ("s3:DeleteObject", f"arn:aws:s3:::{STATE_BUCKET}/prophet-trader.tfstate.tflock"),
        ("iam:PassRole", f"{ROLE}-trend"),
        ("iam:PutRolePolicy", f"{ROLE}-trend"),
        ("ssm:PutParameter", f"{PARAMETER}/halt"),
    ],
)
def test_deploy_can_still_deploy(outputs: dict[str, Any], action: str, resource: str) -> None:
    assert allows(outputs["deploy_role_arn"], action, resource)


# --- a second run, and other projects ---


def test_a_run_on_another_laptop_changes_nothing(bootstrap: Bootstrap, outputs: dict[str, Any]) -> None:
    again = bootstrap(JSON="1")
    assert "nothing to change" in again.stderr
    assert json.loads(again.stdout) == outputs


@pytest.mark.usefixtures("outputs")
def test_a_second_project_shares_githubs_provider(bootstrap: Bootstrap) -> None:
    done = bootstrap(PROJECT="second", REPOSITORY="octo-org/second", REPOSITORY_IDS="12/678")
    providers = boto3.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert len(providers) == 1
    assert "gh variable set PROJECT --repo octo-org/second --body second" in done.stdout


def test_an_interrupted_bootstrap_without_a_repository_completes(bootstrap: Bootstrap) -> None:
    boto3.client("s3").create_bucket(Bucket=f"third-state-{ACCOUNT}-{REGION}")  # all that an interrupted run had made
    done = bootstrap(PROJECT="third")
    roles = [each["RoleName"] for each in boto3.client("iam").list_roles()["Roles"]]
    assert boto3.client("s3").get_bucket_versioning(Bucket=f"third-state-{ACCOUNT}-{REGION}")["Status"] == "Enabled"
    assert not [name for name in roles if name.startswith("third")]
    assert "make bootstrap REPOSITORY=owner/name" in done.stdout
