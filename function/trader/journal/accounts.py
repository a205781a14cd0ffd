"""Whose account it is: an account belongs to one strategy, because each of two would sell what the other has bought.

accounts/NUMBER.json in a journal     the strategy that trades this account at Alpaca
ACCOUNT_FILE.strategy beside the file  the strategy that trades this embedded account

The first run of a strategy that sees the account enters its name, with the same conditional create as a claim. Whoever
removes the entry hands the account over: the next strategy that runs with it takes it.
"""

import json
from dataclasses import dataclass

from trader import codec
from trader.journal.base import DamagedError, Store
from trader.logs import one_line

FOLDER = "accounts/"
"""The folder of a journal that has the entries."""

ENDING = ".strategy"
"""What is added to the name of an embedded account's file for that of its entry."""


def name_entry(number: str) -> str:
    """Return the name of an account's entry in a journal."""
    return f"{FOLDER}{number}.json"


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """The entry of one account. `account` is what a person calls it, `place` where the store is."""

    store: Store
    name: str
    account: str
    place: str

    def refuse(self, strategy: str, *, is_dry: bool) -> str:
        """Return why a strategy may not trade the account, and what to do; empty if it may.

        The strategy takes an account that nobody has; a dry run only reads. Raises JournalError if the store fails, and
        DamagedError if the entry is none.
        """
        owner = self.read_owner()
        if not owner and not is_dry:
            if self.store.create(self.name, json.dumps({"strategy": strategy})):
                return ""
            owner = self.read_owner()
        if owner in ("", strategy):
            return ""
        return (
            f"{self.account} is {owner}'s, as {self.place}{self.name} says, and two strategies must not share an "
            f"account; use another one for {strategy}, or remove that entry to hand this one over"
        )

    def read_owner(self) -> str:
        """Return the strategy that has the account; empty if none has it."""
        text = self.store.read(self.name)
        if text is None:
            return ""
        try:
            owner = codec.decode_object(codec.parse_json(text))["strategy"]
            if not isinstance(owner, str) or not owner:
                raise ValueError(f"{owner!r:.100} is not a strategy")
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(
                f"{self.place}{self.name} does not say whose {self.account} is ({one_line(error, 100)}); remove it, "
                "and the next strategy that runs with the account takes it"
            ) from error
        return owner
