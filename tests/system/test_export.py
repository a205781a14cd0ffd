"""`make export` on the laptop and at the stand-in for Alpaca: real runs, their journal, and what went wrong."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from scripts import ROOT
from scripts.export import export
from scripts.testkit.alpaca import AlpacaFake
from tests.commands import Command, in_process
from tests.several_days import BOUGHT, QUIET, SeveralDays, at, buy_and_sell, shorten_waits
from trader.model import NEW_YORK

YEAR = "2026"
FOLDER = Path("out/export/trend-2026")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINE", "map")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return in_process(export.main, monkeypatch, capsys)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ask(make: Command, **variables: str) -> tuple[int, dict[str, Any]]:
    code, said, _ = make(JSON="1", YEAR=YEAR, **variables)
    return code, json.loads(said)


# --- the laptop ------------------------------------------------------------------------------------------------------


@pytest.fixture
def laptop() -> None:
    """Run on two days of the sample: it buys all symbols, and one is stopped out."""
    for day in (27, 28):
        run({"time": f"2022-12-{day}T20:45:00Z"}, env={"ENGINE": "map"})


@pytest.mark.usefixtures("laptop")
def test_the_laptops_account_adds_up(make: Command) -> None:
    code, said, _ = make()
    account = json.loads(Path("out/account.json").read_text())
    folder = Path("out/export/trend-2022")
    spent_usd = sum(Decimal(each["amount_usd"]) for each in rows(folder, "fills"))
    assert (code, 100_000 + spent_usd) == (0, Decimal(str(account["cash_usd"])))
    assert {each["symbol"]: float(each["quantity"]) for each in rows(folder, "held")} == {
        symbol: each["quantity"] for symbol, each in account["positions"].items()
    }
    assert [(each["symbol"], each["term"], each["bought_by"], each["sold_by"]) for each in rows(folder, "lots")] == [
        ("AAPL", "short", "rule", "stop")
    ]
    assert "fills: journal, broker and cash agree." in said


@pytest.mark.usefixtures("laptop")
def test_it_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts", "export", "--year", "2022", "--out", "taxes", "--json"]
    env = {"PYTHONPATH": f"{ROOT}/function:{ROOT}", "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "taxes/lots.csv" in json.loads(done.stdout)["files"]
    assert len(rows(tmp_path / "taxes", "lots")) == 1


@pytest.mark.usefixtures("laptop")
def test_an_account_that_somebody_has_changed_does_not_add_up(make: Command) -> None:
    path = Path("out/account.json")
    account = json.loads(path.read_text())
    account["cash_usd"] += 50
    account["orders"].pop(next(name for name in account["orders"] if "KO-buy" in name))
    path.write_text(json.dumps(account))
    code, said, _ = make()
    assert code == 1
    for kind in ("CASH", "HOLDING KO", "NO FILL KO"):
        assert kind.split()[0] in said
    assert {each["kind"] for each in rows(Path("out/export/trend-2022"), "differences")} == {
        "cash",
        "holding",
        "no fill",
    }


def test_an_empty_journal_is_said(make: Command) -> None:
    code, said, _ = make()
    assert (code, "No run is on record yet" in said) == (0, True)


@pytest.mark.parametrize("year", ["2999", "26", "next", "1999", "-2026"])
def test_what_is_no_year_or_has_not_begun_is_refused(make: Command, year: str) -> None:
    code, _, said = make(YEAR=year)
    assert (code, f"YEAR={year}: must be a year from 2000 to " in said) == (2, True)


# --- at the stand-in for Alpaca --------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


@pytest.fixture
def alpaca(fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeveralDays:
    return buy_and_sell(tmp_path, fake, monkeypatch)


@pytest.mark.usefixtures("alpaca")
def test_a_year_at_alpaca_adds_up(fake: AlpacaFake, alpaca: SeveralDays, make: Command) -> None:
    alpaca.run(at(2), BOUGHT)
    fake.pay_dividend("A", 0.25)
    fake.deposit(500)
    alpaca.set_price(at(3), QUIET)
    fake.book("FEE", "-0.07", at(1).date(), activity_sub_type="TAF")  # of the sale, entered two days later
    code, said = ask(make)
    (lot,) = said["lots"]
    assert (code, said["differences"]) == (0, [])
    assert (lot["bought_by"], lot["sold_by"], lot["term"]) == ("rule", "rule", "short")
    assert said["cash"]["end_usd"] == f"{fake.cash.normalize():f}"
    assert [(each["kind"], each["date"]) for each in said["income"]] == [
        ("fee", "2026-11-10"),
        ("dividend", "2026-11-11"),
    ]


@pytest.mark.usefixtures("alpaca")
def test_hand_trades_stops_and_parts_of_a_fill_are_told_apart(
    fake: AlpacaFake, alpaca: SeveralDays, make: Command
) -> None:
    alpaca.run(at(2), BOUGHT)
    fake.now = at(3)
    fake.trigger_stop("A")
    fake.fills = "partial"
    by_hand = fake.buy_by_hand("A", 5)
    fake.fill_part(by_hand, 3)
    code, said = ask(make)
    assert (code, [each["origin"] for each in said["fills"]]) == (
        0,
        ["rule", "rule", "rule", "stop", "by hand", "by hand"],
    )
    assert [each["quantity"] for each in said["held"]] == ["2", "3"]


@pytest.mark.usefixtures("alpaca")
def test_all_pages_are_read(fake: AlpacaFake, make: Command) -> None:
    for number in range(1, 251):
        fake.book("INT", f"0.{number:03d}")
    code, said = ask(make)
    assert (code, len(said["income"]), said["income_usd"]["interest"]) == (0, 250, "31.375")
    assert len(fake.asked("GET", "/v2/account/activities?")) >= 3


@pytest.mark.usefixtures("alpaca")
def test_a_split_changes_the_lots(fake: AlpacaFake, alpaca: SeveralDays, make: Command) -> None:
    alpaca.run(at(2), BOUGHT)
    before = fake.positions["A"].quantity
    fake.now = at(3, 8)
    fake.split("A", 3)
    code, said = ask(make)
    (held,) = said["held"]
    assert (code, Decimal(held["quantity"])) == (0, before * 3)


@pytest.mark.usefixtures("alpaca")
def test_a_type_that_nobody_knows_is_listed_and_counts_in_the_cash(fake: AlpacaFake, make: Command) -> None:
    fake.book("NEWS", "-1.25", description="=HYPERLINK(1)")
    code, said = ask(make)
    assert (code, [each["kind"] for each in said["differences"]]) == (1, ["unknown"])
    assert said["cash"]["unexplained_usd"] == "0"
    (row,) = rows(FOLDER, "activities")
    assert (row["type"], json.loads(row["as_received"])["description"]) == ("NEWS", "=HYPERLINK(1)")


@pytest.mark.parametrize(
    ("forgotten", "kinds"), [("FEE", {"cash"}), ("FILL", {"cash", "no fill", "holding"}), ("JNLC", {"cash"})]
)
@pytest.mark.usefixtures("alpaca")
def test_a_broker_that_has_forgotten_does_not_add_up(
    fake: AlpacaFake, alpaca: SeveralDays, make: Command, forgotten: str, kinds: set[str]
) -> None:
    alpaca.run(at(2), BOUGHT)
    fake.book("FEE", "-0.07")
    fake.activities.forgotten = {forgotten}
    code, said = ask(make)
    assert (code, {each["kind"] for each in said["differences"]}) == (1, kinds)


@pytest.mark.usefixtures("alpaca")
def test_a_record_that_is_gone_is_a_difference(tmp_path: Path, make: Command) -> None:
    (record,) = (tmp_path / "journal/runs/trend/2026-11-10").glob("*Z.json")
    record.unlink()
    code, said = ask(make)
    assert (code, [(each["kind"], each["date"]) for each in said["differences"]]) == (1, [("no record", "2026-11-10")])


@pytest.mark.usefixtures("alpaca")
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, make: Command) -> None:
    (record,) = (tmp_path / "journal/runs/trend/2026-11-10").glob("*Z.json")
    record.write_text("{")
    code, said = ask(make)
    assert (code, [each["kind"] for each in said["differences"]]) == (1, ["unreadable"])


@pytest.mark.usefixtures("alpaca")
def test_records_of_older_versions_are_read(tmp_path: Path, make: Command) -> None:
    for path in (tmp_path / "journal/runs/trend").rglob("*Z.json"):
        record = json.loads(path.read_text())
        record["report"] = cut(record["report"], "stops", "unprotected", "settled", "recovered")
        record["report"]["orders"] = [cut(each, "legs", "filled_at") for each in record["report"]["orders"]]
        path.write_text(json.dumps(cut(record, "chain", "observation")))
    code, said = ask(make)
    assert (code, said["differences"]) == (0, [])


def cut(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


@pytest.mark.usefixtures("alpaca")
def test_a_gap_of_weeks_is_no_difference(alpaca: SeveralDays, make: Command) -> None:
    alpaca.run(at(12), BOUGHT)
    code, said = ask(make)
    assert (code, len(said["fills"])) == (0, 3)


@pytest.mark.usefixtures("alpaca")
def test_a_broker_that_does_not_answer_is_an_error(fake: AlpacaFake, make: Command) -> None:
    fake.fault("GET", "/v2/account/activities", "200-html", times=9)
    code, _, said = make(YEAR=YEAR)
    assert (code, "Alpaca: GET /account/activities" in said) == (3, True)
    assert not FOLDER.exists()


@pytest.mark.usefixtures("alpaca")
def test_a_possible_wash_sale_is_marked(fake: AlpacaFake, alpaca: SeveralDays, make: Command) -> None:
    alpaca.run(at(2), BOUGHT)
    fake.now = at(3)
    fake.trigger_stop("A")
    fake.buy_by_hand("A", 1)
    code, said = ask(make)
    last = said["lots"][-1]
    lost_usd = -Decimal(last["gain_usd"]) / Decimal(last["quantity"])
    assert (code, last["possible_wash_sale_quantity"]) == (0, "1")
    assert Decimal(last["possible_disallowed_loss_usd"]) == pytest.approx(lost_usd)
    assert "2026-11-12" in last["possible_replacements"]


@pytest.mark.usefixtures("alpaca")
def test_the_present_year_is_the_default(make: Command) -> None:
    code, said, _ = make(JSON="1")
    assert (code, json.loads(said)["year"]) == (0, datetime.now(NEW_YORK).year)
