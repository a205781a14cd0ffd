import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.data.constituents import FILE, SECTORS, main, offline
from scripts.data.members import SYMBOL
from tests.commands import as_variables

HEADER = "Symbol,Security,GICS Sector,GICS Sub-Industry,Headquarters Location,Date added,CIK,Founded"


class Site(ThreadingHTTPServer):
    """An HTTP server in place of the public datasets: one page for every path that has no page of its own."""

    daemon_threads = True
    status = 200
    page = ""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.pages: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/constituents.csv"

    def publish(self, symbols: list[str]) -> None:
        rows = [f'{symbol},"{symbol}, Inc.",Energy,Oil,"Houston, Texas",2001-01-01,1,1999' for symbol in symbols]
        self.page = "\n".join([HEADER, *rows])


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        is_missing = self.path.startswith("/sp500_") and self.path not in self.server.pages
        self.send_response(404 if is_missing else self.server.status)
        self.end_headers()
        self.wfile.write(self.server.pages.get(self.path, self.server.page).encode())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving[S: Site](kind: type[S]) -> Iterator[S]:
    with kind(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site) as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "constituents.csv"


def symbols(count: int, first: int = 0) -> list[str]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return [f"{letters[number // 26]}{letters[number % 26]}" for number in range(first, first + count)]


def refresh(site: Site, file: Path, *options: str) -> int:
    return constituents("--url", site.url, "--file", str(file), *options)


def constituents(*options: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in as_variables(options).items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def read_symbols(file: Path) -> list[str]:
    return [line.split(",")[0] for line in file.read_text().splitlines()[1:]]


def test_the_shipped_list_is_sorted_and_complete() -> None:
    with FILE.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    listed = [row["symbol"] for row in rows]
    assert listed == sorted(set(listed))
    assert 490 <= len(listed) <= 515
    assert all(SYMBOL.fullmatch(symbol) for symbol in listed)
    assert {row["sector"] for row in rows} == set(SECTORS)
    assert {"AAPL", "BRK.B", "XOM"} < set(listed)


def test_the_first_list_is_written_in_alphabetical_order(site: Site, file: Path) -> None:
    site.publish([*reversed(symbols(450)), "BRK.B"])
    assert refresh(site, file) == 0
    assert read_symbols(file) == sorted([*symbols(450), "BRK.B"])
    assert file.read_text().splitlines()[1] == 'AA,"AA, Inc.",Energy'


def test_additions_and_removals_are_shown(site: Site, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish(symbols(450))
    refresh(site, file)
    site.publish(symbols(450, first=1))
    capsys.readouterr()
    assert refresh(site, file) == 0
    shown = capsys.readouterr().out
    assert "added   │ RI" in shown
    assert "removed │ AA" in shown
    assert "450 members (online): 1 added, 1 removed" in shown


def test_programs_get_the_changes_as_json(site: Site, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish(symbols(450))
    refresh(site, file)
    site.publish(symbols(451))
    capsys.readouterr()
    refresh(site, file, "--json")
    assert json.loads(capsys.readouterr().out) == {
        "source": "online",
        "members": 451,
        "written": True,
        "added": [{"symbol": "RI", "name": "RI, Inc.", "sector": "Energy"}],
        "removed": [],
        "by_day": None,
    }


def test_a_list_without_changes_leaves_the_file_untouched(
    site: Site, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.publish(symbols(450))
    refresh(site, file)
    before = file.stat()
    assert refresh(site, file) == 0
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # it may be in use
    assert "is unchanged" in capsys.readouterr().out


def test_a_check_writes_nothing(site: Site, file: Path) -> None:
    site.publish(symbols(450))
    assert refresh(site, file, "--check") == 0
    assert not file.exists()


def test_nothing_but_the_file_is_left_in_the_folder(site: Site, file: Path) -> None:
    site.publish(symbols(450))
    refresh(site, file)
    assert list(file.parent.iterdir()) == [file]


def test_a_loss_of_five_percent_is_allowed(site: Site, file: Path) -> None:
    site.publish(symbols(500))
    refresh(site, file)
    site.publish(symbols(475))
    assert refresh(site, file) == 0
    assert read_symbols(file) == symbols(475)


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        pytest.param(symbols(474), "26 of 500 members are gone, more than 5%", id="more than 5% lost"),
        pytest.param(symbols(600, first=26), "26 of 500 members are gone", id="lost, though the list grew"),
        pytest.param([*symbols(499), "brk-b"], "invalid symbols: ['brk-b']", id="not a symbol"),
        pytest.param([*symbols(499), ""], "invalid symbols: ['']", id="empty symbol"),
        pytest.param([*symbols(500), "AB"], "symbols listed more than once: AB", id="duplicate symbol"),
        pytest.param(symbols(399), "only 399 members, fewer than the 400 required", id="too few members"),
    ],
)
def test_an_implausible_list_is_refused(
    site: Site, file: Path, capsys: pytest.CaptureFixture[str], listed: list[str], reason: str
) -> None:
    site.publish(symbols(500))
    refresh(site, file)
    before = file.read_bytes()
    site.publish(listed)
    assert refresh(site, file) == 3
    assert file.read_bytes() == before
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "page", "reason"),
    [
        pytest.param(404, "Not found", "answered 404", id="not found"),
        pytest.param(200, "<html></html>", "has no column Symbol, Security, GICS Sector", id="HTML page"),
        pytest.param(200, "", "has no column Symbol", id="empty file"),
        pytest.param(200, "Symbol,Name\nAAPL,Apple", "has no column Security, GICS Sector", id="other columns"),
    ],
)
def test_a_fallback_to_the_offline_list_is_announced(
    site: Site, file: Path, capsys: pytest.CaptureFixture[str], status: int, page: str, reason: str
) -> None:
    site.status, site.page = status, page
    assert refresh(site, file) == 0
    assert "BRK.B" in read_symbols(file)
    notice = capsys.readouterr().err
    assert "Falling back to pytickersymbols" in notice
    assert reason in notice


