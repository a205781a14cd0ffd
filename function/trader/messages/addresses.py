"""Messages by Apprise: to Slack, Discord, Telegram, ntfy and whatever else has an address there.

Its own log lines may show parts of an address, which is a secret, so none of them is passed on: only what they say of
the answer.
"""

import logging
import re
import threading
from collections.abc import Sequence

from trader.messages.base import MAX_SUBJECT_CHARACTERS, Message, MessageError

ANSWERED = re.compile(r"error[= :]+(\d{3})\b")
"""How Apprise's plugins name the status of an answer: `..., error=500.`"""


WHERE = "docs/how-to/messages.md lists what the layer has; make test-message tries it"

MIN_KEY_CHARACTERS = 16
"""The length from which a part of an address with a digit counts as a key; a topic's name is often an ordinary word."""


class AddressError(ValueError):
    """An address that Apprise, or the part of it that is in the layer, does not know. The words contain no secret."""


class _Heard(logging.Handler):
    """A handler that keeps what Apprise logs during one attempt, which has a thread of its own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


class Address:
    """An address of Apprise as a channel, such as ntfy://ntfy.sh/my-topic."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def name(self) -> str:
        """See Channel: the kind of the address, such as ntfy."""
        return name_kind(self._url)

    def send(self, message: Message) -> None:
        """See Channel. Raises AddressError for an unknown address, and MessageError if the message was not taken."""
        import apprise  # imported here because a run without a message does not need its half second

        log, heard = logging.getLogger("apprise"), _Heard()
        log.addHandler(heard)
        log.propagate = False
        try:
            # Not through its class for several addresses, which would log from another thread.
            service = apprise.Apprise.instantiate(self._url)
            if service is None:
                raise AddressError(f"Apprise knows no such address of the kind {self.name}, or not here: {WHERE}")
            title = message.subject[:MAX_SUBJECT_CHARACTERS]
            if not service.notify(body=message.short_text, title=title, body_format=apprise.NotifyFormat.TEXT):
                raise MessageError(_explain(heard.lines))
        finally:
            log.removeHandler(heard)


def name_kind(url: str) -> str:
    """Return the kind of an address, such as ntfy for ntfys://...; it is no secret."""
    kind = url.partition("://")[0].lower()
    return kind if re.fullmatch(r"[a-z0-9]{1,20}", kind) else "address"


def split(text: str) -> tuple[str, ...]:
    """Return the addresses in a text, separated by blanks. None is checked: a wrong one must not stop a run."""
    return tuple(text.split())


def list_secrets(urls: Sequence[str]) -> list[str]:
    """Return what is secret in addresses: the whole, and each part of it that looks like a key."""
    parts = [part for url in urls for part in re.split(r"[/?&=:@]+", url.partition("://")[2])]
    return [*urls, *(part for part in parts if len(part) >= MIN_KEY_CHARACTERS and re.search(r"\d", part))]


def _explain(lines: Sequence[str]) -> str:
    """Say why a message was not taken, from what Apprise logged, without its words."""
    for line in reversed(lines):
        if found := ANSWERED.search(line):
            return f"the service answered with status {found[1]}"
        if "onnection error" in line or "socket" in line.lower():
            return "the service cannot be reached, or did not answer in time"
    return "the service did not take it"
