"""Tampering with a record of a real run: each change is noticed, or is of what replay says it does not check."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lambda_function import run
from tests.builders import SLOT
from trader.audit.recomputing import (
    NOT_CHECKED,
    Difference,
    OtherEngineError,
    Place,
    leaves,
    list_unchecked,
    recompute,
)
from trader.deadline import Deadline
from trader.digest import equality
from trader.forecasting.base import Forecasts
from trader.forecasting.map import kernel
from trader.journal.base import JournalError
from trader.model import Closes, Observation
from trader.progress import Progress, no_progress
from trader.settings import Settings
from trader.wiring import make_forecaster

type Record = dict[str, Any]

NAME = "runs/trend/2022-12-28/20221228T2045Z.json"
SETTINGS = {"UNIVERSE": "AAPL,KO", "ENGINE": "map", "HISTORY_BARS": "30", "UNIVERSE_LOOKBACK_BARS": "20"}
LONG = 4
"""The most elements of a list that are each removed, doubled and exchanged; of a longer list, the first is."""


class Remembering:
    """A forecaster that fits the same closes only once."""

    kept: Mapping[object, Forecasts] = {}

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def forecast(self, closes: Mapping[str, Closes], deadline: Deadline, progress: Progress = no_progress) -> Forecasts:
        series = tuple(
            (symbol, each.index.to_numpy(int).tobytes(), each.to_numpy().tobytes()) for symbol, each in closes.items()
        )
        key = (repr(self._settings), series)
        if key not in self.kept:
            made = make_forecaster(self._settings).forecast(closes, deadline, progress)
            type(self).kept = {**self.kept, key: made}
        return self.kept[key]


def make_record(folder: Path, **variables: str) -> Record:
    """Run once, with an order that is refused by a cap and one that is placed, and return the record."""
    env = {"JOURNAL": f"folder:{folder}/journal", "ACCOUNT_FILE": f"{folder}/account.json", **SETTINGS, **variables}
    run({"time": SLOT.isoformat()}, env=env)
    (file,) = (folder / "journal").glob("runs/*/*/*.json")
    record: Record = json.loads(file.read_text())
    return record


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    made = make_record(tmp_path_factory.mktemp("run"))
    assert made["report"]["orders"], "the record shall have an order"
    return made


def find(record: Record) -> list[Difference]:
    return recompute(NAME, record, forecaster=Remembering)


def is_noticed(record: Record) -> bool:
    try:
        return bool(find(record))
    except JournalError:
        return True


def nodes(value: Any, is_sample: bool, place: Place = ()) -> Iterator[Place]:
    """Yield the place of every value in a record, also of those that contain others.

    Of a series of prices and of the corners of a line, a sample has the first and the last.
    """
    inside = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for name, each in (
        (inside[0], inside[-1]) if is_sample and isinstance(value, list) and len(value) > LONG else inside
    ):
        yield (*place, str(name))
        yield from nodes(each, is_sample, (*place, str(name)))


def holder(record: Record, place: Place) -> tuple[Any, Any]:
    """Return what contains the value at a place, and its key or number in there."""
    inside: Any = record
    for word in place[:-1]:
        inside = inside[int(word)] if isinstance(inside, list) else inside[word]
    return inside, int(place[-1]) if isinstance(inside, list) else place[-1]


def change(box: Any, key: Any) -> None:
    value = box[key]
    if isinstance(value, bool):
        box[key] = not value
    elif isinstance(value, int | float):
        box[key] = -value if value < 0 else 1.1 * value + 1
    elif isinstance(value, str) and value[:2] == "20":
        box[key] = value.replace("2022", "2021")
    else:
        box[key] = f"{value or ''}x"


def remove(box: Any, key: Any) -> None:
    del box[key]


def double(box: Any, key: Any) -> None:
    box.insert(key, box[key])


def exchange(box: Any, key: Any) -> None:
    box[key], box[key + 1] = box[key + 1], box[key]


def tamperings(record: Record, is_sample: bool) -> Iterator[tuple[str, Place, Record]]:
    """Yield each way to tamper with one value of a record."""
    endings = {place for place, _ in leaves(record)}
    text = json.dumps(record)
    for place in nodes(record, is_sample):
        box, key = holder(record, place)
        is_listed = isinstance(box, list)
        ways: list[Callable[[Any, Any], None]] = [change] if place in endings else []
        if not is_listed:
            ways.append(remove)
        elif len(box) <= LONG or not key:
            ways += [remove, double]
            ways += [exchange] if key + 1 < len(box) and box[key] != box[key + 1] else []
        for way in ways:
            other = json.loads(text)  # faster than a deep copy
            way(*holder(other, place))
            yield way.__name__, place, other


def covered(place: Place) -> bool:
    return any(each.covers(place) for each in NOT_CHECKED)


def test_the_record_itself_is_sound(record: Record) -> None:
    assert find(record) == []


@pytest.mark.parametrize("is_sample", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_each_value_that_is_changed_removed_doubled_or_moved_is_noticed_or_named_as_not_checked(
    record: Record, is_sample: bool
) -> None:
    unnoticed = [(way, place) for way, place, other in tamperings(record, is_sample) if not is_noticed(other)]
    assert [(way, place) for way, place in unnoticed if not covered(place)] == []
    assert {place[0] for _, place in unnoticed} <= {"observation", "report", "chain"}
    assert not [place for _, place in unnoticed if place[:2] in {("report", "investments"), ("report", "insights")}]


def test_all_that_a_run_sees_is_named_as_far_as_it_may_change_no_decision() -> None:
    recomputed = {"slot", "account", "denials"}
    named = {each.name for each in fields(Observation) if covered(("observation", each.name))}
    assert named == {each.name for each in fields(Observation)} - recomputed


def test_what_is_not_checked_is_a_short_list_that_says_who_confirms_it(record: Record) -> None:
    assert len(NOT_CHECKED) <= 5
    assert list_unchecked(record)
    assert all(each.confirmed_by for each in NOT_CHECKED)


def twice(record: Record) -> None:
    record["decision"]["orders"] *= 2


def order_of_the_report_twice(record: Record) -> None:
    record["report"]["orders"] *= 2


def turned_gap(record: Record) -> None:
    for insight in record["decision"]["insights"], record["report"]["insights"]:
        insight[0]["gap_fraction"] *= -1


def no_investments(record: Record) -> None:
    record["report"]["investments"] = {}


def tenfold(record: Record) -> None:
    report = record["report"]
    for order in report["orders"]:
        order["quantity"] *= 10
        order["filled_quantity"] *= 10
        report["investments"][order["symbol"]] *= 10


def other_history(record: Record) -> None:
    record["settings"]["history_bars"] = 40


def other_history_of_an_old_record(record: Record) -> None:
    record["settings"]["history_bars"] = 29
    del record["chain"]


def hidden_order(record: Record) -> None:
    record["report"] |= {"orders": [], "investments": {}}


def hidden_order_of_a_run_that_did_nothing(record: Record) -> None:
    record["report"] |= {"orders": [], "investments": {}, "status": "NOTHING_TO_DO"}


def refused_order(record: Record) -> None:
    symbol = record["report"]["orders"][0]["symbol"]
    denial = {"symbol": symbol, "code": "ORDER_REJECTED", "detail": "no", "is_unprotected": False}
    record["report"]["denials"].append(denial)


def stopped_run(record: Record) -> None:
    record["report"] |= {"status": "HALTED", "detail": "by hand"}


def unplanned_order(record: Record) -> None:
    order = copy.deepcopy(record["report"]["orders"][0])
    record["report"]["orders"].append(order | {"client_order_id": "trend-20221228T2045Z-MSFT-buy", "symbol": "MSFT"})
    record["report"]["investments"]["MSFT"] = order["quantity"]


@pytest.mark.parametrize(
    "tamper",
    [
        twice,
        order_of_the_report_twice,
        turned_gap,
        no_investments,
        tenfold,
        other_history,
        other_history_of_an_old_record,
        hidden_order,
        hidden_order_of_a_run_that_did_nothing,
        refused_order,
        stopped_run,
        unplanned_order,
    ],
)
def test_a_change_in_several_places_is_noticed(record: Record, tamper: Callable[[Record], None]) -> None:
    other = copy.deepcopy(record)
    tamper(other)
    assert is_noticed(other)


def test_a_trend_line_may_differ_in_its_last_digits(record: Record) -> None:
    other = copy.deepcopy(record)
    for forecast in other["decision"]["forecasts"][-1], other["report"]["forecasts"][-1]:
        forecast["line"][0][1] *= 1 + 1e-9
    assert find(other) == []


def test_a_record_under_the_name_of_another_slot_is_noticed(record: Record) -> None:
    (found,) = recompute(NAME.replace("T2045Z", "T2030Z"), record, forecaster=Remembering)
    assert found.what == "report.slot"


@pytest.mark.parametrize(
    "variables",
    [{"MODE": "dry-run"}, {"STOP_LOSS_FRACTION": "0", "TAKE_PROFIT_FRACTION": "0"}, {"UNIVERSE": "AAPL,KO,YYYY"}],
)
def test_runs_of_other_kinds_are_sound(tmp_path: Path, variables: dict[str, str]) -> None:
    assert recompute("latest", make_record(tmp_path, **variables)) == []


# --- another version of the map engine -----------------------------------------------------------------------------


def test_a_record_names_the_engine_that_made_its_trend_lines(record: Record) -> None:
    assert record["chain"]["engine"] == f"map, compiled from {kernel.read_sums()[kernel.SOURCE][:12]}"


def test_a_record_by_the_reference_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "load", lambda: None)
    assert make_record(tmp_path)["chain"]["engine"] == "map, the reference in NumPy"


def by_an_older_kernel(record: Record) -> None:
    record["chain"]["engine"] = "map, compiled from 0123456789ab"


def from_before_the_name(record: Record) -> None:
    del record["chain"]["engine"]


def from_before_the_chain(record: Record) -> None:
    del record["chain"]


OLDER = pytest.mark.parametrize("age", [by_an_older_kernel, from_before_the_name, from_before_the_chain])


@OLDER
def test_a_record_by_another_version_of_the_engine_is_not_compared(
    record: Record, age: Callable[[Record], None]
) -> None:
    older = copy.deepcopy(record)
    age(older)
    older["decision"]["forecasts"][0]["trend_usd"] *= 1.01  # it would be a difference
    with pytest.raises(OtherEngineError, match=r"is not compared: its trend lines are by another engine, 'map, .*here"):
        find(older)


def test_a_record_by_the_kernel_is_not_compared_where_it_cannot_be_loaded(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "load", lambda: None)
    with pytest.raises(OtherEngineError, match="here they would be by 'map, the reference in NumPy'"):
        find(record)


@OLDER
def test_the_nightly_equality_leaves_out_a_record_by_another_version(
    record: Record, age: Callable[[Record], None]
) -> None:
    older = copy.deepcopy(record)
    age(older)
    found = equality.compare([(NAME, older), (NAME, record)], Deadline.never(), Remembering)
    assert (found.compared, found.by_other_code, list(found.differences)) == (1, 1, [])
