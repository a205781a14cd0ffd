"""What the records say of parts of shares is true: an honest one verifies, and one without a stop is found."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from scripts.run.chain import Finding
from scripts.run.verify import verify
from scripts.testkit.alpaca import AlpacaFake
from tests.several_days import BOUGHT, DEAR, QUIET, SeveralDays, at, shorten_waits
from trader import wiring
from trader.model import BrokerError
from trader.stages import pipeline, protection
from trader.wiring import open_journal

FALLEN = 95.0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake(cash_usd=1_000) as fake:
        yield fake


@pytest.fixture
def days(tmp_path: Path, fake: AlpacaFake) -> SeveralDays:
    return SeveralDays(tmp_path, fake, UNIVERSE="A", SHARES="fractional")


def faults(days: SeveralDays, now: datetime) -> list[Finding]:
    return list(verify(open_journal(days.env["JOURNAL"], "trend"), now).faults)


def test_the_records_of_a_buy_its_renewed_stop_and_its_sale_verify(fake: AlpacaFake, days: SeveralDays) -> None:
    days.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    days.run(at(1, 9, 45), QUIET)
    assert days.run(at(1, 10, 0), DEAR)["investments"] == {"A": -0.9569}
    assert faults(days, at(1, 10, 15)) == []


def test_the_record_of_a_sale_below_the_stop_verifies(fake: AlpacaFake, days: SeveralDays) -> None:
    days.run(at(0, 10, 0), BOUGHT)
    fake.close_day()
    days.run(at(1, 9, 45), FALLEN)
    assert faults(days, at(1, 10, 0)) == []


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the report of the only record."""
    (file,) = (folder / "journal").rglob("*Z.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    edit(record["report"])
    file.write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize("is_rejected", [False, True], ids=["none", "rejected"])
def test_a_buy_without_a_stop_is_found(days: SeveralDays, tmp_path: Path, *, is_rejected: bool) -> None:
    days.run(at(0, 10, 0), BOUGHT)

    def edit(report: dict[str, Any]) -> None:
        (stop,) = report["stops"]
        report["stops"] = [stop | {"status": "rejected"}] if is_rejected else []

    change(tmp_path, edit)
    words = " ".join(each.words for each in faults(days, at(0, 10, 15)))
    assert "A: 0.9569 bought, but a stop or a sale below it is for 0 only" in words


def test_a_run_that_could_not_look_after_its_buy_names_it(
    days: SeveralDays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = protection._read
    calls: list[None] = []

    def fail_after_the_buy(*arguments: Any) -> protection.Holdings:
        calls.append(None)
        if len(calls) > 1:
            raise BrokerError("no answer")
        return read(*arguments)

    monkeypatch.setattr(protection, "_read", fail_after_the_buy)
    with pytest.raises(BrokerError, match="no answer"):
        days.run(at(0, 10, 0), BOUGHT)
    (file,) = (tmp_path / "journal").rglob("*Z.json")
    assert json.loads(file.read_text(encoding="utf-8"))["report"]["unprotected"] == ["A"]
    assert faults(days, at(0, 10, 15)) == []


def test_the_record_of_a_run_that_was_cut_off_before_the_stop_verifies(
    days: SeveralDays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "close_out", lambda *_: None)
        days.run(at(0, 10, 0), BOUGHT)
    for kind in ("settled", "json"):
        for file in (tmp_path / "journal").rglob(f"*Z.{kind}"):
            file.unlink()
    assert days.run(at(0, 10, 30), QUIET)["recovered"] == ["2026-11-09T15:00:00Z"]
    assert faults(days, at(0, 10, 45)) == []


def test_a_halt_covers_its_day_names_the_holding_on_the_next_and_a_resumed_run_renews_the_stop(
    fake: AlpacaFake, days: SeveralDays, monkeypatch: pytest.MonkeyPatch
) -> None:
    days.run(at(0, 10, 0), BOUGHT)
    with monkeypatch.context() as patch:
        patch.setattr(wiring.PARAMETERS, "read_halt_reason", lambda _: "a test")
        same_day = days.run(at(0, 10, 15), QUIET)
        fake.close_day()
        next_day = days.run(at(1, 9, 45), QUIET)
    assert [(each["status"], each["unprotected"]) for each in (same_day, next_day)] == [
        ("HALTED", []),
        ("HALTED", ["A"]),
    ]
    assert fake.open_orders("A") == []
    assert days.run(at(1, 10, 0), QUIET)["unprotected"] == []
    assert [float(order.stop_price or 0) for order in fake.open_orders("A")] == [101.37]
    assert faults(days, at(1, 10, 15)) == []
