"""Hostile text from outside stays text: in Lambda's log, in a text log, on the terminal and on the page."""

import io
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts import ROOT
from scripts.console import CommandError, make_console, plain_errors
from scripts.layer.emulator import prepare_function
from scripts.layer.target import Target
from scripts.report import console
from scripts.report.html import write_page
from scripts.run import replay
from scripts.testkit import lambda_runtime
from scripts.testkit.alpaca import AlpacaFake, Answer
from scripts.testkit.lambda_runtime import FunctionError, RuntimeInterface
from tests.run_record import record
from tests.security.alpaca_setup import give_bars, settings_for
from trader.audit import recomputing
from trader.journal.base import JournalError
from trader.logs import TextFormatter
from trader.model import BrokerError, Report
from trader.prices.base import PriceSourceError
from trader.settings import Problem, SettingsError

TARGET = Target("3.13", "x86_64")
FORGED = '{"timestamp": "2026-11-23T20:45:00Z", "level": "INFO", "message": "run", "status": "FORGED", "orders": 99}'
TRICKS = (
    f'"}}\n{FORGED}\r\n\u2028{FORGED}\x85 status=FORGED orders=99'
    "\x1b[2J\x1b]0;x\x07\u202e\0\ud800 <script>[red]{{7*7}}%s"
)
"""Tricks: the end of a JSON text and a new one, line ends, fields, terminal commands, a lone surrogate, markup."""

