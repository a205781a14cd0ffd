"""The check before a deployment, run on plans in the format of `terraform show -json` and against moto's AWS."""

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest

from scripts.cloud import preflight
from scripts.cloud.aws import Cloud, connect
from scripts.console import CommandError
from scripts.layer.archive import sha256
from scripts.testkit.aws import account
from tests.aws_setup import zip_code
from trader.alpha.loader import names

type Strategies = dict[str, dict[str, Any]]


type MayOnly = Callable[..., Cloud]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Return a Cloud for checks that send no request to AWS."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return Cloud(project="prophet-trader", account="123456789012", session=boto3.Session(region_name="us-east-1"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, account() as variables:
        monkeypatch.delenv("PROJECT", raising=False)
        yield variables["AWS_ENDPOINT_URL"]


@pytest.fixture
def cloud(server: str) -> Cloud:
    """Connect to an account that holds only the keys of the strategy trend."""
    post(f"{server}/moto-api/reset")
    put("/prophet-trader/trend/alpacauser", "/prophet-trader/trend/alpacapw")
    return connect(os.environ)


@pytest.fixture(autouse=True)
def _nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDO_ROLLBACK", raising=False)


def post(url: str, data: bytes = b"") -> None:
    urlopen(Request(url, data=data, method="POST", headers={"Content-Type": "text/plain"})).close()


def put(*names: str, kind: str = "SecureString", value: str = "secret") -> None:
    for name in names:
        boto3.client("ssm").put_parameter(Name=name, Value=value, Type=kind)  # type: ignore[arg-type]


def strategy(name: str = "trend", **variables: str) -> dict[str, Any]:
    """Return a strategy as the root module's output describes it before its first deployment."""
    path = f"/prophet-trader/{name}"
    environment = {
        "ALPACAUSER": f"ssm:{path}/alpacauser",
        "ALPACAPW": f"ssm:{path}/alpacapw",
        "BROKER": "alpaca",
        "HALT_PARAMETER": f"{path}/halt",
        "JOURNAL": "s3://prophet-trader-123456789012-us-east-1",
        "MODE": "paper",
        "PRICE_SOURCES": "yahoo,alpaca",
        "STRATEGY": name,
        **variables,
    }
    references = (text for variable, text in environment.items() if variable != "HALT_PARAMETER")
    return {
        "function_name": f"prophet-trader-{name}",
        "schedule": "cron(0/15 13-21 ? * MON-FRI *)",
        "enabled": True,
        "environment": environment,
        "halt_parameter": f"{path}/halt",
        "parameters": sorted(text.removeprefix("ssm:") for text in references if text.startswith("ssm:")),
    }


def resource(kind: str, actions: Sequence[str], before: Any = None, after: Any = None) -> dict[str, Any]:
    change = {"actions": list(actions), "before": before, "after": after}
    return {"address": f"{kind}.this", "mode": "managed", "type": kind, "name": "this", "change": change}


def plan(
    *resources: dict[str, Any], strategies: Strategies | None = None, before: Strategies | None = None
) -> dict[str, Any]:
    after = {"trend": strategy()} if strategies is None else strategies
    return {
        "format_version": "1.2",
        "output_changes": {"strategies": {"actions": ["update"], "before": before, "after": after}},
        "resource_changes": list(resources),
    }


def problems(cloud: Cloud, wanted: Mapping[str, Any], folder: Path = Path("terraform")) -> list[str]:
    """Return the problems that stop the deployment, if any."""
    try:
        preflight.check(cloud, wanted, folder)
    except CommandError as error:
        first, *lines = str(error).split("\n  - ")
        assert first == "nothing was changed; fix these problems first:"
        return lines
    return []


def notes(cloud: Cloud, wanted: Mapping[str, Any]) -> Sequence[str]:
    return preflight.check(cloud, wanted, Path("terraform"))


