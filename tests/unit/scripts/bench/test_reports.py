"""The journal that the report is measured on: records as runs write them, and a store that answers slowly."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.bench import reports
from scripts.owner.answer import make
from scripts.run.reconcile import inputs_of, local
from scripts.testkit.slow_s3 import BUCKET, SlowS3
from trader.progress import no_progress

FEW = 45


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setattr(reports, "RECORDS", FEW)
    monkeypatch.setattr(reports, "MISSED", frozenset({30}))
    return reports.make_journal(tmp_path, no_progress)


def test_its_records_are_a_strategys_that_does_what_was_tested_but_for_the_missed_slot(
    settings: dict[str, str], tmp_path: Path
) -> None:
    env = {**settings, "JOURNAL": f"folder:{tmp_path}/journal"}
    answer = make(
        inputs_of(local(env), {"SINCE": settings["SINCE"]}, datetime(2026, 11, 29, tzinfo=UTC)), "", no_progress
    )
    assert len(answer.runs.runs) == FEW - 1
    assert answer.runs.unreadable == answer.runs.untested == []
    assert answer.gap is not None
    assert answer.gap.differences == []
    assert [each.why for each in answer.gap.missed] == ["no run"]
    assert answer.trades is not None
    assert len(answer.trades.left) > 0


def test_the_store_has_the_same_records_and_takes_its_time(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SlowS3(tmp_path / "journal", delay_s=0.03) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        read = {}
        for journal in (f"s3://{BUCKET}", f"folder:{tmp_path}/journal"):
            begun = time.monotonic()
            inputs = inputs_of(local({**settings, "JOURNAL": journal}), {"SINCE": settings["SINCE"]}, datetime.now(UTC))
            read[journal] = [inputs.journal.store.read(each) for each in inputs.journal.list_records()]
            took_s = time.monotonic() - begun
            assert took_s > FEW * 0.03 or not journal.startswith("s3")
        first, second = read.values()
    assert first == second
    assert len(first) == FEW - 1
