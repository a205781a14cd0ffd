"""Ask Alpaca once which account a pair of keys belongs to, before the keys are stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scripts.cloud.aws import UsageError
from scripts.console import CommandError
from trader.alpaca.client import AlpacaClient, AlpacaError, CredentialsError
from trader.logs import keep_secrets, one_line, redact
from trader.settings import LIVE_URL, PAPER_URL, base_url

PAPER_KEY, LIVE_KEY = "PK", "AK"
"""How the key ids of paper accounts and of live accounts begin."""

KINDS = {PAPER_URL: "paper money", LIVE_URL: "REAL MONEY"}
BLOCKED = ("account_blocked", "trading_blocked", "trade_suspended_by_user")


@dataclass(frozen=True, slots=True)
class Keys:
    """A key id and its secret key, both kept out of every repr."""

    alpacauser: str = field(repr=False)
    alpacapw: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account at Alpaca: its number, its kind of money, and its status."""

    number: str
    kind: str
    status: str

    def __str__(self) -> str:
        return f"Alpaca account {self.number}, {self.kind}, {self.status}"


class KeysRefusedError(CommandError):
    """Alpaca does not accept the pair of keys."""


def look_up(keys: Keys, url: str) -> Account:
    """Return the account of the keys. Raises KeysRefusedError, or CommandError if Alpaca does not say."""

    def give_once(is_refused: bool) -> tuple[str, str]:
        if is_refused:  # a second request with the same keys would be refused as well
            raise CredentialsError("refused")
        return keys.alpacauser, keys.alpacapw

    keep_secrets(keys.alpacauser, keys.alpacapw)
    try:
        told = AlpacaClient(url, url, give_once, attempts=2).get("/account")
    except CredentialsError:
        raise KeysRefusedError(
            f"Alpaca refused these keys ({url}, {KINDS.get(url, 'a stand-in')}): the secret key does not belong to the "
            "key id, or the keys were deleted or replaced; copy both again, or make new ones in Alpaca's dashboard"
        ) from None
    except AlpacaError as error:
        raise CommandError(
            f"Alpaca could not be asked about these keys, so nothing was stored for them: {redact(str(error))}\n"
            "Check the network connection and try again, or store them without asking: add CHECK=0"
        ) from None
    return _read(told, url)


def _read(told: object, url: str) -> Account:
    fields = told if isinstance(told, dict) else {}
    number, status = (one_line(fields.get(name, "")) for name in ("account_number", "status"))
    if not number:
        raise CommandError(
            f"{url} did not answer like Alpaca (an account without a number), so nothing was stored; check "
            "APCA_API_BASE_URL, or add CHECK=0 to store the keys without asking"
        )
    blocked = [name.replace("_", " ") for name in BLOCKED if fields.get(name)]
    return Account(
        number=number,
        kind=KINDS.get(url, "paper money" if number.startswith("PA") else "unknown money"),
        status=", ".join([status or "of unknown status", *blocked]),
    )


def choose_url(keys: Keys, mode: str, env: Mapping[str, str]) -> str:
    """Return the address of Alpaca that knows the keys: a live account's keys are unknown to the paper API.

    APCA_API_BASE_URL decides if it is set. Otherwise the beginning of the key id does, or else the MODE of the
    strategy. Raises UsageError for an address that is not Alpaca's.
    """
    if given := env.get("APCA_API_BASE_URL", "").strip():
        try:
            return base_url(given)
        except ValueError as error:
            raise UsageError(f"APCA_API_BASE_URL={given}: must be {error}") from None
    kinds = {PAPER_KEY: PAPER_URL, LIVE_KEY: LIVE_URL}
    return kinds.get(keys.alpacauser[:2], LIVE_URL if mode == "live" else PAPER_URL)


def explain_mismatch(strategy: str, keys: Keys, mode: str) -> str:
    """Return why a deployed strategy cannot work with the keys of the other kind of account; empty if it can."""
    if mode == "live" and keys.alpacauser.startswith(PAPER_KEY):
        return (
            f"{strategy} is deployed with MODE=live, and these keys are for a paper account ({PAPER_KEY}...): its runs "
            "will fail until it is deployed with MODE=paper"
        )
    if mode == "paper" and keys.alpacauser.startswith(LIVE_KEY):
        return (
            f"{strategy} is deployed with MODE=paper, and these keys are for a live account ({LIVE_KEY}...): its runs "
            "will fail until it is deployed with MODE=live, and then trade REAL MONEY"
        )
    return ""
