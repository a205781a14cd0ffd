"""make destroy KEEP_JOURNAL=: whoever can write to the bucket cannot write outside the folder."""

import re
from pathlib import Path

import boto3
import pytest

from scripts.cloud.aws import connect
from scripts.cloud.destroy import check_journal_keys, download, keys_of
from scripts.console import CommandError
from trader.progress import no_progress

BUCKET = "journal-bucket"
RECORD = "runs/trend/2026-11-23/20261123T1500Z.json"


@pytest.fixture(autouse=True)
def _bucket(aws: dict[str, str]) -> None:
    """Create the bucket, with one record in it."""
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    put(RECORD)


def put(key: str, body: bytes = b"{}") -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)


def keep(folder: Path) -> list[str]:
    """Keep the journal in a folder; return the names of all files in and around it."""
    download(connect(), BUCKET, folder, no_progress)
    return sorted(str(path.relative_to(folder.parent)) for path in folder.parent.rglob("*") if path.is_file())


def test_digests_and_whose_account_it_is_are_kept_too(tmp_path: Path) -> None:
    others = ["accounts/PA1234567890.json", "digests/trend/2026-11-27.json"]
    for key in others:
        put(key)
    assert keep(tmp_path / "kept") == sorted(f"kept/{key}" for key in (RECORD, *others))


def test_the_journal_is_copied_under_its_own_names(tmp_path: Path) -> None:
    put("universe/trend/2026-11-23.json")
    put("equity/trend/peak.json")
    put("function/prophet-trader-trend.zip")
    assert keep(tmp_path / "kept") == [
        "kept/equity/trend/peak.json",
        f"kept/{RECORD}",
        "kept/universe/trend/2026-11-23.json",
    ]


def test_a_folder_that_was_made_in_the_console_is_no_file(tmp_path: Path) -> None:
    put("runs/trend/", b"")
    assert keep(tmp_path / "kept") == [f"kept/{RECORD}"]


def test_what_make_secrets_stored_is_found_for_each_strategy_and_nothing_else() -> None:
    stored = [f"/prophet-trader/trend/{name}" for name in ("alpacapw", "alpacauser", "message_url")]
    for name in (*stored, "/prophet-trader/trend/halt", "/other/trend/message_url"):
        boto3.client("ssm").put_parameter(Name=name, Value="a-value", Type="SecureString")
    assert keys_of(connect()) == stored


HOSTILE = {
    "a way up": "runs/trend/../../../escaped.json",
    "a way up at the end": "runs/trend/day/..",
    "the folder itself": "runs/trend/./x.json",
    "an absolute path": "runs//etc/x.json",
    "a way up in Windows": "runs\\..\\..\\escaped.json/x/y",
    "a drive of Windows": "runs/trend/C:x.json",
    "a home folder": "runs/~/day/x.json",
    "a hidden file": "runs/trend/day/.bashrc",
    "an option": "runs/trend/day/-rf",
    "NUL": "runs/trend/day/x\0.json",
    "a line break": "runs/trend/day/x\n.json",
    "a line break at the end": f"{RECORD}\n",
    "a terminal command": "runs/trend/day/\x1b[2Jx.json",
    "reversed text": "runs/trend/day/\u202enosj.json",
    "digits of another script": "runs/trend/2026-11-2\u0663/x.json",
    "a very long name": f"runs/trend/day/{'x' * 300}.json",
    "a deep path": "runs/" + "a/" * 400 + "x.json",
    "a folder with content": "runs/trend/day/",
    "another prefix": "function/trend/x.json",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_key_that_the_bot_does_not_give_is_refused(kind: str) -> None:
    with pytest.raises(CommandError, match=r"nothing was destroyed: .* is not a name that the bot gives") as refused:
        check_journal_keys(BUCKET, [RECORD, HOSTILE[kind]])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (f"{RECORD}/x.json", "is not a name that the bot gives"),
        ("runs/trend/2026-11-23", "would be a file and a folder at once"),
        ("runs/Trend/2026-11-23", "would be a file and a folder at once"),
        (RECORD.upper().replace("RUNS", "runs"), "differs from another key only in capital letters"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_two_keys_that_would_meet_in_one_file_are_refused(other: str, why: str, is_first: bool) -> None:
    with pytest.raises(CommandError, match=re.escape(why)):
        check_journal_keys(BUCKET, [other, RECORD] if is_first else [RECORD, other])


def test_nothing_is_written_if_one_key_is_hostile(tmp_path: Path) -> None:
    put("runs/trend/../../../escaped.json")
    with pytest.raises(CommandError, match="nothing was destroyed"):
        keep(tmp_path / "kept")
    assert list(tmp_path.rglob("*")) == []
