"""The kinds of views that a rule is tried on, and their sizes."""

from collections.abc import Mapping

SLOTS = 6
"""The slots of the sample at which a rule decides."""

SYMBOLS, EXTRA_BARS = 500, 250
"""The size of the view for time and memory: symbols, and bars beyond those that the rule needs."""

SAMPLE, FUTURE = "sample", "future"
"""The views of the sample: on memory of their own, and on memory in which later closes follow."""

ONE, GAPS, CONSTANT, TINY, NEW, NOTHING = "one", "gaps", "constant", "tiny", "new", "nothing"

NO_VOLUME = "no volume"
"""The view that only a rule with `ohlcv` gets."""

KINDS: Mapping[str, str] = {
    SAMPLE: "the sample’s prices",  # noqa: RUF001 as a table prints it
    ONE: "one symbol",
    GAPS: "days without a close",
    CONSTANT: "prices that never change",
    TINY: "prices of 0.0001 USD",
    NO_VOLUME: "bars without a volume",
    NEW: "a listing of yesterday",
    NOTHING: "no symbol at all",
}
"""The kinds of views in the order of the table, with their names for people."""
