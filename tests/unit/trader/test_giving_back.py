"""A slot that a run on this machine made nothing of: it is free again, and still nothing is traded twice in it."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_function import run
from scripts.testkit.alpaca import AlpacaFake
from tests.builders import SLOT, price_csv, settings
from trader import wiring
from trader.journal.base import Run
from trader.journal.entry import Journal, JournalEntry
from trader.journal.record import build_report
from trader.journal.stores import Folder
from trader.model import BrokerError, Report
from trader.stages import pipeline

EVENT = {"time": "2022-12-28T20:45:00Z"}
NEXT = {"time": "2022-12-29T20:45:00Z"}
GENTLE = np.linspace(100, 110, 120) * np.exp(np.random.default_rng(1).normal(0, 0.002, 120))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the settings of a laptop without an account; A trades 5 % below its trend line."""
    file = tmp_path / "prices.csv"
    file.write_text(price_csv({"A": [*np.round(GENTLE[:-1], 2), 104.5], "B": list(np.round(GENTLE, 2))}))
    return {
        "PRICE_FILE": str(file),
        "UNIVERSE": "A,B",
        "HISTORY_BARS": "120",
        "ENGINE": "map",
        "JOURNAL": f"folder:{tmp_path / 'journal'}",
        "ACCOUNT_FILE": str(tmp_path / "account.json"),
    }


def unpriced(env: dict[str, str]) -> dict[str, str]:
    return env | {"UNIVERSE": "YYYY,ZZZZ"}


def kept(env: dict[str, str]) -> list[str]:
    """Return the names of what the journal has of the slots."""
    return sorted(file.name for file in Path(env["JOURNAL"].removeprefix("folder:")).glob("runs/*/*/[!.]*"))


def orders(env: dict[str, str]) -> list[str]:
    """Return the client order ids in the account."""
    file = Path(env["ACCOUNT_FILE"])
    return list(json.loads(file.read_text())["orders"]) if file.exists() else []