def test_source_online_never_falls_back(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert constituents("--url", "http://127.0.0.1:9/", "--file", str(file), "--source", "online") == 3
    assert not file.exists()
    assert "http://127.0.0.1:9/ cannot be reached" in capsys.readouterr().err


def test_the_offline_list_gives_every_member_a_sector(file: Path) -> None:
    assert constituents("--file", str(file), "--source", "offline") == 0
    with file.open(newline="", encoding="utf-8") as lines:
        sectors = {row["symbol"]: row["sector"] for row in csv.DictReader(lines)}
    assert set(sectors.values()) == set(SECTORS)
    assert (sectors["DUK"], sectors["PSA"]) == ("Utilities", "Real Estate")


# --- the members by day --------------------------------------------------------------------------------------------

TODAY = "2026-03-02"


class Source(Site):
    """An HTTP server for today's list and for the two files of the members by day."""

    def publish_stays(self, symbols: list[str], changes: str = "") -> None:
        rows = [f"{symbol},1996-01-02," for symbol in symbols]
        self.pages["/sp500_ticker_start_end.csv"] = "\n".join(["ticker,start_date,end_date", *rows])
        self.pages["/sp500_changes_since_2019.csv"] = f"date,add,remove\n{changes}"


def names(count: int, first: int = 0) -> list[str]:
    """Return symbols that no company had, so that none is renamed."""
    return [f"{symbol}Q" for symbol in symbols(count, first)]


@pytest.fixture
def source() -> Iterator[Source]:
    with serving(Source) as server:
        yield server


@pytest.fixture
def dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("scripts.data.constituents.present", lambda: datetime.fromisoformat(f"{TODAY}T12:00-05:00"))
    return tmp_path / "members.csv"


def refresh_both(source: Source, file: Path, dated: Path, *options: str) -> int:
    folder = source.url.rpartition("/")[0]
    return refresh(source, file, "--members-url", folder, "--members-file", str(dated), *options)


def stays(dated: Path) -> dict[str, str]:
    """Return the days on which each symbol joined and left, of those that changed."""
    rows = [line.partition(",") for line in dated.read_text().splitlines()[1:]]
    return {symbol: days for symbol, _, days in rows if days != "1996-01-02,"}


def test_the_members_by_day_come_from_their_source(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.publish([*names(449, first=1), "ZZ"])
    source.publish_stays(names(450), "2020-05-04,ZZ,AAQ\n")
    assert refresh_both(source, file, dated) == 0
    assert stays(dated) == {"AAQ": "1996-01-02,2020-05-04", "ZZ": "2020-05-04,"}
    assert dated.read_text().splitlines()[:2] == ["symbol,joined,left", "AAQ,1996-01-02,2020-05-04"]
    assert "Members by day: 451 stays since 1996-01-02, the past online up to 2020-05-04" in capsys.readouterr().out


def test_a_change_of_today_s_list_that_the_source_does_not_have_is_today_s(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.publish_stays(names(450))
    source.publish([*names(449, first=1), "ZZ"])
    assert refresh_both(source, file, dated) == 0
    assert stays(dated) == {"AAQ": f"1996-01-02,{TODAY}", "ZZ": f"{TODAY},"}
    assert "add it to RENAMES" in capsys.readouterr().err


def test_a_second_refresh_leaves_both_files_untouched(source: Source, file: Path, dated: Path) -> None:
    source.publish_stays(names(450), "2020-05-04,ZZ,\n")
    source.publish([*names(450), "YY", "ZZ"])
    refresh_both(source, file, dated)
    before = (file.stat().st_ino, dated.stat().st_ino)
    assert refresh_both(source, file, dated) == 0
    assert (file.stat().st_ino, dated.stat().st_ino) == before


def test_a_check_writes_no_members_by_day(source: Source, file: Path, dated: Path) -> None:
    source.publish(names(450))
    source.publish_stays(names(450))
    assert refresh_both(source, file, dated, "--check") == 0
    assert not dated.exists()


def test_offline_the_past_is_left_as_it_is_and_today_s_changes_are_added(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [each.symbol for each in offline()]
    dated.write_text("\n".join(["symbol,joined,left", *(f"{each},1996-01-02," for each in listed[1:])]) + "\n")
    assert refresh_both(source, file, dated, "--source", "offline") == 0
    assert stays(dated) == {listed[0]: f"{TODAY},"}
    assert "the past left as it is" in capsys.readouterr().out


def test_without_an_answer_the_past_is_left_as_it_is(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.publish(names(450))
    source.publish_stays(names(450))
    refresh_both(source, file, dated)
    source.pages.clear()
    source.publish(names(451))
    assert refresh_both(source, file, dated) == 0
    assert stays(dated) == {"RIQ": f"{TODAY},"}
    assert "The members of past days are left as they are" in capsys.readouterr().err


def test_source_online_requires_the_members_by_day(source: Source, file: Path, dated: Path) -> None:
    source.publish(names(450))
    assert refresh_both(source, file, dated, "--source", "online") == 3
    assert not file.exists()


def test_a_renamed_company_keeps_its_past(source: Source, file: Path, dated: Path) -> None:
    source.publish_stays([*names(450), "FB"], "2022-06-09,META,FB\n")
    source.publish([*names(450), "META"])
    assert refresh_both(source, file, dated) == 0
    assert stays(dated) == {}
    assert "META,1996-01-02," in dated.read_text().splitlines()


def test_an_implausible_past_leaves_both_files_unchanged(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.publish(names(450))
    source.publish_stays(names(450))
    refresh_both(source, file, dated)
    before = (file.read_bytes(), dated.read_bytes())
    source.publish(names(451))
    source.publish_stays(names(399))
    source.pages["/sp500_ticker_start_end.csv"] += "\nZZ,1996-01-02,1998-02-02\nYY,1999-02-02,"
    assert refresh_both(source, file, dated) == 3
    assert (file.read_bytes(), dated.read_bytes()) == before
    assert "399 members on 1999-01-01, not 400 to 600" in capsys.readouterr().err


def test_a_first_file_of_the_members_by_day_needs_the_source(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refresh_both(source, file, dated, "--source", "offline") == 3
    assert "only the online source has the members of past days" in capsys.readouterr().err


def test_another_list_alone_leaves_the_members_by_day_as_they_are(
    site: Site, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.publish(names(450))
    refresh(site, file)
    assert "The members by day are left as they are: FILE is another list" in capsys.readouterr().out


def test_programs_get_what_became_of_the_members_by_day(
    source: Source, file: Path, dated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.publish(names(450))
    source.publish_stays(names(450))
    refresh_both(source, file, dated, "--json")
    by_day = json.loads(capsys.readouterr().out)["by_day"]
    assert by_day == {"stays": 450, "source_until": "1996-01-02", "written": True}
