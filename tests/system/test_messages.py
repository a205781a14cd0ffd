"""Messages of runs: sent when there is news, and never the reason why a run fails, waits long, or happens twice."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.sns.models import sns_backends

from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.web_hook import WebHook, web_hook
from tests.several_days import BOUGHT, QUIET, SeveralDays, at, shorten_waits
from trader.messages import sending
from trader.model import BrokerError

STALE = {"MAX_PRICE_AGE_S": "1"}
"""Every price is too old, because a daily bar is stamped with its beginning."""


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


def address(hook: WebHook) -> str:
    return f"json://{hook.place}/"


def test_days_without_trouble_send_nothing(tmp_path: Path) -> None:
    with web_hook() as hook:
        days = SeveralDays(tmp_path, MESSAGE_URL=address(hook))
        assert [days.run(at(0), BOUGHT)["status"], days.run(at(1), QUIET)["status"]] == ["TRADED", "NOTHING_TO_DO"]
    assert hook.texts == []


def test_stale_prices_are_told_once_and_again_on_the_next_day(tmp_path: Path, fake: AlpacaFake) -> None:
    with web_hook() as hook:
        days = SeveralDays(tmp_path, fake, MESSAGE_URL=address(hook), **STALE)
        statuses = [days.run(at(0, 15, minute), QUIET)["status"] for minute in (0, 15, 30, 45)]
        statuses.append(days.run(at(1, 9, 45), QUIET)["status"])
    assert set(statuses) == {"STALE_PRICE"}
    assert [text.splitlines()[0] for text in hook.texts] == ["trend: no work done (STALE_PRICE)"] * 2
    assert "Mon 9 Nov 2026 15:15 New York" in hook.texts[0]


def test_a_run_that_fails_is_told_and_still_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr("trader.stages.pipeline.decide", fail)
    with web_hook() as hook:
        days = SeveralDays(tmp_path, MESSAGE_URL=address(hook))
        with pytest.raises(RuntimeError, match="a mistake"):
            days.run(at(0), BOUGHT)
    (text,) = hook.texts
    assert text.startswith("trend: run failed")
    assert "RuntimeError: a mistake" in text


def test_a_mistake_in_what_is_told_is_no_failure_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trader.problems.find", lambda *_: 1 / 0)
    days = SeveralDays(tmp_path)
    report = days.run(at(0), BOUGHT)
    assert (report["status"], report["problems"]) == ("TRADED", [])
    assert "what needs a person is not known" in {each.message for each in caplog.records}


def test_a_dry_run_tells_nothing(tmp_path: Path) -> None:
    with web_hook() as hook:
        days = SeveralDays(tmp_path, MESSAGE_URL=address(hook), MODE="dry-run", **STALE)
        for minute in (0, 15, 30):
            assert days.run(at(0, 15, minute), QUIET)["status"] == "STALE_PRICE"
    assert hook.texts == []


@pytest.mark.parametrize("trouble", ["refused", "hangs", "nobody there", "no address", "an unknown kind"])
def test_a_message_that_cannot_be_sent_changes_nothing_of_the_run(
    trouble: str, tmp_path: Path, fake: AlpacaFake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "MAX_TIME_S", 0.3)
    monkeypatch.setattr(sending.deliver, "__defaults__", (0.3,))
    with web_hook(500 if trouble == "refused" else 200, hangs=trouble == "hangs") as hook:
        url = {
            "nobody there": "json://127.0.0.1:9/",
            "no address": "what is this",
            "an unknown kind": "nothing://x",
        }.get(trouble, address(hook))
        days = SeveralDays(tmp_path, fake, MESSAGE_URL=url, **STALE)
        quiet = SeveralDays(tmp_path, fake, JOURNAL=f"folder:{tmp_path / 'quiet'}", **STALE)
        begun = time.monotonic()
        reports = [days.run(at(0, 15, minute), QUIET) for minute in (0, 15, 30)]
        assert time.monotonic() - begun < 10
    assert "message not sent" in {each.message for each in caplog.records}
    expected = [quiet.run(at(0, 15, minute), QUIET) for minute in (0, 15, 30)]
    assert [without_times(each) for each in reports] == [without_times(each) for each in expected]


def without_times(report: Any) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in {"timings_s", "strategy"}}


def test_an_address_is_in_no_record_and_no_log(
    tmp_path: Path, fake: AlpacaFake, caplog: pytest.LogCaptureFixture
) -> None:
    with web_hook(403) as hook:
        days = SeveralDays(tmp_path, fake, MESSAGE_URL=f"{address(hook)}keyOfTheOwner12345678", **STALE)
        for minute in (0, 15):
            days.run(at(0, 15, minute), QUIET)
    assert hook.taken
    kept = "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    said = "".join(f"{each.getMessage()} {vars(each)}" for each in caplog.records)
    assert "keyOfTheOwner12345678" not in kept + said


def test_an_order_whose_fate_is_unknown_is_told_at_once(
    tmp_path: Path, fake: AlpacaFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_waits(monkeypatch)
    with web_hook() as hook:
        days = SeveralDays(tmp_path, fake, MESSAGE_URL=address(hook))
        fake.fault("POST", "/v2/orders", "504-accepted", times=9)
        fake.fault("GET", "/v2/orders:by_client_order_id", "500-html", times=99)
        with pytest.raises(BrokerError):
            days.run(at(0), BOUGHT)
    (text,) = hook.texts
    assert text.startswith("trend: order unknown (A), and 1 more"), text
    assert "trend-20261109T2045Z-A-buy" in text


@pytest.mark.usefixtures("aws")
def test_a_topic_gets_the_message_as_an_e_mail_would(tmp_path: Path, fake: AlpacaFake) -> None:
    topic = boto3.client("sns").create_topic(Name="prophet-trader-alarms")["TopicArn"]
    days = SeveralDays(tmp_path, fake, MESSAGE_TOPIC=topic, **STALE)
    for minute in (0, 15):
        days.run(at(0, 15, minute), QUIET)
    ((_, text, subject, *_),) = sns_backends["123456789012"]["us-east-1"].topics[topic].sent_notifications
    assert subject == "trend: no work done (STALE_PRICE)"
    assert "Mon 9 Nov 2026 15:15 New York" in text
