"""A deployment from start to end: secrets, deployment, runs, halt and resume, a new release, rollback, teardown.

One installation of two strategies is made with the make targets in a copy of this repository: the real root, the real
zips, real Terraform, and the deployed function in AWS's own runtime interface. AWS is moto's server; Alpaca and Yahoo
are stand-ins. The steps build on each other in the order of this file. Each step is a fixture that begins where the
previous one ended, so a step that fails is also an error in every later test: read the first error. `pytest -k` runs
any test with the steps before it.
"""

import base64
import hashlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest

from scripts import ROOT
from scripts.layer import manifest
from scripts.layer.emulator import install
from scripts.layer.target import ARCH, PYTHON, Target
from scripts.testkit import aws, services
from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.aws_lambda import bridge
from scripts.testkit.yahoo import Listing, YahooFake
from tests import terraform_here
from tests.cloudwatch import matches
from tests.warm.python import python_of_clone
from trader.model import NEW_YORK

TARGET = Target(PYTHON, ARCH)
PROJECT, ACCOUNT, REGION = "prophet-trader", "123456789012", "us-east-1"
BUCKET, STATE_BUCKET = (f"{PROJECT}{part}-{ACCOUNT}-{REGION}" for part in ("", "-state"))
BOUNDARY = f"{PROJECT}-boundary"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:{PROJECT}-alarms"
STRATEGIES = ("interval", "trend")
OTHER_RULE = {"SIGNAL": "interval", "ENGINE": "map"}
CRON = {"trend": "cron(0/15 13-21 ? * MON-FRI *)", "interval": "cron(30 14-20 ? * MON-FRI *)"}
PASSED_ON = ("PATH", "TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TMPDIR")
"""The shell's variables that the commands are given."""

BARS = 120
LAST_STEPS = {"KO": -0.05, "PEP": -0.04, "MCD": 0.05}
"""Each symbol's last close relative to its line: two are to be bought, one is to be sold."""

SECRETS = {
    "trend": ("PKTREND0KEY0ID0OF0A0TEST", "trendSecretKeyOfATestThatNobodyMaySee000"),
    "interval": ("PKINTERVAL0KEY0ID0OF0TEST", "intervalSecretKeyOfATestNobodyMaySee0000"),
}

pytestmark = [
    pytest.mark.timeout(400),  # the bucket's lifecycle alone takes Terraform's provider a minute
    pytest.mark.skipif(not TARGET.runs_here, reason="left out: the deployed function runs only on Linux x86_64"),
]


# --- the installation ---


@dataclass
class Site:
    """A copy of the repository, an AWS account, and an account at Alpaca for each strategy."""

    folder: Path
    env: Mapping[str, str]
    alpaca: Mapping[str, AlpacaFake]
    said: list[str] = field(default_factory=list)  # output of all commands
    slots: list[datetime] = field(default_factory=list)  # slots of the events so far

    def make(self, goal: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a make target as a person does, with these variables; .venv is not updated."""
        return self._run(["make", "-o", ".venv/.set-up", "-o", ".venv/.set-up-dev", goal], self.folder, variables)

    def terraform(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run(["terraform", *words, "-no-color"], self.folder / "terraform", {})

    def _run(self, words: Sequence[str], cwd: Path, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=cwd, env={**self.env, **more}, capture_output=True, text=True, check=False, timeout=300
        )
        self.said.append(f"$ {' '.join(words)}\n{done.stdout}\n{done.stderr}")
        return done

    def must_make(self, goal: str, **variables: str) -> str:
        """Run a make target that must succeed, and return what it printed."""
        done = self.make(goal, **variables)
        assert done.returncode == 0, f"make {goal}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def event(self) -> dict[str, Any]:
        """Return the scheduled event of the latest slot not used yet; only about six slots are recent enough."""
        slot = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        while slot in self.slots:
            slot -= timedelta(minutes=1)
        self.slots.append(slot)
        return {
            "version": "0",
            "id": "00000000-0000-0000-0000-000000000000",
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT,
            "time": f"{slot:%Y-%m-%dT%H:%M:%SZ}",
            "region": REGION,
            "resources": [],
            "detail": {},
        }


class Run(NamedTuple):
    """The outcome of an event: the run's report, the orders it placed, and the lines it logged."""

    event: Mapping[str, Any]
    report: dict[str, Any]
    orders: set[tuple[str, str]]  # symbol and side
    lines: list[dict[str, Any]]


def fire(site: Site, strategy: str, event: Mapping[str, Any]) -> Run:
    """Hand an event to the target of the strategy's rule once, as EventBridge does when the rule is due."""
    (target,) = boto3.client("events").list_targets_by_rule(Rule=f"{PROJECT}-{strategy}")["Targets"]
    before, logged = len(site.alpaca[strategy].orders), len(lines_of(strategy))
    answer = boto3.client("lambda").invoke(FunctionName=target["Arn"], Payload=json.dumps(event).encode())
    report = json.loads(answer["Payload"].read())
    assert not dict(answer).get("FunctionError"), report
    orders = {(order.symbol, order.side) for order in site.alpaca[strategy].orders[before:] if order.type == "market"}
    return Run(event, report, orders, lines_of(strategy)[logged:])


def lines_of(strategy: str) -> list[dict[str, Any]]:
    """Return every line that the strategy's function has logged, oldest first."""
    pages = boto3.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group(strategy))
    return [json.loads(event["message"]) for page in pages for event in page["events"]]


