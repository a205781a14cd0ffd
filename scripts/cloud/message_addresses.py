"""The addresses of messages that `make secrets` asks for: whether Apprise knows them, and how to speak of them.

An address is a secret: only its kind, such as ntfy, is ever shown.
"""

import contextlib
import io
import logging
from collections.abc import Mapping

from scripts import console
from scripts.cloud.aws import UsageError
from trader.messages.addresses import name_kind, split

VARIABLE = "message_url"
"""The last part of the parameter's name; in capitals, the setting's."""

NONE = "none"
"""What is entered to delete the addresses."""

MAX_BYTES = 4_096
"""The longest value that AWS takes for a parameter of the standard tier."""


def find_problem(text: str) -> str:
    """Return why addresses, separated by blanks, cannot be used, without quoting them; empty if they can."""
    if len(text.encode()) > MAX_BYTES:
        return f"the addresses have {len(text.encode())} bytes; AWS stores at most {MAX_BYTES}"
    for number, address in enumerate(split(text), 1):
        which = f"address {number} ({name_kind(address)})"
        if address.startswith("ssm:"):
            return f"{which} is a reference to a parameter (ssm:...); give the address itself"
        if not is_known(address):
            return (
                f"{which} is none that Apprise knows: it must be like ntfy://ntfy.sh/topic, and several are separated "
                "by blanks; each service's is at https://github.com/caronc/apprise/wiki"
            )
    return ""


def is_known(address: str) -> bool:
    """Return whether Apprise knows an address. It is not sent anything."""
    import apprise  # imported here because it takes half a second that only addresses are worth

    log = logging.getLogger("apprise")
    was_disabled, log.disabled = log.disabled, True  # its lines quote the address
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # as do the warnings of its plugins
            return apprise.Apprise.instantiate(address) is not None
    finally:
        log.disabled = was_disabled


def read_environment(env: Mapping[str, str]) -> str | None:
    """Return the addresses in MESSAGE_URL, `none` to delete the stored ones, or None if it is not set.

    Raises UsageError if they cannot be used.
    """
    text = tidy(env.get("MESSAGE_URL", ""))
    if not text:
        return None
    if text != NONE and (problem := find_problem(text)):
        raise UsageError(f"MESSAGE_URL: {problem}")
    console.note("using the addresses of messages in MESSAGE_URL; unset it to be asked, or to keep the stored ones")
    return text


def tidy(text: str) -> str:
    """Return the addresses in a text, separated by one blank each; `none` in small letters."""
    words = " ".join(split(text))
    return NONE if words.lower() == NONE else words


def name_kinds(text: str) -> str:
    """Return the kinds of addresses, such as `ntfy, slack`."""
    return ", ".join(name_kind(address) for address in split(text))
