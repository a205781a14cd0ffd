"""Additions to moto's server: it returns the settings it was given, and it runs invoked functions."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from scripts.layer.emulator import install
from scripts.layer.target import Target
from scripts.testkit.aws_lambda import bridge
from tests.aws_setup import zip_files

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import CreateFunctionRequestTypeDef, InvocationResponseTypeDef

NAME, GROUP = "trader", "/aws/lambda/trader"
runs_here = pytest.mark.skipif(
    not Target("3.13", "x86_64").runs_here, reason="left out: the emulator runs only on Linux x86_64"
)

type Write = Callable[..., None]


@pytest.fixture
def client(aws: dict[str, str]) -> "LambdaClient":
    return boto3.client("lambda")


@pytest.fixture
def write(client: "LambdaClient") -> Write:
    """Return a function that creates the Lambda function from a handler's source, published under the alias `live`."""
    trust = '{"Version": "2012-10-17", "Statement": []}'
    role = boto3.client("iam").create_role(RoleName="trader", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    boto3.client("logs").create_log_group(logGroupName=GROUP)

    def create(source: str, **more: Any) -> None:
        spec: CreateFunctionRequestTypeDef = {
            "FunctionName": NAME,
            "Role": role,
            "Runtime": "python3.13",
            "Handler": "handler.handler",
            "Code": {"ZipFile": zip_files({"handler.py": source})},
            "LoggingConfig": {"LogFormat": "JSON", "LogGroup": GROUP},
            "Publish": True,
        }
        client.create_function(**{**spec, **more})
        client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1")

    return create


# --- saved queries ---


@pytest.mark.usefixtures("aws")
def test_a_query_is_found_by_its_name_prefix() -> None:
    logs = boto3.client("logs")
    made = [
        logs.put_query_definition(name=name, queryString=f"fields {name}", logGroupNames=[GROUP])["queryDefinitionId"]
        for name in ("trader/orders", "trader/errors", "other")
    ]
    found = logs.describe_query_definitions(queryDefinitionNamePrefix="trader/")["queryDefinitions"]
    assert [(query["queryDefinitionId"], query["queryString"], query["logGroupNames"]) for query in found] == [
        (made[0], "fields trader/orders", [GROUP]),
        (made[1], "fields trader/errors", [GROUP]),
    ]


@pytest.mark.usefixtures("aws")
def test_queries_come_in_pages() -> None:
    logs = boto3.client("logs")
    for number in range(3):
        logs.put_query_definition(name=f"query-{number}", queryString="fields @message")
    first = logs.describe_query_definitions(maxResults=2)
    rest = logs.describe_query_definitions(maxResults=2, nextToken=first["nextToken"])
    assert [len(page["queryDefinitions"]) for page in (first, rest)] == [2, 1]
    assert "nextToken" not in rest


@pytest.mark.usefixtures("aws")
def test_a_query_can_be_replaced_and_deleted() -> None:
    logs = boto3.client("logs")
    identity = logs.put_query_definition(name="q", queryString="old")["queryDefinitionId"]
    logs.put_query_definition(name="q", queryString="new", queryDefinitionId=identity)
    assert [query["queryString"] for query in logs.describe_query_definitions()["queryDefinitions"]] == ["new"]
    logs.delete_query_definition(queryDefinitionId=identity)
    assert logs.describe_query_definitions()["queryDefinitions"] == []


@pytest.mark.usefixtures("aws")
def test_a_missing_query_cannot_be_changed_or_deleted() -> None:
    logs = boto3.client("logs")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.put_query_definition(name="q", queryString="new", queryDefinitionId="gone")
    with pytest.raises(logs.exceptions.ResourceNotFoundException):
        logs.delete_query_definition(queryDefinitionId="gone")


# --- a function's configuration ---


def test_a_function_and_its_versions_have_the_logging_settings(client: "LambdaClient", write: Write) -> None:
    write("", LoggingConfig={"LogFormat": "JSON", "LogGroup": GROUP, "ApplicationLogLevel": "INFO"})
    told = [
        client.get_function(FunctionName=NAME)["Configuration"],
        client.get_function_configuration(FunctionName=NAME, Qualifier="1"),
        client.get_function_configuration(FunctionName=NAME, Qualifier="live"),
    ]
    expected = {"LogFormat": "JSON", "LogGroup": GROUP, "ApplicationLogLevel": "INFO"}
    assert [each["LoggingConfig"] for each in told] == [expected] * 3


def test_an_update_changes_the_latest_but_no_version(client: "LambdaClient", write: Write) -> None:
    write("", TracingConfig={"Mode": "PassThrough"})
    client.update_function_configuration(FunctionName=NAME, TracingConfig={"Mode": "Active"})
    modes = [
        client.get_function_configuration(FunctionName=NAME, Qualifier=qualifier)["TracingConfig"]["Mode"]
        for qualifier in ("$LATEST", "live")
    ]
    assert modes == ["Active", "PassThrough"]


def test_retry_settings_apply_to_one_alias_only(client: "LambdaClient", write: Write) -> None:
    write("")
    client.put_function_event_invoke_config(FunctionName=NAME, Qualifier="live", MaximumRetryAttempts=0)
    told = client.get_function_event_invoke_config(FunctionName=NAME, Qualifier="live")
    assert (told["MaximumRetryAttempts"], told["FunctionArn"].split(":")[-2:]) == (0, [NAME, "live"])
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function_event_invoke_config(FunctionName=NAME)


# --- buckets ---


def deny(**condition: Any) -> str:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "arn:aws:s3:::records/*",
        **condition,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.usefixtures("aws")
def test_a_bucket_that_requires_tls_accepts_loopback_requests() -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="records")
    s3.put_bucket_policy(Bucket="records", Policy=deny(Condition={"Bool": {"aws:SecureTransport": "false"}}))
    s3.put_object(Bucket="records", Key="a", Body=b"text")
    assert s3.get_object(Bucket="records", Key="a")["Body"].read() == b"text"


