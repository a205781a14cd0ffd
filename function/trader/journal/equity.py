"""The highest equity on record: how it follows the account from run to run. Pure.

The account counts its deposits and withdrawals of the day, but when that count begins anew is not documented: at the
last close, or at midnight. So only two counts of one day are compared with each other, because in a session the count
goes on whichever is true. Everything from the last look of one day to the first of the next is looked up in the
account's activities, where each deposit has its time. So each deposit counts exactly once.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime

from trader.broker.base import CashFlow
from trader.journal.base import Peak
from trader.model import NEW_YORK, Account
from trader.schedule import sessions
from trader.settings import Settings


def name_account(settings: Settings) -> str:
    """Return what tells one account from another: its broker, and where that broker keeps it."""
    where = settings.apca_api_base_url if settings.broker == "alpaca" else settings.account_file
    return f"{settings.broker} {where}"


def is_of_a_later_day(kept: Peak, now: datetime) -> bool:
    """Check whether a peak was saved on a later day than today, New York time, which cannot be."""
    return _day(kept.as_of) > _day(now)


def find_gap(kept: Peak | None, account: Account, now: datetime) -> datetime | None:
    """Return since when deposits and withdrawals must be looked up; None if the account's own count is enough."""
    if kept and not _is_counted(kept, account, now):
        since = kept.as_of
        return since if account.flows_usd is not None else min(since, sessions.previous_close(now))
    return sessions.previous_close(now) if account.flows_usd is None else None


def complete(account: Account, flows: Sequence[CashFlow], now: datetime) -> Account:
    """Return the account with the deposits less withdrawals since the last close, if it does not count them itself."""
    if account.flows_usd is not None:
        return account
    close = sessions.previous_close(now)
    return replace(account, flows_usd=sum(flow.usd for flow in flows if close < flow.at <= now))


def update(kept: Peak | None, name: str, account: Account, now: datetime, flows: Sequence[CashFlow] = ()) -> Peak:
    """Return the peak after a look at the account, or `kept` itself if nothing has changed.

    A deposit or withdrawal changes the peak by the same fraction as the equity, so it changes no drawdown. `flows` are
    those since `find_gap`; they are not used if that is None.
    """
    highest_usd = kept.equity_usd if kept else 0.0
    if kept and (new_usd := _new_usd(kept, account, now, flows)):
        before_usd = account.equity_usd - new_usd
        has_base = before_usd > 0 and account.equity_usd > 0  # without money before or after, a new peak begins
        factor = account.equity_usd / before_usd if has_base else 0.0
        last_usd = account.last_equity_usd
        if has_base and last_usd > 0 and not _is_counted(kept, account, now):
            # Nobody knows whether a loss since the last close came before or after what was moved: assume the worse.
            factor = max(factor, (last_usd + new_usd) / last_usd)
        highest_usd *= factor
    highest_usd = round(max(highest_usd, account.equity_usd, 0.0), 6)
    peak = Peak(account=name, equity_usd=highest_usd, flows_usd=account.flows_usd, as_of=now)
    if kept and _is_counted(kept, account, now) and replace(peak, as_of=kept.as_of) == kept:
        return kept
    return peak


def _new_usd(kept: Peak, account: Account, now: datetime, flows: Sequence[CashFlow]) -> float:
    """Return what was paid in less what was paid out since the peak was saved."""
    if _is_counted(kept, account, now):
        return (account.flows_usd or 0.0) - (kept.flows_usd or 0.0)
    return sum(flow.usd for flow in flows if kept.as_of < flow.at <= now)


def _is_counted(kept: Peak, account: Account, now: datetime) -> bool:
    """Check whether the account's count and the one in the peak are of one day."""
    return kept.flows_usd is not None and account.flows_usd is not None and _day(kept.as_of) == _day(now)


def _day(moment: datetime) -> date:
    return moment.astimezone(NEW_YORK).date()
