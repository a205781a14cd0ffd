"""`make verify` of journals that real runs have left, in a folder and in S3 (moto), sound and tampered with."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient

from lambda_function import run
from scripts.run import verify
from scripts.run.chain import Kind
from tests.builders import settings
from tests.commands import Command, in_process
from trader.journal.base import JournalError, Run
from trader.journal.chain import hash_code, hash_text
from trader.journal.entry import Journal, JournalEntry
from trader.journal.record import build_record, build_report
from trader.journal.stores import Bucket, Folder
from trader.wiring import open_journal

SLOTS = ("20221223T2045Z", "20221227T2045Z", "20221228T2045Z")
SETTINGS = {"UNIVERSE": "AAPL,KO", "ENGINE": "map", "HISTORY_BARS": "30", "UNIVERSE_LOOKBACK_BARS": "20"}
NOW = datetime(2023, 1, 3, 15, tzinfo=UTC)


def time_of(slot: str) -> dict[str, str]:
    return {"time": datetime.strptime(slot, "%Y%m%dT%H%MZ").replace(tzinfo=UTC).isoformat()}


def environment(folder: Path) -> dict[str, str]:
    return {"JOURNAL": f"folder:{folder}/out/journal", "ACCOUNT_FILE": f"{folder}/out/account.json", **SETTINGS}


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run on three days, and return the folder, for tests to copy."""
    folder = tmp_path_factory.mktemp("three-runs")
    for slot in SLOTS:
        run(time_of(slot), env=environment(folder))
    return folder


@pytest.fixture
def folder(three_runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(three_runs, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def make(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(folder)
    return in_process(verify.main, monkeypatch, capsys)


def path(folder: Path, slot: str, ending: str = ".json") -> Path:
    (found,) = (folder / "out/journal/runs/trend").glob(f"*/{slot}{ending}")
    return found


def journal_in(folder: Path) -> Journal:
    return open_journal(f"folder:{folder}/out/journal", "trend")


def find(folder: Path, **options: Any) -> list[tuple[str, str]]:
    """Return what verify finds, as kind and slot."""
    return [(each.kind, each.slot) for each in verify.verify(journal_in(folder), NOW, **options).findings]


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


# --- a sound journal ---


def test_a_sound_journal_is_verified_and_says_how_to_do_it_again(make: Command) -> None:
    code, said, errors = make()
    assert (code, errors) == (0, "")
    begins = f"3 records, 3 decisions recomputed, 3 in the chain, which begins with {SLOTS[0]}: nothing is wrong."
    assert begins in said
    assert f"code, SHA-256 {hash_code()}" in said
    assert "command make verify JOURNAL=folder:out/journal STRATEGY=trend HEAD=" in said


def test_each_record_names_the_hash_of_the_file_before(folder: Path) -> None:
    texts = [path(folder, slot).read_text() for slot in SLOTS]
    named = [json.loads(text)["chain"]["previous"] for text in texts]
    assert named == [{}, {SLOTS[0]: hash_text(texts[0])}, {SLOTS[1]: hash_text(texts[1])}]


def test_since_leaves_earlier_records_out(make: Command) -> None:
    _, said, _ = make(SINCE="2022-12-27", JSON="1")
    answer = json.loads(said)
    assert (answer["records"], answer["agrees"], answer["head"]["slot"]) == (2, True, SLOTS[2])


def test_a_hash_that_was_kept_is_still_there(folder: Path, make: Command) -> None:
    head = hash_text(path(folder, SLOTS[1]).read_text())
    assert make(HEAD=head)[0] == 0


def test_a_journal_without_records_says_how_to_make_one(make: Command) -> None:
    code, _, errors = make(STRATEGY="other")
    assert code == 3
    assert "the journal folder:out/journal of strategy other has no record to verify: make run" in " ".join(
        errors.split()
    )


@pytest.mark.parametrize(("name", "value"), [("HEAD", "abc"), ("SINCE", "soon")])
def test_an_option_that_makes_no_sense_is_refused(make: Command, name: str, value: str) -> None:
    code, _, errors = make(**{name: value})
    assert (code, f"{name}={value}" in errors) == (2, True)


# --- tampering ---


def remove(folder: Path) -> None:
    path(folder, SLOTS[1]).unlink()


def remove_with_its_claim(folder: Path) -> None:
    for file in (folder / "out/journal/runs/trend").glob(f"*/{SLOTS[1]}*"):
        file.unlink()


def remove_the_newest(folder: Path) -> None:
    path(folder, SLOTS[2]).unlink()


def change_what_replay_does_not_check(folder: Path) -> None:
    edit(path(folder, SLOTS[0]), lambda record: record["report"]["timings_s"].update(place=99.0))


def change_the_decision(folder: Path) -> None:
    edit(path(folder, SLOTS[2]), lambda record: record["decision"]["insights"].reverse())


def add_a_copy(folder: Path) -> None:
    file = path(folder, SLOTS[1])
    shutil.copy(file, file.with_name("20221227T2030Z.json"))


def add_a_record(folder: Path) -> None:
    file = path(folder, SLOTS[1])
    text = file.read_text().replace("T20:45:00Z", "T20:30:00Z").replace(SLOTS[1], "20221227T2030Z")
    file.with_name("20221227T2030Z.json").write_text(text)
    file.with_name("20221227T2030Z.claim").write_text('{"claimant": "a", "until": null}')


def exchange(folder: Path) -> None:
    first, second = path(folder, SLOTS[0]), path(folder, SLOTS[1])
    texts = first.read_text(), second.read_text()
    first.write_text(texts[1])
    second.write_text(texts[0])


def tear(folder: Path) -> None:
    path(folder, SLOTS[1]).write_text(path(folder, SLOTS[1]).read_text()[:999])


def move_to_another_day(folder: Path) -> None:
    file = path(folder, SLOTS[2])
    file.rename(folder / "out/journal/runs/trend/2022-12-27" / file.name)


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (remove, (Kind.REMOVED, SLOTS[1])),
        (remove_with_its_claim, (Kind.REMOVED, SLOTS[1])),
        (remove_the_newest, (Kind.NO_RECORD, SLOTS[2])),
        (change_what_replay_does_not_check, (Kind.CHANGED, SLOTS[0])),
        (change_the_decision, (Kind.DIFFERENT, SLOTS[2])),
        (add_a_copy, (Kind.ADDED, "20221227T2030Z")),
        (add_a_record, (Kind.ADDED, "20221227T2030Z")),
        (exchange, (Kind.CHANGED, SLOTS[0])),
        (exchange, (Kind.DIFFERENT, SLOTS[1])),
        (tear, (Kind.UNREADABLE, SLOTS[1])),
        (move_to_another_day, (Kind.ADDED, SLOTS[2])),
    ],
)
def test_a_journal_that_was_tampered_with_is_found_out(
    folder: Path, tamper: Callable[[Path], None], found: tuple[Kind, str]
) -> None:
    tamper(folder)
    assert found in find(folder)


def test_a_fault_is_printed_with_what_to_do(folder: Path, make: Command) -> None:
    remove(folder)
    code, said, _ = make()
    assert (code, "REMOVED: Restore the record" in said, "2 FAULTS" in said) == (1, True, True)


def test_the_newest_record_that_is_gone_with_its_claim_is_found_by_its_hash(folder: Path) -> None:
    head = hash_text(path(folder, SLOTS[2]).read_text())
    for file in (folder / "out/journal/runs/trend").glob(f"*/{SLOTS[2]}*"):
        file.unlink()
    assert (find(folder), find(folder, head=head)) == ([], [(Kind.HEAD, SLOTS[1])])


def test_an_order_beyond_a_cap_is_found_though_the_record_agrees_with_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "recompute", lambda *_, **__: [])  # as if risk.py had the same fault
    with_orders = [slot for slot in SLOTS if json.loads(path(folder, slot).read_text())["decision"]["orders"]]
    edit(path(folder, with_orders[0]), lambda record: record["settings"].update(max_order_usd=1.0))
    assert (Kind.CAP, with_orders[0]) in find(folder)


