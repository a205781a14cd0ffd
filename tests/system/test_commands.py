"""The commands as a person types them, each in a separate folder and process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scripts import ROOT
from scripts.command import names
from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.yahoo import YahooFake
from tests.builders import price_csv
from tests.warm.python import python

type Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Return a function that runs a command in an empty folder, without the shell's settings."""
    return commands_in(tmp_path)


def commands_in(folder: Path, *, fresh: bool = False) -> Command:
    def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*python(fresh=fresh), "-m", "scripts", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return call


def report_of(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(result.stdout)
    return report


# --- make run ---


def test_a_run_shows_its_decisions_and_draws_its_page(tmp_path: Path) -> None:
    result = commands_in(tmp_path, fresh=True)("run")
    assert result.returncode == 0, result.stderr
    assert "orders placed" in result.stdout
    assert "AAPL" in result.stdout
    assert "<svg" in (tmp_path / "out" / "run.html").read_text()
    assert "INFO run strategy=trend" in (tmp_path / "out" / "run.log").read_text()


def test_the_second_run_for_a_slot_says_so_and_keeps_the_page(command: Command, tmp_path: Path) -> None:
    command("run", UNIVERSE="AAPL")
    page, account = ((tmp_path / "out" / name).read_bytes() for name in ("run.html", "account.json"))
    result = command("run", UNIVERSE="AAPL")
    assert (result.returncode, "ALREADY_RAN" in result.stdout) == (0, True)
    assert ((tmp_path / "out" / "run.html").read_bytes(), (tmp_path / "out" / "account.json").read_bytes()) == (
        page,
        account,
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PRICE_FILE": "etfs.csv"}, "etfs.csv has no prices of UNIVERSE=sp500, but of EEM, EFA; set UNIVERSE"),
        ({"AT": "2010-01-04"}, "from 2013-01-02 to 2022-12-28, and this run is for 2010-01-04; set AT to a later day"),
        ({"AT": "2030-01-02"}, "from 2013-01-02 to 2022-12-28, which are older at 2030-01-02"),
        (
            {"UNIVERSE": "APPL"},
            "has no prices of UNIVERSE=APPL, but of AAPL, AMD, BAC, BBY, CVX and 15 more; did you mean AAPL?",
        ),
    ],
)
def test_a_run_that_saw_no_price_says_what_there_is_ends_with_3_and_can_be_repeated(
    command: Command, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    (tmp_path / "etfs.csv").write_text(price_csv({"EEM": [100.0] * 90, "EFA": [100.0] * 90}))
    for _ in range(2):
        result = command("run", **variables)
        assert said in " ".join(result.stdout.split())
        assert result.returncode == 3
    assert "The slot is free again" in " ".join(result.stdout.split())


def test_a_run_that_found_nothing_to_trade_did_its_work(command: Command) -> None:
    result = command("run", UNIVERSE="AAPL", SIGNAL_THRESHOLD_FRACTION="0.9")
    assert ("Nothing" in result.stdout or "No orders" in result.stdout, result.returncode) == (True, 0)


def test_an_account_that_is_later_than_the_run_says_how_to_go_back(command: Command) -> None:
    command("run", UNIVERSE="AAPL")
    early = command("run", UNIVERSE="AAPL", AT="2022-10-03")
    said = " ".join(early.stderr.split())
    assert early.returncode == 3
    assert "ACCOUNT_FILE=out/account.json has traded until 2022-12-28 15:45 New York" in said
    assert "begin a second account: ACCOUNT_FILE=out/second.json JOURNAL=folder:out/second" in said
    second = {"ACCOUNT_FILE": "out/second.json", "JOURNAL": "folder:out/second"}
    assert command("run", UNIVERSE="AAPL", AT="2022-10-03", **second).returncode == 0


def test_a_run_can_be_for_any_past_day(command: Command) -> None:
    report = report_of(command("run", "--json", AT="2020-03-23T19:45:00Z", ENGINE="map"))
    assert (report["slot"], report["status"]) == ("2020-03-23T19:45:00Z", "TRADED")


def test_a_date_means_the_last_slot_of_its_session(command: Command) -> None:
    slots = [
        report_of(command("run", "--json", AT=day, UNIVERSE="AAPL"))["slot"] for day in ("2022-11-08", "2022-11-25")
    ]
    assert slots == ["2022-11-08T20:45:00Z", "2022-11-25T17:45:00Z"], "the second day is a half day"


def test_losses_from_stops_trigger_the_daily_loss_stop(command: Command, tmp_path: Path) -> None:
    report_of(command("run", "--json", AT="2022-10-05", ENGINE="map"))
    after = report_of(command("run", "--json", AT="2022-10-07", ENGINE="map"))
    account = after["account"]["before"]
    assert "bracket filled" in (tmp_path / "out" / "run.log").read_text()
    assert account["equity_usd"] < account["last_equity_usd"] * 0.97, "the losses of the stops count as today's"
    assert (after["status"], after["investments"]) == ("DAILY_LOSS_STOP", {})


def test_an_interruption_of_the_start_gives_no_traceback(tmp_path: Path) -> None:
    assert interrupt([sys.executable], tmp_path, when=lambda: time.sleep(0.6)) == (True, False)


def test_an_interruption_of_a_price_request_gives_no_traceback(tmp_path: Path) -> None:
    with YahooFake({}, latency_s=0.3) as yahoo:
        variables = yahoo.environment | {"PRICE_SOURCES": "yahoo", "UNIVERSE": "AAPL"}
        when = partial(wait_until, lambda: yahoo.requests)
        assert interrupt(python(), tmp_path, when=when, **variables) == (True, False)


def test_an_interruption_of_a_broker_call_gives_no_traceback(tmp_path: Path) -> None:
    with AlpacaFake() as alpaca:
        alpaca.latency_s = 0.2  # it must still be at work when the interruption arrives
        when = partial(wait_until, lambda: alpaca.requests)
        variables = alpaca.environment | {"PRICE_SOURCES": "file"}
        assert interrupt(python(), tmp_path, when=when, **variables) == (True, False)


def interrupt(
    program: Sequence[str], folder: Path, *, when: Callable[[], object], **variables: str
) -> tuple[bool, bool]:
    """Interrupt `make run` as Ctrl-C does; return whether it failed, and whether it printed a traceback."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}", **variables}
    command = [*program, "-m", "scripts", "run"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        when()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    return process.returncode != 0, "Traceback" in said


def wait_until(condition: Callable[[], object], patience_s: float = 30) -> None:
    deadline_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline_s, "timed out waiting for the condition"
        time.sleep(0.01)


def test_a_folder_that_cannot_be_written_gives_no_traceback(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder would be")
    result = command("run")
    assert (result.returncode, "Traceback" in result.stderr) == (3, False)
    assert "cannot be written" in result.stderr


def test_json_can_be_switched_off(command: Command) -> None:
    assert "orders placed" in command("run", JSON="0", UNIVERSE="AAPL").stdout.replace(
        "1 order placed", "orders placed"
    )


def test_one_day_buys_and_a_later_day_sells(command: Command) -> None:
    first = report_of(command("run", "--json", AT="2022-11-02", ENGINE="map"))
    second = report_of(command("run", "--json", AT="2022-11-08T20:45:00Z", ENGINE="map"))
    assert (first["investments"], second["investments"]) == ({"MSFT": 45}, {"MSFT": -45})
    assert second["account"]["after"]["cash_usd"] > 100_000


def test_with_json_only_the_report_is_on_standard_output(command: Command) -> None:
    assert report_of(command("run", JSON="1", UNIVERSE="AAPL"))["investments"].keys() == {"AAPL"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MODE": "live"}, "MODE=live needs BROKER=alpaca"),
        ({"UNIVERSE_SIZE": "many"}, "UNIVERSE_SIZE='many': must be a whole number"),
        ({"BROKER": "alpaca"}, "ALPACAUSER and ALPACAPW must be set"),
        ({"PRICE_FILE": "gone.csv"}, "price file gone.csv: No such file"),
        ({"AT": "yesterday"}, "AT='yesterday' is neither a day such as 2022-10-03"),
        ({"AT": "2022-10-03T15:45"}, "AT=2022-10-03T15:45 has no zone; write AT=2022-10-03T15:45-04:00"),
        ({"AT": "0001-01-01"}, "AT=0001-01-01 is not in the years 1900 to 2199"),
        ({"AT": "2022-10-03", "BROKER": "alpaca"}, "an account at Alpaca trades in the present only"),
        ({"JOURNAL": "folder:/dev/null/x"}, "JOURNAL=folder:/dev/null/x cannot be used"),
        ({"ACCOUNT_FILE": "/dev/null/x"}, "ACCOUNT_FILE=/dev/null/x cannot be used"),
    ],
)
def test_an_error_the_user_can_fix_gives_no_traceback(command: Command, variables: dict[str, str], said: str) -> None:
    result = command("run", **variables)
    assert result.returncode != 0
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_with_alpaca_todays_prices_are_the_default(command: Command) -> None:
    with AlpacaFake() as fake:
        fake.is_open = False
        result = command("run", **fake.environment)
    assert "PRICE_SOURCES=yahoo,alpaca" in result.stderr
    assert "MARKET_CLOSED" in result.stdout


def test_an_unreachable_broker_gives_no_traceback(command: Command) -> None:
    keys = {"ALPACAUSER": "id", "ALPACAPW": "hidden-key", "APCA_API_BASE_URL": "http://127.0.0.1:9"}
    result = command("run", BROKER="alpaca", **keys)
    assert (result.returncode, "Traceback" in result.stderr) == (3, False)
    assert "hidden-key" not in result.stderr + result.stdout


# --- make replay ---


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one symbol, and return the folder with what the run left, for tests to copy."""
    folder = tmp_path_factory.mktemp("a-run")
    commands_in(folder)("run", UNIVERSE="AAPL")
    return folder


def make_record(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "out" / "journal").glob("runs/*/*/*.json")
    return file


@pytest.mark.parametrize(
    ("signal", "engine"),
    [("trend", "prophet"), ("interval", "prophet"), ("horizon", "prophet"), ("trend", "map"), ("interval", "map")],
)
def test_a_replayed_run_agrees_with_its_record(command: Command, signal: str, engine: str) -> None:
    command("run", SIGNAL=signal, ENGINE=engine, UNIVERSE="AAPL,MSFT,KO", AT="2022-12-22")  # horizon decides then
    result = command("replay")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "with the same result: 3 forecasts" in " ".join(result.stdout.split())


@pytest.mark.parametrize("how", ["latest", "20221228T2045Z", "a file"])
def test_replay_finds_a_run_by_slot_by_file_or_as_the_latest(
    command: Command, a_run: Path, tmp_path: Path, how: str
) -> None:
    shutil.copytree(a_run, tmp_path, dirs_exist_ok=True)
    run = str(make_record(tmp_path)) if how == "a file" else how
    assert report_of(command("replay", "--run", run, "--json"))["agrees"] is True


def tamper(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("decision.orders.0.quantity", lambda record: record["decision"]["orders"][0].update(quantity=1)),
        ("decision.orders.0", lambda record: record["decision"]["orders"].clear()),
        ("decision.insights.0.direction", lambda record: record["decision"]["insights"][0].update(direction="DOWN")),
        (
            "decision.forecasts.0.trend_usd",
            lambda record: record["decision"]["forecasts"][0].update(trend_usd=1.0),
        ),
        ("decision.orders.0.quantity", lambda record: record["observation"]["account"].update(cash_usd=10_000)),
        (
            "decision.denials.0",
            lambda record: record["decision"]["denials"].append(
                {"symbol": "X", "code": "POSITION_CAP", "detail": "", "is_unprotected": False}
            ),
        ),
        ("decision.orders.1", lambda record: record["decision"]["orders"].append(record["decision"]["orders"][0])),
        ("report.orders.0.quantity", lambda record: record["report"]["orders"][0].update(quantity=10.0)),
        ("report.investments.AAPL", lambda record: record["report"]["investments"].clear()),
        ("observation.closes.AAPL", lambda record: record["settings"].update(history_bars=120)),
    ],
)
def test_a_changed_record_does_not_agree(
    command: Command, a_run: Path, tmp_path: Path, part: str, change: Callable[[dict[str, Any]], None]
) -> None:
    shutil.copytree(a_run, tmp_path, dirs_exist_ok=True)
    tamper(make_record(tmp_path), change)
    result = command("replay", "--json")
    assert result.returncode == 1
    assert part in {difference["what"] for difference in json.loads(result.stdout)["differences"]}


