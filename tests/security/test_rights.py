"""The rights of the deployed function's role: all that a run needs, and nothing else.

Terraform makes the policy from the real root, for two strategies on moto's server. The function runs with the role's
credentials and the variables of its deployment. moto enforces actions and resources for S3 and SSM (with what
scripts/testkit/moto_gaps.py adds) and only actions for other services. Lambda's own use of the role, to log and to
report failed events, cannot be requested here; it is checked against the policy's text, as are the few calls that moto
cannot refuse.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError
from moto.core.authorization import enable_iam_authentication
from moto.iam.access_control import IAMPolicy, IAMRequestBase, PermissionResult

from lambda_function import do, run
from scripts import ROOT
from scripts.cloud import halt
from scripts.cloud.aws import connect
from scripts.testkit import aws, services
from scripts.testkit.alpaca import AlpacaFake
from tests import terraform_here
from trader.journal.base import JournalError
from trader.settings import SettingsError
from trader.wiring import OWN_ACCOUNTS, PARAMETERS

ACCOUNT, REGION = "123456789012", "us-east-1"
BUCKET = f"prophet-trader-{ACCOUNT}-{REGION}"
ROLE = "prophet-trader-trend"
PARAMETER = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/prophet-trader"
GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{ROLE}"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:prophet-trader-alarms"
SECRETS = {"alpacauser": "PKRIGHTS0KEY0ID0OF0A0TEST", "alpacapw": "rightsSecretKeyOfATestThatNobodyMaySee00"}
BARS = 60
PASSED_ON = ("PATH", "TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TMPDIR")

MADE = (
    ("trend", "aws_lambda_function.this"),  # includes its role, policy, code, layer and bucket
    ("trend", "aws_ssm_parameter.halt"),
    ("other", "aws_ssm_parameter.halt"),
)
"""The parts that are applied; the bucket's lifecycle alone would take Terraform's provider a minute."""

LAMBDAS_OWN = {
    ("logs:CreateLogStream", f"{GROUP}:*"): f"{GROUP}:log-stream:2026/11/23/[1]abc",
    ("logs:PutLogEvents", f"{GROUP}:*"): f"{GROUP}:log-stream:2026/11/23/[1]abc",
    ("sns:Publish", TOPIC): TOPIC,
}
"""The grants that Lambda itself uses to log and to report failed events, each with a resource."""

type Grant = tuple[str, str]
"""An action and a resource that the policy allows together."""


@dataclass(frozen=True)
class Deployed:
    """The role's policy, the function's environment variables, and the account that it trades."""

    policy: Mapping[str, Any]
    variables: Mapping[str, str]
    alpaca: AlpacaFake

    @property
    def grants(self) -> set[Grant]:
        """Every pair of an action and a resource that the policy allows."""
        return {
            (action, resource)
            for statement in self.policy["Statement"]
            for action in statement["Action"]
            for resource in statement["Resource"]
        }


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Deploy a strategy's function with its role; store halt switches and keys of this and another strategy."""
    terraform_here.require()
    folder = tmp_path_factory.mktemp("rights") / "terraform"
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars", "backend.tf")
    shutil.copytree(ROOT / "terraform", folder, ignore=ignored)
    with pytest.MonkeyPatch.context() as monkeypatch, aws.account() as server, trading() as alpaca:
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        write_tfvars(folder / "terraform.tfvars.json", alpaca)
        env = {**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **server}
        env |= terraform_here.attach_provider(server, folder)
        terraform(folder, env, "init", "-backend=false", "-input=false")
        targets = [f'-target=module.function["{strategy}"].{resource}' for strategy, resource in MADE]
        terraform(folder, env, "apply", "-auto-approve", "-input=false", *targets)
        for strategy in ("trend", "other"):
            halt.write(connect(), strategy, halt.VALUES["resume"])  # as make deploy does; Terraform creates it halted
            for name, value in SECRETS.items():
                name = f"/prophet-trader/{strategy}/{name}"
                boto3.client("ssm").put_parameter(Name=name, Value=value, Type="SecureString")
        policy: Any = boto3.client("iam").get_role_policy(RoleName=ROLE, PolicyName="function")["PolicyDocument"]
        config = boto3.client("lambda").get_function_configuration(FunctionName=ROLE)
        yield Deployed(policy=policy, variables=config["Environment"]["Variables"], alpaca=alpaca)
    shutil.rmtree(folder)  # it contains Terraform's provider, 700 MB


