"""A run whose process is killed between two orders, and its recovery by the next run, over real sockets."""

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from lambda_function import run
from scripts.testkit.alpaca import AlpacaFake
from tests.system.test_run import Context, alpaca, cloud, env, fake, put
from tests.warm.python import python
from trader.model import NEW_YORK, BrokerError

__all__ = ["alpaca", "cloud", "env", "fake"]  # fixtures

SECONDS = 300

KILLED = f"""
import json, os, sys
from types import SimpleNamespace
from lambda_function import run

def die(work, done, total):
    if work == sys.argv[2]:
        os._exit(9)

context = SimpleNamespace(get_remaining_time_in_millis=lambda: {SECONDS} * 1000)
run(json.loads(sys.argv[1]), context, progress=die)
"""


def event(slot: datetime) -> dict[str, str]:
    return {"time": slot.isoformat()}


@pytest.fixture
def slots(fake: AlpacaFake) -> tuple[datetime, datetime]:
    """Return two slots, both recent enough to be traded on a real account."""
    fake.now = datetime.now(UTC)
    now = fake.now.replace(second=0, microsecond=0)
    return now - timedelta(minutes=2), now


def run_and_kill(slot: datetime, cloud: Mapping[str, str], at: str = "orders") -> None:
    """Run in a separate process that dies without cleaning up, by default after its first order."""
    ended = subprocess.run([*python(), "-c", KILLED, json.dumps(event(slot)), at], env={**os.environ, **cloud})
    assert ended.returncode == 9


def name(slot: datetime, kind: str, strategy: str = "trend") -> str:
    day = slot.astimezone(NEW_YORK)
    return f"prefix/runs/{strategy}/{day:%Y-%m-%d}/{slot:%Y%m%dT%H%MZ}.{kind}"


def read_object(slot: datetime, kind: str = "json") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        boto3.client("s3").get_object(Bucket="journal", Key=name(slot, kind))["Body"].read()
    )
    return loaded


def names() -> set[str]:
    return {item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="journal")["Contents"]}


def time_passes(slot: datetime) -> None:
    """Change the claim as if ten more minutes had passed, so that its run is certainly over."""
    claim = read_object(slot, "claim")
    until = datetime.fromisoformat(claim["until"]) - timedelta(minutes=10)
    text = json.dumps({**claim, "until": until.isoformat()})
    boto3.client("s3").put_object(Bucket="journal", Key=name(slot, "claim"), Body=text)


def market_orders(fake: AlpacaFake) -> list[str]:
    return sorted(order.client_order_id for order in fake.orders if order.type == "market")


def test_the_next_run_adopts_the_order_of_one_that_was_killed(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = slots
    run_and_kill(first, cloud)
    assert len(market_orders(fake)) == 1, "the run must be killed between its two orders"
    assert name(first, "json") not in names()
    time_passes(first)
    report = run(event(second), Context(SECONDS), env=cloud)
    told = read_object(first)["report"]
    (order,) = [order for order in fake.orders if order.type == "market" and f"{first:%H%M}" in order.client_order_id]
    assert (told["status"], told["investments"]) == ("INTERRUPTED", {order.symbol: float(order.quantity)})
    assert [(each["order_id"], each["status"]) for each in told["orders"]] == [(order.id, "filled")]
    assert report["recovered"] == [first.isoformat().replace("+00:00", "Z")]
    errors = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert [(line["message"], line["symbols"]) for line in errors] == [("interrupted", order.symbol)]


def test_the_next_run_buys_what_is_missing_and_nothing_twice(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    run_and_kill(slots[0], cloud)
    time_passes(slots[0])
    run(event(slots[1]), Context(SECONDS), env=cloud)
    assert sorted(order.symbol for order in fake.orders if order.type == "market") == ["A", "B"]


def test_a_run_killed_before_its_decisions_has_placed_nothing(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    run_and_kill(slots[0], cloud, at="trend lines")
    time_passes(slots[0])
    run(event(slots[1]), Context(SECONDS), env=cloud)
    told = read_object(slots[0])["report"]
    assert (told["status"], told["orders"]) == ("INTERRUPTED", [])
    assert "no plan on record" in told["detail"]


def test_a_run_that_may_still_be_under_way_is_left_alone(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    run_and_kill(slots[0], cloud)
    report = run(event(slots[1]), Context(SECONDS), env=cloud)
    assert (report["status"], report["recovered"]) == ("UNDER_WAY", [])
    assert name(slots[0], "json") not in names()


def test_a_halted_run_also_recovers(cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]) -> None:
    run_and_kill(slots[0], cloud)
    time_passes(slots[0])
    put("/trader/halt", "true")
    report = run(event(slots[1]), Context(SECONDS), env=cloud)
    assert (report["status"], len(report["recovered"])) == ("HALTED", 1)


def test_a_run_in_a_closed_market_also_recovers(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    run_and_kill(slots[0], cloud)
    time_passes(slots[0])
    fake.is_open = False
    report = run(event(slots[1]), Context(SECONDS), env=cloud)
    assert (report["status"], len(report["recovered"])) == ("MARKET_CLOSED", 1)


def test_a_dry_run_recovers_nothing(cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]) -> None:
    run_and_kill(slots[0], cloud)
    time_passes(slots[0])
    assert run(event(slots[1]), Context(SECONDS), env=cloud | {"MODE": "dry-run"})["recovered"] == []
    assert name(slots[0], "json") not in names()


def test_a_run_is_recovered_only_once(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    run_and_kill(slots[0], cloud)
    time_passes(slots[0])
    put("/trader/halt", "true")
    run(event(slots[1]), Context(SECONDS), env=cloud)
    assert run(event(slots[1] - timedelta(minutes=1)), Context(SECONDS), env=cloud)["recovered"] == []


def test_after_a_broker_failure_the_next_run_recovers(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    run_and_kill(slots[0], cloud)
    time_passes(slots[0])
    fake.fault("GET", "/v2/orders?status=all", "200-html", times=4)  # every attempt of one read
    with pytest.raises(BrokerError):
        run(event(slots[1] - timedelta(minutes=1)), Context(SECONDS), env=cloud)
    assert read_object(slots[1] - timedelta(minutes=1))["report"]["status"] == "FAILED"
    assert len(run(event(slots[1]), Context(SECONDS), env=cloud)["recovered"]) == 1


def test_a_run_that_finishes_after_recovery_keeps_its_own_record(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime]
) -> None:
    seen: list[str] = []

    def another(work: str, _done: int, _total: int) -> None:
        if work == "orders" and not seen:
            time_passes(slots[0])
            run(event(slots[1]), Context(SECONDS), env=cloud)
            seen.append(read_object(slots[0])["report"]["status"])

    report = run(event(slots[0]), Context(SECONDS), env=cloud, progress=another)
    assert seen == ["INTERRUPTED"]
    assert read_object(slots[0])["report"] == report
    assert report["status"] == "TRADED"


def test_recovery_of_nothing_lists_once_and_does_not_look_for_orders(
    cloud: dict[str, str], fake: AlpacaFake, slots: tuple[datetime, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(event(slots[0]), Context(SECONDS), env=cloud)
    fake.requests.clear()
    calls: list[str] = []
    session = boto3.Session()
    session.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "counted")  # other variables of AWS mean another client
    run(event(slots[1]), Context(SECONDS), env=cloud)
    assert calls.count("ListObjectsV2") == 1
    assert not [request for request in fake.asked("GET", "/v2/orders?status=all") if "symbols=" not in request.path]
