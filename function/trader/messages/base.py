"""A message, and the interface of the channels that carry it."""

from dataclasses import dataclass
from typing import Protocol

MAX_SUBJECT_CHARACTERS = 99
"""The longest subject that SNS takes."""

MAX_TEXT_CHARACTERS = 3_500
"""The longest text that is sent: chat services cut or refuse what is longer than about 4,000 characters."""


class MessageError(Exception):
    """A channel did not take a message. The words contain no secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message in plain text: one line that says what it is about, and the text."""

    subject: str
    text: str

    @property
    def short_text(self) -> str:
        """The text, cut at the end of a line if it is too long for a channel."""
        if len(self.text) <= MAX_TEXT_CHARACTERS:
            return self.text
        kept = self.text[:MAX_TEXT_CHARACTERS].rpartition("\n")[0] or self.text[:MAX_TEXT_CHARACTERS]
        left = self.text.count("\n") - kept.count("\n")
        return f"{kept}\n({left} more lines)"


class Channel(Protocol):
    """A way to the owner."""

    @property
    def name(self) -> str:
        """What the channel is called in the log; no secret."""

    def send(self, message: Message) -> None:
        """Send a message. Raises MessageError, or any error of its library; the caller bounds the time."""