# --- what happens without anybody's doing ---


def forget_the_chain(folder: Path, *slots: str) -> None:
    for slot in slots:
        edit(path(folder, slot), lambda record: record.pop("chain"))


def test_records_from_before_the_chain_are_recomputed_and_the_chain_begins_after_them(folder: Path) -> None:
    for slot in SLOTS[1:]:
        for file in (folder / "out/journal/runs/trend").glob(f"*/{slot}*"):
            file.unlink()
    forget_the_chain(folder, SLOTS[0])
    (folder / "out/account.json").unlink()
    run(time_of(SLOTS[1]), env=environment(folder))
    verdict = verify.verify(journal_in(folder), NOW)
    assert (verdict.faults, verdict.records, verdict.chained, verdict.beginning) == ([], 2, 1, SLOTS[0])
    (only,) = verdict.findings  # a record as old as this is by the engine as it was before it had names
    assert (only.kind, "by another engine, 'map, in NumPy alone'" in only.words) == (Kind.OTHER_CODE, True)


def test_old_records_alone_say_that_there_is_no_chain(folder: Path, make: Command) -> None:
    forget_the_chain(folder, *SLOTS)
    code, said, _ = make()
    assert (code, "none in a chain: they are from before it" in said) == (0, True)


def test_dry_runs_and_runs_that_gave_their_slot_back_are_in_no_chain_but_are_recomputed(folder: Path) -> None:
    later = time_of("20221228T2050Z")
    run(later, env=environment(folder) | {"MODE": "dry-run"})
    run(later, env=environment(folder) | {"MAX_PRICE_AGE_S": "1"})
    verdict = verify.verify(journal_in(folder), NOW)
    assert (verdict.findings, verdict.records, verdict.chained) == ([], 5, 3)