@pytest.fixture
def may_only(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MayOnly]:
    """Provide a function that switches to a user whom IAM allows only the given actions."""

    def become(*actions: str) -> Cloud:
        iam = boto3.client("iam")
        iam.create_user(UserName="ann")
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="ann", PolicyName="some", PolicyDocument=document)
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        post(f"{server}/moto-api/reset-auth", b"0")  # requests that moto still lets through unchecked
        return connect(os.environ)

    yield become
    post(f"{server}/moto-api/reset-auth", b"inf")


def test_a_sound_plan_has_no_problems_and_no_notes(cloud: Cloud) -> None:
    assert (problems(cloud, plan()), notes(cloud, plan())) == ([], [])


# --- settings ---


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {"SIGNAL": "trand"},
            f"trend: SIGNAL='trand': must be one of {', '.join(names())}, or the path of a file such as rules/mine.py",
        ),
        ({"MAX_ORDER_USD": "-5"}, "trend: MAX_ORDER_USD='-5': must be a number above 0 to 1e+09"),
        ({"MAX_ORDER_US": "5"}, "trend: MAX_ORDER_US is not a setting; did you mean MAX_ORDER_USD?"),
        ({"COLOR": "red"}, "trend: COLOR is not a setting; docs/reference/settings.md lists all settings"),
        (
            {"STOP_LOSS_FRACTION": "0"},
            "trend: STOP_LOSS_FRACTION and TAKE_PROFIT_FRACTION must both be above 0, or both be 0 for no bracket",
        ),
    ],
)
def test_settings_that_the_function_rejects_stop_the_deployment(
    variables: dict[str, str], problem: str, nowhere: Cloud
) -> None:
    environment = strategy(**variables)["environment"]
    assert preflight.settings(nowhere, "trend", environment).problems == [problem]


@pytest.mark.parametrize("text", ["A", "\u00e9", '"', "\\"], ids=["plain", "accent", "quote", "backslash"])
@pytest.mark.parametrize(("excess_bytes", "count"), [(0, 0), (1, 1)])
def test_variables_are_measured_as_lambda_measures_them(
    text: str, excess_bytes: int, count: int, nowhere: Cloud
) -> None:
    environment = strategy(TZ=text)["environment"]
    left = preflight.MAX_BYTES - len(json.dumps(environment, separators=(",", ":"), ensure_ascii=False).encode())
    environment["TZ"] += "A" * (left + excess_bytes)
    found = preflight.settings(nowhere, "trend", environment).problems
    assert [each.split(":")[1] for each in found] == [
        " its variables take 4,097 bytes as JSON, but Lambda allows 4,096"
    ] * count


@pytest.mark.parametrize("name", ["TZ", "HTTPS_PROXY", "AWS_MAX_ATTEMPTS", "PYTHONUNBUFFERED", "REQUESTS_CA_BUNDLE"])
def test_variables_of_libraries_are_let_through(name: str, nowhere: Cloud) -> None:
    assert preflight.settings(nowhere, "trend", strategy(**{name: "x"})["environment"]).problems == []


def test_all_problems_are_reported_at_once(cloud: Cloud) -> None:
    put("/prophet-trader/fast/alpacauser", "/prophet-trader/fast/alpacapw")
    both = {"trend": strategy(SIGNAL="x", MAX_ORDERS_PER_RUN="0"), "fast": strategy("fast", BAR_INTERVAL="2d")}
    assert [problem.split("=")[0] for problem in problems(cloud, plan(strategies=both))] == [
        "trend: SIGNAL",
        "trend: MAX_ORDERS_PER_RUN",
        "fast: BAR_INTERVAL",
    ]


def test_a_value_in_ssm_is_checked_like_any_other(cloud: Cloud) -> None:
    put("/shared/cap", kind="String", value="a lot")
    wanted = plan(strategies={"trend": strategy(MAX_ORDER_USD="ssm:/shared/cap")})
    assert problems(cloud, wanted) == ["trend: MAX_ORDER_USD='ssm:/shared/cap': must be a number above 0 to 1e+09"]


