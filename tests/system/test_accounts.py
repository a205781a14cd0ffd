"""An account belongs to one strategy: every other one is refused, wherever it runs, and can be given the account."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from lambda_function import run
from scripts.run import clean
from scripts.testkit.alpaca import AlpacaFake
from tests.commands import in_process
from tests.several_days import BOUGHT, QUIET, SeveralDays, at, shorten_waits
from trader import wiring
from trader.journal.base import DamagedError
from trader.journal.stores import Folder

SAMPLE = {"time": "2022-12-27T20:45:00Z"}


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    monkeypatch.chdir(tmp_path)
    wiring.OWN_ACCOUNTS.clear()


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


@pytest.fixture
def bucket(aws: dict[str, str]) -> str:
    boto3.client("s3").create_bucket(Bucket="journal")
    return "s3://journal"


def entry(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "journal/accounts/PA0000000000.json").read_text())
    return found


def test_a_second_strategy_places_no_order_and_says_whose_the_account_is(fake: AlpacaFake, tmp_path: Path) -> None:
    first, second = SeveralDays(tmp_path, fake), SeveralDays(tmp_path, fake, STRATEGY="second")
    first.run(at(0), QUIET)
    report = second.run(at(1), BOUGHT)
    assert (report["status"], fake.orders) == ("ACCOUNT_TAKEN", [])
    assert "account PA0000000000 is trend's" in report["detail"]
    assert entry(tmp_path) == {"strategy": "trend"}


def test_in_a_bucket_too(fake: AlpacaFake, tmp_path: Path, bucket: str) -> None:
    SeveralDays(tmp_path, fake, JOURNAL=bucket).run(at(0), BOUGHT)
    bought = len(fake.orders)
    report = SeveralDays(tmp_path, fake, JOURNAL=bucket, STRATEGY="second").run(at(1), BOUGHT)
    assert (report["status"], len(fake.orders)) == ("ACCOUNT_TAKEN", bought)
    assert "s3://journal/accounts/PA0000000000.json" in report["detail"]


def test_the_first_goes_on(fake: AlpacaFake, tmp_path: Path) -> None:
    first = SeveralDays(tmp_path, fake)
    first.run(at(0), QUIET)
    SeveralDays(tmp_path, fake, STRATEGY="second").run(at(1), QUIET)
    wiring.OWN_ACCOUNTS.clear()
    assert first.run(at(2), BOUGHT)["status"] == "TRADED"


def test_keys_of_another_account_are_noticed(fake: AlpacaFake, tmp_path: Path) -> None:
    first, second = SeveralDays(tmp_path, fake), SeveralDays(tmp_path, fake, STRATEGY="second")
    first.run(at(0), QUIET)
    fake.account_overrides = {"account_number": "PA1"}
    assert second.run(at(1), QUIET)["status"] == "NOTHING_TO_DO"
    fake.account_overrides = {}
    assert second.run(at(2), BOUGHT)["status"] == "ACCOUNT_TAKEN"


def test_what_the_refused_strategy_holds_keeps_its_stop(fake: AlpacaFake, tmp_path: Path) -> None:
    second = SeveralDays(tmp_path, fake, STRATEGY="second")
    second.run(at(0), BOUGHT)
    (tmp_path / "journal/accounts/PA0000000000.json").write_text('{"strategy": "trend"}')
    wiring.OWN_ACCOUNTS.clear()
    for order in fake.open_orders("A"):
        fake.end(order, "canceled")
    report = second.run(at(1), BOUGHT)
    assert (report["status"], [each["symbol"] for each in report["stops"]]) == ("ACCOUNT_TAKEN", ["A"])
    assert [(order.type, order.side) for order in fake.open_orders("A")] == [("stop", "sell")]


def test_the_holdings_of_the_other_strategy_are_not_touched(fake: AlpacaFake, tmp_path: Path) -> None:
    SeveralDays(tmp_path, fake).run(at(0), BOUGHT)
    before = [(order.id, order.status) for order in fake.orders]
    report = SeveralDays(tmp_path, fake, STRATEGY="second").run(at(1), BOUGHT)
    assert (report["status"], [(order.id, order.status) for order in fake.orders]) == ("ACCOUNT_TAKEN", before)


def test_a_dry_run_reads_the_entry_and_makes_none(fake: AlpacaFake, tmp_path: Path) -> None:
    dry = SeveralDays(tmp_path, fake, STRATEGY="second", MODE="dry-run")
    assert dry.run(at(0), BOUGHT)["status"] == "DRY_RUN"
    assert not (tmp_path / "journal/accounts").exists()
    SeveralDays(tmp_path, fake).run(at(0), QUIET)
    assert dry.run(at(1), BOUGHT)["status"] == "ACCOUNT_TAKEN"


def test_whoever_removes_the_entry_hands_the_account_over(fake: AlpacaFake, tmp_path: Path) -> None:
    SeveralDays(tmp_path, fake).run(at(0), QUIET)
    (tmp_path / "journal/accounts/PA0000000000.json").unlink()
    assert SeveralDays(tmp_path, fake, STRATEGY="second").run(at(1), BOUGHT)["status"] == "TRADED"
    assert entry(tmp_path) == {"strategy": "second"}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"strategy": ""}', '{"strategy": 7}'])
def test_an_entry_that_says_nothing_stops_the_run_before_its_first_order(
    fake: AlpacaFake, tmp_path: Path, text: str
) -> None:
    (tmp_path / "journal/accounts").mkdir(parents=True)
    (tmp_path / "journal/accounts/PA0000000000.json").write_text(text)
    with pytest.raises(DamagedError, match="does not say whose account PA0000000000 is"):
        SeveralDays(tmp_path, fake).run(at(0), BOUGHT)
    assert fake.orders == []


def test_two_that_begin_at_once_do_not_both_take_it(
    fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other enters its name between the look and the entry of this one."""
    path = tmp_path / "journal/accounts/PA0000000000.json"
    create = Folder.create

    def create_too_late(self: Any, name: str, text: str) -> bool:
        if name.startswith("accounts/"):
            path.parent.mkdir(parents=True)
            path.write_text('{"strategy": "faster"}')
        return create(self, name, text)

    monkeypatch.setattr(Folder, "create", create_too_late)
    assert SeveralDays(tmp_path, fake).run(at(0), BOUGHT)["status"] == "ACCOUNT_TAKEN"


