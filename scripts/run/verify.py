"""`make verify [SINCE=...]`: check a whole journal: its chain, every decision and every cap, without network access."""

import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.text import Text

from scripts import console
from scripts.cloud.aws import UsageError
from scripts.cloud.logs import moment
from scripts.cloud.tables import TableRow, show_table
from scripts.console import format_count
from scripts.data import members
from scripts.run.chain import REMEDIES, Files, Finding, Kind, Link, check_chain, find_beginning
from trader import codec
from trader.audit.caps import find_broken_caps
from trader.audit.recomputing import NOT_CHECKED, NotChecked, OtherEngineError, recompute
from trader.codec import decode_object
from trader.journal.base import DamagedError, JournalError
from trader.journal.chain import hash_code, hash_text, names_of
from trader.journal.entry import Journal
from trader.journal.record import VERSION
from trader.logs import one_line, printable
from trader.model import Outcome
from trader.progress import Progress, no_progress
from trader.schedule.base import parse_slot_id, slot_id
from trader.settings import Settings
from trader.wiring import open_journal

PACKAGES = ("numpy", "pandas", "prophet")
"""The packages on whose versions the last digits of a trend line depend."""

MAX_SHOWN = 3
"""The most differences of one record that are named; make replay shows all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in a journal, and what was looked at."""

    findings: Sequence[Finding]
    records: int
    decisions: int
    chained: int
    beginning: str | None  # the oldest slot in the chain
    head: tuple[str, str] | None  # the newest record's slot and SHA-256
    code: Sequence[str]  # the hashes of the code that made the records

    @property
    def faults(self) -> Sequence[Finding]:
        """The findings that nobody but a person can have caused, or an error of the bot."""
        return [each for each in self.findings if each.kind.is_fault]


OTHER_FILES = NotChecked(
    "what the journal has beside records: the text of claims, orders to be settled, the ranking, the highest equity",
    "nobody; a claim is looked for, not read, and a run checks the others as it reads them",
    (),
)


def main() -> None:
    """Verify the journal and show what was found; the exit code is 0 only if nothing is wrong."""
    with console.plain_errors(interrupted="interrupted; nothing was changed, and make verify can be run again"):
        now = datetime.now(UTC)
        settings, since, head = read_options(os.environ, now)
        journal = open_journal(settings.journal, settings.strategy)
        with console.progress() as progress:
            verdict = verify(journal, now, since, head, progress)
        if not verdict.records and not verdict.findings:
            raise JournalError(
                f"the journal {settings.journal} of strategy {settings.strategy} has no record to verify: make run "
                "makes one, JOURNAL and STRATEGY name another journal, and SINCE may be too late"
            )
    if console.wants_json():
        console.print_json(to_json(settings, verdict))
    else:
        show(settings, verdict)
    sys.exit(console.FAILED if verdict.faults else console.USABLE)


def read_options(env: Mapping[str, str], now: datetime) -> tuple[Settings, datetime | None, str]:
    """Return where the journal is, from when on to look, and a hash that must be in it. Raises UsageError."""
    known = {name: env[name] for name in ("JOURNAL", "STRATEGY") if name in env}
    settings = Settings.from_env(known, lambda _: {})
    since = moment("SINCE", env["SINCE"], now) if env.get("SINCE") else None
    head = env.get("HEAD", "")
    if head and (len(head) != 64 or not set(head) <= set("0123456789abcdef")):
        raise UsageError(
            f"HEAD={head:.100}: must be a SHA-256 of 64 digits and letters a to f, as make verify prints it"
        )
    return settings, since, head


# --- the journal -----------------------------------------------------------------------------------------------------