def test_no_secret_value_is_read(cloud: Cloud, may_only: MayOnly) -> None:
    assert problems(may_only("ssm:DescribeParameters"), plan()) == []


def test_a_parameter_that_may_not_be_read_is_noted_not_judged(cloud: Cloud, may_only: MayOnly) -> None:
    put("/shared/stop", kind="String", value="0")
    wanted = plan(strategies={"trend": strategy(STOP_LOSS_FRACTION="ssm:/shared/stop", TAKE_PROFIT_FRACTION="0")})
    ann = may_only("ssm:DescribeParameters")
    assert notes(ann, wanted) == ["trend: parameters not checked (these credentials may not read them): /shared/stop"]


# --- parameters ---


def test_missing_keys_are_reported_with_the_command_to_run(cloud: Cloud) -> None:
    both = {"trend": strategy(), "fast": strategy("fast")}
    names = "/prophet-trader/fast/alpacapw, /prophet-trader/fast/alpacauser"
    assert problems(cloud, plan(strategies=both)) == [f"fast: {names}: not in SSM yet; run make secrets STRATEGY=fast"]


def test_a_key_stored_as_a_plain_string_stops_the_deployment(cloud: Cloud) -> None:
    boto3.client("ssm").delete_parameter(Name="/prophet-trader/trend/alpacapw")
    put("/prophet-trader/trend/alpacapw", kind="String")
    (problem,) = problems(cloud, plan())
    assert problem.startswith("trend: /prophet-trader/trend/alpacapw is a String, which is not secret")


@pytest.mark.parametrize(("variable", "kind"), [("MAX_ORDER_USD", "String"), ("ALPACAPW", "SecureString")])
def test_a_missing_custom_parameter_is_reported_with_a_remedy(variable: str, kind: str, cloud: Cloud) -> None:
    wanted = plan(strategies={"trend": strategy(**{variable: "ssm:/mine/x"})})
    (problem,) = problems(cloud, wanted)
    assert problem.startswith("trend: /mine/x: no such SSM parameter")
    tags = "--tags Key=project,Value=prophet-trader"
    assert problem.endswith(f": aws ssm put-parameter --name /mine/x --type {kind} {tags} --value ...")


def test_all_of_many_parameters_are_looked_up(cloud: Cloud) -> None:
    names = [f"/mine/{number}" for number in range(60)]
    put(*names)
    wanted = strategy()
    wanted["parameters"] += [*names, "/mine/60"]
    assert [problem.split(":")[1] for problem in problems(cloud, plan(strategies={"trend": wanted}))] == [" /mine/60"]


def test_parameters_that_may_not_be_listed_are_noted(cloud: Cloud, may_only: MayOnly) -> None:
    ann = may_only("s3:ListBucket")
    assert notes(ann, plan()) == [
        "no SSM parameter was checked: these credentials may not list them; run make secrets if you have not"
    ]


# --- the bucket ---

BUCKET = "prophet-trader-123456789012-us-east-1"


def test_an_existing_bucket_outside_the_state_is_a_problem(cloud: Cloud) -> None:
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    (problem,) = problems(cloud, plan(resource("aws_s3_bucket", ["create"], after={"bucket": BUCKET})))
    assert problem.startswith(f"the bucket {BUCKET} already exists, but it is not in Terraform's state here")
    assert "make bootstrap" in problem


def test_a_bucket_of_another_owner_is_a_problem(cloud: Cloud, may_only: MayOnly) -> None:
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    ann = may_only("ssm:*")
    (problem,) = problems(ann, plan(resource("aws_s3_bucket", ["create"], after={"bucket": BUCKET})))
    assert problem.endswith('choose another name with bucket_name = "..." in terraform/terraform.tfvars')


@pytest.mark.parametrize("actions", [["no-op"], ["update"]])
def test_a_bucket_in_the_state_is_not_a_problem(actions: list[str], cloud: Cloud) -> None:
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    assert problems(cloud, plan(resource("aws_s3_bucket", actions, {"bucket": BUCKET}, {"bucket": BUCKET}))) == []


