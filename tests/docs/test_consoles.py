"""The comparison of what a page shows with what a command printed finds every difference that counts."""

import pytest

from tests.docs.consoles import find_difference

PRINTED = "\n first 1.25 s\n second\n\n third\n fourth  \n"


@pytest.mark.parametrize(
    "shown",
    [
        [" first 1.25 s", " second", "", " third", " fourth"],
        [" first 9.99 s", " second", "", " third", " fourth"],
        ["...", " third", " fourth"],
        ["...", " third", "..."],
        [" first ...", "...", " fourth"],
        ["..."],
    ],
)
def test_what_was_printed_may_be_shown_in_part(shown: list[str]) -> None:
    assert find_difference(shown, PRINTED) is None


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ([" first 1.25 s", " other", "..."], " other"),
        (["...", " third", " second", "..."], " second"),
        ([" first 1.25 s", " third", "..."], " third"),
        ([" first 1.25 s", "..", "..."], ".."),
        ([" first 1.25 s", " second"], "(the end of what is shown, but then came: )"),
        (["...", " fifth"], " fifth"),
    ],
)
def test_a_line_that_was_not_printed_in_its_place_is_found(shown: list[str], found: str) -> None:
    assert find_difference(shown, PRINTED) == found