def group(strategy: str) -> str:
    return f"/aws/lambda/{PROJECT}-{strategy}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Provide all that exists before anything is deployed."""
    terraform_here.require()
    if reason := manifest.reason_to_build(TARGET):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}; CI must have run make layer")
        pytest.skip(f"left out: the layer to deploy is not up to date: {reason}; run make layer")
    folder = tmp_path_factory.mktemp("site") / "repository"
    copy_repository(folder)
    with ExitStack() as stack:
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        monkeypatch.setenv("no_proxy", "127.0.0.1")  # every service is local, whatever proxy the shell has
        variables = stack.enter_context(aws.account())
        alpaca = {strategy: stack.enter_context(account_at_alpaca(strategy)) for strategy in STRATEGIES}
        listings = {symbol: Listing(closes(symbol), datetime.now(UTC)) for symbol in ("KO", "MCD")}
        yahoo = stack.enter_context(YahooFake(listings))  # PEP comes from Alpaca's data API
        stack.enter_context(bridge(variables, yahoo.environment, install))
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        home = tmp_path_factory.mktemp("home")
        env = {
            **passed_on,
            **variables,
            **terraform_here.attach_provider(variables, folder / "terraform"),
            "HOME": str(home),
            "TF_IN_AUTOMATION": "1",
            "COLUMNS": "120",
        }
        write_tfvars(folder / "terraform" / "terraform.tfvars", alpaca)
        yield Site(folder=folder, env=env, alpaca=alpaca)
    shutil.rmtree(folder)  # it contains Terraform's provider, up to 700 MB, which pytest would keep


def copy_repository(folder: Path) -> None:
    """Copy what git would commit, with its timestamps, and the finished layer; link to .venv, but for its Python."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # git lists a deleted file until the deletion is staged
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for path in Path(sys.prefix, "bin").iterdir():
        if path.name != "python":
            (programs / path.name).symlink_to(path)
    (programs / "python").write_text(f'#!/bin/sh\nexec {shlex.join(python_of_clone(folder))} "$@"\n')
    (programs / "python").chmod(0o755)
    (folder / "layer" / "dist").mkdir()
    for path in (TARGET.zip, manifest.path(TARGET)):
        shutil.copy2(path, folder / path.relative_to(ROOT))


def account_at_alpaca(strategy: str) -> AlpacaFake:
    """Return an account that holds MCD and accepts only the strategy's keys."""
    fake = AlpacaFake(prices={symbol: closes(symbol)[-1] for symbol in LAST_STEPS})
    fake.key_id, fake.secret = SECRETS[strategy]
    fake.account_overrides["account_number"] = f"PA{strategy.upper()}"
    fake.hold("MCD", 5, 100)
    fake.bars = {"PEP": services.daily_bars(closes("PEP"), datetime.now(UTC))}
    return fake


def closes(symbol: str) -> list[float]:
    """Return closes on a line with a little noise, and a jump at the end."""
    return services.trend_closes(BARS, LAST_STEPS[symbol])


def write_tfvars(path: Path, alpaca: Mapping[str, AlpacaFake]) -> None:
    """Write a user's choices (two strategies and an email address) and settings that point to the stand-ins."""
    settings = {
        strategy: {
            "APCA_API_BASE_URL": fake.url,
            "APCA_API_DATA_URL": fake.url,
            "UNIVERSE": "KO,PEP",
            "HISTORY_BARS": str(BARS),
            "MAX_PRICE_AGE_S": "600000",  # enough even on a Sunday
        }
        for strategy, fake in alpaca.items()
    }
    strategies = {
        "trend": {"settings": settings["trend"]},
        "interval": {"settings": settings["interval"] | OTHER_RULE, "schedule": CRON["interval"]},
    }
    path.write_text(f'alarm_email = "owner@example.com"\nstrategies = {json.dumps(strategies, indent=2)}\n')


