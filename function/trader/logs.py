"""Logs: one record per decision, order, denial and run, with its values as fields.

Under Lambda's JSON log format the runtime's own formatter writes every field at the top level, so that a query can
name it. Anywhere else TextFormatter makes a readable line of the same record.
"""

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import _SysExcInfoType

MAX_CHARACTERS = 2_000
"""Of a message, and of a line of a traceback."""

MAX_TEXT_CHARACTERS = 500
"""Of a text from outside: what a broker, a price source or an exception says."""

MAX_REASON_CHARACTERS = 200
"""Of why one symbol has no prices: there may be five hundred of them in a line of the log."""

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """`2022-12-28 20:45:00 INFO decision symbol=AAPL direction=UP`: the message, then its fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the name is logging's
        """The line without a traceback, which logging adds after it."""
        fields = {name: value for name, value in vars(record).items() if name not in _OWN}
        record.message = one_line(record.message, MAX_CHARACTERS)
        return " ".join([super().formatMessage(record), *(f"{name}={_plain(value)}" for name, value in fields.items())])

    def formatException(self, ei: "_SysExcInfoType | tuple[None, None, None]") -> str:  # noqa: N802 the names are logging's
        """The traceback, indented: an error's own text may look like a record."""
        return "\n".join(f"    {one_line(line, MAX_CHARACTERS)}" for line in super().formatException(ei).splitlines())


def one_line(text: object, most: int = MAX_TEXT_CHARACTERS) -> str:
    """A text in printable characters, cut if it is long: it can fake no line, and hide none by its length."""
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]}… ({len(whole):,} letters)"
    return printable(cut)


def printable(text: object) -> str:
    """A text that can do nothing to a terminal or a line: characters that are not printable are spelt out."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


def _plain(value: object) -> str:
    """A value on one line; what holds spaces or control characters is quoted, so that no text can fake a field."""
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def configure(handler: logging.Handler | None = None) -> None:
    """Let the trader's records through; with a handler (outside Lambda), as text to it."""
    log = logging.getLogger("trader")
    log.setLevel(logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO it says where its credentials are from, each time
    if handler is not None and "AWS_LAMBDA_RUNTIME_API" not in os.environ:
        handler.setFormatter(TextFormatter())
        log.handlers = [handler]
        log.propagate = False
