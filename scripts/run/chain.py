"""The chain of a strategy's records, checked: what was removed, added or changed. Pure.

A record names the SHA-256 of each earlier one that no record before it has named. So each record but the newest is
named by a later one, and what is named is there, with that hash.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What verify finds."""

    REMOVED = "REMOVED"
    CHANGED = "CHANGED"
    ADDED = "ADDED"
    UNREADABLE = "UNREADABLE"
    DIFFERENT = "DIFFERENT"
    CAP = "CAP"
    HEAD = "HEAD"
    NO_RECORD = "NO RECORD"
    UNDER_WAY = "may be under way"
    RECORDED_LATER = "recorded later"
    NO_CHAIN = "no chain"
    EXPIRED = "expired"
    REPLACED = "replaced"
    OTHER_CODE = "other code"

    @property
    def is_fault(self) -> bool:
        """True unless it may have happened without anybody's doing."""
        return self.isupper()


REMEDIES: Mapping[Kind, str] = {
    Kind.REMOVED: "Restore the record, from a copy or from the bucket's older versions.",
    Kind.CHANGED: "Compare it with the bucket's older versions, and its SHA-256 with the log's line `recorded`.",
    Kind.ADDED: "Ask who wrote it. Of two runs side by side, the next one names both; none names a run for an AT "
    "before that of another.",
    Kind.NO_RECORD: "make reconcile records a run that was cut off. If it finds none, the record was removed.",
    Kind.UNREADABLE: "Look at the file; the bucket may hold an older version of it.",
    Kind.DIFFERENT: "make replay RUN=SLOT shows each difference.",
    Kind.CAP: "An order that breaks a cap: halt the strategy, and report it.",
    Kind.HEAD: "The hash that you kept is that of no record: the newest records were removed or changed.",
    Kind.OTHER_CODE: "To recompute with the same code, check out the version whose code has the record's hash.",
}
"""What to do about a finding, by kind; the others need nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding about one slot, which is spelled as in the journal."""

    kind: Kind
    slot: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A record's place in the chain. `previous` is None if the record is from before the chain."""

    slot: str
    sha256: str
    previous: Mapping[str, str] | None
    was: Sequence[str] = ()  # the SHA-256 of records of this slot that were replaced, or gave it back
    is_interrupted: bool = False  # its run was cut off, and it was written later


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What the journal has of each slot: those with a claim, a record, an unused record, and those of runs going on."""

    claimed: frozenset[str]
    recorded: frozenset[str]
    unused: frozenset[str] = field(default_factory=frozenset)
    under_way: frozenset[str] = field(default_factory=frozenset)


def check_chain(links: Sequence[Link], files: Files) -> Iterator[Finding]:
    """Yield what contradicts the chain of these links, which are in the order of their slots.

    A record outside of the links is only looked for.
    """
    by_slot = {link.slot: link for link in links}
    named: dict[str, list[Link]] = {}
    for link in links:
        for slot, sha256 in (link.previous or {}).items():
            named.setdefault(slot, []).append(link)
            yield from _check_named(slot, sha256, link, by_slot.get(slot), files)
    chained = [link for link in links if link.previous is not None]
    for link in links:
        if link.previous is None and chained and link.slot > chained[0].slot:
            words = "it names no record before it: an older version made it, or it was changed"
            yield Finding(kind=Kind.NO_CHAIN, slot=link.slot, words=words)
    for link in chained[:-1]:
        if link.slot not in named and link.is_interrupted:
            words = "make reconcile recorded it: no later record names it"
            yield Finding(kind=Kind.RECORDED_LATER, slot=link.slot, words=words)
        elif link.slot not in named:
            yield Finding(kind=Kind.ADDED, slot=link.slot, words="no later record names it")
    for slot in sorted(files.recorded - files.claimed):
        if slot in by_slot:
            yield Finding(kind=Kind.ADDED, slot=slot, words="a record without a claim")
    for slot in sorted(files.claimed - files.recorded - named.keys()):
        if links and slot < links[0].slot:
            continue
        if slot in files.under_way:
            yield Finding(kind=Kind.UNDER_WAY, slot=slot, words="it has no record yet")
        else:
            words = "claimed, but without a record: it was removed, or its run was cut off"
            yield Finding(kind=Kind.NO_RECORD, slot=slot, words=words)


def _check_named(slot: str, sha256: str, by: Link, link: Link | None, files: Files) -> Iterator[Finding]:
    """Check the record of a slot against the hash by which another one names it."""
    if slot not in files.recorded:
        if slot < min(files.claimed | files.recorded):
            words = f"{by.slot} names it, but the journal begins later: it has expired, or the oldest were removed"
            yield Finding(kind=Kind.EXPIRED, slot=slot, words=words)
        elif slot not in files.unused:
            yield Finding(kind=Kind.REMOVED, slot=slot, words=f"{by.slot} names it, but it is not there")
    elif link and sha256 in link.was:
        words = f"a later record of the same slot replaced the one that {by.slot} names; both are there"
        yield Finding(kind=Kind.REPLACED, slot=slot, words=words)
    elif link and sha256 != link.sha256:
        words = f"its SHA-256 is {link.sha256[:12]}, but {by.slot} names {sha256[:12]}"
        yield Finding(kind=Kind.CHANGED, slot=slot, words=words)


def find_beginning(links: Sequence[Link]) -> str | None:
    """Return the slot from which on every record is named: that of the oldest record that the chain names, or begins.

    None if there is no chain.
    """
    chained = [link for link in links if link.previous is not None]
    return min([chained[0].slot, *(chained[0].previous or {})]) if chained else None
