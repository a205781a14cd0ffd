"""Addresses of Apprise, with servers that take a message, refuse it, or never answer."""

import socket

import pytest

from scripts.testkit.web_hook import web_hook
from trader.messages.addresses import Address, AddressError, list_secrets, name_kind
from trader.messages.base import Message, MessageError

MESSAGE = Message("trend: run failed", "trend (paper)\n\n- run failed: JournalError")


def test_a_web_hook_gets_the_subject_and_the_text_once() -> None:
    with web_hook() as server:
        Address(f"json://{server.place}/key").send(MESSAGE)
    ((taken),) = server.taken
    assert (taken["title"], taken["message"]) == (MESSAGE.subject, MESSAGE.text)


def test_ntfy_gets_the_topic_and_the_text() -> None:
    with web_hook() as server:
        Address(f"ntfy://{server.place}/my-topic").send(MESSAGE)
    ((taken),) = server.taken
    assert (taken["topic"], taken["title"], taken["message"]) == ("my-topic", MESSAGE.subject, MESSAGE.text)


@pytest.mark.parametrize("status", [403, 500])
def test_a_service_that_refuses_is_an_error_with_its_status(status: int) -> None:
    with web_hook(status) as server, pytest.raises(MessageError, match=f"^the service answered with status {status}$"):
        Address(f"ntfy://{server.place}/topic").send(MESSAGE)


def test_a_service_that_is_not_there_is_an_error_that_shows_no_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(MessageError, match="cannot be reached") as caught:
        Address(f"json://127.0.0.1:{port}/keyOfTheOwner12345678").send(MESSAGE)
    assert "keyOfTheOwner" not in str(caught.value)


@pytest.mark.parametrize("url", ["nothing://x/y", "slack://", "words"])
def test_an_unknown_address_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(AddressError, match="Apprise knows no such address") as caught:
        Address(url).send(MESSAGE)
    assert "//" not in str(caught.value).partition("docs/")[0]


@pytest.mark.parametrize(
    ("url", "kind"), [("ntfys://ntfy.sh/a", "ntfys"), ("SLACK://a/b", "slack"), ("no kind", "address")]
)
def test_the_log_names_the_kind_of_an_address_only(url: str, kind: str) -> None:
    assert name_kind(url) == kind


def test_keys_in_an_address_are_secrets_and_words_are_not() -> None:
    secrets = list_secrets(["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/portfolio"])
    assert "TIiajkdnlazkcOXrIdevi7FQ" in secrets
    assert "portfolio" not in secrets
