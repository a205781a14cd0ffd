import csv
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.data.constituents import FILE, SECTORS, SYMBOL, main
from tests.commands import as_variables

HEADER = "Symbol,Security,GICS Sector,GICS Sub-Industry,Headquarters Location,Date added,CIK,Founded"


class Site(ThreadingHTTPServer):
    """An HTTP server for one page, in place of the public dataset."""

    daemon_threads = True
    status = 200
    page = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/constituents.csv"

    def publish(self, symbols: list[str]) -> None:
        rows = [f'{symbol},"{symbol}, Inc.",Energy,Oil,"Houston, Texas",2001-01-01,1,1999' for symbol in symbols]
        self.page = "\n".join([HEADER, *rows])


class Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


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
