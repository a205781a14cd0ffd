"""`make export DEPLOYED=1` and what it says of the bucket's period, on moto and the stand-in for Alpaca."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pytest

from scripts.export import export
from scripts.owner import report, retention
from scripts.testkit.alpaca import AlpacaFake
from tests.builders import settings
from tests.commands import Command, in_process
from tests.contract.test_reconcile import MINUTE, SLOT, Site
from trader.model import NEW_YORK

YEAR = str(SLOT.astimezone(NEW_YORK).year)


@pytest.fixture
def make(
    aws: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPLOYED", "1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return in_process(export.main, monkeypatch, capsys)


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(prices={"A": 100.0, "B": 50.0}) as fake:
        fake.now = SLOT + MINUTE
        yield fake


@pytest.fixture
def site(aws: dict[str, str], fake: AlpacaFake) -> Site:
    site = Site(fake)
    order = site.filled("A")
    site.was_cut_off(order)  # leaves the plan, by which a slot with orders is found
    site.ran(order)
    return site


def keep_for(days: int) -> None:
    """Let the bucket keep records for some days, as Terraform does."""
    rules = [
        {
            "ID": "journal-runs",
            "Status": "Enabled",
            "Filter": {"Prefix": "runs/"},
            "Expiration": {"Days": days},
        },
        {"ID": "replaced", "Status": "Enabled", "Filter": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}},
    ]
    boto3.client("s3").put_bucket_lifecycle_configuration(
        Bucket="journal",
        LifecycleConfiguration={"Rules": rules},  # type: ignore[typeddict-item]  # plain texts
    )


@pytest.mark.usefixtures("site")
def test_a_deployed_strategy_is_exported_from_its_bucket_and_its_account(make: Command) -> None:
    code, said, _ = make(JSON="1", YEAR=YEAR)
    answer = json.loads(said)
    assert (code, answer["account"]) == (0, "Alpaca PA0000000000")
    assert [(each["symbol"], each["origin"]) for each in answer["fills"]] == [("A", "rule")]


@pytest.mark.usefixtures("site")
def test_a_record_that_is_removed_soon_is_said(make: Command) -> None:
    keep_for(30)
    _, said, _ = make(YEAR=YEAR)
    removed = SLOT.astimezone(NEW_YORK).date() + timedelta(days=30)
    assert "The bucket keeps records for 30 days (retention_days)" in said
    assert f"is removed on {removed}" in said


@pytest.mark.usefixtures("site")
def test_a_record_that_is_kept_for_long_needs_no_word(make: Command) -> None:
    keep_for(400)
    _, said, _ = make(YEAR=YEAR)
    assert "retention_days" not in said


@pytest.mark.usefixtures("site")
def test_a_bucket_without_a_period_keeps_all(make: Command) -> None:
    assert retention.find(settings(JOURNAL="s3://journal")) is None
    assert "retention_days" not in make(YEAR=YEAR)[1]


@pytest.mark.usefixtures("site", "make")
def test_the_report_says_it_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    keep_for(30)
    ask = in_process(report.main, monkeypatch, capsys)
    assert "retention_days" in ask(SINCE="1d")[1]
    assert "retention_days" in json.loads(ask(SINCE="1d", JSON="1")[1])["retention"]