def verify(
    journal: Journal,
    now: datetime,
    since: datetime | None = None,
    head: str = "",
    progress: Progress = no_progress,
) -> Verdict:
    """Read every record of the slots from `since` on, and return what is wrong. Raises JournalError."""
    names = journal.store.names(f"runs/{journal.strategy}/")
    files = list_files(journal, names, now)
    chosen = [name for name in names if name.endswith(".json") and is_since(name, since)]
    findings: list[Finding] = []
    links: list[Link] = []
    decisions = 0
    codes: dict[str, None] = {}
    for number, name in enumerate(chosen, start=1):
        progress("records", number, len(chosen))
        slot = slot_of(name)
        text = read_text(journal, name)
        record, problem = parse(text)
        if record is None:
            findings.append(Finding(kind=Kind.UNREADABLE, slot=slot, words=problem))
            continue
        if name.endswith("Z.json"):
            links.append(make_link(journal, names, name, text, record))
        if isinstance(chain := record.get("chain"), dict):
            codes[str(chain.get("code"))] = None
        decisions += bool(record.get("decision"))
        findings += check_record(journal, name, record)
    links.sort(key=lambda link: link.slot)
    findings += check_chain(links, files)
    if head and head not in {sha256 for link in links for sha256 in (link.sha256, *link.was)}:
        findings.append(Finding(kind=Kind.HEAD, slot=links[-1].slot if links else "", words=f"no record has {head}"))
    if others := [code for code in codes if code != hash_code()]:
        words = f"some records were made by other code than this: {', '.join(code[:12] for code in others)}"
        findings.append(Finding(kind=Kind.OTHER_CODE, slot="", words=words))
    return Verdict(
        findings=sorted(findings, key=lambda each: each.slot),
        records=len(chosen),
        decisions=decisions,
        chained=sum(link.previous is not None for link in links),
        beginning=find_beginning(links),
        head=(links[-1].slot, links[-1].sha256) if links else None,
        code=tuple(codes),
    )


def slot_of(name: str) -> str:
    """Return the slot in the name of a journal's file, as it is spelled there; the name if it has none."""
    base = name.rpartition("/")[2]
    slot = base[: len("20221228T2045Z")]
    return slot if parse_slot_id(slot) else base


def is_since(name: str, since: datetime | None) -> bool:
    """Check whether a file is of a slot from `since` on; one that names no slot always is."""
    slot = parse_slot_id(slot_of(name))
    return since is None or slot is None or slot >= since


def list_files(journal: Journal, names: Sequence[str], now: datetime) -> Files:
    """Return what there is of each slot. The claim of each run without a record is read."""

    def slots(ending: str) -> frozenset[str]:
        return frozenset(slot_of(name) for name in names if name.endswith(ending))

    claimed, recorded = slots(".claim"), slots("Z.json")
    unfinished = [slot for slot in map(parse_slot_id, claimed - recorded) if slot]
    under_way = [slot for slot in unfinished if not journal.entry(slot).read_claim().is_over(now)]
    return Files(
        claimed=claimed,
        recorded=recorded,
        unused=slots("-unused.json"),
        under_way=frozenset(map(slot_id, under_way)),
    )


def read_text(journal: Journal, name: str) -> str:
    """Return the text of a file; nothing if it is not text, or gone by now."""
    try:
        return journal.store.read(name) or ""
    except DamagedError:
        return ""


def parse(text: str) -> tuple[Mapping[str, Any] | None, str]:
    """Return a record, or None and why it is none."""
    try:
        record = codec.parse_json(text)
    except ValueError as error:
        return None, f"not JSON: {one_line(error)}"
    if not isinstance(record, dict) or record.get("version") != VERSION or not isinstance(record.get("report"), dict):
        return None, f"not a run's record of version {VERSION}"
    return record, ""


def make_link(journal: Journal, names: Sequence[str], name: str, text: str, record: Mapping[str, Any]) -> Link:
    """Return a record's place in the chain, with the records that were there before it."""
    try:
        previous = names_of(record)
    except TypeError:
        previous = None
    slot = slot_of(name)
    replaced = [each for each in names if each.endswith(".replaced") and slot_of(each) == slot]
    was = [hash_text(read_text(journal, each)) for each in replaced]
    if (unused := name.replace(".json", "-unused.json")) in names:
        was += hash_of_unused(read_text(journal, unused))
    is_interrupted = record["report"].get("status") == Outcome.INTERRUPTED
    return Link(slot=slot, sha256=hash_text(text), previous=previous, was=was, is_interrupted=is_interrupted)


def hash_of_unused(text: str) -> list[str]:
    """Return the SHA-256 that the record of a run had before it gave its slot back; nothing if it is damaged."""
    try:
        record = dict(decode_object(codec.parse_json(text)))
    except (TypeError, ValueError):
        return []
    record.pop("gave_back", None)
    return [hash_text(json.dumps(record))]  # as the journal writes it


# --- one record ------------------------------------------------------------------------------------------------------