def terraform(folder: Path, env: Mapping[str, str], *words: str) -> None:
    done = subprocess.run(
        ["terraform", *words, "-no-color"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write_tfvars(path: Path, alpaca: AlpacaFake) -> None:
    """Write two strategies, of which `trend` trades at the stand-in."""
    settings = {
        "APCA_API_BASE_URL": alpaca.url,
        "APCA_API_DATA_URL": alpaca.url,
        "PRICE_SOURCES": "alpaca",
        "ENGINE": "map",
        "UNIVERSE": "KO,PEP",
        "HISTORY_BARS": str(BARS),
        "UNIVERSE_LOOKBACK_BARS": "20",
        "MAX_PRICE_AGE_S": "600000",  # enough even on a Sunday
    }
    zips = {f"{kind}_zip": f"tests/zips/{kind}.zip" for kind in ("layer", "function")}
    path.write_text(json.dumps({**zips, "strategies": {"trend": {"settings": settings}, "other": {}}}))


@contextmanager
def trading() -> Iterator[AlpacaFake]:
    """Serve an account at Alpaca, with closes on a line and a last price off it."""
    noise = np.random.default_rng(1).normal(0, 0.002, BARS)
    with AlpacaFake(prices={"KO": 104.5, "PEP": 105.0}, cash_usd=float(CASH_USD)) as fake:
        fake.key_id, fake.secret = SECRETS.values()
        for symbol, last in fake.prices.items():
            closes = [*(np.linspace(100, 110, BARS) * np.exp(noise))[:-1].tolist(), float(last)]
            fake.bars[symbol] = services.daily_bars(closes, datetime.now(UTC))
        yield fake


@contextmanager
def as_the_role() -> Iterator[list[Grant]]:
    """Make AWS enforce rights and boto3 use the role's credentials; yield the requests, as they are made."""
    role = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    keys = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="run")["Credentials"]
    asked: list[Grant] = []
    check = IAMRequestBase.check_action_permitted

    def note_action(self: IAMRequestBase, resource: str) -> None:
        asked.append((self._action, resource))
        check(self, resource)

    with pytest.MonkeyPatch.context() as monkeypatch, enable_iam_authentication():
        monkeypatch.setattr(IAMRequestBase, "check_action_permitted", note_action)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # the session would keep its old credentials
        yield asked


CASH_USD = Decimal(100_000)
"""What the account holds before each run."""

DONE = ["TRADED", "ALREADY_RAN", "NOT_SENT"]
"""How two runs for one slot and a digest end; there is no topic to send it to."""


@pytest.fixture(scope="module")
def fired(deployment: Deployed) -> tuple[Sequence[str], Sequence[Grant]]:
    """Run twice for one slot and make a digest as the role, each from a cold start; return how they ended, and all
    that they asked of AWS.
    """
    with as_the_role() as asked:
        ended = [outcome(deployment, event) for event in list_events()]
    clear(deployment)
    return ended, asked


def does_all(deployment: Deployed) -> bool:
    """Tell whether all ends as with every grant; after the first event that ends otherwise, no other is tried."""
    with as_the_role():
        is_done = all(outcome(deployment, event) == end for event, end in zip(list_events(), DONE, strict=True))
    clear(deployment)
    return is_done


def list_events() -> list[dict[str, str]]:
    """Return the events of two runs for one slot, and of a day's digest."""
    now = {"time": datetime.now(UTC).isoformat()}
    return [now, now, {"do": "digest", "time": "2026-11-25T21:15:00Z"}]


def outcome(deployment: Deployed, event: Mapping[str, str]) -> str:
    """Handle an event; return the status, or the error's name if that failed."""
    PARAMETERS.forget()
    OWN_ACCOUNTS.clear()
    try:
        return str((do if "do" in event else run)(event, env=deployment.variables)["status"])
    except (ClientError, JournalError, SettingsError) as error:
        return type(error).__name__


def clear(deployment: Deployed) -> None:
    """Empty the journal and the account, whose cash is as it was, so that the next run is the first."""
    s3, folders = boto3.client("s3"), ("runs/", "universe/", "equity/", "accounts/", "digests/")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    if written := [key for key in keys if key.startswith(folders)]:
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in written]})
    deployment.alpaca.orders.clear()
    deployment.alpaca.positions.clear()
    deployment.alpaca.cash = CASH_USD


@contextmanager
def allow(deployment: Deployed, grants: Collection[Grant]) -> Iterator[None]:
    """Limit the role to these grants for the duration of the block."""
    statements = [{"Effect": "Allow", "Action": [action], "Resource": [resource]} for action, resource in grants]
    document = {"Version": "2012-10-17", "Statement": statements}
    iam = boto3.client("iam")
    iam.put_role_policy(RoleName=ROLE, PolicyName="function", PolicyDocument=json.dumps(document))
    try:
        yield
    finally:
        iam.put_role_policy(RoleName=ROLE, PolicyName="function", PolicyDocument=json.dumps(deployment.policy))


