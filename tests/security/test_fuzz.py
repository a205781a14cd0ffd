"""Random input in a file, an event, a setting, the journal or the account leads to a named error or a sound run.

The tests use few inputs, always the same; `make fuzz` (EXAMPLES=, SEED=) tries many random ones.
"""

import gzip
import json
import os
import string
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import ROOT
from scripts.run import replay
from tests.builders import price_csv
from tests.security.invariants import check_names_cause, examples, in_time, run_soundly
from tests.warm.python import python
from trader.journal.base import JournalError
from trader.settings import Settings, SettingsError, variables

FUNCTION = ROOT / "function"
EVENT = {"time": "2022-12-28T20:45:00Z"}
RNG = np.random.default_rng(1)
BARS = 40
CLOSES = {
    symbol: [*np.round(np.linspace(100, 110, BARS - 1) * np.exp(RNG.normal(0, 0.002, BARS - 1)), 2).tolist(), last]
    for symbol, last in {"A": 104.0, "B": 105.5, "C": 116.0}.items()
}
CSV = price_csv(CLOSES)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=10,
)
NUMBERS = st.sampled_from(
    (
        *(
            "",
            " ",
            "0",
            "-1",
            "+1",
            "--1",
            "1_000",
            "0x10",
            "1,5",
            "1.2.3",
            "1\x00",
            "true",
            "inf",
            "nan",
            "NaN",
            "-nan",
        ),
        *("1e400", "-1e400", "1e308", "1e-320", "9" * 400, "10000001", "0.001"),
        *("\u0661\u0662", "\uff11\uff10", "\u00bd"),  # digits that Python accepts, and one that it does not
    )
)
TIMES = st.sampled_from(
    (
        *("0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1582-10-10", "1677-09-20"),
        *("1969-12-31", "2262-04-12", "2022-02-30", "2022-W52-3", "20221228", "2022-12-28T24:00:00"),
        *("2022-12-28T20:45:00.123456789Z", "2022-12-28T20:45:00+23:59", "2022-12-28T20:45Z"),
        *("2022-12-28T20:45:00\u221205:00", "now", "0", "1672260300"),
    )
) | st.datetimes(timezones=st.none() | st.timezones()).map(datetime.isoformat)


class Room:
    """A folder with everything a run needs, intact until a test damages it."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.prices = self.folder / "prices.csv"
        self.prices.write_text(CSV)
        self.account = self.folder / "account.json"
        self.journal = self.folder / "journal"

    @property
    def env(self) -> dict[str, str]:
        return {
            "ENGINE": "map",
            "PRICE_FILE": str(self.prices),
            "UNIVERSE": "A,B,C",
            "HISTORY_BARS": str(BARS),
            "UNIVERSE_LOOKBACK_BARS": "20",
            "JOURNAL": f"folder:{self.journal}",
            "ACCOUNT_FILE": str(self.account),
        }


@contextmanager
def room() -> Iterator[Room]:
    """Provide a new Room, and delete it at the end."""
    with TemporaryDirectory() as folder:
        yield Room(folder)


# --- the price file ---


def _spoilt(parts: tuple[int, int, str]) -> str:
    """Return the price file with another text in one field."""
    row, column, text = parts
    rows = [line.split(",") for line in CSV.splitlines()]
    rows[row][column] = text
    return "\n".join(map(",".join, rows)) + "\n"


FIELDS = st.tuples(st.integers(0, BARS), st.integers(0, len(CLOSES)), NUMBERS | TIMES | st.text(max_size=10)).map(
    _spoilt
)
LAST_FIELDS = st.tuples(st.just(BARS), st.integers(0, len(CLOSES)), NUMBERS | TIMES | st.text(max_size=10)).map(_spoilt)


def _tear(data: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy that truncates the bytes, or inserts or overwrites some."""
    places = st.integers(0, len(data))
    cut = places.map(lambda end: data[:end])
    inserted = st.tuples(places, st.binary(max_size=8)).map(lambda it: data[: it[0]] + it[1] + data[it[0] :])
    replaced = st.tuples(places, st.binary(max_size=8)).map(
        lambda it: data[: it[0]] + it[1] + data[it[0] + len(it[1]) :]
    )
    return cut | inserted | replaced


