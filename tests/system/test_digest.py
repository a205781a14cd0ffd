"""The digest after the close: what it says of a day, that it comes once, and what it finds."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from lambda_function import do
from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.web_hook import WebHook, web_hook
from tests.several_days import BOUGHT, QUIET, SeveralDays, at, shorten_waits
from trader.messages import sending


def digest(days: SeveralDays, day: int, *, hour: int = 16, minute: int = 15, **variables: str) -> Mapping[str, Any]:
    """Hand the function the event of the digest's rule on a trading day, counted from 0."""
    moment = at(day, hour, minute)
    return do({"do": "digest", "time": moment.isoformat()}, env={**days.env, **variables}, clock=lambda: moment)


def with_hook(folder: Path, hook: WebHook, **variables: object) -> SeveralDays:
    return SeveralDays(folder, MESSAGE_URL=f"json://{hook.place}/", **variables)


def text_of(done: Mapping[str, Any]) -> str:
    return f"{done['message']['subject']}\n{done['message']['text']}"


def records(folder: Path) -> list[Path]:
    return sorted((folder / "journal" / "runs").rglob("*Z.json"))


def test_a_day_is_told_with_its_equity_its_trades_and_their_reasons(tmp_path: Path) -> None:
    with web_hook() as hook:
        days = with_hook(tmp_path, hook)
        days.run(at(0, 10, 0), BOUGHT)
        days.run(at(0, 15, 45), QUIET)
        assert digest(days, 0)["status"] == "SENT"
    (said,) = hook.texts
    first, _, rest = said.partition("\n")
    assert first == "trend: +0.52% on 2026-11-09"
    assert "Equity 100,522.50 USD" in rest
    assert "- 10:00 bought 95 A at 104.50 (price 104.50 is" in rest
    assert "Proof: 2 slots decided again, the same" in rest
    assert "Next run: Tue 10 Nov 09:30 New York" in rest


def test_a_stop_that_was_hit_is_named_with_its_loss(tmp_path: Path) -> None:
    with web_hook() as hook:
        days = with_hook(tmp_path, hook)
        days.run(at(0), BOUGHT)
        digest(days, 0)
        days.run(at(1, 10, 0), 98.0)
        done = digest(days, 1)
    text = text_of(done)
    assert text.startswith("trend: -0.62% on 2026-11-10")
    assert "sold 95 A at 98.00, -617.50 USD (stop)" in text


