"""`make clean`: remove what commands left in out/ and the unfinished layer in layer/build.

The cache of prices and the results of sweeps took hours, and whatever else is in out/ may be the person's own, so all
of it stays unless ALL=1. The records of an account at Alpaca are removed only after a question, or with CONFIRM=yes:
they keep that account from being traded twice in a slot.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts import console
from scripts.console import CommandError, format_count
from scripts.files import CACHE, LEDGER, OUT, REMOVED, SWEEP
from trader import codec
from trader.broker.embedded import LOCK
from trader.journal.accounts import ENDING
from trader.journal.base import JournalError
from trader.journal.stores import Folder
from trader.model import BrokerName
from trader.settings import Settings

LAYER = Path("layer/build")
KEPT = {
    OUT / CACHE: "the cache of prices",
    OUT / SWEEP: "the results of sweeps",
    OUT / LEDGER: "the settings tried so far",
}
"""What took hours or cannot be made again, and what it is."""

FOREIGN = "may be yours"
SETTINGS = ("JOURNAL", "ACCOUNT_FILE")
"""The settings that say where a run keeps its account."""

WORD = "remove"
RUN_NAMES = (".json", ".started")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file or folder, what is said about it, and its size."""

    path: Path
    what: str
    size_bytes: int


def main() -> None:
    """Remove the runs' output, and say what was removed and what was kept."""
    with console.plain_errors(interrupted="interrupted; some files may be removed, and make clean can be run again"):
        settings = Settings.from_env({name: os.environ[name] for name in SETTINGS if name in os.environ}, lambda _: {})
        removed, kept = choose(settings, everything=console.flag("ALL"))
        if records := sorted(set(find_real_records(removed))):
            confirm(records)
        for item in removed:
            remove(item.path)
    if console.wants_json():
        console.print_json({"removed": as_json(removed), "kept": as_json(kept)})
    else:
        show(removed, kept)


def choose(settings: Settings, *, everything: bool) -> tuple[list[Item], list[Item]]:
    """Return what is removed, and what is kept: a journal in S3 or outside of out/ too, which is left alone."""
    found = sorted(OUT.iterdir()) if OUT.is_dir() else []
    journal = [Path(settings.journal.removeprefix("folder:"))] if settings.journal.startswith("folder:") else []
    account = [Path(f"{settings.account_file}{end}") for end in ("", LOCK, ENDING)]
    ours = [each for each in (*journal, *account) if OUT.resolve() in each.resolve().parents]
    chosen = found if everything else [*(OUT / name for name in REMOVED), *ours]
    removed = [measure(path, "") for path in dict.fromkeys([*chosen, LAYER]) if path.exists() or path.is_symlink()]
    gone = {each.path.resolve() for each in removed}
    stays = [
        measure(path, f"{KEPT.get(path, FOREIGN)}; ALL=1 removes it too")
        for path in found
        if not everything and path.resolve() not in gone
    ]
    stays += [
        measure(path, "the journal, which is not in out/")
        for path in journal
        if path.exists() and not path.resolve().is_relative_to(OUT.resolve())
    ]
    return removed, stays


def find_real_records(removed: Sequence[Item]) -> Iterator[str]:
    """Yield the records and plans that would be removed of runs that traded an account at Alpaca, paper or live."""
    for runs in (path for each in removed for path in (each.path, *each.path.rglob("runs")) if path.name == "runs"):
        journal = runs.parent
        store = Folder(journal)
        for name in store.names("runs/"):
            if name.endswith(RUN_NAMES) and not name.endswith("-dry-run.json") and is_real(store, name):
                yield f"{journal / name}"


def is_real(store: Folder, name: str) -> bool:
    """Check whether a record is of an account at Alpaca; one that cannot be read may be."""
    try:
        record = codec.parse_json(store.read(name) or "{}")
        return bool((record.get("settings") or {}).get("broker") != BrokerName.EMBEDDED)
    except (JournalError, ValueError, AttributeError):
        return True


def confirm(records: Sequence[str]) -> None:
    """Return if the person agrees to lose the records of real accounts. Raises CommandError if he does not."""
    count = format_count(len(records), "record")
    what = f"{count} of runs at Alpaca, such as {records[-1]}"
    if os.environ.get("CONFIRM", "") == "yes":
        return
    remedy = "CONFIRM=yes removes them; to keep them and begin anew, set JOURNAL=folder:out/second"
    if not sys.stdin.isatty():
        raise CommandError(f"nothing was removed: out/ has {what}, which keep a slot from being traded twice. {remedy}")
    console.ERR.print(
        f"out/ has {what}. Without them the account could be traded twice in a slot, and make reconcile "
        "and make replay find nothing.",
        style="bold",
    )
    if input(f"To remove them, type {WORD}: ").strip() != WORD:
        raise CommandError(f"nothing was removed; {remedy}")


def measure(path: Path, what: str) -> Item:
    """Return a file or folder with its size; links are not followed."""
    files = [path] if path.is_symlink() or path.is_file() else [each for each in path.rglob("*") if not each.is_dir()]
    return Item(path=path, what=what, size_bytes=sum(each.lstat().st_size for each in files))


def remove(path: Path) -> None:
    """Remove a file, a link or a folder. Raises CommandError if it cannot be removed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(
            f"{error.filename or path} cannot be removed: {error.strerror}; remove it by hand"
        ) from error


def as_json(items: Sequence[Item]) -> list[Mapping[str, object]]:
    """Return the items as JSON types."""
    return [{"path": str(each.path), "size_bytes": each.size_bytes} for each in items]


def show(removed: Sequence[Item], kept: Sequence[Item]) -> None:
    """Print a line for each item."""
    for each in removed:
        console.OUT.print(f" removed {each.path} ({say_size(each.size_bytes)})")
    for each in kept:
        console.OUT.print(f" kept    {each.path} ({say_size(each.size_bytes)}): {each.what}", style="dim")
    if not removed:
        console.OUT.print(" nothing to remove")


def say_size(size_bytes: int) -> str:
    """Format a size: `812 bytes`, `14.2 kB`, `1.3 GB`."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return format_count(size_bytes, "byte")