def permits(policy: Mapping[str, Any], action: str, resource: str) -> bool:
    """Tell whether the policy's text permits an action on a resource."""
    return IAMPolicy(json.dumps(policy)).is_action_permitted(action, resource) is PermissionResult.PERMITTED


# --- what a run needs ---


def test_a_run_trades_a_second_one_finds_the_slot_taken_and_a_digest_is_made(
    fired: tuple[Sequence[str], Sequence[Grant]],
) -> None:
    assert fired[0] == DONE


@pytest.mark.parametrize(("grant", "resource"), LAMBDAS_OWN.items(), ids=[action for action, _ in LAMBDAS_OWN])
def test_the_role_lets_lambda_log_and_report_failures(deployment: Deployed, grant: Grant, resource: str) -> None:
    assert permits(deployment.policy, grant[0], resource)


# --- what the role may not do ---


def test_every_grant_is_used_by_a_run_a_digest_or_by_lambda_itself(
    deployment: Deployed, fired: tuple[Sequence[str], Sequence[Grant]]
) -> None:
    used = {
        (action, pattern)
        for action, pattern in deployment.grants
        for its, resource in fired[1]
        if its == action and fnmatchcase(resource, pattern)
    }
    assert deployment.grants - used <= set(LAMBDAS_OWN)


def test_runs_and_digests_need_every_grant(deployment: Deployed) -> None:
    needless = []
    for grant in sorted(deployment.grants - set(LAMBDAS_OWN)):
        with allow(deployment, deployment.grants - {grant}):
            if does_all(deployment):
                needless.append(grant)
    assert needless == []
    assert does_all(deployment), "or something else than the grants was missing"


def s3(what: str, key: str = "", **more: object) -> Callable[[], object]:
    """Return a call to S3."""
    words = {"Bucket": BUCKET, **({"Key": key} if key else {}), **more}
    return lambda: getattr(boto3.client("s3"), what)(**words)


def call(service: str, what: str, **words: object) -> Callable[[], object]:
    """Return a call to any service."""
    return lambda: getattr(boto3.client(service), what)(**words)  # type: ignore[call-overload]  # services by name


FORBIDDEN: Mapping[str, Callable[[], object]] = {
    "delete a claim": s3("delete_object", "runs/trend/2026-11-23/20261123T1500Z.claim"),
    "write another strategy's journal": s3("put_object", "runs/other/2026-11-23/x.json", Body=b"{}"),
    "write another strategy's ranking": s3("put_object", "universe/other/2026-11-23.json", Body=b"{}"),
    "write another strategy's highest equity": s3("put_object", "equity/other/peak.json", Body=b"{}"),
    "write another strategy's digest": s3("put_object", "digests/other/2026-11-23.json", Body=b"{}"),
    "read another strategy's journal": s3("get_object", "runs/other/2026-11-23/x.json"),
    "write the journal of a strategy whose name begins with its own": s3(
        "put_object", "runs/trend-2/2026-11-23/x.json", Body=b"{}"
    ),
    "take an account away": s3("delete_object", "accounts/PA0000000000.json"),
    "replace its own code": s3("put_object", f"function/{ROLE}.zip", Body=b"PK"),
    "read its own code": s3("get_object", f"function/{ROLE}.zip"),
    "replace the layer": s3("put_object", "layer/layer.zip", Body=b"PK"),
    "read the layer": s3("get_object", "layer/layer.zip"),
    "read the bucket's policy": s3("get_bucket_policy"),
    "replace the bucket's policy": s3("put_bucket_policy", Policy="{}"),
    "stop the bucket from keeping old versions": s3(
        "put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"}
    ),
    "delete the bucket": s3("delete_bucket"),
    "list all buckets": call("s3", "list_buckets"),
    "write its own halt switch": call(
        "ssm", "put_parameter", Name="/prophet-trader/trend/halt", Value="false", Overwrite=True
    ),
    "write its own keys": call(
        "ssm", "put_parameter", Name="/prophet-trader/trend/alpacapw", Value="x", Overwrite=True
    ),
    "delete its own halt switch": call("ssm", "delete_parameter", Name="/prophet-trader/trend/halt"),
    "read another strategy's key": call(
        "ssm", "get_parameters", Names=["/prophet-trader/other/alpacapw"], WithDecryption=True
    ),
    "read another strategy's key together with its own": call(
        "ssm", "get_parameters", Names=["/prophet-trader/trend/alpacapw", "/prophet-trader/other/alpacapw"]
    ),
    "read every parameter below a path": call("ssm", "get_parameters_by_path", Path="/prophet-trader"),
    "list parameters": call("ssm", "describe_parameters"),
    "change its own code": call("lambda", "update_function_code", FunctionName=ROLE, ZipFile=b"PK"),
    "change its own settings": call("lambda", "update_function_configuration", FunctionName=ROLE, Timeout=1),
    "move the alias": call("lambda", "update_alias", FunctionName=ROLE, Name="live", FunctionVersion="1"),
    "widen its own rights": call(
        "iam", "put_role_policy", RoleName=ROLE, PolicyName="more", PolicyDocument='{"Statement": []}'
    ),
    "create a user": call("iam", "create_user", UserName="somebody"),
    "create an access key": call("iam", "create_access_key", UserName="somebody"),
    "assume another role": call(
        "sts", "assume_role", RoleArn=f"arn:aws:iam::{ACCOUNT}:role/prophet-trader-other", RoleSessionName="taken"
    ),
    "delete its own log": call("logs", "delete_log_group", logGroupName=f"/aws/lambda/{ROLE}"),
    "read its own log": call("logs", "filter_log_events", logGroupName=f"/aws/lambda/{ROLE}"),
    "subscribe to alarms": call("sns", "subscribe", TopicArn=TOPIC, Protocol="email", Endpoint="x@example.com"),
    "stop the schedule": call("events", "disable_rule", Name=ROLE),
    "delete alarms": call("cloudwatch", "delete_alarms", AlarmNames=["x"]),
    "start a virtual machine": call("ec2", "run_instances", ImageId="ami-1", MinCount=1, MaxCount=1),
}


