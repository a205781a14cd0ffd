"""Logs: one record for each decision, order, denial and run, with its values as fields.

With Lambda's JSON log format the runtime's formatter writes every field at the top level, where queries can find it.
Elsewhere TextFormatter formats the same record as a readable line. No record contains a secret that is remembered.
"""

import json
import logging
import os
import traceback
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from logging import _SysExcInfoType

MAX_CHARACTERS = 2_000
"""The maximum length of a message, and of a line of a traceback."""

MAX_TEXT_CHARACTERS = 500
"""The maximum length of text from outside, such as from a broker, a price source or an exception."""

MAX_REASON_CHARACTERS = 200
"""The maximum length of the reason why one symbol has no prices; a log line may hold five hundred of them."""

HIDDEN = "(secret)"
"""What replaces a secret in the log, in one_line's text and in the journal."""

MIN_SECRET_CHARACTERS = 8
"""The minimum length of a secret that is replaced. Alpaca's keys have twenty characters and more; a shorter placeholder
such as `key` or `secret` would blank out ordinary words, symbols and names of fields.
"""

_SECRETS: list[str] = []  # as they may be written, the longest first

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


class RedactingFilter(logging.Filter):
    """A filter that replaces the secrets in every part of a record, and lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the secrets in the message, the fields and the error; the error then loses its causes."""
        if _has_secret(message := record.getMessage()):
            record.msg, record.args = redact(message), ()
        fields = {name: value for name, value in vars(record).items() if name not in _OWN}
        vars(record).update({name: redact_value(value) for name, value in fields.items()})
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and _has_secret("".join(traceback.format_exception(error))):
            told = _redact_error(error)
            record.exc_info, record.exc_text = (type(told), told, told.__traceback__), None
        return True


class HoldingFilter(logging.Filter):
    """A filter that holds back what some threads log, until it is released: so the order is not that of chance."""

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str, list[logging.LogRecord]] = {}  # by the thread's name

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Hold back what would reach the handlers that there are now."""
        handlers = [*logging.getLogger("trader").handlers, *logging.getLogger().handlers]
        for handler in handlers:
            handler.addFilter(self)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self)

    def hold(self, thread_name: str) -> None:
        """Hold back what a thread logs from now on. No other thread may have its name."""
        self._held[thread_name] = []

    def release(self, thread_name: str) -> None:
        """Log what a thread has logged, in the calling thread."""
        for record in self._held.pop(thread_name, ()):
            logging.getLogger(record.name).handle(record)

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record of such a thread, once for all handlers; let every other one pass."""
        held = self._held.get(record.threadName or "")
        if held is not None and record not in held[-1:]:
            held.append(record)
        return held is None


def keep_secrets(*values: str) -> None:
    """Remember secrets, so that redact() replaces them from now on, also in base64, in an address and in quotes."""
    words = [word for value in values for word in value.split() if len(word) >= MIN_SECRET_CHARACTERS]
    forms = {form for word in words for form in (word, quote(word, safe=""), json.dumps(word)[1:-1], repr(word)[1:-1])}
    login = ":".join(values)  # as HTTP's basic authentication has it
    forms |= {b64encode(text.encode()).decode().rstrip("=") for text in (*words, login) if words}
    _SECRETS[:] = sorted({*_SECRETS, *forms}, key=len, reverse=True)


def redact(text: str) -> str:
    """Replace every secret that is remembered."""
    for secret in _SECRETS:
        text = text.replace(secret, HIDDEN)
    return text


def _has_secret(value: object) -> bool:
    return any(secret in str(value) for secret in _SECRETS)


def redact_value(value: object) -> object:
    """Replace every secret that is remembered, in any text within a JSON value."""
    if not _has_secret(value):
        return value
    if isinstance(value, Mapping):
        return {redact(str(name)): redact_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(each) for each in value]
    return redact(str(value))


def _redact_error(error: BaseException) -> BaseException:
    """Return an error with the name, the words and the traceback of another, but without its secrets and causes."""
    kind = type(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made: BaseException = type(kind.__name__, (Exception,), names)(redact(str(error)))
    return made.with_traceback(error.__traceback__)


def one_line(text: object, most: int = MAX_TEXT_CHARACTERS) -> str:
    """Return a text without secrets in printable characters, cut if it is long.

    It can neither fake nor hide other lines.
    """
    whole = redact(str(text))
    cut = whole if len(whole) <= most else f"{whole[:most]}… ({len(whole):,} characters)"
    return printable(cut)


def describe_error(error: BaseException) -> str:
    """Return an error's class and text; a private class is named by the public one that it belongs to."""
    kind = next(each for each in type(error).__mro__ if not each.__name__.startswith("_"))
    return f"{kind.__name__}: {error}"


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
    # On the logger for the trader's records, whoever handles them; on the handlers for those of the libraries.
    for place in (log, *log.handlers, *logging.getLogger().handlers, *([handler] if handler else [])):
        if not any(isinstance(each, RedactingFilter) for each in place.filters):
            place.addFilter(RedactingFilter())
    logging.getLogger("botocore").setLevel(logging.WARNING)  # at INFO every client logs where its credentials come from
    if handler is not None and "AWS_LAMBDA_RUNTIME_API" not in os.environ:
        handler.setFormatter(TextFormatter())
        log.handlers = [handler]
        log.propagate = False