TEXTS = (
    FIELDS.map(str.encode)
    | LAST_FIELDS.map(str.encode)
    | _tear(CSV.encode())
    | st.binary(max_size=200)
    | st.sampled_from(
        [
            b"\xef\xbb\xbf" + CSV.encode(),
            CSV.encode("utf-16"),
            CSV.replace("\n", "\r\n").encode(),
            CSV.replace("\n", "\r").encode(),
            CSV.replace("\n", "\n\n").encode(),
            CSV.replace("timestamp,A,B,C", "timestamp,A,A,A").encode(),
            CSV.replace("timestamp,A,B,C", 'timestamp,"A\n","B,C",C').encode(),
            CSV.encode() * 2,
            CSV.encode() + b"\0" * 1000,
            ("timestamp," + ",".join(f"S{each}" for each in range(5000)) + "\n2022-12-28" + ",1" * 5000).encode(),
            b"timestamp,A\n" + b"2022-12-28," + b"1" * 300_000 + b"\n",
            b"\n" * 100_000,
        ]
    )
)


@examples(50)
@given(TEXTS)
def test_any_price_file_is_used_or_refused(data: bytes) -> None:
    with room() as its:
        its.prices.write_bytes(data)
        run_soundly(its.env, EVENT)


@examples(30)
@given(_tear(gzip.compress(CSV.encode(), mtime=0)) | TEXTS.map(lambda data: gzip.compress(data, mtime=0)))
def test_any_packed_price_file_is_used_or_refused(data: bytes) -> None:
    with room() as its:
        path = its.folder / "prices.csv.gz"
        path.write_bytes(data)
        run_soundly({**its.env, "PRICE_FILE": str(path)})


@examples(20)
@given(TEXTS, st.sampled_from(["1h", "15m", "1m"]))
def test_any_price_file_of_short_bars_is_used_or_refused(data: bytes, interval: str) -> None:
    with room() as its:
        its.prices.write_bytes(data)
        run_soundly({**its.env, "BAR_INTERVAL": interval})


BOMBS: Mapping[str, tuple[bytes, bytes]] = {
    "a line that never ends": (b"timestamp,A\n2022-12-28,", b"1"),
    "only line ends": (b"", b"\n"),
    "the same line repeated": (b"timestamp,A\n", b"2022-12-28,1\n"),
    "zeros": (b"", b"\0"),
}
MAX_MB = 400
"""The maximum memory, in MB, that reading a file may take."""

