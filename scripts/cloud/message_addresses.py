"""The addresses of messages that `make secrets` asks for: whether the layer can send to them, and how to name them.

An address is a secret: only its kind, such as ntfy, is ever shown.
"""

import contextlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from scripts import console
from scripts.cloud.aws import UsageError
from scripts.layer.prune import read_rules
from trader.messages.addresses import name_kind, split

VARIABLE = "message_url"
"""The last part of the parameter's name; in capitals, the setting's."""

NONE = "none"
"""What is entered to delete the addresses."""

PLUGINS = "apprise/plugins/"
"""Where the layer has Apprise's services."""

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
        service = find_service(address)
        if service is None:
            return (
                f"{which} is none that Apprise knows: it must be like ntfy://ntfy.sh/topic, and several are separated "
                "by blanks; each service's is at https://github.com/caronc/apprise/wiki"
            )
        if service.module not in list_modules_in_layer():
            return f"{which} is of {service.name}, which the layer lacks; it has {', '.join(list_services_in_layer())}"
    return ""


@dataclass(frozen=True, slots=True)
class Service:
    """One of Apprise's services: its name, and that of its module below apprise.plugins."""

    name: str
    module: str


def find_service(address: str) -> Service | None:
    """Return the service of an address; None if Apprise knows none. It is not sent anything."""
    import apprise  # imported here because it takes half a second that only addresses are worth

    log = logging.getLogger("apprise")
    was_disabled, log.disabled = log.disabled, True  # its lines quote the address
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # as do the warnings of its plugins
            found = apprise.Apprise.instantiate(address)
    finally:
        log.disabled = was_disabled
    return None if found is None else _name_service(type(found))


def _name_service(kind: Any) -> Service:  # noqa: ANN401 Apprise has no types
    return Service(str(kind.service_name), str(kind.__module__).removeprefix("apprise.plugins.").partition(".")[0])


@cache
def list_modules_in_layer() -> frozenset[str]:
    """Return the modules of the services that the rules of the layer keep; a deployed function has no others."""
    kept = (path for rule in read_rules() for path in rule.keep if path.startswith(PLUGINS))
    return frozenset(path.removeprefix(PLUGINS).removesuffix(".py") for path in kept)


def list_services_in_layer() -> list[str]:
    """Return the names of the services in the layer, in alphabetical order."""
    from apprise import manager_plugins  # as apprise itself, only where an address is wrong

    manager: Any = manager_plugins.NotificationManager  # which has no types
    services = {_name_service(each) for each in manager().plugins()}
    found = {each.name for each in services if each.module in list_modules_in_layer()}
    return sorted(found, key=str.lower)


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
