"""What contradicts a chain of records, and what does not."""

from collections.abc import Collection

import pytest

from scripts.run.chain import Files, Kind, Link, check_chain, find_beginning

A, B, C, D = (f"20221228T{hour}45Z" for hour in (15, 16, 17, 18))


def link(slot: str, *names: str, sha256: str = "", was: tuple[str, ...] = (), is_interrupted: bool = False) -> Link:
    """Return a record that names others; the hash of each is its slot, unless `sha256` says otherwise."""
    previous = {name: name for name in names}
    return Link(slot=slot, sha256=sha256 or slot, previous=previous, was=was, is_interrupted=is_interrupted)


def old(slot: str) -> Link:
    return Link(slot=slot, sha256=slot, previous=None)


def kinds(
    *links: Link, claimed: Collection[str] = (), unused: Collection[str] = (), under_way: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return what is found, as kind and slot; each record has its claim."""
    recorded = frozenset(each.slot for each in links)
    files = Files(
        claimed=recorded | frozenset(claimed),
        recorded=recorded,
        unused=frozenset(unused),
        under_way=frozenset(under_way),
    )
    return [(each.kind, each.slot) for each in check_chain(links, files)]


SOUND = {
    "one record": [link(A)],
    "three in a row": [link(A), link(B, A), link(C, B)],
    "two side by side, and both are named": [link(A), link(B, A), link(C, A), link(D, C, B)],
    "one that names none, so that the next names two": [link(A), link(B), link(C, B, A)],
    "the first after old ones": [old(A), old(B), link(C, B), link(D, C)],
    "old ones only": [old(A), old(B)],
    "none": [],
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_chain_has_no_findings(name: str) -> None:
    assert kinds(*SOUND[name]) == []


def test_a_removed_record_is_found() -> None:
    assert kinds(link(A), link(C, B)) == [(Kind.REMOVED, B), (Kind.ADDED, A)]


def test_a_changed_record_is_found() -> None:
    assert kinds(link(A), link(B, A, sha256="other"), link(C, B)) == [(Kind.CHANGED, B)]


def test_two_records_that_changed_places_are_found() -> None:
    swapped = [link(A), link(B, A, sha256=C), link(C, B, sha256=B), link(D, C)]
    assert kinds(*swapped) == [(Kind.CHANGED, B), (Kind.CHANGED, C)]


def test_an_added_record_is_found() -> None:
    assert kinds(link(A), link(B, A), link(C, A)) == [(Kind.ADDED, B)]


def test_a_record_without_a_claim_is_found() -> None:
    files = Files(claimed=frozenset({A}), recorded=frozenset({A, B}))
    assert [(each.kind, each.slot) for each in check_chain([link(A), link(B, A)], files)] == [(Kind.ADDED, B)]


def test_a_claim_whose_run_is_over_has_a_record() -> None:
    assert kinds(link(A), claimed={B}) == [(Kind.NO_RECORD, B)]


def test_a_run_that_may_be_under_way_is_no_fault() -> None:
    ((kind, slot),) = kinds(link(A), claimed={B}, under_way={B})
    assert (kind, slot, Kind(kind).is_fault) == (Kind.UNDER_WAY, B, False)


def test_what_has_expired_with_all_that_was_before_it_is_no_fault() -> None:
    ((kind, slot),) = kinds(link(B, A), link(C, B))
    assert (kind, slot, Kind(kind).is_fault) == (Kind.EXPIRED, A, False)


def test_an_oldest_record_whose_claim_is_there_has_not_expired() -> None:
    assert kinds(link(B, A), link(C, B), claimed={A}) == [(Kind.REMOVED, A)]


def test_a_record_that_was_replaced_and_kept_is_no_fault() -> None:
    ((kind, slot),) = kinds(link(A), link(B, A, sha256="new", was=(B,)), link(C, B))
    assert (kind, slot, Kind(kind).is_fault) == (Kind.REPLACED, B, False)


def test_a_record_whose_run_gave_its_slot_back_is_not_removed() -> None:
    assert kinds(link(A), link(C, A, B), unused={B}) == []


def test_a_run_that_make_reconcile_recorded_is_no_fault() -> None:
    ((kind, slot),) = kinds(link(A), link(B, A, is_interrupted=True), link(C, A))
    assert (kind, slot, Kind(kind).is_fault) == (Kind.RECORDED_LATER, B, False)


def test_a_record_that_lost_its_chain_is_named() -> None:
    assert kinds(link(A), old(B)) == [(Kind.NO_CHAIN, B)]


@pytest.mark.parametrize(
    ("links", "beginning"), [([], None), ([old(A)], None), ([link(B)], B), ([old(A), link(B, A)], A)]
)
def test_the_chain_begins_with_the_oldest_record_that_is_named(links: list[Link], beginning: str | None) -> None:
    assert find_beginning(links) == beginning