def test_a_warm_process_asks_once(fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = Folder.read

    def note_read(self: Folder, name: str) -> str | None:
        reads.append(name)
        return read(self, name)

    monkeypatch.setattr(Folder, "read", note_read)
    days = SeveralDays(tmp_path, fake)
    for day in range(3):
        days.run(at(day), QUIET)
    assert len([name for name in reads if name.startswith("accounts/")]) == 1


# --- the embedded account --------------------------------------------------------------------------------------------


def test_two_strategies_on_a_laptop_do_not_share_the_account_file() -> None:
    run(SAMPLE, env={"ENGINE": "map"})
    report = run({"time": "2022-12-28T20:45:00Z"}, env={"ENGINE": "map", "STRATEGY": "other"})
    assert report["status"] == "ACCOUNT_TAKEN"
    assert "ACCOUNT_FILE=out/account.json is trend's, as out/account.json.strategy says" in report["detail"]
    assert not any(name.startswith("other-") for name in json.loads(Path("out/account.json").read_text())["orders"])


def test_another_journal_makes_no_difference_there() -> None:
    run(SAMPLE, env={"ENGINE": "map"})
    other = {"ENGINE": "map", "STRATEGY": "other", "JOURNAL": "folder:elsewhere"}
    assert run({"time": "2022-12-28T20:45:00Z"}, env=other)["status"] == "ACCOUNT_TAKEN"


def test_an_account_file_of_its_own_is_traded() -> None:
    run(SAMPLE, env={"ENGINE": "map"})
    other = {"ENGINE": "map", "STRATEGY": "other", "ACCOUNT_FILE": "out/other.json"}
    assert run({"time": "2022-12-28T20:45:00Z"}, env=other)["status"] == "TRADED"


def test_make_clean_removes_the_entry_with_the_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(SAMPLE, env={"ENGINE": "map"})
    in_process(clean.main, monkeypatch, capsys)()
    assert not Path("out/account.json.strategy").exists()
    assert run(SAMPLE, env={"ENGINE": "map", "STRATEGY": "other"})["status"] == "TRADED"