LONG = TRICKS * (1_000_000 // len(TRICKS))
LOUD = 16_000
"""The maximum length of a log line, in characters, far below CloudWatch's limit of at least 256 KB."""


class Hostile(AlpacaFake):
    """A stand-in for Alpaca that also answers as an attacker in its place would."""

    def __init__(self) -> None:
        super().__init__(prices={"KO": 104.5, "PEP": 105.0, "MCD": 120.0})
        self.answers: dict[tuple[str, str], Answer] = {}

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> Answer | None:
        for (its, prefix), answer in self.answers.items():
            if its == method and path.startswith(prefix):
                return answer
        return super().answer(method, path, headers, body)

    def refuses(self, method: str, prefix: str, status: int, code: int, message: str) -> None:
        self.answers[method, f"/v2{prefix}"] = Answer(status, {"code": code, "message": message})

    def calm(self) -> None:
        """Reset to an account that holds MCD, and to honest answers."""
        self.answers.clear()
        self.orders.clear()
        self.positions.clear()
        self.account_overrides, self.record_overrides, self.spoilt_bars = {}, {}, {}
        self.hold("MCD", 5, 100)
        give_bars(self)


SCENARIOS: Mapping[str, Callable[[Hostile, str], Any]] = {
    "the symbol of a position": lambda fake, text: fake.record_overrides.update({"MCD": {"symbol": text}}),
    "the asset class of a position": lambda fake, text: fake.record_overrides.update({"MCD": {"asset_class": text}}),
    "the status of an order": lambda fake, text: fake.record_overrides.update({"KO": {"status": text}}),
    "the id of an order": lambda fake, text: fake.record_overrides.update({"KO": {"id": text}}),
    "the client id of an order": lambda fake, text: fake.record_overrides.update({"KO": {"client_order_id": text}}),
    "the side of an order": lambda fake, text: fake.record_overrides.update({"KO": {"side": text}}),
    "a number of an order": lambda fake, text: fake.record_overrides.update({"KO": {"filled_qty": text}}),
    "the status of the account": lambda fake, text: fake.account_overrides.update({"status": text}),
    "the cash of the account": lambda fake, text: fake.account_overrides.update({"cash": text}),
    "the refusal of an order": lambda fake, text: fake.refuses("POST", "/orders", 422, 42210000, text),
    "the refusal of an order for lack of money": lambda fake, text: fake.refuses(
        "POST", "/orders", 403, 40310000, f"insufficient buying power {text}"
    ),
    "the refusal of the keys": lambda fake, text: fake.refuses("GET", "/account", 401, 40110000, text),
    "a server's error": lambda fake, text: fake.refuses("POST", "/orders", 500, 50010000, text),
    "the refusal of prices": lambda fake, text: fake.refuses("GET", "/stocks", 403, 40310000, text),
    "the refusal of one symbol's prices": lambda fake, text: fake.refuses("GET", "/stocks", 400, 40010001, text),
    "a symbol of the prices": lambda fake, text: fake.answers.update(
        {("GET", "/v2/stocks"): Answer(200, {"bars": {text: [{"t": text, "c": text}]}})}
    ),
    "a bar's time": lambda fake, text: fake.spoilt_bars.update({"KO": [{"t": text, "c": 1}]}),
    "a bar's close": lambda fake, text: fake.spoilt_bars.update({"KO": [{"t": "2026-11-23T05:00:00Z", "c": text}]}),
    "a page of prices": lambda fake, text: fake.answers.update({("GET", "/v2/stocks"): Answer(200, {"bars": text})}),
    "a text instead of the account": lambda fake, text: fake.answers.update(
        {("GET", "/v2/account"): Answer(200, text)}
    ),
    "the market's hours": lambda fake, text: fake.answers.update(
        {("GET", "/v2/clock"): Answer(200, {"is_open": False, "next_open": text})}
    ),
}


class Room:
    """The function in AWS's runtime interface, and its account."""

    def __init__(self, interface: RuntimeInterface, fake: Hostile, journal: Path) -> None:
        self.interface, self.fake, self._journal = interface, fake, journal
        self._read = 0

    def run(self, event: object = None) -> tuple[Report | None, list[str]]:
        """Return the report, None after an error, and the lines that the run logged."""
        shutil.rmtree(self._journal, ignore_errors=True)
        try:
            report: Report | None = self.interface.invoke(event or {})
        except FunctionError:
            report = None
        log = self.interface.log
        lines = log[self._read :].split("\n")
        self._read = len(log)
        return report, [line for line in lines if line and not OF_THE_EMULATOR.match(line)]


OF_THE_EMULATOR = re.compile(
    r"(START|END|REPORT) RequestId|INIT (START|RTDONE|REPORT)\(|\d\d \w{3} \d{4} [\d:,]+ \[(INFO|WARNING)\] \(rapid\)"
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    if not TARGET.runs_here:
        pytest.skip("left out: the emulator runs only on Linux x86_64")
    packages = Path(np.__file__).parents[1]  # this environment's packages, the same as the layer's
    function = prepare_function(TARGET, ROOT / "function", [packages])
    journal = tmp_path_factory.mktemp("injection") / "journal"
    with Hostile() as fake:
        env = {
            **settings_for(fake),
            "ALPACAUSER": fake.key_id,
            "ALPACAPW": fake.secret,
            "JOURNAL": f"folder:{journal}",
        }
        with lambda_runtime.running(function, env) as interface:
            yield Room(interface, fake, journal)


FIELDS = {"timestamp", "level", "message", "logger", "requestId"}
OF_THE_RUNTIME = {"timestamp", "level", "errorType", "errorMessage", "requestId", "stackTrace", "location"}
"""The fields of each line of the bot, and those of the line with which the runtime reports an error."""


def believable(lines: list[str], report: Report | None) -> None:
    """Check that every line is genuine, none is too long, and exactly one reports a run."""
    told = [json.loads(line) for line in lines]
    assert [line for line in told if not line.keys() >= FIELDS and not line.keys() <= OF_THE_RUNTIME] == []
    assert [line["status"] for line in told if line.get("message") == "run"] == [
        report["status"] if report else "FAILED"
    ]
    assert [line for line in told if line.get("status") == "FORGED" or line.get("orders") == 99] == []
    assert max(len(line) for line in lines) <= LOUD


def test_with_honest_answers_the_function_trades_and_logs(room: Room) -> None:
    room.fake.calm()
    report, lines = room.run()
    assert report
    assert (report["status"], set(report["investments"])) == ("TRADED", {"KO", "PEP", "MCD"})
    believable(lines, report)


@pytest.mark.parametrize("text", [TRICKS, LONG], ids=["tricks", "a million characters"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_hostile_text_stays_text_in_lambdas_log(room: Room, scenario: str, text: str) -> None:
    room.fake.calm()
    SCENARIOS[scenario](room.fake, text)
    report, lines = room.run()
    believable(lines, report)
    assert len(json.dumps(report)) < 100_000


@pytest.mark.parametrize("text", [TRICKS, LONG], ids=["tricks", "a million characters"])
def test_an_events_time_stays_text_in_lambdas_log(room: Room, text: str) -> None:
    room.fake.calm()
    report, lines = room.run({"time": text})
    assert report is None
    assert {json.loads(line).get("errorType") for line in lines} == {"EventError"}
    assert max(len(line) for line in lines) <= LOUD


# --- in a text log ---


def capture_log(act: Callable[[logging.Logger], object]) -> list[str]:
    """Return the lines that out/run.log would have."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    log = logging.Logger("trader")
    log.addHandler(handler)
    act(log)
    return stream.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("text", [TRICKS, LONG], ids=["tricks", "a million characters"])
def test_messages_and_fields_stay_on_their_line_of_a_text_log(text: str) -> None:
    (line,) = capture_log(lambda log: log.info(text, extra={"detail": text[:500], "last": "here"}))
    assert line.isprintable()
    assert line.endswith(" last=here")
    assert not re.search(r"(^|\s)status=FORGED(\s|$)", line.split(" detail=")[1].rpartition("'")[2])


@pytest.mark.parametrize("text", [TRICKS, LONG], ids=["tricks", "a million characters"])
def test_an_errors_words_stay_in_its_traceback_in_a_text_log(text: str) -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError(f"no\n2022-12-28 20:45:00 INFO run status=FORGED\n{text}")
        except ValueError:
            log.exception("failed")

    first, *rest = capture_log(fail)
    assert first.endswith(" ERROR failed")
    assert [line for line in rest if not line.startswith("    ") or not line.isprintable()] == []


# --- on the terminal and on the page ---


@pytest.fixture(scope="module")
def hostile_record() -> dict[str, Any]:
    """Return the record of a run in which every text from outside is hostile."""
    texts = ("symbol", "detail", "status", "reason", "order_id", "client_order_id", "strategy")
    kept = ("FAILED", "paper")

    def spoilt(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: spoilt(each, key) for key, each in value.items()}
        if isinstance(value, list):
            return [spoilt(each, name) for each in value]
        return TRICKS if name in texts and isinstance(value, str) and value not in kept else value

    its = record(status="FAILED", detail=TRICKS)
    return {**its, "report": {**spoilt(its["report"]), "status": "FAILED", "unprotected": [TRICKS]}}


@pytest.mark.parametrize("width", [80, 104, 200])
def test_only_text_reaches_the_terminal(hostile_record: dict[str, Any], width: int) -> None:
    stream = io.StringIO()
    console.show(hostile_record, Console(file=stream, width=width, force_terminal=True, color_system=None))
    said = stream.getvalue()
    assert "[red]" in said
    assert (
        re.findall(r"[^\n -~\u00a0-\uffff]|\x1b\]|\x1b\[2J|[\u2028\u202e\ud800]", re.sub(r"\x1b\[[\d;]*m", "", said))
        == []
    )


def test_only_text_of_a_replayed_record_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    decision: dict[str, Any] = {"forecasts": [], "orders": [], "denials": []}
    found = [recomputing.Difference(what=TRICKS, recorded=recomputing.to_text([TRICKS]), replayed="")]
    replay.show(f"runs/trend/{TRICKS}.json", {"decision": decision}, found)
    replay.show(f"runs/trend/{TRICKS}.json", {"decision": decision}, [])
    said = capsys.readouterr().out
    assert "[red]" in said
    assert [line for line in said.split("\n") if not line.isprintable()] == []


CONTROLS = "".join(map(chr, [*range(10), *range(11, 32), *range(127, 161), 0xAD, 0x61C, 0x180E, 0xFEFF, 0xE0001]))
CONTROLS += "".join(map(chr, [*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFFF9, 0xD800]))
"""Terminal controls, separators of lines, marks that reorder text (U+202E, U+2066, ...), and marks without a width."""


@pytest.mark.parametrize("made", [Text, str])
@pytest.mark.parametrize("is_soft", [True, False])
def test_no_command_prints_a_control_character(
    made: Callable[[str], Any], is_soft: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("a")
    table.add_row(made(CONTROLS))
    for out in (make_console(), make_console(stderr=True)):
        for what in (made(f"first\n{CONTROLS}"), table):
            out.print(what, soft_wrap=is_soft, style="red")
            out.print(what, soft_wrap=is_soft)
    for said in capsys.readouterr():
        assert "first\n" in said
        assert "\\u202e" in "".join(said.split())
        assert [character for character in said if character != "\n" and not character.isprintable()] == []


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", "[link=https://example.com]x[/link]", ":skull:"])
def test_no_text_is_taken_for_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a")
    table.add_row(text)
    make_console().print(text, table)
    assert capsys.readouterr().out.count(text) == 2


@pytest.mark.parametrize("error", [JournalError, BrokerError, PriceSourceError, CommandError, SettingsError])
def test_no_error_of_a_command_controls_the_terminal(
    error: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), plain_errors():
        raise error([Problem(frozenset(), TRICKS)] if error is SettingsError else TRICKS)
    assert [line for line in capsys.readouterr().err.split("\n") if not line.isprintable()] == []


def test_every_command_prints_through_the_console_that_escapes() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "scripts").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bConsole\(", line) and ".measure(" not in line
    ]
    assert found == [
        "scripts/console.py: made = Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)"
    ]


def test_only_text_reaches_the_page(hostile_record: dict[str, Any], tmp_path: Path) -> None:
    write_page(hostile_record, tmp_path / "run.html")
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert page.count("<script") == 2  # the page's own
    assert "49" not in re.findall(r"\{\{7\*7\}\}|49", page)
    assert re.findall(r"[\x00-\x08\x0b-\x1f\u202e\ud800]", page) == []
