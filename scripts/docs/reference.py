"""The parts of docs/ that are made from the code: settings, commands, reason codes, fields of a report, exit codes.

Each stands on its page between two marks, and whatever a person writes around them stays. A command without a page gets
one, so that a new command needs no other file here.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_type_hints

from scripts import ROOT, command, console
from scripts.bench import page
from scripts.bench.page import row
from scripts.command import Option
from scripts.console import CommandError
from scripts.report.formatting import ENDS, EXPLANATIONS, Explanation
from trader.alpha import loader
from trader.model import Code, Report
from trader.settings import list_fields

DOCS = ROOT / "docs"
COMMANDS = DOCS / "reference" / "commands"
BLOCK = re.compile(
    r"(?P<begin><!-- made by make docs: (?P<kind>[a-z-]+)(?: (?P<name>[\w-]+))? -->\n)"
    r"(?P<made>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)

GROUPS: Mapping[str, Sequence[str]] = {
    "run": ("strategy", "broker", "mode", "daily_at", "journal", "account_file", "starting_cash_usd"),
    "prices": (
        *("price_sources", "price_file", "universe", "universe_size", "universe_lookback_bars"),
        *("bar_interval", "history_bars", "max_price_age_s"),
    ),
    "signal": ("signal", "engine", "signal_threshold_fraction", "horizon_bars"),
    "alpaca": ("alpacauser", "alpacapw", "apca_api_base_url", "apca_api_data_url"),
}
"""Settings by their heading on the page; all others are limits."""

EXIT_CODES = {
    console.USABLE: "It did its work. A run that traded nothing for a good reason, such as a closed market, did too.",
    console.FAILED: "A check found something wrong: a difference, a leak, a broken link.",
    console.USAGE: "The command line or a setting is wrong. Nothing was done.",
    console.COULD_NOT: "It could not do its work: the broker, AWS or a file failed, or something is missing.",
    console.INTERRUPTED: "Ctrl-C.",
}

REPORT_FIELDS = {
    "strategy": "the strategy's name",
    "slot": "the minute for which the run was due, in UTC",
    "mode": "`dry-run`, `paper` or `live`",
    "status": "what the run ended with: a [status or reason code](codes.md)",
    "detail": "the values behind the status",
    "investments": '`{"AAPL": 39.0}`: the quantities that were ordered, negative for sales',
    "orders": "each order with its prices, its id and its outcome",
    "denials": "each refusal with its symbol, its code and the values behind it",
    "targets": "the shares to hold of each symbol, and why",
    "insights": "the direction of each symbol, its gap, and the reason in words",
    "forecasts": "for each symbol the price and the trend line; with some rules, the forecast interval",
    "account": "equity, cash, buying power and positions, `before` and `after`",
    "unprotected": "holdings that have no working stop loss although brackets are on: you must act",
    "recovered": "slots of earlier runs that were cut off; this run wrote their records from the broker's books",
    "settled": "orders of earlier runs that ended otherwise than those runs recorded",
    "stops": "stops that were missing and that this run placed",
    "problems": "what needs a person, for how many runs, and whether a [message](../how-to/messages.md) told it",
    "timings_s": "seconds for each stage",
}


def stale_pages() -> Mapping[Path, str]:
    """Return the text of each page whose generated parts are not up to date. Raises CommandError for a wrong mark."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    new = {path: new_page(name) for name in command.names() if (path := page_of(name)) not in pages}
    made = {path: fill(text, path) for path, text in (pages | new).items()}
    return {path: text for path, text in made.items() if text != pages.get(path)}


def page_of(name: str) -> Path:
    """Return the page of a command."""
    return COMMANDS / f"{name}.md"


def new_page(name: str) -> str:
    """Return the first text of a command's page."""
    return f"# make {name}\n\n<!-- made by make docs: command {name} -->\n<!-- end -->\n"


def fill(text: str, path: Path) -> str:
    """Return the text of a page with its generated parts made again."""

    def make(block: re.Match[str]) -> str:
        try:
            lines = list(GENERATORS[block["kind"]](block["name"] or ""))
        except KeyError as error:
            raise CommandError(f"{path.relative_to(ROOT)}: no part is called {block[0].splitlines()[0]}") from error
        return block["begin"] + "\n" + "\n".join(lines).strip() + "\n\n" + block["end"]

    return BLOCK.sub(make, text)


# --- the parts --------------------------------------------------------------------------------------------------------


