import errno
import itertools
import os
import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest

from scripts import ROOT
from tests.builders import SLOT, settings
from tests.warm.python import python
from trader.journal.base import DamagedError, JournalError, Peak, Run
from trader.journal.entry import Claim, Journal
from trader.journal.record import build_record, build_report
from trader.journal.stores import Folder
from trader.wiring import open_journal

BASIS = {"universe": ["sp500"], "lookback_bars": 60}


@pytest.fixture(params=["folder", "s3"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """Return an empty journal in each kind of store."""
    if request.param == "folder":
        return open_journal(f"folder:{tmp_path / 'journal'}", "trend")
    request.getfixturevalue("aws")
    boto3.client("s3").create_bucket(Bucket="journal-bucket")
    return open_journal("s3://journal-bucket/some/prefix", "trend")


def a_run(**variables: object) -> Run:
    return Run(settings=settings(**variables), slot=SLOT, now=SLOT)


def test_a_slot_is_claimed_once(journal: Journal) -> None:
    assert [journal.entry(SLOT).claim("first"), journal.entry(SLOT).claim("second")] == [True, False]


def test_one_of_many_simultaneous_claims_succeeds(
    tmp_path: Path,
) -> None:  # only in a folder: S3 guarantees this, moto does not
    journal = open_journal(f"folder:{tmp_path}", "trend")
    won: list[bool] = []
    claims = [threading.Thread(target=lambda n=n: won.append(journal.entry(SLOT).claim(str(n)))) for n in range(8)]
    for claim in claims:
        claim.start()
    for claim in claims:
        claim.join()
    assert sorted(won) == [False] * 7 + [True]


def test_another_slot_and_another_strategy_are_free(journal: Journal) -> None:
    journal.entry(SLOT).claim("first")
    assert journal.entry(SLOT + timedelta(minutes=15)).claim("second")
    assert Journal(journal.store, "other").entry(SLOT).claim("third")


def test_a_record_is_read_back_unchanged(journal: Journal) -> None:
    run = a_run()
    journal.entry(run.slot, is_dry=run.is_dry).save(run, build_report(run, "NOTHING_TO_DO"))
    record = journal.load("runs/trend/2022-12-28/20221228T2045Z.json")
    assert record["report"]["status"] == "NOTHING_TO_DO"


def test_a_dry_run_leaves_the_slots_own_record_alone(journal: Journal) -> None:
    for mode in ("paper", "dry-run"):
        run = a_run(MODE=mode)
        journal.entry(run.slot, is_dry=run.is_dry).save(run, build_report(run, "NOTHING_TO_DO"))
    assert [name.rpartition("/")[2] for name in journal.list_records()] == [
        "20221228T2045Z-dry-run.json",
        "20221228T2045Z.json",
    ]


def test_a_missing_record_is_an_error(journal: Journal) -> None:
    with pytest.raises(JournalError, match="there is no record runs/none"):
        journal.load("runs/none.json")


def test_a_plan_is_kept_beside_the_records_but_is_no_record(journal: Journal) -> None:
    journal.entry(a_run().slot).note_plan(a_run())
    assert journal.list_records() == []
    started = journal.entry(SLOT).load_plan()
    assert started is not None
    assert started["report"]["status"] == "STARTED"
    assert journal.load("runs/trend/2022-12-28/20221228T2045Z.started") == started


def test_a_run_that_noted_no_plan_has_none(journal: Journal) -> None:
    assert journal.entry(SLOT).load_plan() is None


def test_a_plan_that_is_missing_or_damaged_has_no_orders(journal: Journal) -> None:
    assert journal.planned_orders(SLOT) == []
    journal.store.write(journal.entry(SLOT).plan_name, '{"decision": {}}')
    assert journal.planned_orders(SLOT) == []


def test_a_record_is_adopted_only_if_there_is_none(journal: Journal) -> None:
    run = a_run()
    assert journal.entry(SLOT).adopt(build_record(run, build_report(run, "INTERRUPTED")))
    assert not journal.entry(SLOT).adopt(build_record(run, build_report(run, "again")))
    journal.entry(run.slot, is_dry=run.is_dry).save(run, build_report(run, "TRADED"))
    assert journal.entry(SLOT).load()["report"]["status"] == "TRADED", (
        "the run's own record replaces an adopted one, even late"
    )


# --- unfinished runs ---

LATER = SLOT + timedelta(minutes=15)
UNTIL = SLOT + timedelta(minutes=5)


def test_a_claim_without_a_record_means_an_unfinished_run(journal: Journal) -> None:
    journal.entry(SLOT).claim("first", UNTIL)
    assert journal.list_unfinished(LATER) == [Claim(SLOT, UNTIL)]


def test_a_run_with_a_record_is_finished(journal: Journal) -> None:
    journal.entry(SLOT).claim("first", UNTIL)
    journal.entry(a_run().slot).note_plan(a_run())
    journal.entry(a_run().slot, is_dry=a_run().is_dry).save(a_run(), build_report(a_run(), "NOTHING_TO_DO"))
    assert journal.list_unfinished(LATER) == []


def test_a_dry_runs_record_does_not_finish_the_real_one(journal: Journal) -> None:
    journal.entry(SLOT).claim("first", UNTIL)
    dry = a_run(MODE="dry-run")
    journal.entry(dry.slot, is_dry=dry.is_dry).save(dry, build_report(dry, "DRY_RUN"))
    assert journal.list_unfinished(LATER) == [Claim(SLOT, UNTIL)]


def test_another_strategys_unfinished_runs_are_not_listed(journal: Journal) -> None:
    Journal(journal.store, "trend-2").entry(SLOT).claim("first", UNTIL)
    assert journal.list_unfinished(LATER) == []


def test_unfinished_runs_come_oldest_first_from_the_last_eight_days(journal: Journal) -> None:
    ages = [timedelta(minutes=15), timedelta(days=3), timedelta(days=8), timedelta(days=8, minutes=1)]
    for age in ages:
        journal.entry(LATER - age).claim("first", UNTIL)
    assert [LATER - claim.slot for claim in journal.list_unfinished(LATER)] == [ages[2], ages[1], ages[0]]


def test_names_that_are_not_slots_are_ignored(journal: Journal) -> None:
    day = "runs/trend/2022-12-28"
    for name in (f"{day}/x.claim", f"{day}/20221228T2061Z.claim", f"{day}/.claim", f"{day}/deep/20221228T2045Z.claim"):
        journal.store.write(name, "junk")
    journal.store.write("runs/trend/2022-12-27/20221228T2045Z.claim", "the right slot under the wrong day")
    assert journal.list_unfinished(LATER) == []


@pytest.mark.parametrize(
    "text",
    ["0f3a9c", "12345", "", "{", "[]", "{}", '{"until": 7}', '{"until": "soon"}', '{"claimant": "a", "until": null}'],
)
def test_a_claim_without_an_end_is_unfinished(journal: Journal, text: str) -> None:
    journal.store.write("runs/trend/2022-12-28/20221228T2045Z.claim", text)
    assert journal.list_unfinished(LATER) == [Claim(SLOT, None)]


@pytest.mark.parametrize(
    ("until", "age", "is_over"),
    [
        (UNTIL, timedelta(minutes=6), False),
        (UNTIL, timedelta(minutes=6, seconds=1), True),
        (None, timedelta(minutes=15), False),
        (None, timedelta(minutes=15, seconds=1), True),
    ],
)
def test_a_run_is_certainly_over_only_after_its_last_moment(until: datetime, age: timedelta, is_over: bool) -> None:
    assert Claim(SLOT, until).is_over(SLOT + age) is is_over


def test_an_empty_record_hides_no_unfinished_run(journal: Journal) -> None:
    entry = journal.entry(SLOT)
    entry.claim("a")
    journal.store.write(entry.record_name, "")
    assert [claim.slot for claim in journal.list_unfinished(LATER)] == [SLOT]
    assert entry.adopt({"adopted": True})
    assert entry.load() == {"adopted": True}


def test_names_can_be_listed_from_one_on(journal: Journal) -> None:
    for name in ("runs/a/2022-12-27/x", "runs/a/2022-12-28/x", "runs/a/2022-12-29/x", "runs/b/2022-12-29/x"):
        journal.store.write(name, "x")
    assert journal.store.names("runs/a/", after="runs/a/2022-12-28") == ["runs/a/2022-12-28/x", "runs/a/2022-12-29/x"]


@pytest.mark.usefixtures("aws")
def test_an_object_that_is_not_text_is_named() -> None:
    boto3.client("s3").create_bucket(Bucket="journal-bucket")
    boto3.client("s3").put_object(Bucket="journal-bucket", Key="runs/x", Body=b"\xff")
    with pytest.raises(JournalError, match="runs/x in JOURNAL=s3://journal-bucket/ is not UTF-8 text"):
        open_journal("s3://journal-bucket", "trend").store.read("runs/x")


# --- the day's ranking ---


def test_a_ranking_is_kept_for_its_day(journal: Journal) -> None:
    journal.entry(SLOT).save_ranking(BASIS, {"AAPL": 0.25})
    assert journal.entry(SLOT - timedelta(hours=5)).ranking(BASIS) == {"AAPL": 0.25}
    assert journal.entry(SLOT + timedelta(days=1)).ranking(BASIS) is None


def test_a_ranking_with_another_basis_is_not_used(journal: Journal) -> None:
    journal.entry(SLOT).save_ranking(BASIS, {"AAPL": 0.25})
    assert journal.entry(SLOT).ranking({**BASIS, "lookback_bars": 20}) is None


def test_a_torn_ranking_is_not_used(journal: Journal) -> None:
    journal.store.write("universe/trend/2022-12-28.json", '{"basis": {"univ')
    assert journal.entry(SLOT).ranking(BASIS) is None


PEAK = Peak(account="embedded out/account.json", equity_usd=123_456.78, flows_usd=-5.0, as_of=SLOT)


def test_the_highest_equity_is_kept_from_day_to_day(journal: Journal) -> None:
    journal.entry(SLOT).save_peak(replace(PEAK, equity_usd=1.0))
    journal.entry(SLOT).save_peak(PEAK)
    assert journal.entry(SLOT + timedelta(days=300)).load_peak() == PEAK


def test_without_a_record_there_is_no_highest_equity(journal: Journal) -> None:
    assert journal.entry(SLOT).load_peak() is None


def test_each_strategy_has_its_own_highest_equity(journal: Journal) -> None:
    journal.entry(SLOT).save_peak(PEAK)
    assert Journal(journal.store, "other").entry(SLOT).load_peak() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"equity_usd": 1',
        '{"account": 1, "equity_usd": 1.0, "flows_usd": 0.0, "as_of": "2022-12-28T20:45:00Z"}',
        '{"account": "a", "equity_usd": "1", "flows_usd": 0.0, "as_of": "2022-12-28T20:45:00Z"}',
        '{"account": "a", "equity_usd": NaN, "flows_usd": 0.0, "as_of": "2022-12-28T20:45:00Z"}',
        '{"account": "a", "equity_usd": -1.0, "flows_usd": 0.0, "as_of": "2022-12-28T20:45:00Z"}',
        '{"account": "a", "equity_usd": 1.0, "flows_usd": 0.0, "as_of": "2022-12-28"}',
        '{"account": "a", "equity_usd": 1.0}',
    ],
)
def test_a_damaged_highest_equity_is_an_error_that_names_its_file(journal: Journal, text: str) -> None:
    journal.store.write("equity/trend/peak.json", text)
    with pytest.raises(DamagedError, match=r"equity/trend/peak\.json"):
        journal.entry(SLOT).load_peak()


