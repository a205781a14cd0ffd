import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import boto3
import pytest

from tests.builders import SLOT, settings
from trader.journal import Journal, open_journal
from trader.record import Run
from trader.stores import JournalError

BASIS = {"universe": ["sp500"], "lookback_bars": 60}


@pytest.fixture(params=["folder", "s3"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """The same journal in either store."""
    if request.param == "folder":
        return open_journal(f"folder:{tmp_path / 'journal'}", "trend")
    request.getfixturevalue("aws")
    boto3.client("s3").create_bucket(Bucket="journal-bucket")
    return open_journal("s3://journal-bucket/some/prefix", "trend")


def a_run(**variables: object) -> Run:
    return Run(settings=settings(**variables), slot=SLOT, now=SLOT)


def test_a_slot_is_claimed_once(journal: Journal) -> None:
    assert [journal.claim(SLOT, "first"), journal.claim(SLOT, "second")] == [True, False]


def test_of_many_claims_at_once_one_succeeds(tmp_path: Path) -> None:  # in S3, where moto does not promise it, AWS does
    journal = open_journal(f"folder:{tmp_path}", "trend")
    won: list[bool] = []
    claims = [threading.Thread(target=lambda n=n: won.append(journal.claim(SLOT, str(n)))) for n in range(8)]
    for claim in claims:
        claim.start()
    for claim in claims:
        claim.join()
    assert sorted(won) == [False] * 7 + [True]


def test_another_slot_and_another_strategy_are_free(journal: Journal) -> None:
    journal.claim(SLOT, "first")
    assert journal.claim(SLOT + timedelta(minutes=15), "second")
    assert Journal(journal.store, "other").claim(SLOT, "third")


def test_a_record_comes_back_as_it_was_kept(journal: Journal) -> None:
    run = a_run()
    journal.save(run, run.report("NOTHING_TO_DO"))
    record = journal.load("runs/trend/2022-12-28/20221228T2045Z.json")
    assert record["report"]["status"] == "NOTHING_TO_DO"


def test_a_dry_run_leaves_the_slots_own_record_alone(journal: Journal) -> None:
    for mode in ("paper", "dry-run"):
        run = a_run(MODE=mode)
        journal.save(run, run.report("NOTHING_TO_DO"))
    assert [name.rpartition("/")[2] for name in journal.records()] == [
        "20221228T2045Z-dry-run.json",
        "20221228T2045Z.json",
    ]


def test_a_record_that_is_not_there_is_an_error(journal: Journal) -> None:
    with pytest.raises(JournalError, match="there is no record runs/none"):
        journal.load("runs/none.json")


def test_a_ranking_is_kept_for_its_day(journal: Journal) -> None:
    journal.save_ranking(SLOT, BASIS, {"AAPL": 0.25})
    assert journal.ranking(SLOT - timedelta(hours=5), BASIS) == {"AAPL": 0.25}
    assert journal.ranking(SLOT + timedelta(days=1), BASIS) is None


def test_a_ranking_on_another_basis_is_made_again(journal: Journal) -> None:
    journal.save_ranking(SLOT, BASIS, {"AAPL": 0.25})
    assert journal.ranking(SLOT, {**BASIS, "lookback_bars": 20}) is None


def test_a_torn_ranking_is_made_again(journal: Journal) -> None:
    journal.store.write("universe/trend/2022-12-28.json", '{"basis": {"univ')
    assert journal.ranking(SLOT, BASIS) is None


def test_the_day_is_new_yorks(journal: Journal) -> None:
    evening = SLOT.replace(hour=3)  # 22:00 of the day before in New York
    assert "2022-12-27" in journal.record_name(evening, is_dry=False)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(JournalError, match="JOURNAL=folder:"):
        open_journal(f"folder:{tmp_path / 'file'}", "trend").claim(SLOT, "first")


@pytest.mark.usefixtures("aws")
def test_a_bucket_that_does_not_exist_is_named() -> None:
    with pytest.raises(JournalError, match="JOURNAL=s3://no-such-bucket"):
        open_journal("s3://no-such-bucket/p", "trend").claim(SLOT, "first")


@pytest.fixture
def lossy_s3(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 behind a proxy that hands the first PUT on and then answers 500: done, and the answer lost."""
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
            """Say nothing."""

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
def test_a_claim_whose_answer_was_lost_is_recognised_as_ones_own() -> None:
    assert open_journal("s3://journal-bucket", "trend").claim(SLOT, "mine")
    assert not open_journal("s3://journal-bucket", "trend").claim(SLOT, "theirs")


class Yes(BaseHTTPRequestHandler):
    """A network that answers everything itself, as the log-in page of a hotel does."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.usefixtures("aws")
def test_an_answer_that_is_not_s3s_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Yes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(JournalError, match=r"20221228T2045Z\.claim was not confirmed"):
            open_journal("s3://journal-bucket", "trend").claim(SLOT, "first")
        server.shutdown()