def cause(fault: str, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> dict[str, str]:
    """Cause a fault that ends a run before any order; return the settings of that run."""
    if fault == "prices":
        return unpriced(env)
    if fault == "account":
        file = Path(env["ACCOUNT_FILE"]).with_name("damaged.json")
        file.write_text("{}")
        return env | {"ACCOUNT_FILE": str(file)}
    if fault == "halt":
        monkeypatch.setattr(wiring.PARAMETERS, "read_halt_reason", lambda _: "the switch is on")
    if fault == "interruption":
        monkeypatch.setattr(pipeline, "observe", raise_interruption)
    return env


def raise_interruption(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fault", ["prices", "account", "halt", "interruption"])
def test_a_run_that_made_nothing_of_its_slot_can_be_repeated(
    env: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        faulty = cause(fault, patch, env)
        with suppress(BrokerError, KeyboardInterrupt):
            run(EVENT, env=faulty)
    assert run(EVENT, env=env)["status"] == "TRADED"


def test_the_record_of_a_run_that_gave_its_slot_back_stays(env: dict[str, str]) -> None:
    report = run(EVENT, env=unpriced(env))
    record = Journal(Folder(Path(env["JOURNAL"].removeprefix("folder:"))), "trend").load(
        "runs/trend/2022-12-28/20221228T2045Z-unused.json"
    )
    assert (record["report"], record["gave_back"], kept(env)) == (report, True, ["20221228T2045Z-unused.json"])


def quiet(env: dict[str, str]) -> dict[str, str]:
    return env | {"UNIVERSE": "B", "SIGNAL_THRESHOLD_FRACTION": "0.5"}


def test_a_run_that_looked_at_prices_keeps_its_slot(env: dict[str, str]) -> None:
    first, second = run(EVENT, env=quiet(env)), run(EVENT, env=env)
    assert (first["status"], second["status"]) == ("NOTHING_TO_DO", "ALREADY_RAN")


def test_a_run_that_failed_after_its_decision_keeps_its_slot(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "place", raise_interruption)
        with pytest.raises(KeyboardInterrupt):
            run(EVENT, env=env)
    assert run(EVENT, env=env)["status"] == "ALREADY_RAN"


def test_a_run_that_placed_a_stop_keeps_its_slot(env: dict[str, str]) -> None:
    run({"time": "2022-12-28T20:30:00Z"}, env=env)
    account = json.loads(Path(env["ACCOUNT_FILE"]).read_text())
    Path(env["ACCOUNT_FILE"]).write_text(json.dumps(account | {"brackets": {}}))
    first = run(EVENT, env=env | {"UNIVERSE": "YYYY", "MAX_PRICE_AGE_S": "1"})
    assert (len(first.get("stops", [])), run(EVENT, env=env)["status"]) == (1, "ALREADY_RAN")


def test_a_run_with_a_real_broker_keeps_its_slot(env: dict[str, str]) -> None:
    with AlpacaFake() as fake:
        fake.is_open = False
        now = datetime.now(UTC)
        statuses = [run(env=env | fake.environment, clock=lambda: now)["status"] for _ in range(2)]
    assert statuses == ["MARKET_CLOSED", "ALREADY_RAN"]


def test_a_look_at_the_account_does_not_move_its_time(env: dict[str, str]) -> None:
    run(NEXT, env=unpriced(env))
    assert run(EVENT, env=env)["status"] == "TRADED"


ROUNDS = 12  # in each, a run with prices is the first to claim the slot as often as one without


# --- two runs, and a process that is killed ------------------------------------------------------------------------


def run_at_once(calls: list[Callable[[], Report]]) -> list[Report]:
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda call=call: reports.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports


def test_of_runs_at_the_same_moment_one_trades_though_others_give_the_slot_back(env: dict[str, str]) -> None:
    statuses: list[str] = []
    for _ in range(ROUNDS):
        mixed = [unpriced(env) if number % 2 else env for number in range(6)]
        statuses += [report["status"] for report in run_at_once([partial(run, EVENT, env=each) for each in mixed])]
    assert statuses.count("TRADED") == 1
    assert set(statuses) <= {"TRADED", "NO_PRICE_DATA", "ALREADY_RAN"}
    assert len(orders(env)) == 1


def test_of_many_claims_at_once_each_free_slot_goes_to_one(tmp_path: Path) -> None:
    owners = []
    free = threading.Lock()

    def claim_and_give_back(number: int) -> None:
        journal = Journal(Folder(tmp_path), "trend")
        a_run = Run(settings=settings(), slot=SLOT, now=SLOT)
        for _ in range(30):
            if journal.entry(SLOT).claim(a_run.claimant):
                assert free.acquire(blocking=False), "two runs have the slot"
                owners.append(number)
                journal.entry(SLOT).save(a_run, build_report(a_run, "NO_PRICE_DATA"))
                free.release()
                journal.entry(SLOT).give_back(a_run.claimant)

    errors: list[BaseException] = []

    def watch(number: int) -> None:
        try:
            claim_and_give_back(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(owners) > 8


class Killed(BaseException):
    """The process is killed: nothing is written any more."""


class Dying(Folder):
    """A store of a process that is killed before or after its nth change."""

    def __init__(self, path: Path, lives: int, *, after: bool) -> None:
        super().__init__(path)
        self._lives, self._after, self._is_dead = lives, after, False

    def _change(self, change: Callable[[], Any]) -> Any:
        if self._is_dead:
            raise Killed
        self._lives -= 1
        if self._lives < 0 and not self._after:
            self._is_dead = True
            raise Killed
        result = change()
        if self._lives < 0:
            self._is_dead = True
            raise Killed
        return result

    def create(self, name: str, text: str) -> bool:
        done: bool = self._change(lambda: super(Dying, self).create(name, text))
        return done

    def write(self, name: str, text: str) -> None:
        self._change(lambda: super(Dying, self).write(name, text))

    def remove(self, name: str) -> None:
        self._change(lambda: super(Dying, self).remove(name))


CHANGES = 6  # of a run without prices: claim, highest equity, record, its copy under another name, and both removals


def kill_a_run(env: dict[str, str], lives: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
    """Run without prices in a process that is killed at its nth change of the journal."""
    folder = Path(env["JOURNAL"].removeprefix("folder:"))
    with monkeypatch.context() as patch:
        store = Dying(folder, lives, after=after)
        patch.setattr(wiring, "open_journal", lambda _location, strategy: Journal(store, strategy))
        with pytest.raises(Killed):
            run(EVENT, env=unpriced(env))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("lives", range(CHANGES))
def test_a_run_that_is_killed_while_it_gives_its_slot_back_never_leaves_it_half_free(
    env: dict[str, str], lives: int, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    kill_a_run(env, lives, monkeypatch, after=after)
    is_claimed = "20221228T2045Z.claim" in kept(env)
    assert is_claimed or "20221228T2045Z.json" not in kept(env), "the next run would seem to have its record"
    again = run(EVENT, env=env)
    assert again["status"] == ("ALREADY_RAN" if is_claimed else "TRADED")
    assert len(orders(env)) == (0 if is_claimed else 1)


@pytest.mark.parametrize("lives", range(CHANGES))
def test_the_next_slot_trades_after_a_run_that_was_killed_while_it_gave_its_slot_back(
    env: dict[str, str], lives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_run(env, lives, monkeypatch, after=False)
    assert run({"time": "2022-12-28T20:50:00Z"}, env=env)["status"] in {"TRADED", "UNDER_WAY"}
    assert run({"time": "2022-12-29T20:45:00Z"}, env=env | {"MAX_PRICE_AGE_S": "400000"})["status"] != "UNDER_WAY"
    claims = {name.removesuffix(".claim") for name in kept(env) if name.endswith(".claim")}
    assert claims <= {name.removesuffix(".json") for name in kept(env)}, "each claim has its record"


def test_a_second_run_of_a_slot_that_was_given_back_is_recovered_if_it_is_killed(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(EVENT, env=unpriced(env))

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "close_out", kill)
        patch.setattr(JournalEntry, "save", kill)
        with pytest.raises(Killed):
            run(EVENT, env=env)
    assert len(orders(env)) == 1
    report = run(NEXT, env=env | {"MAX_PRICE_AGE_S": "400000"})
    assert report.get("recovered") == ["2022-12-28T20:45:00Z"]