def test_what_fell_over_night_is_of_the_day_though_the_day_before_had_no_digest(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    days.run(at(1, 10, 0), 98.0)
    assert text_of(digest(days, 1)).startswith("trend: -0.62% on 2026-11-10")


def test_an_event_that_comes_twice_sends_one_message(tmp_path: Path) -> None:
    with web_hook() as hook:
        days = with_hook(tmp_path, hook)
        days.run(at(0), QUIET)
        assert [digest(days, 0)["status"] for _ in range(3)] == ["SENT", "ALREADY_SENT", "ALREADY_SENT"]
    assert len(hook.texts) == 1


@pytest.mark.usefixtures("aws")
def test_an_event_that_comes_twice_sends_one_message_from_a_bucket_too(tmp_path: Path) -> None:
    boto3.client("s3").create_bucket(Bucket="journal")
    with web_hook() as hook:
        days = with_hook(tmp_path, hook, JOURNAL="s3://journal/mine")
        days.run(at(0), BOUGHT)
        assert [digest(days, 0)["status"] for _ in range(2)] == ["SENT", "ALREADY_SENT"]
    assert len(hook.texts) == 1


@pytest.mark.parametrize(("month", "utc_hour"), [(7, 20), (1, 21)])
def test_the_rule_fires_at_two_hours_and_one_of_them_is_a_quarter_past_four_in_new_york(
    month: int, utc_hour: int, tmp_path: Path
) -> None:
    days = SeveralDays(tmp_path)
    days.set_price(at(0), QUIET)
    statuses = {}
    for hour in (20, 21):
        time = f"2026-{month:02}-12T{hour}:15:00Z" if month == 1 else f"2026-{month:02}-13T{hour}:15:00Z"
        statuses[hour] = do({"do": "digest", "time": time}, env=days.env, clock=lambda: at(0))["status"]
    other = 41 - utc_hour
    assert statuses[other] == "NOT_DUE"
    assert statuses[utc_hour] != "NOT_DUE"


def test_on_a_holiday_nothing_is_sent_but_the_log_shows_that_the_function_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trader")
    with web_hook() as hook:
        days = with_hook(tmp_path, hook)
        thanksgiving = "2026-11-26T21:15:00Z"
        done = do({"do": "digest", "time": thanksgiving}, env=days.env, clock=lambda: at(13))
    assert (done["status"], hook.texts) == ("NO_SESSION", [])
    assert [vars(each)["health"] for each in caplog.records if each.message == "digest"] == ["healthy"]


def test_a_decision_that_comes_out_otherwise_needs_its_owner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with web_hook() as hook:
        days = with_hook(tmp_path, hook)
        days.run(at(0, 10, 0), BOUGHT)
        days.run(at(0, 15, 45), QUIET)
        first = records(tmp_path)[0]
        record = json.loads(first.read_text())
        record["decision"]["insights"][0]["direction"] = "DOWN"
        first.write_text(json.dumps(record))
        done = digest(days, 0)
    assert ", NEEDS YOU" in done["message"]["subject"]
    assert "decided again with ANOTHER result" in done["message"]["text"]
    assert "20261109T1500Z" in done["message"]["text"]
    assert "decided otherwise" in {each.message for each in caplog.records if each.levelno == logging.ERROR}


def test_a_cap_that_a_record_breaks_needs_its_owner(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    (path,) = records(tmp_path)
    record = json.loads(path.read_text())
    record["settings"]["max_order_usd"] = 100.0
    path.write_text(json.dumps(record))
    assert "MAX_ORDER_USD=100.00" in digest(days, 0)["message"]["text"]


def test_the_streak_counts_sessions_and_begins_anew_after_a_difference(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    said = []
    for day in range(5):
        days.run(at(day), BOUGHT if day == 0 else QUIET)
        if day == 2:
            path = records(tmp_path)[-1]
            record = json.loads(path.read_text())
            record["decision"]["forecasts"][0]["trend_usd"] *= 1.5
            path.write_text(json.dumps(record))
        said.append(text_of(digest(days, day)).partition("Proof: ")[2].splitlines()[0])
    same = "1 slot decided again, the same"
    assert said == [same, f"{same}; 2 sessions in a row", "1 of 1 slots differ", same, f"{same}; 2 sessions in a row"]


def test_records_of_another_version_are_not_judged(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    (path,) = records(tmp_path)
    record = json.loads(path.read_text())
    record["chain"]["code"] = "0" * 64
    path.write_text(json.dumps(record))
    said = text_of(digest(days, 0))
    assert "Proof: nothing to decide again; 1 by another version, not judged" in said
    assert "NEEDS YOU" not in said


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0, 10, 0), BOUGHT)
    days.run(at(0), QUIET)
    records(tmp_path)[0].write_text("{")
    assert "records that cannot be read: runs/trend/2026-11-09/20261109T1500Z.json" in text_of(digest(days, 0))


def test_a_run_that_was_cut_off_is_named(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    claim = tmp_path / "journal/runs/trend/2026-11-09/20261109T2030Z.claim"
    claim.write_text('{"claimant": "x", "until": null}')
    assert "no record of the runs of 15:30" in text_of(digest(days, 0))


def test_a_run_of_the_same_minute_is_not_taken_for_one_that_was_cut_off(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    claim = tmp_path / "journal/runs/trend/2026-11-09/20261109T2115Z.claim"
    claim.write_text(json.dumps({"claimant": "x", "until": at(0, 16, 20).isoformat()}))
    assert "NEEDS YOU" not in text_of(digest(days, 0))


def test_an_event_that_comes_twice_decides_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    digest(days, 0)
    monkeypatch.setattr("trader.digest.equality.compare", lambda *_: pytest.fail("the day is decided again"))
    assert digest(days, 0)["status"] == "ALREADY_SENT"


def test_returns_of_a_day_a_week_and_a_month_stand_beside_spy(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path, UNIVERSE="A,SPY")
    for day in range(6):
        days.run(at(day), {"A": BOUGHT if day == 0 else QUIET, "SPY": 110.0 + day})
        done = digest(days, day)
    text = done["message"]["text"]
    assert "day: +0.00%, SPY +0.88%" in text
    assert "5 days: " in text
    assert "SPY +4.55%" in text
    assert "21 days" not in text, "nothing is said of days that are not known"


def test_a_day_without_a_digest_is_not_guessed(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    for day in range(7):
        days.run(at(day), BOUGHT if day == 0 else QUIET)
        if day != 3:
            done = digest(days, day)
    assert "day: " in done["message"]["text"]
    assert "5 days" not in done["message"]["text"]


def test_sessions_without_a_healthy_run_are_told_from_the_second_on(tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake, MAX_PRICE_AGE_S=1)
        needs = []
        for day in range(3):
            days.run(at(day), QUIET)
            needs.append("no healthy run in" in text_of(digest(days, day)))
    assert needs == [False, True, True]


def test_another_strategy_that_had_no_digest_is_named_by_one_of_the_others(tmp_path: Path) -> None:
    others = {"a": "b,c", "b": "a,c", "c": "a,b"}
    said: dict[tuple[int, str], str] = {}
    for day in range(3):
        for name, watch in others.items():
            if (day, name) == (1, "c"):
                continue
            days = SeveralDays(tmp_path, STRATEGY=name, WATCH=watch, ACCOUNT_FILE=tmp_path / f"{name}.json")
            days.set_price(at(day), QUIET)
            said[day, name] = text_of(digest(days, day))
    told = [place for place, text in said.items() if "strategy c had no digest" in text]
    assert told == [(2, "a")]
    assert not any("strategy a had" in text or "strategy b had" in text for text in said.values())


@pytest.mark.parametrize("trouble", ["refused", "hangs"])
def test_a_digest_that_cannot_be_sent_is_kept_and_logged(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending.deliver, "__defaults__", (0.3,))
    with web_hook(500, hangs=trouble == "hangs") as hook:
        days = with_hook(tmp_path, hook)
        days.run(at(0), QUIET)
        assert digest(days, 0)["status"] == "NOT_SENT"
    assert "message not sent" in {each.message for each in caplog.records}
    assert (tmp_path / "journal/digests/trend/2026-11-09.json").exists()


def test_a_broker_that_does_not_answer_and_prices_that_are_gone_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_waits(monkeypatch)
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.run(at(0), QUIET)
        fake.fault("GET", "/v2/orders", "500-html", times=99)
        text = digest(days, 0)["message"]["text"]
    assert "The trades are not known: Alpaca: GET /orders" in text
    assert "SPY is not known: the price sources have none of it" in text


def test_a_digest_places_changes_and_cancels_nothing_at_the_broker(tmp_path: Path) -> None:
    with AlpacaFake() as fake:
        days = SeveralDays(tmp_path, fake)
        days.run(at(0, 10, 0), BOUGHT)
        before = len(fake.requests)
        assert "bought 95 A" in digest(days, 0)["message"]["text"]
        assert {each.method for each in fake.requests[before:]} == {"GET"}


def test_records_and_claims_are_as_they_were_before_the_digest(tmp_path: Path) -> None:
    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    before = {file: file.read_bytes() for file in (tmp_path / "journal/runs").rglob("*") if file.is_file()}
    digest(days, 0)
    assert {file: file.read_bytes() for file in (tmp_path / "journal/runs").rglob("*") if file.is_file()} == before


def test_without_time_no_slot_is_decided_again_and_that_is_said(tmp_path: Path) -> None:
    class Short:
        def get_remaining_time_in_millis(self) -> int:
            return 20_000

    days = SeveralDays(tmp_path)
    days.run(at(0), BOUGHT)
    moment = at(0, 16, 15)
    done = do({"do": "digest", "time": moment.isoformat()}, Short(), env=days.env, clock=lambda: moment)
    assert "nothing to decide again; 1 left out for want of time" in text_of(done)


def test_a_halt_is_in_the_digest(tmp_path: Path, aws: Mapping[str, str]) -> None:
    days = SeveralDays(tmp_path, HALT_PARAMETER="/prophet-trader/trend/halt")
    days.set_price(at(0), QUIET)
    done = digest(days, 0)
    assert "Halted: the halt switch /prophet-trader/trend/halt does not exist" in done["message"]["text"]
    assert done["message"]["subject"].endswith(", halted")


def test_an_event_that_asks_for_something_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do='dance' is not known: it must be one of digest, test-message"):
        do({"do": "dance"}, env=SeveralDays(tmp_path).env)


def test_a_test_message_is_sent_by_every_channel(tmp_path: Path) -> None:
    with web_hook() as hook:
        done = do({"do": "test-message"}, env=with_hook(tmp_path, hook).env)
    assert done["status"] == "SENT"
    assert hook.texts == ["trend: a test\nThis is how trend sends its messages. Nothing was traded."]


def test_without_an_address_a_test_message_says_so(tmp_path: Path) -> None:
    assert do({"do": "test-message"}, env=SeveralDays(tmp_path).env)["status"] == "NO_ADDRESS"