def settings(group: str) -> Iterator[str]:
    """Yield the table of a group of settings. Raises KeyError if there is no such group."""
    grouped = {name for names in GROUPS.values() for name in names}
    names = GROUPS[group] if group != "limits" else [x.name for x in list_fields() if x.name not in grouped]
    by_name = {field.name: field for field in list_fields()}
    yield from ("| variable | default | allowed | meaning |", "|---|---|---|---|")
    for name in names:
        field = by_name[name]
        default = format_default(name, field.default)
        yield row(f"`{name.upper()}`", default, allowed(field.metadata["parse"]), field.metadata["meaning"])


def format_default(name: str, default: object) -> str:
    """Return a setting's default as it would be written; `none` if it is empty."""
    if name == "price_file":
        return "the shipped sample"
    shown = command.format_default(default)
    return f"`{shown}`" if shown else "none"


def allowed(parse: Callable[[str], object]) -> str:
    """Return what a parser allows, in the words of its own error."""
    try:
        parse("\n")
    except ValueError as error:
        return str(error)
    return "any text"


def rules(_name: str) -> Iterator[str]:
    """Yield the table of the rules that SIGNAL can name."""
    yield from ("| `SIGNAL` | rule | bars it needs |", "|---|---|---|")
    for name, rule in loader.RULES.items():
        yield row(f"`{name}`", first_sentence(rule.__doc__), str(rule.facts.min_bars))


def codes(_name: str) -> Iterator[str]:
    """Yield a section for each reason code, with its meaning and what to do."""
    for code in Code:
        yield from section(code.value, EXPLANATIONS[code])


def statuses(_name: str) -> Iterator[str]:
    """Yield a section for each ending of a run that is neither its work done nor a reason code."""
    for status, explanation in ENDS.items():
        yield from section(status, explanation)


def section(heading: str, explanation: Explanation) -> Iterator[str]:
    """Yield the lines of a section about a status."""
    yield from (f"### {heading}", "", explanation.means, "", f"**What to do.** {explanation.remedy}", "")


def report_fields(_name: str) -> Iterator[str]:
    """Yield the table of a report's fields. Raises KeyError for a field without a meaning."""
    yield from ("| field | type | meaning |", "|---|---|---|")
    for name, kind in get_type_hints(Report).items():
        yield row(f"`{name}`", f"`{type_name(kind)}`", REPORT_FIELDS[name])


def type_name(kind: object) -> str:
    """Return a type as JSON has it."""
    text = str(kind)
    return "object" if "dict" in text.split("[")[0] else "array" if "list" in text.split("[")[0] else "string"


def exit_codes(_name: str) -> Iterator[str]:
    """Yield the table of the exit codes."""
    yield from ("| code | meaning |", "|---|---|")
    yield from (row(f"`{code}`", meaning) for code, meaning in EXIT_CODES.items())


def commands(_name: str) -> Iterator[str]:
    """Yield the commands by group, each with a link to its page."""
    for group, members in command.index().items():
        yield from (f"## {group}", "", "| command | what it does |", "|---|---|")
        yield from (row(f"[`make {name}`]({name}.md)", summary) for name, summary in members)
        yield ""


def describe_command(name: str) -> Iterator[str]:
    """Yield what a command does, and its options. Raises KeyError if there is no such command."""
    made = command.find(name)
    yield from (f"{command.find_summary(name)}. {made.description}", "")
    yield from ("```text", f"make {name} [NAME=value ...]", f"prophet-trader {name} [--name value ...]", "```", "")
    if made.options:
        yield from ("| with make | on the command line | meaning |", "|---|---|---|")
        yield from (describe_option(option) for option in made.options)
        yield ""
    if taken := list(made.settings()):
        every = {field.name.upper() for field in list_fields()} - command.SECRETS
        left_out = sorted(every - set(taken))
        but = f" except {', '.join(f'`{each}`' for each in left_out)}" if left_out else ""
        yield f"It also takes the bot's [settings](../settings.md){but}."


def describe_option(option: Option) -> str:
    """Return the row of an option."""
    value = "1" if option.is_flag else option.metavar
    flag = option.flag if option.is_flag else f"{option.flag} {option.metavar}"
    return row(f"`{option.name}={value}`", f"`{flag}`", option.meaning)


def first_sentence(text: str | None) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((text or "").split("\n\n")[0].split())


GENERATORS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "settings": settings,
    "rules": rules,
    "codes": codes,
    "statuses": statuses,
    "report-fields": report_fields,
    "exit-codes": exit_codes,
    "commands": commands,
    "command": describe_command,
    "bench": page.tables,
}
