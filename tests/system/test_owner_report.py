"""`make report` on the laptop and at the stand-in for Alpaca: real runs, their journal, and what went wrong."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from scripts.owner import page, report
from scripts.owner.answer import list_returns, make
from scripts.run.reconcile import inputs_of, local
from scripts.testkit.alpaca import AlpacaFake
from tests.pages import LIGHT, Browse, Elements, measure
from tests.several_days import BOUGHT, SeveralDays, at, buy_and_sell, shorten_waits
from trader.progress import no_progress

MEASURE = """
<script>
const measured = {
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
};
document.body.innerHTML = '<pre></pre>';
document.querySelector('pre').textContent = 'measured' + JSON.stringify(measured) + 'end';
</script>
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINE", "map")


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run on two days of the sample: it buys all symbols, and one is stopped out. Return what is left, to be copied."""
    folder = tmp_path_factory.mktemp("two-days")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for day in (27, 28):
            run({"time": f"2022-12-{day}T20:45:00Z"}, env={"ENGINE": "map"})
    return folder / "out"


@pytest.fixture
def laptop(two_days: Path) -> None:
    """Have traded on two days."""
    shutil.copytree(two_days, "out")


def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    monkeypatch.setenv("JSON", "1")
    capsys.readouterr()
    report.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.usefixtures("laptop")
def test_it_says_how_the_bot_did_against_the_index(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(monkeypatch, capsys)
    account = json.loads(Path("out/account.json").read_text())
    held_usd = sum(each["quantity"] * each["price_usd"] for each in account["positions"].values())
    assert answer["return_fraction"] == pytest.approx((account["cash_usd"] + held_usd) / 100_000 - 1, abs=1e-6)
    assert answer["benchmark"] == {"name": "S&P 500", "problem": ""}
    assert [each["span"] for each in answer["returns"]] == ["last day", "since 27 Dec 2022"]
    assert all(each["benchmark_fraction"] < 0 for each in answer["returns"])


@pytest.mark.usefixtures("laptop")
def test_it_says_what_was_traded_and_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(monkeypatch, capsys)
    (trip,) = answer["trips"]
    assert (trip["symbol"], trip["bought_why"], trip["sold_why"]) == ("AAPL", "rule", "stop")
    assert trip["gain_usd"] == pytest.approx(trip["quantity"] * (trip["sold_usd"] - trip["bought_usd"]), abs=0.01)
    assert answer["refusals"] == {"PAUSED": 1}


@pytest.mark.usefixtures("laptop")
def test_it_says_what_is_held_since_when_and_where_its_stop_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(monkeypatch, capsys)
    account = json.loads(Path("out/account.json").read_text())
    (ko,) = [each for each in answer["held"] if each["symbol"] == "KO"]
    assert (ko["bought_at"], ko["stop_usd"]) == ("2022-12-27T20:45:00Z", account["brackets"]["KO"]["stop_loss_usd"])


@pytest.mark.usefixtures("laptop")
def test_it_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    report.main()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "in 2 days with 2 runs, the S&P 500 −" in printed  # noqa: RUF001 as a table prints it
    assert "1 round trip: 0 gained" in printed


@pytest.mark.usefixtures("laptop")
def test_a_record_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = Path("out/journal/runs/trend/2022-12-28").glob("*Z.json")
    record.write_text("{")
    answer = ask(monkeypatch, capsys)
    assert answer["runs"] == 1
    assert record.name in answer["unreadable"][0]


@pytest.mark.usefixtures("laptop")
def test_something_else_in_the_place_of_a_record_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = Path("out/journal/runs/trend/2022-12-28").glob("*Z.json")
    record.write_text('{"report": 3, "observation": {}}')
    assert ask(monkeypatch, capsys)["unreadable"][0].endswith(": it is not the record of a run")


@pytest.mark.usefixtures("laptop")
def test_a_record_of_another_version_is_no_slot_without_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run({"time": "2022-12-23T20:45:00Z"}, env={"ENGINE": "map", "JOURNAL": "folder:old", "ACCOUNT_FILE": "old.json"})
    run({"time": "2022-12-27T20:45:00Z"}, env={"ENGINE": "map", "JOURNAL": "folder:old", "ACCOUNT_FILE": "old.json"})
    run({"time": "2022-12-28T20:45:00Z"}, env={"ENGINE": "map", "JOURNAL": "folder:old", "ACCOUNT_FILE": "old.json"})
    (path,) = Path("old/runs/trend/2022-12-27").glob("*Z.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))
    monkeypatch.setenv("JOURNAL", "folder:old")
    monkeypatch.setenv("ACCOUNT_FILE", "old.json")
    gap = ask(monkeypatch, capsys)["live_against_test"]
    assert [each["why"] for each in gap["missed"]] == ["its record cannot be read, or is of another version"]
    assert gap["test_usd"] + sum(gap["terms_usd"].values()) == pytest.approx(gap["live_usd"], abs=1e-6)


def test_an_empty_journal_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    report.main()
    assert "No run on record in this time: make run makes one" in capsys.readouterr().out


@pytest.mark.usefixtures("laptop")
def test_without_a_benchmark_it_says_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCHMARK", "SPY")
    answer = ask(monkeypatch, capsys)
    assert answer["benchmark"]["problem"].startswith("BENCHMARK=SPY: ")
    assert [each["benchmark_fraction"] for each in answer["returns"]] == [None, None]


@pytest.mark.usefixtures("laptop")
def test_a_bot_that_did_what_was_tested_has_no_gap_and_ends_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gap = ask(monkeypatch, capsys)["live_against_test"]
    assert gap["live_usd"] < 0
    assert gap["test_usd"] == gap["live_usd"]
    assert (gap["parts"], gap["differences"], gap["missed"]) == ([], [], [])


@pytest.mark.usefixtures("laptop")
def test_a_decision_that_is_not_the_one_recorded_is_named_and_the_exit_code_is_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = Path("out/journal/runs/trend/2022-12-27").glob("*Z.json")
    record = json.loads(path.read_text())
    bought = record["decision"]["orders"][0]
    bought["quantity"] -= 1
    path.write_text(json.dumps(record))
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "1 decision not as recorded:" in printed
    assert f" 2022-12-27 15:45 {bought['symbol']}: recorded UP: buy {bought['quantity']:g} at" in printed


@pytest.mark.usefixtures("laptop")
def test_a_missed_day_is_decided_on_the_next_records_prices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(
        {"time": "2022-12-22T20:45:00Z"}, env={"ENGINE": "map", "JOURNAL": "folder:other", "ACCOUNT_FILE": "other.json"}
    )
    run(
        {"time": "2022-12-28T20:45:00Z"}, env={"ENGINE": "map", "JOURNAL": "folder:other", "ACCOUNT_FILE": "other.json"}
    )
    monkeypatch.setenv("JOURNAL", "folder:other")
    monkeypatch.setenv("ACCOUNT_FILE", "other.json")
    gap = ask(monkeypatch, capsys)["live_against_test"]
    missed = [(each["slot"][:10], each["why"], each["unknown"]) for each in gap["missed"]]
    assert missed == [("2022-12-23", "no run", ""), ("2022-12-27", "no run", "")]
    assert gap["test_usd"] + sum(gap["terms_usd"].values()) == pytest.approx(gap["live_usd"], abs=1e-6)


@pytest.mark.usefixtures("laptop")
def test_with_forecasts_each_line_is_fitted_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = Path("out/journal/runs/trend/2022-12-27").glob("*Z.json")
    record = json.loads(path.read_text())
    line = next(each for each in record["decision"]["forecasts"] if each["symbol"] == "KO")
    line["trend_usd"] *= 1.00001
    path.write_text(json.dumps(record))
    monkeypatch.setenv("FORECASTS", "1")
    monkeypatch.setenv("JSON", "1")
    with pytest.raises(SystemExit):
        report.main()
    found = json.loads(capsys.readouterr().out)["live_against_test"]["differences"]
    assert [each["symbol"] for each in found if each["recorded"].startswith("trend line at")] == ["KO"]


@pytest.mark.usefixtures("laptop")
def test_a_broker_that_has_forgotten_its_orders_is_said_and_the_records_have_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out/account.json").unlink()
    answer = ask(monkeypatch, capsys)
    notes = [each["words"] for each in answer["live_against_test"]["notes"]]
    assert [each for each in notes if "The broker's books lack" in each] != []
    (ko,) = [each for each in answer["held"] if each["symbol"] == "KO"]
    assert ko["bought_at"] == "2022-12-27T20:45:00Z"


def test_one_run_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run({"time": "2022-12-28T20:45:00Z"}, env={"ENGINE": "map"})
    gap = ask(monkeypatch, capsys)["live_against_test"]
    assert gap["notes"][0]["name"] == "No test"


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("laptop")
def test_the_page_follows_the_rules_of_pages(tmp_path: Path) -> None:
    report.main()
    page = Elements(tmp_path / report.PAGE)
    assert "in 2 days with 2 runs" in page.text
    counts = [len(list(page.find_all(each))) for each in ("h1", "svg", "table")]
    assert counts == [1, 3, 5]  # the brand, and the chart in two sizes
    assert "Whether the forecast has earned its place is not known yet" in page.text
    assert all(each.get("scope") for each in page.find_all("th"))


@pytest.mark.usefixtures("laptop")
def test_all_lines_of_the_chart_begin_at_the_same_point_and_end_as_the_table_says() -> None:
    inputs = inputs_of(local({"ENGINE": "map"}), {"SINCE": "90d"}, datetime.now(UTC))
    answer = make(inputs, "", no_progress)
    days, lines = page.list_lines(answer)
    assert [name for name, _, _, _ in lines] == ["trend", "the test", "S&P 500"]
    assert {values[0] for _, _, _, values in lines} == {0.0}
    assert {len(values) for _, _, _, values in lines} == {len(days)} == {3}
    _, own, other = list_returns(answer)[-1]
    assert lines[0][3][-1] == pytest.approx(own)
    assert lines[2][3][-1] == other


@pytest.mark.usefixtures("laptop")
def test_the_page_says_what_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCHMARK", "<script>alert(1)</script>.csv")
    report.main()
    text = (tmp_path / report.PAGE).read_text()
    assert "There is no comparison: BENCHMARK=&lt;script&gt;" in text
    assert "<script>alert" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("laptop")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_not_wider_than_the_window(browse: Browse, tmp_path: Path, width: int) -> None:
    report.main()
    measured: Any = measure(browse, tmp_path / report.PAGE, MEASURE, LIGHT, f"--window-size={width},900")
    assert measured["overflow"] <= 0
    assert measured["fetched"] == []


# --- at the stand-in for Alpaca --------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[AlpacaFake]:
    with AlpacaFake() as fake:
        yield fake


@pytest.fixture
def alpaca(fake: AlpacaFake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SeveralDays:
    monkeypatch.setenv("SINCE", at(0).isoformat())
    return buy_and_sell(tmp_path, fake, monkeypatch)


@pytest.mark.usefixtures("alpaca")
def test_a_sale_by_the_rule_is_told_from_one_by_hand(
    fake: AlpacaFake, alpaca: SeveralDays, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alpaca.run(at(2), BOUGHT)
    fake.sell_by_hand("A")
    answer = ask(monkeypatch, capsys)
    assert [(each["bought_why"], each["sold_why"]) for each in answer["trips"]] == [
        ("rule", "rule"),
        ("rule", "by hand"),
    ]


@pytest.mark.usefixtures("alpaca")
def test_a_broker_that_does_not_answer_costs_the_trades_and_nothing_else(
    fake: AlpacaFake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fault("GET", "/v2/orders", "200-html", times=9)
    answer = ask(monkeypatch, capsys)
    assert (answer["trips"], answer["runs"]) == (None, 2)
    assert "Alpaca" in answer["problem"]
