"""Logs: one record for each decision, order, denial and run, with its values as fields.

With Lambda's JSON log format the runtime's formatter writes every field at the top level, where queries can find it.
Elsewhere TextFormatter formats the same record as a readable line.
"""

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import _SysExcInfoType

MAX_CHARACTERS = 2_000
"""The maximum length of a message, and of a line of a traceback."""

MAX_TEXT_CHARACTERS = 500
"""The maximum length of text from outside, such as from a broker, a price source or an exception."""

MAX_REASON_CHARACTERS = 200
"""The maximum length of the reason why one symbol has no prices; a log line may hold five hundred of them."""

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """A formatter that writes the message and its fields.

    For example: `2022-12-28 20:45:00 INFO decision symbol=AAPL direction=UP`.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 the name is logging's
        """Return the line without the traceback, which logging appends."""
        fields = {name: value for name, value in vars(record).items() if name not in _OWN}
        record.message = one_line(record.message, MAX_CHARACTERS)
        return " ".join([super().formatMessage(record), *(f"{name}={_plain(value)}" for name, value in fields.items())])

    def formatException(self, ei: "_SysExcInfoType | tuple[None, None, None]") -> str:  # noqa: N802 the names are logging's
        """Return the traceback, indented because an error's text may look like a record."""
        return "\n".join(f"    {one_line(line, MAX_CHARACTERS)}" for line in super().formatException(ei).splitlines())


def one_line(text: object, most: int = MAX_TEXT_CHARACTERS) -> str:
    """Return a text in printable characters, cut if it is long, so that it can neither fake nor hide other lines."""
    whole = str(text)
    cut = whole if len(whole) <= most else f"{whole[:most]}… ({len(whole):,} characters)"
    return printable(cut)


def printable(text: object) -> str:
    """Escape every character that is not printable, so that the text cannot control a terminal or break a line."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


def _plain(value: object) -> str:
    """Return a value on one line, quoted unless it is one printable word, so that no text can fake a field."""
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def configure(handler: logging.Handler | None = None) -> None:
    """Log the trader's records from level INFO; outside Lambda, send them as text to the handler if there is one."""
    log = logging.getLogger("trader")
    log.setLevel(logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO every client logs where its credentials come from
    if handler is not None and "AWS_LAMBDA_RUNTIME_API" not in os.environ:
        handler.setFormatter(TextFormatter())
        log.handlers = [handler]
        log.propagate = False