def test_a_bucket_that_does_not_exist_can_be_created(cloud: Cloud) -> None:
    assert problems(cloud, plan(resource("aws_s3_bucket", ["create"], after={"bucket": BUCKET}))) == []


# --- resources that exist ---

GROUP = "/aws/lambda/prophet-trader-trend"
CREATED = {
    "aws_cloudwatch_log_group": {"name": GROUP},
    "aws_iam_role": {"name": "prophet-trader-trend"},
    "aws_lambda_function": {"function_name": "prophet-trader-trend"},
    "aws_ssm_parameter": {"name": "/prophet-trader/trend/halt"},
}


def create_all() -> None:
    """Create each of the resources, and a log group whose name begins like another's."""
    boto3.client("logs").create_log_group(logGroupName=GROUP)
    put("/prophet-trader/trend/halt", kind="String", value="true")
    role = boto3.client("iam").create_role(RoleName="prophet-trader-trend", AssumeRolePolicyDocument="{}")["Role"]
    boto3.client("lambda").create_function(
        FunctionName="prophet-trader-trend",
        Runtime="python3.13",
        Role=role["Arn"],
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": zip_code("")},
    )


@pytest.mark.parametrize("kind", CREATED)
def test_a_resource_that_exists_outside_the_state_stops_the_deployment(kind: str, cloud: Cloud) -> None:
    create_all()
    (problem,) = problems(cloud, plan(resource(kind, ["create"], after=CREATED[kind])))
    (name,) = CREATED[kind].values()
    command = f"terraform -chdir=terraform import {kind}.this {name}"
    assert f"AWS_REGION=us-east-1 TF_VAR_project=prophet-trader {command}" in problem


@pytest.mark.parametrize("kind", CREATED)
def test_a_resource_that_does_not_exist_can_be_created(kind: str, cloud: Cloud) -> None:
    boto3.client("logs").create_log_group(logGroupName=f"{GROUP}-2")
    assert problems(cloud, plan(resource(kind, ["create"], after=CREATED[kind]))) == []


@pytest.mark.parametrize("actions", [["no-op"], ["update"], ["delete", "create"], ["delete"]])
def test_a_resource_in_the_state_may_exist(actions: list[str], cloud: Cloud) -> None:
    create_all()
    assert problems(cloud, plan(*(resource(kind, actions, after=its) for kind, its in CREATED.items()))) == []


def test_an_existing_log_group_can_also_be_deleted(cloud: Cloud) -> None:
    create_all()
    kind = "aws_cloudwatch_log_group"
    (problem,) = problems(cloud, plan(resource(kind, ["create"], after=CREATED[kind])))
    assert f"aws logs delete-log-group --region us-east-1 --log-group-name {GROUP}" in problem


def test_resources_that_may_not_be_looked_up_are_noted(cloud: Cloud, may_only: MayOnly) -> None:
    may_only("s3:*")
    del cloud
    found = preflight.check_existing(
        connect(os.environ), plan(*(resource(kind, ["create"], after=its) for kind, its in CREATED.items())), Path("x")
    )
    assert (len(found.notes), found.problems) == (4, [])


# --- GitHub's roles ---


