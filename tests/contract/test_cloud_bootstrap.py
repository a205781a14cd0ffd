import io
import os
import re
import subprocess
from pathlib import Path
from typing import TextIO

import boto3
import pytest

from scripts.cloud.aws import AwsError, Cloud, UsageError, connect
from scripts.cloud.bootstrap import (
    ISSUER,
    REMOTE,
    choices,
    has_provider,
    look_up_numbers,
    make_bucket,
    suggest_repository,
    wishes,
)

STATE_BUCKET = "prophet-trader-state-123456789012-us-east-1"


@pytest.fixture
def cloud(aws: dict[str, str]) -> Cloud:
    return connect(aws)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a clone of octo-org/bot the current folder, and return it."""
    for words in (["init", "--quiet"], ["remote", "add", "origin", "git@github.com:octo-org/bot.git"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path, on the PATH, where a test writes its own `gh`."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "gh"


def type_in(text: str) -> TextIO:
    """Return a terminal at which this text has been typed."""
    ours, theirs = os.openpty()
    os.write(ours, text.encode())
    return io.TextIOWrapper(os.fdopen(theirs, "rb", buffering=0))


# --- the person's choices ---


def test_without_variables_there_are_no_wishes() -> None:
    assert wishes({"REPOSITORY": "", "HOME": "/root"}) == {}


def test_wishes_have_terraforms_names() -> None:
    said = {"REPOSITORY": "octo-org/bot", "BRANCH": "release/1", "BUCKET_NAME": "zips", "REPOSITORY_IDS": "1/2"}
    assert wishes(said) == {
        "repository": "octo-org/bot",
        "branch": "release/1",
        "artifact_bucket": "zips",
        "repository_ids": "1/2",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REPOSITORY", "bot"),
        ("REPOSITORY", "octo-org/*"),
        ("REPOSITORY", "https://github.com/octo-org/bot"),
        ("REPOSITORY_IDS", "12"),
        ("BRANCH", "release/*"),
    ],
)
def test_an_invalid_value_is_refused_with_an_example(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{name}={value}: must be ")):
        wishes({name: value})


# --- the choices of the last run ---


RECORDED = {"repository": "octo-org/bot", "repository_ids": "1/2", "branch": "release", "artifact_bucket": "zips"}


def test_choices_stay_without_a_new_value() -> None:
    assert choices({}, RECORDED) == RECORDED


def test_a_new_value_replaces_the_recorded_choice() -> None:
    assert choices({"branch": "main"}, RECORDED) == {**RECORDED, "branch": "main"}


def test_the_old_numbers_do_not_apply_to_another_repository() -> None:
    assert choices({"repository": "octo-org/other"}, RECORDED)["repository_ids"] is None


def test_none_removes_the_repository() -> None:
    chosen = choices({"repository": "none"}, RECORDED)
    assert (chosen["repository"], chosen["repository_ids"]) == (None, None)


# --- the repository that the folder was cloned from ---


@pytest.mark.parametrize(
    "remote",
    [
        "git@github.com:octo-org/bot.git",
        "git@github.com:octo-org/bot",
        "https://github.com/octo-org/bot.git",
        "https://github.com/octo-org/bot/",
        "https://someone@github.com/octo-org/bot",
        "ssh://git@github.com/octo-org/bot.git",
        "ssh://git@ssh.github.com:443/octo-org/bot.git",
    ],
)
def test_a_remote_on_github_is_read(remote: str) -> None:
    found = re.fullmatch(REMOTE, remote)
    assert found
    assert found[1] == "octo-org/bot"


@pytest.mark.parametrize(
    "remote", ["", "/srv/git/bot.git", "git@gitlab.com:octo-org/bot.git", "https://github.com.example.org/octo-org/bot"]
)
def test_a_remote_elsewhere_is_ignored(remote: str) -> None:
    assert re.fullmatch(REMOTE, remote) is None


@pytest.mark.parametrize(("answer", "repository"), [("y\n", "octo-org/bot"), ("n\n", None), ("\n", None)])
@pytest.mark.usefixtures("clone")
def test_a_clone_gets_a_role_only_if_the_user_agrees(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, answer: str, repository: str | None
) -> None:
    with type_in(answer) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert suggest_repository(cloud) == repository


@pytest.mark.usefixtures("clone")
def test_without_a_terminal_a_clone_gets_no_role(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert suggest_repository(cloud) is None
    assert "make bootstrap REPOSITORY=octo-org/bot" in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_is_not_a_clone_has_no_repository(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert suggest_repository(cloud) is None


# --- GitHub's numbers ---


def test_github_is_asked_for_the_numbers(gh: Path) -> None:
    gh.write_text('#!/bin/sh\n[ "$1 $2" = "api repos/octo-org/bot" ] && echo 12/345\n')
    gh.chmod(0o755)
    assert look_up_numbers("octo-org/bot") == "12/345"


def test_without_the_numbers_the_user_is_told_how_to_get_them(gh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gh.write_text("#!/bin/sh\necho 'gh: To get started, please run: gh auth login' >&2\nexit 4\n")
    gh.chmod(0o755)
    assert look_up_numbers("octo-org/bot") is None
    assert "gh api repos/octo-org/bot" in " ".join(capsys.readouterr().err.split())


# --- GitHub's OIDC provider (one per account at most) ---


def trusting(*audiences: str) -> None:
    boto3.client("iam").create_open_id_connect_provider(Url=f"https://{ISSUER}", ClientIDList=audiences)


def test_an_account_may_have_no_provider(cloud: Cloud) -> None:
    assert not has_provider(cloud)


def test_an_existing_provider_is_found(cloud: Cloud) -> None:
    trusting("another", "sts.amazonaws.com")
    assert has_provider(cloud)


def test_a_provider_not_for_aws_is_an_error_with_the_remedy(cloud: Cloud) -> None:
    trusting("another")
    with pytest.raises(AwsError, match=r"add-client-id-to-open-id-connect-provider .* --client-id sts\.amazonaws\.com"):
        has_provider(cloud)


# --- the bucket ---


def test_the_bucket_is_created(cloud: Cloud) -> None:
    make_bucket(cloud, STATE_BUCKET)
    assert boto3.client("s3").head_bucket(Bucket=STATE_BUCKET)["BucketRegion"] == "us-east-1"


def test_the_bucket_is_created_in_the_region(aws: dict[str, str]) -> None:
    make_bucket(connect({**aws, "AWS_REGION": "eu-central-1"}), "somewhere-else")
    assert boto3.client("s3").head_bucket(Bucket="somewhere-else")["BucketRegion"] == "eu-central-1"


def test_an_existing_bucket_is_left_alone(cloud: Cloud) -> None:
    make_bucket(cloud, STATE_BUCKET)
    boto3.client("s3").put_object(Bucket=STATE_BUCKET, Key="bootstrap.tfstate", Body=b"{}")
    make_bucket(cloud, STATE_BUCKET)
    assert boto3.client("s3").head_object(Bucket=STATE_BUCKET, Key="bootstrap.tfstate")["ContentLength"] == 2


def test_another_accounts_bucket_is_not_used(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS", "false")
    role = boto3.client("sts").assume_role(RoleArn="arn:aws:iam::210987654321:role/squatter", RoleSessionName="squat")
    keys = role["Credentials"]
    theirs = boto3.client(
        "s3",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    theirs.create_bucket(Bucket=STATE_BUCKET)
    with pytest.raises(AwsError, match=f"the bucket {STATE_BUCKET} belongs to another account.*PROJECT=another-name"):
        make_bucket(cloud, STATE_BUCKET)
