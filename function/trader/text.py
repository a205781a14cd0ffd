"""Texts from outside: what a broker, a price source or an exception says, before it gets into a log or a record."""

MOST_LETTERS = 500
LONGEST_REASON = 200
"""Of why one symbol has no prices: there may be five hundred of them in a line of the log."""


def one_line(text: object, most: int = MOST_LETTERS) -> str:
    """A text in printable characters, cut if it is long: it can fake no line, and hide none by its length."""
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]}… ({len(whole):,} letters)"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cut)
