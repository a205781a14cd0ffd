from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import boto3
import pytest
from moto.core.authorization import enable_iam_authentication

from scripts.cloud.aws import AwsError, DeniedError, MissingError, UsageError, connect, translate_errors


@pytest.fixture(autouse=True)
def _no_account_of_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def refusal(**env: str) -> str:
    with pytest.raises((AwsError, UsageError)) as error:
        connect(env)
    return str(error.value)


def deploy(*names: str) -> None:
    for name in names:
        boto3.client("ssm").put_parameter(Name=name, Value="false", Type="String")


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve an AWS that answers every request with the error code in the URL's path; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            code = self.path.strip("/")
            body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the name is the base class's
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# --- credentials and region ---


def test_without_credentials_the_error_says_how_to_log_in() -> None:
    assert "no AWS credentials found; log in (aws configure" in refusal(AWS_REGION="us-east-1")


def test_half_a_pair_of_credentials_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    assert "no AWS credentials found" in refusal(AWS_REGION="us-east-1")


def test_without_a_region_the_error_says_how_to_choose_one() -> None:
    assert refusal() == "no AWS region is set; choose one, such as: export AWS_REGION=us-east-1"


def test_a_misspelled_region_gets_the_nearest_name() -> None:
    assert (
        refusal(AWS_REGION="eu-centrl-1")
        == "AWS_REGION=eu-centrl-1 is not a region with Lambda; did you mean eu-central-1?"
    )


def test_a_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    said = refusal(AWS_REGION="us-east-1")
    assert "nobody" in said
    assert "AWS_PROFILE" in said


@pytest.mark.usefixtures("aws")
def test_the_profiles_region_is_used_if_none_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile work]\nregion = eu-west-1\n")
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert connect({}).region == "eu-west-1"


@pytest.mark.parametrize("project", ["", "Trader", "x", "a-name-that-is-far-too-long", "a/b"])
@pytest.mark.usefixtures("aws")
def test_a_project_name_that_aws_would_refuse_is_refused(project: str) -> None:
    if not project:
        assert connect({"PROJECT": project}).project == "prophet-trader"
    else:
        assert refusal(PROJECT=project, AWS_REGION="us-east-1").startswith(f"PROJECT={project}: must be")


def test_an_unreachable_address_is_reported_as_a_network_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "check the network connection" in refusal(AWS_REGION="us-east-1")


# --- AWS's answers ---


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ExpiredToken", "the AWS credentials have expired; log in again (such as: aws sso login)"),
        ("SignatureDoesNotMatch", "AWS does not accept these credentials (SignatureDoesNotMatch); log in again"),
        ("OptInRequired", "your AWS account: AWS answered OptInRequired to GetCallerIdentity: no"),
    ],
)
def test_awss_error_codes_are_explained(refusing: str, monkeypatch: pytest.MonkeyPatch, code: str, said: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{refusing}/{code}")
    assert said in refusal(AWS_REGION="us-east-1")


@pytest.mark.usefixtures("aws")
def test_unknown_credentials_are_distinguished_from_missing_ones() -> None:
    with enable_iam_authentication():
        assert "AWS does not accept these credentials" in refusal(AWS_REGION="us-east-1")


@pytest.mark.usefixtures("aws")
def test_a_missing_right_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    iam = boto3.client("iam")
    iam.create_user(UserName="guest")
    key = iam.create_access_key(UserName="guest")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    with (
        enable_iam_authentication(),
        pytest.raises(DeniedError, match=r"the deployed strategies: .*do not allow DescribeParameters: "),
    ):
        _ = connect({}).strategies


@pytest.mark.usefixtures("aws")
def test_a_missing_resource_has_its_own_error() -> None:
    with pytest.raises(MissingError, match="the switch: not found in AWS"), translate_errors("the switch"):
        boto3.client("ssm").get_parameter(Name="/prophet-trader/trend/halt")


# --- what is deployed ---


@pytest.mark.usefixtures("aws")
def test_the_account_and_the_names_follow_from_the_credentials_and_the_project() -> None:
    cloud = connect({"PROJECT": "mine", "AWS_REGION": "eu-west-1"})
    assert (cloud.artifact_bucket, cloud.state_bucket, cloud.log_group("trend")) == (
        "mine-123456789012-eu-west-1",
        "mine-state-123456789012-eu-west-1",
        "/aws/lambda/mine-trend",
    )


@pytest.mark.usefixtures("aws")
def test_a_strategy_is_deployed_if_it_has_a_halt_switch() -> None:
    deploy("/prophet-trader/trend/halt", "/prophet-trader/swing/halt", "/prophet-trader/only-keys/alpacauser")
    deploy("/prophet-trader-two/other/halt")
    assert connect().strategies == ["swing", "trend"]


@pytest.mark.usefixtures("aws")
def test_strategies_on_every_page_are_found() -> None:
    deploy(*(f"/prophet-trader/s{number:02}/halt" for number in range(60)))
    assert len(connect().strategies) == 60


@pytest.mark.usefixtures("aws")
def test_the_only_strategy_need_not_be_named() -> None:
    deploy("/prophet-trader/trend/halt")
    assert connect().choose_strategy(None) == "trend"


@pytest.mark.usefixtures("aws")
def test_one_of_several_strategies_must_be_named() -> None:
    deploy("/prophet-trader/trend/halt", "/prophet-trader/swing/halt")
    with pytest.raises(UsageError, match=r"which strategy\? Set STRATEGY to one of swing, trend"):
        connect().choose_strategy("")


@pytest.mark.usefixtures("aws")
def test_a_misspelled_strategy_gets_the_deployed_ones() -> None:
    deploy("/prophet-trader/trend/halt")
    with pytest.raises(UsageError, match="STRATEGY=trnd is not deployed in us-east-1; choose one of trend"):
        connect().choose_strategy("trnd")


@pytest.mark.usefixtures("aws")
def test_where_nothing_is_deployed_the_account_and_the_region_are_named() -> None:
    with pytest.raises(
        AwsError, match="nothing of prophet-trader is deployed in account 123456789012, region us-east-1"
    ):
        connect().choose_strategy(None)
