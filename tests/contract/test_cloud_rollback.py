import json
from typing import Any

import boto3
import pytest
from moto.awslambda.responses import LambdaResponse

from scripts.cloud import rollback
from tests.aws_setup import zip_code
from tests.commands import Command, in_process

FUNCTION = "prophet-trader-trend"


@pytest.fixture
def make(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(rollback.main, monkeypatch, capsys)


@pytest.fixture
def _three(aws: dict[str, str]) -> None:
    """Deploy a function with three versions, the third of them live."""
    deploy(versions=3)


def deploy(*, versions: int) -> None:
    role = boto3.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    boto3.client("ssm").put_parameter(Name="/prophet-trader/trend/halt", Value="false", Type="String")
    client = boto3.client("lambda")
    client.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Role=role,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": zip_code("")},
        Environment={"Variables": {"MODE": "paper"}},
    )
    for number in range(1, versions + 1):
        client.update_function_code(FunctionName=FUNCTION, ZipFile=zip_code(str(number)), Publish=True)
    client.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=str(versions))


def live() -> str:
    return boto3.client("lambda").get_alias(FunctionName=FUNCTION, Name="live")["FunctionVersion"]


@pytest.mark.usefixtures("_three")
def test_by_default_runs_use_the_previous_version(make: Command) -> None:
    code, said, _ = make()
    assert (code, live()) == (0, "2")
    paper = "(MODE=paper: paper money)"
    assert f"Runs of trend now use version 2 {paper}; before, they used version 3 {paper}." in said


@pytest.mark.usefixtures("_three")
def test_a_second_rollback_goes_back_one_more_version(make: Command) -> None:
    make()
    make()
    assert live() == "1"


@pytest.mark.usefixtures("_three")
def test_a_newer_version_can_be_named(make: Command) -> None:
    make(VERSION="1")
    make(VERSION="3")
    assert live() == "3"


@pytest.mark.usefixtures("_three")
def test_naming_the_live_version_is_no_error(make: Command) -> None:
    code, said, _ = make(VERSION="3", STRATEGY="trend")
    assert (code, live()) == (0, "3")
    assert "Runs of trend use version 3 (MODE=paper: paper money) already; nothing was changed." in said


@pytest.mark.usefixtures("_three")
def test_every_version_is_shown_with_its_codes_digest(make: Command) -> None:
    _, said, _ = make(JSON="1")
    result = json.loads(said)
    assert (result["before"], result["now"], [each["number"] for each in result["versions"]]) == ("3", "2", [3, 2, 1])
    digests = {each["sha256"] for each in result["versions"]}
    assert (len(digests), {len(digest) for digest in digests}) == (3, {64})


@pytest.mark.usefixtures("_three")
def test_the_table_shows_the_version_in_use_before_and_now(make: Command) -> None:
    _, said, _ = make()
    assert "paper before" in said.split("2 20")[0]
    assert "paper now" in said.split("2 20")[1]


@pytest.mark.usefixtures("_three")
def test_it_says_how_to_undo_it_and_what_make_deploy_does(make: Command) -> None:
    _, said, _ = make()
    assert "make rollback STRATEGY=trend VERSION=3" in said
    assert "UNDO_ROLLBACK=1" in said


@pytest.mark.usefixtures("_three")
def test_going_back_to_real_money_is_reported(make: Command) -> None:
    client = boto3.client("lambda")
    client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {"MODE": "live"}})
    client.update_function_code(FunctionName=FUNCTION, ZipFile=zip_code("4"), Publish=True)
    _, said, _ = make(VERSION="4", LIVE="1")
    assert "Runs of trend now use version 4 (MODE=live: REAL MONEY)" in said


@pytest.mark.usefixtures("_three")
@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("9", "VERSION=9: no such version; the published versions are 3, 2, 1"),
        ("two", "VERSION=two: must be the number of a published version, such as 3"),
        ("$LATEST", "VERSION=$LATEST: must be the number of a published version, such as 3"),
        ("0", "VERSION=0: must be the number of a published version, such as 3"),
        ("-1", "VERSION=-1: must be the number of a published version, such as 3"),
    ],
)
def test_an_invalid_version_is_refused(make: Command, version: str, said: str) -> None:
    code, _, errors = make(VERSION=version)
    assert (code, errors, live()) == (2, said, "3")


def test_without_an_older_version_nothing_is_rolled_back(make: Command) -> None:
    deploy(versions=1)
    code, _, errors = make()
    assert (code, live()) == (3, "1")
    assert errors == "runs use version 1, and there is no older one to go back to; published versions: 1"


def test_versions_on_every_page_are_found(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(versions=3)
    list_all = LambdaResponse.list_versions_by_function

    def in_pages(response: Any) -> str:
        versions = json.loads(list_all(response))["Versions"]
        begin = int(response._get_param("Marker") or 0)
        page = {"Versions": versions[begin : begin + 2]}
        return json.dumps({**page, "NextMarker": str(begin + 2)} if begin + 2 < len(versions) else page)

    monkeypatch.setattr(LambdaResponse, "list_versions_by_function", in_pages)
    make()
    assert live() == "2"


@pytest.mark.usefixtures("_three")
def test_a_simultaneous_change_is_not_overwritten(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    look, update = LambdaResponse.get_alias, LambdaResponse.update_alias

    def then_somebody_moves_it(response: Any) -> Any:
        answer = look(response)
        alias = response.backend.get_alias("live", FUNCTION)
        alias.function_version, alias.revision_id = "1", "another"
        return answer

    def as_aws_does(response: Any) -> Any:  # moto itself accepts any revision
        alias = response.backend.get_alias("live", FUNCTION)
        if json.loads(response.body).get("RevisionId", alias.revision_id) == alias.revision_id:
            return update(response)
        return (
            412,
            {"status": 412, "x-amzn-errortype": "PreconditionFailedException"},
            '{"Message": "the revision does not match"}',
        )

    monkeypatch.setattr(LambdaResponse, "get_alias", then_somebody_moves_it)
    monkeypatch.setattr(LambdaResponse, "update_alias", as_aws_does)
    code, _, errors = make()
    monkeypatch.setattr(LambdaResponse, "get_alias", look)
    assert (code, live()) == (3, "1")
    assert "the alias live of prophet-trader-trend was changed at the same time" in errors
    assert "nothing was moved" in errors


def test_a_function_without_the_alias_is_named(make: Command) -> None:
    deploy(versions=1)
    boto3.client("lambda").delete_alias(FunctionName=FUNCTION, Name="live")
    code, _, errors = make()
    assert code == 3
    assert "the alias live of prophet-trader-trend: not found in AWS" in errors


def test_a_rollback_to_real_money_needs_live(make: Command) -> None:
    deploy(versions=2)
    client = boto3.client("lambda")
    client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {"MODE": "live"}})
    client.update_function_code(FunctionName=FUNCTION, ZipFile=zip_code("real = 1"), Publish=True)
    client.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {"MODE": "paper"}})
    client.update_function_code(FunctionName=FUNCTION, ZipFile=zip_code("paper = 1"), Publish=True)
    client.update_alias(FunctionName=FUNCTION, Name="live", FunctionVersion="4")
    code, _, err = make()
    assert (code, live()) == (2, "4")
    assert "version 3 of trend trades real money (MODE=live), and version 4, which runs use now, does not" in err
    assert make(LIVE="1")[0] == 0
    assert live() == "3"
