"""What the pages tell a reader to type works, and prints what they say.

Each page is read from top to bottom, in a clone of its own. A command that is not run has its reason in not_run.toml;
its name and its options are checked.
"""

import csv
import gzip
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts import ROOT, command, make
from scripts.testkit.yahoo import Listing, YahooFake
from tests.docs.consoles import Typed, commands_on, find_difference, name_of, pages
from tests.docs.reader import Clone
from trader.model import SAMPLE_PRICES

HERE = Path(__file__).parent
NOT_RUN = tomllib.loads((HERE / "not_run.toml").read_text(encoding="utf-8"))
COMMANDS: Mapping[str, str] = NOT_RUN["commands"]
SHELL: Mapping[str, str] = NOT_RUN["shell"]
EXIT_CODES: Mapping[str, int] = NOT_RUN["exit_codes"]
SLOW: Mapping[str, str] = NOT_RUN["slow"]
MISTAKES: Mapping[str, str] = NOT_RUN["mistakes"]
STATELESS = {"backtest", "sweep", "compare", "lookahead"}
"""Commands that read nothing which an earlier one has left, unless they name it, and leave nothing that others read."""

INLINE = re.compile(r"`(make [^`]+|prophet-trader [^`]+)`")
"""A command within a sentence or a table."""

PLACEHOLDER = re.compile(r"NAME|TARGET|--name")


def program_of(typed: str) -> str | None:
    """Return the name of the command of this project that is typed; None if it is another program."""
    words = re.match(r"(?:\w+=\S* )*(?:make|prophet-trader) ([a-z-]+)(?![\w=])", typed)
    return words[1] if words else None


def reason_not_to_run(typed: str) -> str | None:
    """Return why a command is not run; None if it is run."""
    reason = next((why for begin, why in SHELL.items() if typed.startswith(begin)), None)
    name = program_of(typed) or ""
    if reason or name in COMMANDS or name not in command.names():
        return reason or COMMANDS.get(name)
    options = command.find(name).options
    is_local = any(each.name == "DEPLOYED" for each in options) and "DEPLOYED" not in typed
    return "needs an AWS account" if set(command.CLOUD) <= set(options) and not is_local else None


def is_run(typed: str) -> bool:
    """Tell whether a test of the pages runs a command; nothing but this project's commands and `cat` is ever run."""
    return not reason_not_to_run(typed) and bool(program_of(typed) or typed.startswith("cat "))


def runs(*, is_slow: bool) -> Iterator[tuple[Path, tuple[str, ...], Typed]]:
    """Yield each command that is run, with its page and with the commands that are typed before it."""
    for page in pages():
        history: tuple[str, ...] = ()
        for typed in commands_on(page):
            if not is_run(typed.command):
                continue
            leaves_no_trace = program_of(typed.command) in STATELESS
            if (typed.command in SLOW) == is_slow:
                reads_nothing = leaves_no_trace and not re.search("=(out|rules)/", typed.command)  # made before
                yield page, () if reads_nothing else history, typed
            if not leaves_no_trace:
                history = (*history, typed.command)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Make the reader's clone, with prices of the reader's own, and with a stand-in for Yahoo."""
    with ExitStack() as stack:
        yahoo = stack.enter_context(YahooFake(list_closes()))
        made = Clone.make(tmp_path_factory.mktemp("reader"), yahoo.environment)
        write_own_prices(made.folder / "mine.csv")
        yield made


def list_closes() -> dict[str, Listing]:
    """Return what Yahoo has: the sample's closes, as if they ended today."""
    now = datetime.now(UTC)
    return {symbol: Listing([float(row[symbol]) for row in read_sample()], now) for symbol in ("AAPL", "MSFT", "KO")}


def read_sample() -> list[dict[str, str]]:
    """Return the last 500 rows of the shipped prices."""
    with gzip.open(SAMPLE_PRICES, "rt", newline="") as file:
        return list(csv.DictReader(file))[-500:]


def write_own_prices(path: Path) -> None:
    """Write the file of the page about own prices: two of the sample's symbols under other names."""
    rows = [f"{row['timestamp'][:10]},{row['KO']},{row['WMT']}" for row in read_sample()]
    path.write_text("\n".join(["timestamp,AAA,BBB", *rows, ""]))