def cut_off(env: dict[str, str], slot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run, and leave no record, as a process that is killed after its orders."""
    with monkeypatch.context() as patch:
        patch.setattr(JournalEntry, "save", fail)
        with pytest.raises(JournalError):
            run(time_of(slot), env=env)


def fail(*_: object) -> None:
    raise JournalError("the disk is gone")


def test_a_run_that_was_cut_off_is_named_by_the_run_that_records_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment(folder) | {"MAX_PRICE_AGE_S": "999999"}
    cut_off(env, "20221228T2050Z", monkeypatch)
    report = run(time_of("20221229T2045Z"), env=env)
    assert report.get("recovered") == ["2022-12-28T20:50:00Z"]
    assert find(folder) == []
    assert "20221228T2050Z" in json.loads(path(folder, "20221229T2045Z").read_text())["chain"]["previous"]


def test_a_record_that_its_own_run_replaces_late_is_kept_and_is_no_fault(folder: Path) -> None:
    journal = journal_in(folder)
    entry = journal.entry(datetime(2022, 12, 28, 20, 50, tzinfo=UTC))
    late = Run(settings=settings(**SETTINGS), slot=entry.slot, now=entry.slot)
    entry.claim("late")
    entry.adopt(build_record(late, build_report(late, "FAILED", "cut off")))
    run(time_of("20221229T2045Z"), env=environment(folder) | {"MAX_PRICE_AGE_S": "999999"})
    entry.save(late, build_report(late, "FAILED", "late, but at last"))
    assert find(folder) == [(Kind.REPLACED, "20221228T2050Z")]


def test_two_runs_side_by_side_are_both_named_by_the_next(folder: Path) -> None:
    journal = journal_in(folder)
    for minute in (50, 51):
        entry = journal.entry(datetime(2022, 12, 28, 20, minute, tzinfo=UTC))
        entry.claim("word")
        both = Run(settings=settings(**SETTINGS), slot=entry.slot, now=entry.slot)
        both.previous = {SLOTS[2]: hash_text(path(folder, SLOTS[2]).read_text())}
        entry.save(both, build_report(both, "UNDER_WAY", "the other one"))
    run(time_of("20221229T2045Z"), env=environment(folder) | {"MAX_PRICE_AGE_S": "999999"})
    assert find(folder) == []


def test_a_record_before_that_cannot_be_read_stops_no_run_and_is_named_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = environment(folder) | {"MAX_PRICE_AGE_S": "999999"}
    read = Folder.read

    def fail_for_records(store: Folder, name: str) -> str | None:
        if name.endswith("Z.json"):
            raise JournalError("the disk is gone")
        return read(store, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", fail_for_records)
        run(time_of("20221228T2050Z"), env=env)
    run(time_of("20221229T2045Z"), env=env)
    assert find(folder) == []


def test_a_damaged_record_keeps_no_other_one_from_being_named(folder: Path) -> None:
    path(folder, SLOTS[2]).write_bytes(b"\xff")
    env = environment(folder) | {"MAX_PRICE_AGE_S": "999999"}
    for slot in ("20221228T2050Z", "20221229T2045Z"):
        run(time_of(slot), env=env)
    assert find(folder) == [(Kind.UNREADABLE, SLOTS[2])]


# --- in S3 ---


@contextmanager
def counted_requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the requests to S3 by operation and kind of object."""
    counts: Counter[str] = Counter()
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def count(client: BaseClient, operation: str, arguments: dict[str, Any]) -> Any:
        counts[f"{operation} {arguments.get('Key', '').rpartition('.')[2]}".strip()] += 1
        return call(client, operation, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", count)
        yield counts


@pytest.mark.usefixtures("aws")
def test_the_chain_costs_a_run_one_read_in_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boto3.client("s3").create_bucket(Bucket="journal")
    env = environment(tmp_path) | {"JOURNAL": "s3://journal/mine"}
    run(time_of(SLOTS[0]), env=env)
    run(time_of(SLOTS[1]), env=env)
    find_previous = Journal.find_previous
    spent: Counter[str] = Counter()

    def count_its_own(journal: Journal, *arguments: Any) -> Any:
        with counted_requests(monkeypatch) as counts:
            found = find_previous(journal, *arguments)
        spent.update(counts)
        return found

    monkeypatch.setattr(Journal, "find_previous", count_its_own)
    run(time_of(SLOTS[2]), env=env)
    assert spent == {"GetObject json": 1}
    assert verify.verify(Journal(Bucket("journal", "mine"), "trend"), NOW).findings == []


@pytest.mark.usefixtures("aws")
def test_a_journal_in_s3_is_verified_by_its_place(make: Command, folder: Path) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="journal")
    root = folder / "out/journal"
    for file in root.rglob("*.*"):
        client.upload_file(str(file), "journal", f"copy/{file.relative_to(root).as_posix()}")
    code, said, _ = make(JOURNAL="s3://journal/copy", JSON="1")
    assert (code, json.loads(said)["chained"]) == (0, 3)


def test_the_code_has_the_hash_that_sha256sum_gives(folder: Path) -> None:
    find = "find lambda_function.py trader -name '*.py' -o -name '*.csv' -o -name '*.sha256'"
    function = Path(verify.__file__).parents[2] / "function"
    with os.popen(f"cd {function}; {find} | LC_ALL=C sort | xargs sha256sum | sha256sum") as pipe:
        assert pipe.read().split()[0] == hash_code()