def as_role(name: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Return the account, seen with the credentials of a role."""
    iam, sts = boto3.client("iam"), boto3.client("sts")
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    keys = sts.assume_role(RoleArn=arn, RoleSessionName="GitHubActions")["Credentials"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
    return connect(os.environ)


LIFECYCLE = resource("aws_s3_bucket_lifecycle_configuration", ["update"], after={})


@pytest.mark.parametrize("role", ["prophet-trader-ci-deploy", "prophet-trader-ci-plan"])
def test_github_is_told_that_it_may_not_change_the_bucket(
    role: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    (problem,) = problems(as_role(role, monkeypatch), plan(LIFECYCLE))
    assert "(aws_s3_bucket_lifecycle_configuration.this)" in problem
    assert problem.endswith("run make deploy once on your own computer, with your own credentials")


def test_github_may_deploy_beside_an_unchanged_bucket(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged = resource("aws_s3_bucket_lifecycle_configuration", ["no-op"], after={})
    assert problems(as_role("prophet-trader-ci-deploy", monkeypatch), plan(unchanged)) == []


def test_others_may_change_the_bucket(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(cloud, plan(LIFECYCLE)) == []
    assert problems(as_role("administrator", monkeypatch), plan(LIFECYCLE)) == []


# --- files ---


@pytest.fixture
def upload(tmp_path: Path) -> dict[str, Any]:
    """Return the planned upload of a zip file next to the folder terraform."""
    (tmp_path / "terraform").mkdir()
    (tmp_path / "function.zip").write_bytes(b"code")
    after = {"source": "./../function.zip", "source_hash": sha256(tmp_path / "function.zip")}
    return resource("aws_s3_object", ["create"], after=after)


def test_a_file_that_is_as_planned_can_be_uploaded(upload: dict[str, Any], tmp_path: Path) -> None:
    assert preflight.other_files(plan(upload), tmp_path / "terraform").problems == []


def test_a_file_that_has_changed_since_the_plan_is_not_uploaded(upload: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "function.zip").write_bytes(b"other code")
    assert preflight.other_files(plan(upload), tmp_path / "terraform").problems == [
        f"{tmp_path}/function.zip has changed since the plan was made; make a new plan"
    ]


def test_a_missing_file_is_reported_once(upload: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "function.zip").unlink()
    (problem,) = preflight.other_files(plan(upload, copy.deepcopy(upload)), tmp_path / "terraform").problems
    assert "is missing" in problem


def test_a_file_that_is_not_uploaded_is_not_checked(upload: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "function.zip").unlink()
    upload["change"]["actions"] = ["no-op"]
    assert preflight.other_files(plan(upload), tmp_path / "terraform").problems == []


# --- rollbacks ---


def deploy(live: str, newest: str, code: str = "a", actions: Sequence[str] = ("update",)) -> list[dict[str, Any]]:
    """Return the planned changes to a function and its alias when `code` replaces the code `a`."""
    name = {"function_name": "prophet-trader-trend"}
    before = {**name, "version": newest, "source_code_hash": "a"}
    return [
        resource(
            "aws_lambda_function", ["no-op"] if code == "a" else ["update"], before, {**name, "source_code_hash": code}
        ),
        resource(
            "aws_lambda_alias",
            actions,
            {**name, "name": "live", "function_version": live},
            {**name, "name": "live"},
        ),
    ]


@pytest.mark.parametrize(("live", "newest"), [("1", "2"), ("9", "10")])
def test_a_rollback_is_not_undone_by_accident(live: str, newest: str) -> None:
    (problem,) = preflight.undone_rollbacks(plan(*deploy(live, newest))).problems
    assert problem.startswith(f"prophet-trader-trend was rolled back to version {live}")
    assert problem.endswith("make deploy UNDO_ROLLBACK=1")


def test_a_rollback_is_undone_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDO_ROLLBACK", "1")
    assert preflight.undone_rollbacks(plan(*deploy("1", "2"))).problems == []


def test_new_code_may_follow_a_rollback() -> None:
    assert preflight.undone_rollbacks(plan(*deploy("1", "2", code="b"))).problems == []


def test_without_a_rollback_there_is_nothing_to_undo() -> None:
    assert preflight.undone_rollbacks(plan(*deploy("2", "2"))).problems == []


def test_an_unchanged_alias_undoes_no_rollback() -> None:
    assert preflight.undone_rollbacks(plan(*deploy("1", "2", actions=["no-op"]))).problems == []


# --- removed strategies ---


def test_a_removed_strategy_leaves_its_positions() -> None:
    (note,) = preflight.check_removed_strategies(plan(before={"trend": strategy(), "fast": strategy("fast")})).notes
    assert note == "fast will be removed; its positions and open orders at Alpaca stay, and nothing will manage them"