def run_and_compare(clone: Clone, history: tuple[str, ...], typed: Typed) -> None:
    for number, earlier in enumerate(history):
        clone.type(history[:number], earlier)
    answer = clone.type(history, typed.command)
    assert answer.code == EXIT_CODES.get(typed.command, 0), answer.printed
    difference = find_difference(typed.shown, answer.printed) if typed.shown else None
    assert difference is None, f"{difference!r} is not in its place in:\n{answer.printed}"


def name_run(value: object) -> str | None:
    return name_of(value) if isinstance(value, Path) else value.command if isinstance(value, Typed) else ""


@pytest.mark.parametrize(("page", "history", "typed"), [*runs(is_slow=False)], ids=name_run)
def test_a_command_prints_what_its_page_shows(page: Path, history: tuple[str, ...], typed: Typed, clone: Clone) -> None:
    run_and_compare(clone, history, typed)


@pytest.mark.slow
@pytest.mark.timeout(900)  # the longest takes three minutes on two idle cores
@pytest.mark.parametrize(("page", "history", "typed"), [*runs(is_slow=True)], ids=name_run)
def test_a_long_command_prints_what_its_page_shows(
    page: Path, history: tuple[str, ...], typed: Typed, clone: Clone
) -> None:
    run_and_compare(clone, history, typed)


# --- commands that are not run, and commands in sentences ---


def problems_of(typed: str) -> list[str]:
    """Return what the command line would refuse: unknown commands, and unknown or empty options."""
    words = [word for word in shlex.split(re.sub(r"=(?=$| )", "=x", typed.replace("...", "x"))) if word != "/"]
    while words and "=" in words[0]:
        words.pop(0)
    program, *words = words
    if program == "prophet-trader":
        return [] if not words or words[0].startswith("--") else problems_of_options(words)
    goals = [word for word in words if "=" not in word and word != "make"]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    found = [*make.check_goals(goals)] if goals else []
    return found or [
        problem for goal in goals if goal in command.names() for problem in make.check_variables(goal, goals, given)
    ]


def problems_of_options(words: list[str]) -> list[str]:
    if words[0] not in command.names():
        return [f"{words[0]} is not a command"]
    flags = {option.flag for option in command.find(words[0]).all_options()} | {"--help"}
    return [word for word in words[1:] if word.startswith("--") and word.split("=")[0] not in flags]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_and_option_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    inline = [typed for typed in INLINE.findall(text) if not PLACEHOLDER.search(typed) and typed not in MISTAKES]
    blocks = [typed.command for typed in commands_on(page) if typed.command not in EXIT_CODES]
    found = {typed: problems_of(typed) for typed in [*inline, *blocks] if program_of(typed)}
    assert {typed: problems for typed, problems in found.items() if problems} == {}


# --- the list of what is not run ---


def all_commands() -> list[str]:
    return [typed.command for page in pages() for typed in commands_on(page)]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_on_a_page_is_run_or_has_a_reason(page: Path) -> None:
    typed = [each.command for each in commands_on(page)]
    assert [each for each in typed if not is_run(each) and not reason_not_to_run(each)] == []


def test_every_reason_not_to_run_a_command_is_needed() -> None:
    typed = all_commands()
    stale = [begin for begin in SHELL if not any(each.startswith(begin) for each in typed)]
    stale += [name for name in COMMANDS if name not in {program_of(each) for each in typed}]
    stale += [each for each in (*EXIT_CODES, *SLOW) if each not in typed]
    stale += [each for each, page in MISTAKES.items() if f"`{each}`" not in (ROOT / page).read_text(encoding="utf-8")]
    assert stale == []


def test_a_test_named_as_the_reason_exists() -> None:
    reasons = " ".join([*COMMANDS.values(), *SHELL.values()])
    assert [path for path in re.findall(r"tests/[\w/]+\.py", reasons) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("block", ["```text\n$ make", "```sh", "```bash", "```shell"])
def test_commands_stand_in_console_blocks_only(block: str) -> None:
    assert [name_of(page) for page in pages() if block in page.read_text(encoding="utf-8")] == []
