"""`make replay` of records in S3 (moto) and on a laptop."""

from pathlib import Path

import boto3
import pytest

from lambda_function import run
from scripts.run import replay
from tests.commands import Command, in_process

SLOT = "20221228T2045Z"
EVENT = {"time": "2022-12-28T20:45:00Z"}


@pytest.fixture
def make(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Record a run in a bucket, below a prefix, and return the command."""
    monkeypatch.chdir(tmp_path)
    boto3.client("s3").create_bucket(Bucket="journal")
    run(EVENT, env={"UNIVERSE": "AAPL,KO", "JOURNAL": "s3://journal/mine"})
    return in_process(replay.main, monkeypatch, capsys)


def key() -> str:
    """Return the record's key in the bucket."""
    [name] = [
        item["Key"]
        for item in boto3.client("s3").list_objects_v2(Bucket="journal")["Contents"]
        if SLOT in item["Key"] and item["Key"].endswith(".json")
    ]
    return name


def test_a_record_is_replayed_by_its_address_in_s3(make: Command) -> None:
    code, said, errors = make(RUN=f"s3://journal/{key()}")
    assert (code, errors) == (0, "")
    assert f"s3://journal/{key()}: recomputed from its record, with the same result" in said


def test_the_latest_record_of_a_journal_in_s3_is_replayed(make: Command) -> None:
    code, said, _ = make(JOURNAL="s3://journal/mine")
    assert (code, f"{SLOT}.json: recomputed from its record, with the same result" in said) == (0, True)


@pytest.mark.parametrize("address", ["s3://journal", "s3://journal/mine/runs/trend", "s3://journal/other.json"])
def test_an_address_that_is_no_records_is_refused_with_an_example(make: Command, address: str) -> None:
    code, _, errors = make(RUN=address)
    assert code == 2
    assert f"RUN={address}: must be the whole address of a record, such as s3://BUCKET/runs/trend/" in errors


def test_a_record_that_is_not_in_s3_is_named(make: Command) -> None:
    code, _, errors = make(RUN="s3://journal/mine/runs/trend/2022-12-28/20221228T1500Z.json")
    assert code == 3
    assert "runs/trend/2022-12-28/20221228T1500Z.json" in errors


def test_an_empty_journal_says_how_to_make_a_record(make: Command) -> None:
    code, _, errors = make()
    assert code == 3
    assert "the journal folder:out/journal of strategy trend has no such record, because it has none at all" in errors


def test_a_slot_that_is_not_there_is_answered_with_one_that_is(make: Command) -> None:
    code, _, errors = make(JOURNAL="s3://journal/mine", RUN="20200101T1500Z")
    assert code == 3
    assert "RUN=20200101T1500Z: the journal s3://journal/mine of strategy trend has no such record" in errors
    assert f"a slot such as {SLOT}" in errors
