"""Prices written as text: with a point or a comma before the decimals, with separators of thousands, with $."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

MISSING = frozenset({"", "na", "n/a", "#n/a", "#n/a n/a", "n/d", "nan", "null", "none", "-", "--", "."})
"""What stands for a missing price, in lower case."""

MISSING_TEXTS = frozenset(
    {*MISSING, *(text.upper() for text in MISSING), *(text.capitalize() for text in MISSING), "NaN"}
)
"""The same in the cases in which programs write it."""

NO_NUMBER = re.compile(r"[^\x00-\x7f]|_")
"""Characters that Python accepts in a number but no price has, such as `_` in 1_5 or digits of other scripts."""

SPACES = str.maketrans(dict.fromkeys(" \u00a0\u2009\u202f'\u2019", ""))
"""Separators of thousands that are nothing else: spaces of several widths, and apostrophes."""

SPACED = re.compile(r"\d{1,3}([ \u00a0\u2009\u202f'\u2019])\d{3}(\1\d{3})*(?!\d)")

SIGN = re.compile(r"\s*([+-]?)\s*\$?\s*([+-]?)(.*?)\s*", re.DOTALL)

GROUPED = {
    ".": re.compile(r"\d{1,3}(,\d{3})+(\.\d*)?"),
    ",": re.compile(r"\d{1,3}(\.\d{3})+(,\d*)?"),
}
"""A number with separators of thousands, by the mark before its decimals."""


class Mark(StrEnum):
    """The mark before the decimals."""

    POINT = "."
    COMMA = ","


def read_number(text: str, mark: Mark | None = None) -> float:
    """Return the number, or NaN where it is missing. Raises ValueError if it is not a number.

    If the mark is not known, a number may have a point, but no separators of thousands.
    """
    if text.strip().lower() in MISSING:
        return math.nan
    sign, digits = _split(text)
    if mark:
        if SPACED.match(digits):
            digits = digits.translate(SPACES)
        other = "," if mark == Mark.POINT else "."
        if other in digits:
            if not GROUPED[mark].fullmatch(digits):
                raise ValueError(text)
            digits = digits.replace(other, "")
        digits = digits.replace(",", ".")
    if NO_NUMBER.search(digits):
        raise ValueError(text)
    return float(f"{sign}{digits}")


def read_numbers(texts: Sequence[str], mark: Mark | None = None) -> list[float]:
    """Return the numbers of a column. Raises ValueError if one of them is not a number."""
    if mark != Mark.COMMA and (joined := "".join(texts)).isascii() and "_" not in joined:
        try:
            return [math.nan if text in MISSING_TEXTS else float(text) for text in texts]
        except ValueError:
            pass
    return [read_number(text, mark) for text in texts]


VOLUME = re.compile(r"(.*?)\s*([KMB]?)", re.IGNORECASE | re.DOTALL)
THOUSANDS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9}
"""What stands after a volume such as 61.6M."""


def read_volume(text: str, mark: Mark | None = None) -> float:
    """Return a number of shares, NaN if the text is none: it is no price, so nothing is refused because of it.

    It may end with K, M or B, and its separators of thousands need no known mark before decimals.
    """
    found = VOLUME.fullmatch(text.strip())
    assert found
    digits, unit = found.groups()
    for way in (mark, Mark.POINT, Mark.COMMA):
        with suppress(ValueError):
            return read_number(digits, way) * THOUSANDS[unit.upper()]
    return math.nan


def is_number(text: str) -> bool:
    """Check whether a text is a number or a missing one, whatever the mark before its decimals is."""
    for mark in Mark:
        try:
            read_number(text, mark)
        except ValueError:
            continue
        return True
    return False


def find_mark(text: str) -> Mark | None:
    """Return the mark that one number proves, such as the comma of 101,58; None if it proves none, such as 1,234."""
    _, digits = _split(text.strip().rstrip("%KMBkmb"))
    if not any(map(str.isdigit, digits)):
        return None
    if SPACED.match(digits):
        digits = digits.translate(SPACES)
    if re.fullmatch(r"(\d+\.?\d*|\.\d+)[eE][+-]?\d+", digits):
        return Mark.POINT if "." in digits else None
    for mark, other in ((Mark.POINT, r"\,"), (Mark.COMMA, r"\.")):
        its = f"\\{mark}"
        proofs = (
            rf"\d{{1,3}}({other}\d{{3}})+{its}\d*",  # 1,234.5: both marks
            rf"\d{{1,3}}({other}\d{{3}}){{2,}}",  # 1,234,567: only thousands repeat
            rf"\d*{its}(\d{{1,2}}|\d{{4,}})?",  # 101.58: not three digits after it
            rf"(0\d*|\d{{4,}})?{its}\d*",  # 0.975 or 1234.567: no thousands before it
        )
        if any(re.fullmatch(proof, digits) for proof in proofs):
            return mark
    return None


def _split(text: str) -> tuple[str, str]:
    """Return the sign and the digits of a number, without spaces around them and without $."""
    found = SIGN.fullmatch(text)
    assert found
    before, after, digits = found.groups()
    return (before + after, digits) if not (before and after) else ("", text)