@pytest.mark.usefixtures("aws")
def test_any_other_denial_applies() -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="records")
    s3.put_bucket_policy(Bucket="records", Policy=deny())
    with pytest.raises(s3.exceptions.ClientError, match="403"):
        s3.put_object(Bucket="records", Key="a", Body=b"text")


@pytest.mark.usefixtures("aws")
def test_another_accounts_bucket_is_closed_and_its_name_is_taken() -> None:
    role = "arn:aws:iam::222222222222:role/somebody-else"
    keys = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="else")["Credentials"]
    stranger = boto3.client(
        "s3",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    stranger.create_bucket(Bucket="records")
    s3 = boto3.client("s3", region_name="eu-west-1")
    with pytest.raises(s3.exceptions.ClientError, match="403"):
        s3.head_bucket(Bucket="records")
    with pytest.raises(s3.exceptions.BucketAlreadyExists):
        s3.create_bucket(Bucket="records", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})


# --- the bridge ---


@pytest.fixture
def lambda_bridge(aws: dict[str, str]) -> Iterator[None]:
    with bridge(aws, {"OF_THE_TEST": "given"}, install):
        yield


def payload_of(answer: "InvocationResponseTypeDef") -> Any:
    return json.loads(answer["Payload"].read())


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_the_alias_runs_its_version_with_that_versions_configuration(client: "LambdaClient", write: Write) -> None:
    write("import os\ndef handler(event, context): return ['old', os.environ['COLOR'], os.environ['OF_THE_TEST']]",
          Environment={"Variables": {"COLOR": "green"}})  # fmt: skip
    new = zip_files({"handler.py": "def handler(event, context): return ['new', event]"})
    client.update_function_code(FunctionName=NAME, ZipFile=new)
    client.update_function_configuration(FunctionName=NAME, Environment={"Variables": {"COLOR": "red"}})
    live, latest = (client.invoke(FunctionName=NAME, Qualifier=q, Payload=b"5") for q in ("live", "$LATEST"))
    assert [payload_of(live), payload_of(latest)] == [["old", "green", "given"], ["new", 5]]
    assert [live["ExecutedVersion"], latest["ExecutedVersion"]] == ["1", "$LATEST"]


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_a_function_imports_from_its_layers(client: "LambdaClient", write: Write) -> None:
    layer = client.publish_layer_version(
        LayerName="words", Content={"ZipFile": zip_files({"python/words.py": "HELLO = 'hello'"})}
    )
    write("import words\ndef handler(event, context): return words.HELLO", Layers=[layer["LayerVersionArn"]])
    assert payload_of(client.invoke(FunctionName=NAME)) == "hello"


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_an_error_is_reported_as_lambda_reports_it(client: "LambdaClient", write: Write) -> None:
    write("def handler(event, context): raise KeyError('AAPL')")
    answer = client.invoke(FunctionName=NAME, Qualifier="live")
    told = payload_of(answer)
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert (told["errorType"], told["errorMessage"]) == ("KeyError", "'AAPL'")


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_the_configured_timeout_ends_a_function(client: "LambdaClient", write: Write) -> None:
    write("import time\ndef handler(event, context): time.sleep(60)", Timeout=1)
    answer = client.invoke(FunctionName=NAME)
    assert answer["FunctionError"] == "Unhandled"
    assert "Task timed out after 1" in payload_of(answer)["errorMessage"]


LOGGING = """
    import logging

    def handler(event, context):
        logging.getLogger().setLevel("INFO")
        logging.info("run", extra={"orders": 2})
"""


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_the_functions_log_group_has_one_json_object_per_line(client: "LambdaClient", write: Write) -> None:
    write(LOGGING, MemorySize=512)
    client.invoke(FunctionName=NAME, Qualifier="live")
    logs = boto3.client("logs")
    events = logs.filter_log_events(logGroupName=GROUP)["events"]
    start, run, report = (json.loads(event["message"]) for event in events)
    assert (start["type"], start["record"]["version"]) == ("platform.start", "1")
    assert (run["message"], run["orders"], run["requestId"]) == ("run", 2, start["record"]["requestId"])
    assert (report["type"], report["record"]["status"]) == ("platform.report", "success")
    metrics = report["record"]["metrics"]
    assert metrics["memorySizeMB"] == 512
    assert metrics["maxMemoryUsedMB"] > 5
    assert metrics["billedDurationMs"] >= metrics["durationMs"] + metrics["initDurationMs"] > metrics["durationMs"] > 0
    assert events[0]["logStreamName"].split("/")[-1].startswith("[1]")


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_the_answer_has_the_logs_tail_if_requested(client: "LambdaClient", write: Write) -> None:
    write("def handler(event, context): print('x' * 5000)")
    tail = base64.b64decode(client.invoke(FunctionName=NAME, LogType="Tail")["LogResult"])
    assert (len(tail), b"platform.report" in tail) == (4096, True)
    assert "LogResult" not in client.invoke(FunctionName=NAME)


@runs_here
@pytest.mark.usefixtures("lambda_bridge")
def test_a_function_set_to_log_text_logs_text(client: "LambdaClient", write: Write) -> None:
    write(LOGGING, LoggingConfig={"LogFormat": "Text"})
    tail = base64.b64decode(client.invoke(FunctionName=NAME, LogType="Tail")["LogResult"]).decode()
    assert "[INFO]" in tail
    assert tail.startswith("START RequestId")