def test_a_highest_equity_that_is_not_text_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "equity" / "trend").mkdir(parents=True)
    (tmp_path / "equity" / "trend" / "peak.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DamagedError, match=r"equity/trend/peak\.json"):
        open_journal(f"folder:{tmp_path}", "trend").entry(SLOT).load_peak()


def test_a_highest_equity_without_a_count_of_the_deposits_is_kept(journal: Journal) -> None:
    journal.entry(SLOT).save_peak(replace(PEAK, flows_usd=None))
    assert journal.entry(SLOT).load_peak() == replace(PEAK, flows_usd=None)


def test_the_day_is_the_one_in_new_york(journal: Journal) -> None:
    evening = SLOT.replace(hour=3)  # 22:45 of the day before in New York
    assert "2022-12-27" in journal.entry(evening).record_name


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(JournalError, match="JOURNAL=folder:"):
        open_journal(f"folder:{tmp_path / 'file'}", "trend").entry(SLOT).claim("first")


# --- a folder on a disk that fails ---


def fail_disk(monkeypatch: pytest.MonkeyPatch, call: str, code: int, *, after: int = 0) -> None:
    """Make a function of `os` fail with this error code, from the call number `after` on."""
    real, calls = getattr(os, call), itertools.count()

    def fail(*arguments: Any, **named: Any) -> Any:
        if next(calls) < after:
            return real(*arguments, **named)
        raise OSError(code, os.strerror(code), str(arguments[0]))

    monkeypatch.setattr(os, call, fail)


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_new_name_that_fails_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    fail_disk(monkeypatch, call, errno.ENOSPC)
    with pytest.raises(JournalError, match=r"cannot be used: .*No space left on device"):
        Folder(tmp_path).create("runs/x.json", "{}")
    assert files(tmp_path) == {}


def test_a_text_that_cannot_be_written_leaves_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folder(tmp_path).write("x.json", "before")
    fail_disk(monkeypatch, "fsync", errno.ENOSPC)
    with pytest.raises(JournalError, match="No space left on device"):
        Folder(tmp_path).write("x.json", "after")
    assert files(tmp_path) == {"x.json": "before"}


KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from trader.journal.stores import Folder
os.fsync = lambda _: os._exit(9)
getattr(Folder(Path(sys.argv[1])), sys.argv[2])("runs/x.json", "{}")
"""


@pytest.mark.parametrize("call", ["create", "write"])
def test_a_process_that_is_killed_while_writing_leaves_no_name(tmp_path: Path, call: str) -> None:
    command = [*python(), "-c", KILLED_WHILE_WRITING, str(tmp_path), call]
    done = subprocess.run(command, env={"PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}"}, check=False)
    assert done.returncode == 9
    assert (Folder(tmp_path).names("runs/"), Folder(tmp_path).read("runs/x.json")) == ([], None)


def test_a_text_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, str]] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "text"
        steps.append((kind, Folder(tmp_path).read("x.json") or ""))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    assert Folder(tmp_path).create("x.json", "{}")
    Folder(tmp_path).write("x.json", "[]")
    assert steps == [("text", ""), ("folder", "{}"), ("text", "{}"), ("folder", "[]")]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ELOOP])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, depth: int
) -> None:
    journal = open_journal(f"folder:{tmp_path}", "trend")
    journal.entry(SLOT).claim("first")
    fail_disk(monkeypatch, "scandir", code, after=depth)
    with pytest.raises(JournalError, match=re.escape(os.strerror(code))):
        journal.list_unfinished(LATER)


@pytest.mark.skipif(os.geteuid() == 0, reason="left out: root may read every folder")
def test_a_folder_without_permissions_is_an_error(tmp_path: Path) -> None:
    journal = open_journal(f"folder:{tmp_path}", "trend")
    journal.entry(SLOT).claim("first")
    day = tmp_path / "runs/trend/2022-12-28"
    day.chmod(0)
    try:
        with pytest.raises(JournalError, match="Permission denied"):
            journal.list_records()
    finally:
        day.chmod(0o755)


def test_a_file_in_place_of_the_journal_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(JournalError, match="Not a directory"):
        open_journal(f"folder:{tmp_path}", "trend").list_records()


def test_a_journal_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    assert open_journal(f"folder:{tmp_path / 'none'}", "trend").list_records() == []


@pytest.mark.usefixtures("aws")
def test_a_bucket_that_does_not_exist_is_named() -> None:
    with pytest.raises(JournalError, match="JOURNAL=s3://no-such-bucket"):
        open_journal("s3://no-such-bucket/p", "trend").entry(SLOT).claim("first")


@pytest.fixture
def lossy_s3(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a proxy in front of S3 that forwards the first PUT but answers 500, as if the answer had been lost."""
    target = aws["AWS_ENDPOINT_URL"]
    lost: list[int] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = _forward(Request(f"{target}{self.path}", data=body, headers=dict(self.headers), method="PUT"))
            if not lost:
                lost.append(status)
                status = 500
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            with urlopen(Request(f"{target}{self.path}", headers=dict(self.headers))) as answer:
                body = answer.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    boto3.client("s3").create_bucket(Bucket="journal-bucket")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def _forward(request: Request) -> int:
    from urllib.error import HTTPError

    try:
        with urlopen(request) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.mark.usefixtures("lossy_s3")
def test_a_claim_with_a_lost_answer_is_recognized() -> None:
    assert open_journal("s3://journal-bucket", "trend").entry(SLOT).claim("mine")
    assert not open_journal("s3://journal-bucket", "trend").entry(SLOT).claim("theirs")


class Yes(BaseHTTPRequestHandler):
    """A network that answers every PUT itself, like a hotel's login page."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.mark.usefixtures("aws")
def test_an_answer_not_from_s3_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(JournalError, match=r"20221228T2045Z\.claim was not confirmed"):
            open_journal("s3://journal-bucket", "trend").entry(SLOT).claim("first")
        server.shutdown()