@pytest.mark.parametrize("attempt", FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_role_may_not(deployment: Deployed, attempt: Callable[[], object]) -> None:
    with as_the_role(), pytest.raises(ClientError, match=r"AccessDenied|UnauthorizedOperation"):
        attempt()


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        # What Lambda requests with the role.
        ("logs:PutLogEvents", f"{GROUP}-2:log-stream:x"),
        ("logs:PutLogEvents", GROUP.replace("trend", "other") + ":log-stream:x"),
        ("logs:CreateLogGroup", f"{GROUP}:log-stream:x"),
        ("sns:Publish", f"{TOPIC}-2"),
        # What moto cannot refuse, because it reads no signature or checks no right for these requests.
        ("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{ROLE}"),
        ("lambda:ListFunctions", "*"),
        ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/runs/trend/2026-11-23/20261123T1500Z.claim"),
        ("s3:DeleteObjectVersion", f"arn:aws:s3:::{BUCKET}/runs/trend/2026-11-23/20261123T1500Z.claim"),
        ("s3:PutObjectAcl", f"arn:aws:s3:::{BUCKET}/runs/trend/2026-11-23/20261123T1500Z.claim"),
        ("s3:ListBucketVersions", f"arn:aws:s3:::{BUCKET}"),
        ("kms:Decrypt", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/x"),
    ],
)
def test_the_policys_text_forbids(deployment: Deployed, action: str, resource: str) -> None:
    assert not permits(deployment.policy, action, resource)


def test_an_account_that_another_strategy_has_cannot_be_written(deployment: Deployed) -> None:
    """The text says it, because moto knows no conditions: a write must have the header that refuses a second one."""
    (statement,) = (each for each in deployment.policy["Statement"] if each["Sid"] == "TakeAccount")
    assert statement["Condition"] == {"Null": {"s3:if-none-match": "false"}}
    others = [each for each in deployment.policy["Statement"] if each is not statement]
    writing = [resource for each in others if "s3:PutObject" in each["Action"] for resource in each["Resource"]]
    assert not any(fnmatchcase(f"arn:aws:s3:::{BUCKET}/accounts/PA1.json", each) for each in writing)


def test_only_lambda_can_assume_the_role(deployment: Deployed) -> None:
    trust: Any = boto3.client("iam").get_role(RoleName=ROLE)["Role"]["AssumeRolePolicyDocument"]
    assert [statement["Principal"] for statement in trust["Statement"]] == [{"Service": "lambda.amazonaws.com"}]


def test_the_role_has_no_other_policy(deployment: Deployed) -> None:
    iam = boto3.client("iam")
    inline, attached = iam.list_role_policies(RoleName=ROLE), iam.list_attached_role_policies(RoleName=ROLE)
    assert (inline["PolicyNames"], attached["AttachedPolicies"]) == (["function"], [])