def everything() -> dict[str, list[str]]:
    """Return the names of all resources in the account by kind, without empty kinds."""
    client = boto3.client
    found: dict[str, list[str]] = {
        "buckets": [item["Name"] for item in client("s3").list_buckets()["Buckets"]],
        "functions": [item["FunctionName"] for item in client("lambda").list_functions()["Functions"]],
        "layers": [item["LayerName"] for item in client("lambda").list_layers()["Layers"]],
        "log groups": [item["logGroupName"] for item in client("logs").describe_log_groups()["logGroups"]],
        "metric filters": [i["filterName"] for i in client("logs").describe_metric_filters()["metricFilters"]],
        "queries": [item["name"] for item in client("logs").describe_query_definitions()["queryDefinitions"]],
        "rules": [item["Name"] for item in client("events").list_rules()["Rules"]],
        "roles": [item["RoleName"] for item in client("iam").list_roles()["Roles"]],
        "policies": [item["PolicyName"] for item in client("iam").list_policies(Scope="Local")["Policies"]],
        "topics": [item["TopicArn"] for item in client("sns").list_topics()["Topics"]],
        "subscriptions": [item["Endpoint"] for item in client("sns").list_subscriptions()["Subscriptions"]],
        "alarms": [item["AlarmName"] for item in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "dashboards": [i["DashboardName"] for i in client("cloudwatch").list_dashboards()["DashboardEntries"]],
        "parameters": [item["Name"] for item in client("ssm").describe_parameters()["Parameters"]],
    }
    return {kind: sorted(names) for kind, names in found.items() if names}


# --- before the deployment ---


@pytest.fixture(scope="module")
def refusal(site: Site) -> str:
    """Return what make deploy says if there are no keys and another account has the bucket's name."""
    role = "arn:aws:iam::222222222222:role/somebody-else"
    keys = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="taken")["Credentials"]
    stranger = boto3.client(
        "s3",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    stranger.create_bucket(Bucket=BUCKET)
    done = site.make("deploy")
    stranger.delete_bucket(Bucket=BUCKET)
    assert done.returncode != 0
    return done.stderr


def test_deploying_without_keys_is_refused_with_the_next_step(refusal: str) -> None:
    assert "make secrets" in refusal


def test_a_taken_bucket_name_is_reported_with_its_variable(refusal: str) -> None:
    assert BUCKET in refusal
    assert "bucket_name" in refusal


@pytest.fixture
def zip_with_extra_byte(site: Site) -> Iterator[Path]:
    """Add a byte to the layer's zip for the duration of a test."""
    path = site.folder / TARGET.zip.relative_to(ROOT)
    whole = path.read_bytes()
    path.write_bytes(whole + b"x")
    yield path
    path.write_bytes(whole)


def test_an_unverified_layer_is_not_deployed(site: Site, zip_with_extra_byte: Path) -> None:
    second_plan = site.make("plan")
    assert second_plan.returncode != 0
    assert f"{zip_with_extra_byte.name} is not the zip that was built" in second_plan.stderr
    assert "make layer" in second_plan.stderr


def test_a_refused_deployment_creates_nothing(refusal: str) -> None:
    assert everything() == {}


# --- make secrets, make deploy ---


@pytest.fixture(scope="module")
def installation(site: Site) -> Site:
    """Store the keys of both strategies, and deploy them."""
    for strategy, (key_id, secret) in SECRETS.items():
        site.must_make("secrets", STRATEGY=strategy, ALPACAUSER=key_id, ALPACAPW=secret, CHECK="0")
    site.must_make("deploy")
    return site


def test_each_secret_is_a_secure_string_of_its_strategy(installation: Site) -> None:
    for strategy, pair in SECRETS.items():
        for name, value in zip(("alpacauser", "alpacapw"), pair, strict=True):
            parameter = boto3.client("ssm").get_parameter(Name=f"/{PROJECT}/{strategy}/{name}", WithDecryption=True)
            assert (parameter["Parameter"]["Type"], parameter["Parameter"]["Value"]) == ("SecureString", value)


@pytest.fixture(scope="module")
def second_plan(installation: Site) -> subprocess.CompletedProcess[str]:
    """Make a second plan, and keep its file."""
    return installation.terraform("plan", "-detailed-exitcode", "-out=second.tfplan")


def test_a_second_plan_finds_nothing_to_change(second_plan: subprocess.CompletedProcess[str]) -> None:
    assert second_plan.returncode == 0, second_plan.stdout + second_plan.stderr


def test_make_plan_finds_nothing_to_change_either(installation: Site) -> None:
    told = json.loads(installation.must_make("plan", JSON="1"))
    assert (told["add"], told["change"], told["destroy"], told["changes"]) == (0, 0, 0, [])


@pytest.mark.usefixtures("second_plan")
def test_no_secret_is_in_any_file_configuration_or_output(installation: Site) -> None:
    installation.terraform("output", "-json")
    texts = dict([*texts_here(installation), *texts_in_aws()])
    assert leaks(texts) == []
    reference = b"ssm:/prophet-trader/trend/alpacapw"  # must be found, or the search misses the right places
    places = {name.partition("!")[0].rpartition("/")[2] for name, text in texts.items() if reference in text}
    assert {"terraform.tfstate", "second.tfplan", "what was said", "configuration of trend"} <= places


def leaks(texts: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """Return each place that contains a secret, as it is or in base64."""
    words = [word.encode() for pair in SECRETS.values() for word in pair]
    words += [base64.b64encode(word).rstrip(b"=")[:-1] for word in words]
    return [(name, word) for name, text in texts.items() for word in words if word in text]


def texts_here(site: Site) -> Iterator[tuple[str, bytes]]:
    """Yield the output of the commands and Terraform, and the files that Terraform has written."""
    yield "what was said", "\n".join(site.said).encode()
    for path in (site.folder / "terraform").rglob("*"):
        if path.is_file() and "providers" not in path.parts:
            yield from open_zip(str(path), path.read_bytes())


def texts_in_aws() -> Iterator[tuple[str, bytes]]:
    """Yield configurations, logs and objects, without the layer, which contains only packages."""
    for strategy in STRATEGIES:
        client, function = boto3.client("lambda"), f"{PROJECT}-{strategy}"
        versions = client.list_versions_by_function(FunctionName=function)["Versions"]
        told = [client.get_function(FunctionName=function), versions]
        yield f"configuration of {strategy}", json.dumps(told, default=str).encode()
        yield f"log of {strategy}", json.dumps(lines_of(strategy)).encode()
    s3 = boto3.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            if not item["Key"].startswith("layer/"):
                yield from open_zip(item["Key"], s3.get_object(Bucket=bucket["Name"], Key=item["Key"])["Body"].read())


def open_zip(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield a file, and its members if it is a zip, as a saved plan is."""
    yield name, data
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield f"{name}!{member}", archive.read(member)


# --- the configuration, read back from AWS ---


def configuration(strategy: str) -> Any:
    return boto3.client("lambda").get_function_configuration(FunctionName=f"{PROJECT}-{strategy}", Qualifier="live")


def live_version(strategy: str) -> str:
    return boto3.client("lambda").get_alias(FunctionName=f"{PROJECT}-{strategy}", Name="live")["FunctionVersion"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_schedule_is_as_set_or_every_15_minutes_by_default(installation: Site, strategy: str) -> None:
    rule = boto3.client("events").describe_rule(Name=f"{PROJECT}-{strategy}")
    assert (rule["ScheduleExpression"], rule["State"]) == (CRON[strategy], "ENABLED")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_rule_starts_the_live_alias_without_retries(installation: Site, strategy: str) -> None:
    (target,) = boto3.client("events").list_targets_by_rule(Rule=f"{PROJECT}-{strategy}")["Targets"]
    assert target["Arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{PROJECT}-{strategy}:live"
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_digest_is_started_at_both_hours_that_can_be_a_quarter_past_four_in_new_york(
    installation: Site, strategy: str
) -> None:
    rule = boto3.client("events").describe_rule(Name=f"{PROJECT}-{strategy}_digest")
    assert (rule["ScheduleExpression"], rule["State"]) == ("cron(15 20,21 ? * MON-FRI *)", "ENABLED")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_rule_of_the_digest_says_what_to_do_and_for_when_without_retries(installation: Site, strategy: str) -> None:
    (target,) = boto3.client("events").list_targets_by_rule(Rule=f"{PROJECT}-{strategy}_digest")["Targets"]
    assert target["Arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{PROJECT}-{strategy}:live"
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    assert target["InputTransformer"]["InputPathsMap"] == {"time": "$.time"}
    event = target["InputTransformer"]["InputTemplate"].replace("<time>", '"2026-11-23T21:15:00Z"')
    assert json.loads(event) == {"do": "digest", "time": "2026-11-23T21:15:00Z"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_the_two_rules_may_start_the_function_and_only_the_alias(installation: Site, strategy: str) -> None:
    policy = boto3.client("lambda").get_policy(FunctionName=f"{PROJECT}-{strategy}", Qualifier="live")["Policy"]
    statements = {statement.pop("Sid"): statement for statement in json.loads(policy)["Statement"]}
    rules = {"schedule": f"{PROJECT}-{strategy}", "digest": f"{PROJECT}-{strategy}_digest"}
    assert statements == {
        name: {
            "Effect": "Allow",
            "Action": "lambda:InvokeFunction",
            "Principal": {"Service": "events.amazonaws.com"},
            "Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{PROJECT}-{strategy}:live",
            "Condition": {"ArnLike": {"AWS:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{rule}"}},
        }
        for name, rule in rules.items()
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("qualifier", ["live", "$LATEST"])
def test_a_failed_or_late_event_is_reported_but_not_repeated(installation: Site, strategy: str, qualifier: str) -> None:
    config = boto3.client("lambda").get_function_event_invoke_config(
        FunctionName=f"{PROJECT}-{strategy}", Qualifier=qualifier
    )
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)
    assert config["DestinationConfig"]["OnFailure"] == {"Destination": TOPIC}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_live_alias_is_a_published_version(installation: Site, strategy: str) -> None:
    assert live_version(strategy) == "1"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_function_is_configured_as_documented(installation: Site, strategy: str) -> None:
    config = configuration(strategy)
    assert (config["Runtime"], config["Architectures"], config["Handler"]) == (
        "python3.13",
        ["x86_64"],
        "lambda_function.lambda_handler",
    )
    assert (config["MemorySize"], config["Timeout"], config["TracingConfig"]["Mode"]) == (512, 300, "PassThrough")
    assert [layer["Arn"] for layer in config["Layers"]] == [
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{PROJECT}-layer:1"
    ]
    assert (config["LoggingConfig"]["LogFormat"], config["LoggingConfig"]["LogGroup"]) == ("JSON", group(strategy))
    concurrency = boto3.client("lambda").get_function_concurrency(FunctionName=f"{PROJECT}-{strategy}")
    assert concurrency.get("ReservedConcurrentExecutions") is None


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_code_is_the_zip_as_built(installation: Site, strategy: str) -> None:
    digest = base64.b64decode(configuration(strategy)["CodeSha256"]).hex()
    assert digest == sha256(installation.folder / "layer" / "dist" / "function.zip")


def test_the_layer_is_the_verified_zip(installation: Site) -> None:
    layer = boto3.client("lambda").get_layer_version(LayerName=f"{PROJECT}-layer", VersionNumber=1)
    assert base64.b64decode(layer["Content"]["CodeSha256"]).hex() == sha256(
        installation.folder / TARGET.zip.relative_to(ROOT)
    )
    assert (layer["CompatibleRuntimes"], layer["CompatibleArchitectures"]) == (["python3.13"], ["x86_64"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_share_nothing_but_the_bucket(installation: Site, strategy: str) -> None:
    variables = configuration(strategy)["Environment"]["Variables"]
    fake = installation.alpaca[strategy]
    expected = {
        "STRATEGY": strategy,
        "BROKER": "alpaca",
        "MODE": "paper",
        "PRICE_SOURCES": "yahoo,alpaca",
        "JOURNAL": f"s3://{BUCKET}",
        "HALT_PARAMETER": f"/{PROJECT}/{strategy}/halt",
        "ALPACAUSER": f"ssm:/{PROJECT}/{strategy}/alpacauser",
        "ALPACAPW": f"ssm:/{PROJECT}/{strategy}/alpacapw",
        "MESSAGE_TOPIC": TOPIC,
        "MESSAGE_URL": f"ssm:/{PROJECT}/{strategy}/message_url",
        "SILENT_SESSIONS": "2",
        "WATCH": "interval" if strategy == "trend" else "trend",
        "APCA_API_BASE_URL": fake.url,
        "APCA_API_DATA_URL": fake.url,
        "UNIVERSE": "KO,PEP",
        "HISTORY_BARS": str(BARS),
        "MAX_PRICE_AGE_S": "600000",
    }
    assert variables == expected | (OTHER_RULE if strategy == "interval" else {})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_log_group_precedes_the_function_and_keeps_400_days(installation: Site, strategy: str) -> None:
    (found,) = boto3.client("logs").describe_log_groups(logGroupNamePrefix=group(strategy))["logGroups"]
    function = boto3.client("lambda").get_function_configuration(FunctionName=f"{PROJECT}-{strategy}", Qualifier="1")
    must_make = datetime.fromtimestamp(found["creationTime"] / 1000, UTC)
    assert must_make < datetime.fromisoformat(function["LastModified"])
    assert found["retentionInDays"] == 400


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_role_has_exactly_the_rights_it_needs(installation: Site, strategy: str) -> None:
    iam, role = boto3.client("iam"), f"{PROJECT}-{strategy}"
    assert configuration(strategy)["Role"] == f"arn:aws:iam::{ACCOUNT}:role/{role}"
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document: Any = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
    rights = {
        (action, resource)
        for statement in document["Statement"]
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }
    conditions = {each["Sid"]: each["Condition"] for each in document["Statement"] if "Condition" in each}
    assert conditions == {"TakeAccount": {"Null": {"s3:if-none-match": "false"}}}
    assert {each["Effect"] for each in document["Statement"]} == {"Allow"}
    stream = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group(strategy)}:*"
    parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{PROJECT}/{strategy}"
    journal = [f"arn:aws:s3:::{BUCKET}/{folder}/{strategy}/*" for folder in ("runs", "universe", "equity")]
    assert rights == {
        *((action, stream) for action in ("logs:CreateLogStream", "logs:PutLogEvents")),
        *(("ssm:GetParameters", f"{parameter}/{name}") for name in ("alpacauser", "alpacapw", "halt", "message_url")),
        *((action, path) for action in ("s3:GetObject", "s3:PutObject") for path in journal),
        *((action, f"arn:aws:s3:::{BUCKET}/accounts/*") for action in ("s3:GetObject", "s3:PutObject")),
        ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/digests/*"),
        ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/digests/{strategy}/*"),
        ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
        ("sns:Publish", TOPIC),
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_lambda_may_assume_the_role(installation: Site, strategy: str) -> None:
    trust: Any = boto3.client("iam").get_role(RoleName=f"{PROJECT}-{strategy}")["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Principal"]) == (
        "Allow",
        "sts:AssumeRole",
        {"Service": "lambda.amazonaws.com"},
    )


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bucket_is_private_versioned_and_encrypted(installation: Site) -> None:
    s3 = boto3.client("s3")
    assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"] == dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )
    (ownership,) = s3.get_bucket_ownership_controls(Bucket=BUCKET)["OwnershipControls"]["Rules"]
    (encryption,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert ownership == {"ObjectOwnership": "BucketOwnerEnforced"}
    assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"


def test_the_bucket_answers_only_over_tls(installation: Site) -> None:
    (statement,) = json.loads(boto3.client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    del statement["Sid"]
    assert statement == {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def test_old_records_and_replaced_objects_expire(installation: Site) -> None:
    rules = boto3.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    expiring = {rule["Filter"]["Prefix"]: rule["Expiration"]["Days"] for rule in rules if "Expiration" in rule}
    replaced = [
        rule["NoncurrentVersionExpiration"]["NoncurrentDays"] for rule in rules if "NoncurrentVersionExpiration" in rule
    ]
    assert (expiring, replaced) == ({"runs/": 400, "universe/": 400, "digests/": 400}, [30])
    assert {rule["Status"] for rule in rules} == {"Enabled"}


def alarms() -> dict[str, Any]:
    pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate()
    return {alarm["AlarmName"]: alarm for page in pages for alarm in page["MetricAlarms"]}


def test_all_strategies_share_two_alarms_that_notify_the_topic(installation: Site) -> None:
    assert {name: alarm["AlarmActions"] for name, alarm in alarms().items()} == {
        f"{PROJECT}-{kind}": [TOPIC] for kind in ("silent", "unsent")
    }


def test_only_the_alarm_on_silence_rings_for_missing_data(installation: Site) -> None:
    missing = {name: alarm["TreatMissingData"] for name, alarm in alarms().items()}
    assert missing == {f"{PROJECT}-silent": "breaching", f"{PROJECT}-unsent": "notBreaching"}


def test_a_message_that_is_not_sent_is_one_too_many_within_an_hour(installation: Site) -> None:
    alarm = alarms()[f"{PROJECT}-unsent"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Dimensions"]) == ("ProphetTrader", "Unsent", [])
    assert (alarm["Statistic"], alarm["Period"], alarm["Threshold"]) == ("Sum", 3_600, 1)
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


def test_silence_is_counted_from_the_digests_of_a_week(installation: Site) -> None:
    alarm = alarms()[f"{PROJECT}-silent"]
    queries = {query["Id"]: query for query in alarm["Metrics"]}
    stat = queries["digests"]["MetricStat"]
    assert (stat["Metric"]["Namespace"], stat["Metric"]["MetricName"]) == ("ProphetTrader", "Digests")
    assert (stat["Metric"].get("Dimensions", []), stat["Stat"], stat["Period"]) == ([], "Sum", 3_600)
    assert queries["filled"]["Expression"] == "FILL(digests, 0)"
    weekday_hours, later_digests = queries["silent"]["Expression"].split("), ", 1)
    assert weekday_hours.startswith("IF((DAY(digests) < 6) AND (")
    assert later_digests == "SUM(filled) - RUNNING_SUM(filled) + filled, 1)"
    assert [name for name, query in queries.items() if query["ReturnData"]] == ["silent"]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert (alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (50, 168)


def test_alarms_reach_the_configured_address(installation: Site) -> None:
    (subscription,) = boto3.client("sns").list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "owner@example.com")


def test_the_topic_accepts_only_this_accounts_alarms_over_tls(installation: Site) -> None:
    policy = json.loads(boto3.client("sns").get_topic_attributes(TopicArn=TOPIC)["Attributes"]["Policy"])
    allowed, denied = policy["Statement"]
    assert (allowed["Effect"], allowed["Principal"]) == ("Allow", {"Service": "cloudwatch.amazonaws.com"})
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_saved_queries_match_the_files(installation: Site) -> None:
    saved = {
        query["name"]: (query["queryString"], sorted(query["logGroupNames"]))
        for query in boto3.client("logs").describe_query_definitions()["queryDefinitions"]
    }
    files = (installation.folder / "terraform" / "queries").glob("*.cwli")
    groups = [group(strategy) for strategy in STRATEGIES]
    assert saved == {f"{PROJECT}/{file.stem}": (file.read_text().strip(), groups) for file in files}
    assert len(saved) >= 6


def test_the_dashboard_shows_every_strategy(installation: Site) -> None:
    body = json.loads(boto3.client("cloudwatch").get_dashboard(DashboardName=PROJECT)["DashboardBody"])
    properties = [widget["properties"] for widget in body["widgets"]]
    queries = [each["query"] for each in properties if "query" in each]
    metrics = [metric for each in properties for metric in each.get("metrics", [])]
    for strategy in STRATEGIES:
        assert all(f"SOURCE '{group(strategy)}'" in query for query in queries)
        for column in ("equities", "returns", "drawdowns"):
            assert any(f"max({column}.`{strategy}`) as `{strategy}`" in query for query in queries), (column, strategy)
        assert {metric[1] for metric in metrics if metric[3] == f"{PROJECT}-{strategy}"} == {
            "Duration",
            "Errors",
            "TriggeredRules",
        }
    assert {widget["type"] for widget in body["widgets"]} == {"metric", "log", "alarm"}
    assert [each["alarms"] for each in properties if "alarms" in each] == [
        [alarm["AlarmArn"] for _, alarm in sorted(alarms().items(), reverse=True)]
    ]


def test_no_metric_costs_anything(installation: Site) -> None:
    """Neither the dashboard nor the logs have a metric of a strategy's own, but for those that AWS has anyway."""
    body = json.loads(boto3.client("cloudwatch").get_dashboard(DashboardName=PROJECT)["DashboardBody"])
    shown = [metric for widget in body["widgets"] for metric in widget["properties"].get("metrics", [])]
    assert {metric[0] for metric in shown} == {"AWS/Events", "AWS/Lambda"}
    filters = boto3.client("logs").describe_metric_filters()["metricFilters"]
    changes = [change for its in filters for change in its["metricTransformations"]]
    assert {change["metricName"] for change in changes} == {"Digests", "Unsent"}
    assert not any(change.get("dimensions") for change in changes)


# --- the scheduled runs ---


@pytest.fixture(scope="module")
def ran(installation: Site) -> Run:
    """Deliver the first scheduled event for trend."""
    return fire(installation, "trend", installation.event())


def test_the_scheduled_event_places_orders_at_alpaca(ran: Run) -> None:
    assert (ran.report["status"], ran.orders) == ("TRADED", {("KO", "buy"), ("PEP", "buy"), ("MCD", "sell")})


def test_the_other_strategys_account_is_left_alone(installation: Site, ran: Run) -> None:
    assert installation.alpaca["interval"].orders == []


def test_the_journal_has_the_claim_and_the_record_of_the_run(ran: Run) -> None:
    slot = datetime.fromisoformat(ran.event["time"])
    path = f"runs/trend/{slot.astimezone(NEW_YORK):%Y-%m-%d}/{slot:%Y%m%dT%H%MZ}"
    assert {f"{path}.claim", f"{path}.json"} <= set(journal())
    assert record(f"{path}.json")["report"]["investments"] == ran.report["investments"]


def journal() -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    return [item["Key"] for item in found if item["Key"].startswith(("runs/", "universe/", "equity/"))]


def record(key: str) -> Any:
    return json.loads(boto3.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())


def test_the_log_has_the_runs_lines_and_lambdas_as_json(ran: Run) -> None:
    kinds = [line.get("type") or line["message"] for line in ran.lines]
    assert (kinds[0], kinds[-1], kinds.count("run"), kinds.count("order")) == (
        "platform.start",
        "platform.report",
        1,
        3,
    )
    assert ran.lines[-1]["record"]["status"] == "success"
    assert {line["requestId"] for line in ran.lines if "message" in line} == {ran.lines[0]["record"]["requestId"]}


def test_a_run_costs_no_metric(ran: Run) -> None:
    assert metrics("trend", ran.lines) == {}


def metrics(strategy: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return the values that the log group's metric filters extract from these lines, by metric."""
    found: dict[str, list[float]] = {}
    for its in boto3.client("logs").describe_metric_filters(logGroupName=group(strategy))["metricFilters"]:
        (change,) = its["metricTransformations"]
        for line in lines:
            if matches(its["filterPattern"], line):
                found.setdefault(change["metricName"], []).append(float(change["metricValue"]))
    return found


@pytest.fixture(scope="module")
def repeat(installation: Site, ran: Run) -> Run:
    """Deliver the same event again: AWS delivers at least once."""
    installation.alpaca["trend"].hold("MCD", 5, 100)  # so that there is something to sell
    return fire(installation, "trend", ran.event)


def test_the_same_event_again_places_nothing(repeat: Run) -> None:
    assert (repeat.report["status"], repeat.orders) == ("ALREADY_RAN", set())


@pytest.fixture(scope="module")
def other_ran(installation: Site, repeat: Run) -> Run:
    """Deliver the same slot's event to interval."""
    return fire(installation, "interval", repeat.event)


def test_the_other_strategy_runs_for_the_same_slot_on_its_own_account(installation: Site, other_ran: Run) -> None:
    assert other_ran.report["status"] == "TRADED"
    assert other_ran.report["strategy"] == "interval"
    mine, its = ({order.client_order_id for order in installation.alpaca[name].orders} for name in STRATEGIES)
    assert not mine & its
    assert {key.split("/")[1] for key in journal()} == set(STRATEGIES)


# --- make halt, make resume ---


@pytest.fixture(scope="module")
def run_while_halted(installation: Site, other_ran: Run) -> Run:
    """Halt all strategies, and deliver trend's next event."""
    installation.must_make("halt")
    return fire(installation, "trend", installation.event())


def test_a_halted_strategy_places_nothing(run_while_halted: Run) -> None:
    assert (run_while_halted.report["status"], run_while_halted.orders) == ("HALTED", set())


@pytest.fixture(scope="module")
def digest(installation: Site, run_while_halted: Run) -> Run:
    """Start the function as the digest's rule does, at a quarter past four in New York."""
    rule = f"{PROJECT}-trend_digest"
    (target,) = boto3.client("events").list_targets_by_rule(Rule=rule)["Targets"]
    due = datetime.now(NEW_YORK).replace(hour=16, minute=15, second=0, microsecond=0).astimezone(UTC)
    text = target["InputTransformer"]["InputTemplate"].replace("<time>", f'"{due:%Y-%m-%dT%H:%M:%SZ}"')
    before, logged = len(installation.alpaca["trend"].orders), len(lines_of("trend"))
    answer = boto3.client("lambda").invoke(FunctionName=target["Arn"], Payload=text.encode())
    report = json.loads(answer["Payload"].read())
    assert not dict(answer).get("FunctionError"), report
    orders = {(order.symbol, order.side) for order in installation.alpaca["trend"].orders[before:]}
    return Run(json.loads(text), report, orders, lines_of("trend")[logged:])


def test_the_digest_is_counted_and_places_nothing(digest: Run) -> None:
    assert (metrics("trend", digest.lines), digest.orders) == ({"Digests": [1.0]}, set())


@pytest.fixture(scope="module")
def run_after_resume(installation: Site, digest: Run) -> Run:
    """Resume trend, and deliver its next event."""
    installation.must_make("resume", STRATEGY="trend")
    return fire(installation, "trend", installation.event())


def test_a_resumed_strategy_trades_again(run_after_resume: Run) -> None:
    assert run_after_resume.report["status"] == "TRADED"
    assert ("MCD", "sell") in run_after_resume.orders


# --- make invoke, make logs ---


def invoke(site: Site) -> dict[str, Any]:
    """Return the JSON output of make invoke for a slot that may already be used."""
    event = json.dumps({"time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:00Z}"})
    answer: dict[str, Any] = json.loads(site.must_make("invoke", STRATEGY="trend", EVENT=event, JSON="1"))
    assert answer["payload"]["slot"] == answer["event"]["time"]
    return answer


def test_make_invoke_shows_the_result_and_the_end_of_the_log(installation: Site, run_after_resume: Run) -> None:
    answer = invoke(installation)
    assert (answer["version"], answer["error"], answer["payload"]["strategy"]) == ("1", "", "trend")
    assert "run" in {line.get("message") for line in answer["log"] if isinstance(line, dict)}


def test_make_logs_queries_the_strategys_log_group(installation: Site, run_after_resume: Run) -> None:
    answer = json.loads(installation.must_make("logs", QUERY="runs", SINCE="1h", STRATEGY="trend", JSON="1"))
    assert answer["log_groups"] == [group("trend")]
    assert answer["rows"]  # only that there are rows: moto does not apply filters


# --- make bootstrap, a new release, rollback ---


@pytest.fixture(scope="module")
def release(installation: Site, run_after_resume: Run) -> Site:
    """Run make bootstrap, and deploy changed code."""
    installation.must_make("bootstrap", REPOSITORY="none")
    code = installation.folder / "function" / "lambda_function.py"
    old, new = "return run(event, context)", 'return {**run(event, context), "detail": "of the new release"}'
    assert old in code.read_text()
    code.write_text(code.read_text().replace(old, new))
    installation.must_make("deploy")
    return installation


def test_the_new_release_is_live_in_every_strategy(release: Site) -> None:
    assert [live_version(strategy) for strategy in STRATEGIES] == ["2", "2"]


def test_make_invoke_runs_the_new_code(release: Site) -> None:
    answer = invoke(release)
    assert (answer["version"], answer["payload"]["detail"]) == ("2", "of the new release")


def test_a_strategy_that_was_halted_stays_halted_through_a_deployment(release: Site) -> None:
    names = {f"/{PROJECT}/{strategy}/halt": strategy for strategy in STRATEGIES}
    switches = boto3.client("ssm").get_parameters(Names=list(names))["Parameters"]
    assert {names[each["Name"]]: each["Value"] for each in switches} == {"trend": "false", "interval": "true"}


def test_after_bootstrap_the_state_is_in_its_bucket(release: Site) -> None:
    kept = boto3.client("s3").get_object(Bucket=STATE_BUCKET, Key=f"{PROJECT}.tfstate")["Body"].read()
    assert {"aws_lambda_function", "aws_s3_bucket"} <= {each["type"] for each in json.loads(kept)["resources"]}
    assert not (release.folder / "terraform" / "terraform.tfstate").exists()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_bootstrap_a_boundary_limits_the_functions_role(release: Site, strategy: str) -> None:
    role = boto3.client("iam").get_role(RoleName=f"{PROJECT}-{strategy}")["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == f"arn:aws:iam::{ACCOUNT}:policy/{BOUNDARY}"


@pytest.fixture(scope="module")
def rollback(release: Site) -> Site:
    """Return trend to the previous version."""
    release.must_make("rollback", STRATEGY="trend")
    return release


def test_a_rollback_moves_only_that_strategys_alias(rollback: Site) -> None:
    assert [live_version(strategy) for strategy in STRATEGIES] == ["2", "1"]


def test_after_the_rollback_the_old_code_runs(rollback: Site) -> None:
    answer = invoke(rollback)
    assert answer["version"] == "1"
    assert answer["payload"]["detail"] != "of the new release"


def test_the_same_code_deployed_again_does_not_undo_the_rollback(rollback: Site) -> None:
    refusal = rollback.make("deploy")
    assert refusal.returncode != 0
    assert "UNDO_ROLLBACK=1" in refusal.stderr
    assert live_version("trend") == "1"


def test_no_secret_was_logged_or_recorded(rollback: Site) -> None:
    texts = dict(texts_in_aws())
    assert leaks(texts) == []
    assert sum(name.startswith("runs/") and name.endswith(".json") for name in texts) >= 4


# --- make destroy ---


@pytest.fixture(scope="module")
def aftermath(rollback: Site) -> Site:
    """Destroy everything but keep the journal."""
    rollback.must_make("destroy", CONFIRM=PROJECT, KEEP_JOURNAL="kept")
    return rollback


def test_only_what_make_bootstrap_made_is_left(aftermath: Site) -> None:
    where = f"/{PROJECT}/_bootstrap/permissions-boundary"
    assert everything() == {"buckets": [STATE_BUCKET], "policies": [BOUNDARY], "parameters": [where]}


def test_the_state_is_empty(aftermath: Site) -> None:
    kept = boto3.client("s3").get_object(Bucket=STATE_BUCKET, Key=f"{PROJECT}.tfstate")["Body"].read()
    assert json.loads(kept)["resources"] == []


def test_the_kept_journal_is_in_its_folder(aftermath: Site) -> None:
    kept = {path.parent.parent.name for path in (aftermath.folder / "kept" / "runs").rglob("*.json")}
    assert kept == set(STRATEGIES)


def test_no_secret_was_printed_or_written_up_to_the_end(aftermath: Site) -> None:
    assert leaks(dict(texts_here(aftermath))) == []
