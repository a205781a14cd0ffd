"""`make replay RUN=...`: recompute the decisions of a recorded run, without network access, and compare them."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts import console
from scripts.cloud.tables import TableRow, show_table
from scripts.console import format_count
from scripts.data import members
from trader import codec
from trader.audit.recomputing import Difference as Difference
from trader.audit.recomputing import NotChecked, differ, list_unchecked, recompute
from trader.codec import encode
from trader.journal.base import JournalError
from trader.journal.record import VERSION
from trader.logs import one_line
from trader.model import Decision
from trader.progress import Progress, no_progress
from trader.settings import Settings
from trader.wiring import open_journal

DECIDED = {
    "insights": ("symbol", "direction"),
    "orders": ("client_order_id", "symbol", "side", "quantity", "stop_loss_usd", "take_profit_usd"),
    "denials": ("symbol", "code"),
}
"""The fields of a decision that must be identical whatever the source of its prices, in order."""


def main() -> None:
    """Load the record, decide again and compare; the exit code is 0 only if both agree."""
    with console.plain_errors():
        name, record = find(os.environ.get("RUN") or "latest", os.environ)
        with console.progress() as progress:
            found = compare(name, record, progress)
    if console.wants_json():
        unchecked = [{"what": each.what, "confirmed_by": each.confirmed_by} for each in list_unchecked(record)]
        answer = {"record": name, "agrees": not found, "differences": encode(found), "not_checked": unchecked}
        console.print_json(answer)
    else:
        show(name, record, found)
    sys.exit(console.FAILED if found else console.USABLE)


def find(run: str, env: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """Return the record that RUN names: a file, an object in S3, the latest of the strategy's journal, or a slot in it.

    Raises UsageError if RUN is an address in S3 but not a record's, and JournalError if there is no such record.
    """
    if run.startswith("s3://"):
        return run, check_version(run, load_from_s3(run))
    if Path(run).is_file():
        try:
            return run, check_version(run, codec.parse_json(Path(run).read_text(encoding="utf-8")))
        except ValueError as error:
            raise JournalError(f"{run} is not JSON: {error}") from error
    settings = Settings.from_env({name: env[name] for name in ("JOURNAL", "STRATEGY") if name in env}, lambda _: {})
    journal = open_journal(settings.journal, settings.strategy)
    records = journal.list_records()
    names = [name for name in records if run == "latest" or run.removesuffix(".json") in name]
    if not names:
        where = f"the journal {settings.journal} of strategy {settings.strategy} has"
        if not records:
            raise JournalError(
                f"RUN={run}: {where} no such record, because it has none at all: make run makes one, and JOURNAL names "
                "another journal"
            )
        latest = Path(records[-1]).stem
        raise JournalError(
            f"RUN={run}: {where} no such record; set RUN to latest, a slot such as {latest}, a file, or "
            f"s3://BUCKET/{records[-1]}"
        )
    return names[-1], check_version(names[-1], journal.load(names[-1]))


def load_from_s3(address: str) -> Mapping[str, Any]:
    """Load the record at an address such as s3://BUCKET/runs/trend/2026-11-27/20261127T1530Z.json."""
    from scripts.cloud.aws import UsageError  # not at the top: it imports boto3, which other records do not need

    place, folder, name = address.partition("/runs/")
    strategy, _, rest = name.partition("/")
    if not (folder and strategy and rest.endswith(".json")) or place == "s3:/":
        raise UsageError(
            f"RUN={address}: must be the whole address of a record, such as "
            "s3://BUCKET/runs/trend/2026-11-27/20261127T1530Z.json; or set JOURNAL=s3://BUCKET, STRATEGY and RUN=latest"
        )
    return open_journal(place, strategy).load(f"runs/{name}")


def check_version(name: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record if this version can read it. Raises JournalError."""
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise JournalError(f"{name} is not a run's record of version {VERSION}")
    return record


def compare(name: str, record: Mapping[str, Any], progress: Progress = no_progress) -> list[Difference]:
    """Recompute the record and return the differences. Raises JournalError if it has no decision or is invalid."""
    if not record.get("observation") or not record.get("decision"):
        report = record.get("report")
        why = [str(report.get(part, "")) for part in ("status", "detail")] if isinstance(report, dict) else []
        raise JournalError(f"{name} has no decision to recompute: {one_line(' '.join(why))}")
    return recompute(name, record, progress, index_on=members.find, trusts_rule=console.flag("RECORDED_RULE"))


def differences(recorded: Mapping[str, Any], decision: Decision) -> list[Difference]:
    """Return the differences between a recorded decision and another one from the same prices.

    Trend lines have the tolerance. What names the price source, and the corners of the lines, are not compared.
    """
    again = encode(decision)
    found: list[Difference] = []
    for part, names in DECIDED.items():
        before, after = ([{name: each[name] for name in names} for each in side[part]] for side in (recorded, again))
        found += differ((part,), before, after)
    trends = [{each["symbol"]: each["trend_usd"] for each in side["forecasts"]} for side in (recorded, again)]
    found += differ(("trend_usd",), *trends, is_line=lambda _: True)
    return found


def show(name: str, record: Mapping[str, Any], found: Sequence[Difference]) -> None:
    """Print the verdict, and a table of the differences."""
    decision, whose = record["decision"], f"{one_line(name)}: recomputed from its record"
    counts = ", ".join(format_count(len(decision[f"{noun}s"]), noun) for noun in ("forecast", "order", "denial"))
    if not found:
        console.OUT.print(f"{whose}, with the same result: {counts}.", style="green")
        show_unchecked(list_unchecked(record))
        return
    console.OUT.print(f"{whose}, with a DIFFERENT result:", style="bold red")
    rows = [TableRow(cells=(each.what, each.recorded, each.replayed)) for each in found]
    show_table(("What", "Recorded", "Replayed"), rows)


def show_unchecked(unchecked: Sequence[NotChecked]) -> None:
    """Print what the record says that cannot be recomputed, and what confirms it."""
    rows = [TableRow(cells=(each.what, each.confirmed_by)) for each in unchecked]
    show_table(("Not checked here", "What confirms it"), rows)