def forget_what_is_new(record: dict[str, Any]) -> None:
    """Leave a record as it was written before orders had types, holdings stops, and runs a highest equity."""
    for name in ("stopped_at", "peak_equity_usd"):
        del record["observation"][name]
    for name in ("settled", "stops", "recovered"):
        del record["report"][name]
    del record["observation"]["account"]["flows_usd"]
    for order in (*record["decision"]["orders"], *record["report"]["orders"]):
        for name in ("type", "submitted_at", "filled_at", "legs"):
            del order[name]
    for name in ("pause_after_stop_bars", "max_drawdown_fraction", "max_price_drift_fraction"):
        del record["settings"][name]
    del record["chain"]


def test_an_old_record_is_replayed_as_it_was(command: Command, a_run: Path, tmp_path: Path) -> None:
    shutil.copytree(a_run, tmp_path, dirs_exist_ok=True)
    tamper(make_record(tmp_path), forget_what_is_new)
    assert report_of(command("replay", "--json"))["agrees"] is True


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 99}'])
def test_a_file_that_is_no_record_gives_no_traceback(command: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    result = command("replay", "--run", "record.json")
    assert (result.returncode, "Traceback" in result.stderr, "record.json" in result.stderr) == (3, False, True)


def test_replaying_a_run_without_decisions_says_why(command: Command) -> None:
    command("run", AT="2022-12-26T20:45:00Z")
    result = command("replay")
    assert (result.returncode, "MARKET_CLOSED" in result.stderr) == (3, True)


def test_an_account_without_a_run_has_nothing_to_compare(command: Command) -> None:
    result = command("reconcile", LOCAL="1")
    assert (result.returncode, "nothing to compare" in result.stdout) == (0, True)


def test_a_journal_without_runs_is_reported(command: Command) -> None:
    result = command("replay")
    assert (result.returncode, "has no such record" in " ".join(result.stderr.split())) == (3, True)


# --- make ---


def test_plain_make_lists_every_target_in_groups() -> None:
    text = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in names() if f"\n  {name} " not in text] == []
    assert "\nTry it\n" in text