READ = """
import sys, resource
from pathlib import Path
from trader.prices.file import FilePrices
from trader.prices.table import PriceFileError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    FilePrices(Path(sys.argv[1])).last_bar()
except PriceFileError as error:
    print(error, file=sys.stderr)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_decompression_bomb_does_not_fill_the_memory(tmp_path: Path, bomb: tuple[bytes, bytes]) -> None:
    head, part = bomb
    path = tmp_path / "prices.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(6):
            file.write(part * (20_000_000 // len(part)))
    with in_time():
        command = [*python(), "-c", READ, str(path)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            cwd=FUNCTION,
            env={**os.environ, "PYTHONPATH": f"{FUNCTION}{os.pathsep}{ROOT}"},
            timeout=60,
        )
    assert f"price file {path}" in done.stderr
    assert float(done.stdout) < MAX_MB


# --- the event ---


@examples(40)
@given(JSON | st.fixed_dictionaries({"time": JSON | TIMES}))
def test_any_event_is_run_or_refused(event: object) -> None:
    with room() as its:
        run_soundly(its.env, event)


@examples(30)
@given(st.fixed_dictionaries({"time": JSON | TIMES}))
def test_any_event_is_run_or_refused_with_one_run_a_day(event: object) -> None:
    with room() as its:
        run_soundly({**its.env, "DAILY_AT": "15:45"}, event)


# --- the settings ---

LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
"""Characters that an environment variable can hold."""

VALUES = (
    st.text(LETTERS, max_size=30)
    | NUMBERS.filter(lambda text: "\0" not in text)
    | TIMES
    | st.integers().map(str)
    | st.floats().map(str)
    | st.sampled_from(
        (
            *(
                "x" * 100_000,
                "ssm:",
                "ssm:/",
                "ssm:x",
                " paper ",
                "PAPER",
                "dry-run",
                "live",
                "map",
                "interval",
                "horizon",
            ),
            *("1d", "1m", "15:00", "24:00", "1\u0665:00", "\u2177", "A,B", "A,,B", "a,\u00df", "file", "alpaca"),
            *("s3://", "s3://b", "folder:", "folder:/dev/null/x", "../..", "/dev/zero", "."),
            *("http://", "https://[", "https://x:99999999", "https://paper-api.alpaca.markets:0", "https://a b"),
            *("ftp://x", "https://api\u3002alpaca\u3002markets", "https://api.alpaca.markets"),
            *("https://api.alpaca\n.markets", "https://api.alpaca.markets\\@x.org"),
        )
    )
)
OFFLINE = sorted(set(variables()) - {"HALT_PARAMETER"})
"""The variables to vary: all but the halt switch, for which a run asks AWS."""


def _stays_here(values: Mapping[str, str]) -> bool:
    """Tell whether a run makes no request and writes only to its own folder."""
    journal = values.get("JOURNAL", "").strip()
    return (
        not any(value.strip().startswith("ssm:") for value in values.values())
        and "alpaca" not in values.values()
        and not {"yahoo", "alpaca"} & set(values.get("PRICE_SOURCES", "").replace(" ", "").split(","))
        and not journal.startswith(("s3://", "folder:/", "folder:.."))
        and not values.get("ACCOUNT_FILE", "").strip().startswith(("/", ".."))
    )


@examples(120)
@given(st.dictionaries(st.sampled_from(OFFLINE), VALUES, min_size=1, max_size=3))
def test_any_settings_are_used_or_refused(values: Mapping[str, str]) -> None:
    with room() as its, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(its.folder)
        env = {**its.env, **values}
        if _stays_here(values):
            run_soundly(env, EVENT)
        else:
            make_settings_or_name(env)


def _fraction(most: float = 1.0) -> st.SearchStrategy[str]:
    return st.floats(0, most).map(str)


POSSIBLE: Mapping[str, st.SearchStrategy[str]] = {
    "CASH_BUFFER_FRACTION": _fraction(),
    "MAX_POSITION_FRACTION": _fraction(),
    "MAX_DAILY_LOSS_FRACTION": _fraction(),
    "SIGNAL_THRESHOLD_FRACTION": _fraction(0.05),
    "STOP_LOSS_FRACTION": _fraction(),
    "TAKE_PROFIT_FRACTION": _fraction(10),
    "MAX_ORDER_USD": st.floats(0, 1e9).map(str) | st.floats(50, 5000).map(str),
    "STARTING_CASH_USD": st.floats(0, 1e12).map(str) | st.floats(100, 1e6).map(str),
    "MAX_PRICE_AGE_S": st.floats(1, 1e9).map(str),
    "MAX_ORDERS_PER_RUN": st.integers(1, 500).map(str) | st.just("1"),
    "UNIVERSE_SIZE": st.integers(1, 1_000).map(str),
    "UNIVERSE_LOOKBACK_BARS": st.integers(1, 2_000).map(str) | st.integers(1, BARS).map(str),
    "HISTORY_BARS": st.integers(30, 5_000).map(str),
    "HORIZON_BARS": st.integers(1, 250).map(str),
    "SIGNAL": st.sampled_from(["trend", "interval"]),
    "MODE": st.sampled_from(["paper", "dry-run"]),
}
"""The values that each setting relevant to orders can have, including its limits."""


@examples(60)
@given(st.fixed_dictionaries({}, optional=POSSIBLE))
def test_possible_settings_keep_every_cap(values: Mapping[str, str]) -> None:
    with room() as its:
        run_soundly({**its.env, **values}, EVENT)


def make_settings_or_name(
    env: Mapping[str, str], fetch: Callable[[Sequence[str]], Mapping[str, str]] = lambda _: {}
) -> None:
    """Make the settings, or check that the error names its cause."""
    try:
        with in_time():
            Settings.from_env(env, fetch)
    except SettingsError as error:
        check_names_cause(error)


@examples(60)
@given(
    st.dictionaries(st.sampled_from(sorted(variables())), st.text(max_size=50) | VALUES, min_size=1, max_size=3),
)
def test_any_value_behind_a_reference_is_used_or_refused(values: Mapping[str, str]) -> None:
    env = {name: f"ssm:/{name.lower()}" for name in values}

    def fetch(names: Sequence[str]) -> Mapping[str, str]:
        return {name: values[name.removeprefix("/").upper()] for name in names}

    make_settings_or_name(env, fetch)


@examples(60)
@given(
    st.sampled_from(sorted(set(variables()) - {"HALT_PARAMETER"})),
    st.text(string.ascii_letters + string.digits + "/+=", min_size=16, max_size=40),
)
def test_no_error_shows_the_value_behind_a_reference(name: str, value: str) -> None:
    try:
        Settings.from_env({name: "ssm:/x"}, lambda _: {"/x": value})
    except SettingsError as error:
        said = str(error)
    else:
        return
    assert value not in said


# --- the journal ---

FOLDER = "trend/2022-12-28"
BASIS: Mapping[str, Any] = {
    "universe": ["A", "B", "C"],
    "lookback_bars": 20,
    "bar_interval": "1d",
    "price_sources": ["file"],
}


def _ranking(room: Room, ranking: object) -> str:
    return json.dumps({"basis": {**BASIS, "price_file": str(room.prices)}, "ranking": ranking})


@examples(25)
@given(
    st.text(max_size=30)
    | JSON.map(json.dumps)
    | st.dictionaries(st.sampled_from(["A", "B", "C", "ZZZZ", "a\nb", ""]), JSON | st.floats(), max_size=4)
)
def test_any_ranking_in_the_journal_is_used_or_refused(kept: str | Mapping[str, object]) -> None:
    with room() as its:
        path = its.journal / "universe" / f"{FOLDER}.json"
        path.parent.mkdir(parents=True)
        path.write_text(kept if isinstance(kept, str) else _ranking(its, kept), encoding="utf-8", errors="replace")
        run_soundly(its.env, EVENT)


def test_a_ranking_cannot_add_symbols_to_the_universe() -> None:
    with room() as its:
        path = its.journal / "universe" / f"{FOLDER}.json"
        path.parent.mkdir(parents=True)
        basis = {**BASIS, "universe": ["B", "C"], "price_file": str(its.prices)}
        path.write_text(json.dumps({"basis": basis, "ranking": {"A": 9.0, "B": 1.0, "C": 1.0}}))
        report = run_soundly({**its.env, "UNIVERSE": "B,C"}, EVENT)
        assert report
        assert set(report["investments"]) == {"B"}


@examples(20)
@given(st.binary(max_size=30))
def test_any_claim_takes_the_slot(data: bytes) -> None:
    with room() as its:
        path = its.journal / "runs" / FOLDER / "20221228T2045Z.claim"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        report = run_soundly(its.env, EVENT)
        assert report
        assert report["status"] == "ALREADY_RAN"


@examples(40)
@given(st.data())
def test_any_trace_of_a_run_that_was_cut_off_is_used_or_refused(
    sound_record: dict[str, Any], data: st.DataObject
) -> None:
    until = data.draw(TIMES | st.just("2022-12-28T20:01:00Z") | JSON)
    claim = data.draw(st.text(max_size=30) | JSON.map(json.dumps) | st.just(json.dumps({"until": until})))
    plan = data.draw(st.none() | st.text(max_size=30) | st.just(json.dumps(_with_a_change(sound_record, data))))
    with room() as its:
        folder = its.journal / "runs" / FOLDER
        folder.mkdir(parents=True)
        (folder / "20221228T1945Z.claim").write_text(claim, encoding="utf-8", errors="replace")
        if plan is not None:
            (folder / "20221228T1945Z.started").write_text(plan, encoding="utf-8", errors="replace")
        run_soundly(its.env, EVENT)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("part", ["report", "settings", "observation", "decision"])
def test_a_plan_with_a_number_unknown_to_json_stops_no_run(
    sound_record: dict[str, Any], part: str, number: str
) -> None:
    plan = {**sound_record, part: {**sound_record[part], "more": "HERE"}}
    with room() as its:
        folder = its.journal / "runs" / FOLDER
        folder.mkdir(parents=True)
        (folder / "20221228T1945Z.claim").write_text("{}")
        (folder / "20221228T1945Z.started").write_text(json.dumps(plan).replace('"HERE"', number))
        report = run_soundly(its.env, EVENT)
        assert report
        assert report["status"] == "TRADED"


@pytest.mark.parametrize("change", [lambda plan: plan.pop("settings"), lambda plan: plan.update(settings=[])])
def test_a_plan_without_settings_stops_no_run(sound_record: dict[str, Any], change: Callable[[Any], object]) -> None:
    plan = dict(sound_record)
    change(plan)
    with room() as its:
        folder = its.journal / "runs" / FOLDER
        folder.mkdir(parents=True)
        (folder / "20221228T1945Z.claim").write_text("{}")
        (folder / "20221228T1945Z.started").write_text(json.dumps(plan))
        report = run_soundly(its.env, EVENT)
        assert report
        assert report["status"] == "TRADED"


@pytest.fixture(scope="module")
def sound_record() -> dict[str, Any]:
    """Run, and return the record."""
    with room() as its:
        run_soundly(its.env, EVENT)
        (path,) = its.journal.glob(f"runs/{FOLDER}/*.json")
        record: dict[str, Any] = json.loads(path.read_text())
    return record


@examples(80)
@given(st.data())
def test_any_record_is_replayed_or_refused(sound_record: dict[str, Any], data: st.DataObject) -> None:
    with room() as its:
        path = its.folder / "record.json"
        path.write_text(json.dumps(_with_a_change(sound_record, data)))
        try:
            with in_time():
                replay.compare(*replay.find(str(path), {}))
        except JournalError as error:
            said = str(error)
        else:
            return
        assert str(path) in said


def _with_a_change(value: Any, data: st.DataObject) -> Any:
    """Return the value with one part replaced or removed."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(sorted(value)))
        if not data.draw(st.integers(0, 9)):
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: _with_a_change(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 9)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], _with_a_change(value[place], data), *value[place + 1 :]]
    if isinstance(value, int | float) and data.draw(st.integers(0, 2)):
        return data.draw(st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1e-9, 0.1, 1e15, 1e16]))
    return data.draw(JSON | NUMBERS | TIMES)


# --- the account ---


@pytest.fixture(scope="module")
def account() -> dict[str, Any]:
    """Run the previous slot, and return its account, which then holds A and B in brackets."""
    with room() as its:
        run_soundly(its.env, {"time": "2022-12-28T20:30:00Z"})
        bought: dict[str, Any] = json.loads(its.account.read_text())
    return bought


@examples(60)
@given(st.data())
def test_any_account_file_is_used_or_refused(account: dict[str, Any], data: st.DataObject) -> None:
    with room() as its:
        its.account.write_text(json.dumps(_with_a_change(account, data)))
        run_soundly(its.env, EVENT)


@examples(20)
@given(st.binary(max_size=100) | st.text(max_size=50).map(str.encode))
def test_any_bytes_in_the_account_file_are_used_or_refused(data: bytes) -> None:
    with room() as its:
        its.account.write_bytes(data)
        run_soundly(its.env, EVENT)