def check_record(journal: Journal, name: str, record: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what contradicts itself in a record, and the caps that it breaks."""
    slot = slot_of(name)
    try:
        broken = list(find_broken_caps(record))
        found = recompute(name, record, index_on=members.find, trusts_rule=console.flag("RECORDED_RULE"))
    except OtherEngineError as error:
        found = []
        yield Finding(kind=Kind.OTHER_CODE, slot=slot, words=one_line(error))
    except (JournalError, AttributeError, KeyError, TypeError, ValueError) as error:
        yield Finding(kind=Kind.UNREADABLE, slot=slot, words=one_line(error))
        return
    if found:
        shown = "; ".join(
            f"{each.what}: {each.recorded or 'nothing'}, not {each.replayed}" for each in found[:MAX_SHOWN]
        )
        words = f"{shown}{f'; {len(found) - MAX_SHOWN} more' if len(found) > MAX_SHOWN else ''}"
        yield Finding(kind=Kind.DIFFERENT, slot=slot, words=words)
    for words in broken:
        yield Finding(kind=Kind.CAP, slot=slot, words=words)
    time = parse_slot_id(slot)
    if record["report"]["strategy"] != journal.strategy or not time or not name.startswith(journal.entry(time).path):
        words = f"{one_line(name)} is not where a run of strategy {one_line(record['report']['strategy'])} writes it"
        yield Finding(kind=Kind.ADDED, slot=slot, words=words)


# --- the output ------------------------------------------------------------------------------------------------------


def describe_machine() -> dict[str, str]:
    """Return what a stranger needs to recompute to the last digit: versions, and the hash of this code."""
    found = {"code": hash_code(), "python": platform.python_version()}
    for package in ("prophet-trader", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def to_json(settings: Settings, verdict: Verdict) -> dict[str, object]:
    """Return the verdict as JSON-serializable data."""
    return {
        "journal": settings.journal,
        "strategy": settings.strategy,
        "agrees": not verdict.faults,
        "records": verdict.records,
        "decisions": verdict.decisions,
        "chained": verdict.chained,
        "beginning": verdict.beginning,
        "head": dict(zip(("slot", "sha256"), verdict.head, strict=True)) if verdict.head else None,
        "code": list(verdict.code),
        "findings": [{**asdict(each), "is_fault": each.kind.is_fault} for each in verdict.findings],
        "not_checked": [{"what": each.what, "confirmed_by": each.confirmed_by} for each in (*NOT_CHECKED, OTHER_FILES)],
        "made_with": describe_machine(),
    }


def show(settings: Settings, verdict: Verdict) -> None:
    """Print the findings with their remedies, the verdict, and how to repeat it."""
    if verdict.findings:
        rows = [
            TableRow(
                cells=(printable(each.slot), each.kind, printable(each.words)),
                style="red" if each.kind.is_fault else "",
            )
            for each in verdict.findings
        ]
        show_table(("Slot", "What", "Details"), rows)
        for kind in dict.fromkeys(each.kind for each in verdict.findings if each.kind in REMEDIES):
            console.OUT.print(Text(f" {kind}: {REMEDIES[kind]}", style="dim"), soft_wrap=True)
        console.OUT.print()
    counts = f"{format_count(verdict.records, 'record')}, {format_count(verdict.decisions, 'decision')} recomputed"
    if verdict.beginning:
        counts += f", {verdict.chained:,} in the chain, which begins with {verdict.beginning}"
    else:
        counts += ", none in a chain: they are from before it, so that one which is gone or changed is not noticed"
    if verdict.faults:
        text = f" {counts}: {format_count(len(verdict.faults), 'fault').upper()}."
        console.OUT.print(Text(text, style="bold red"), soft_wrap=True)
    else:
        console.OUT.print(Text(f" {counts}: nothing is wrong.", style="green"), soft_wrap=True)
    show_how(settings, verdict)


def show_how(settings: Settings, verdict: Verdict) -> None:
    """Print what a stranger needs to do the same, and what keeps the newest record from being removed unnoticed."""
    made = describe_machine()
    versions = ", ".join(f"{name} {number}" for name, number in made.items() if name != "code")
    lines = ["", "To do the same elsewhere:"]
    if verdict.head:
        lines.append(f"  newest record   {verdict.head[0]}, SHA-256 {verdict.head[1]}")
    lines += [f"  code, SHA-256   {code}" for code in verdict.code]
    lines += [f"  this code       {made['code']}"] if made["code"] not in verdict.code else []
    lines.append(f"  versions        {versions}")
    where = f"JOURNAL={settings.journal} STRATEGY={settings.strategy}"
    lines.append(f"  command         make verify {where}{f' HEAD={verdict.head[1]}' if verdict.head else ''}")
    lines += [
        "Keep HEAD elsewhere: with it, a later make verify finds that this record is gone, or one before it.",
        "Not checked:",
        *(f"  {each.what} ({each.confirmed_by})" for each in (*NOT_CHECKED, OTHER_FILES)),
    ]
    for line in lines:
        console.OUT.print(Text(f" {line}" if line else "", style="dim"), soft_wrap=True)
