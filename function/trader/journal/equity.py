"""The highest equity on record: how it follows the account from run to run. Pure."""

from datetime import date, datetime

from trader.journal.base import Peak
from trader.model import NEW_YORK, Account
from trader.settings import Settings


def name_account(settings: Settings) -> str:
    """Return what tells one account from another: its broker, and where that broker keeps it."""
    where = settings.apca_api_base_url if settings.broker == "alpaca" else settings.account_file
    return f"{settings.broker} {where}"


def keep(kept: Peak | None, account: str, now: datetime) -> Peak | None:
    """Return the kept peak if it is of this account, and not from a later day; otherwise None: a new one begins."""
    if kept is None or kept.account != account or _day(kept.as_of) > _day(now):
        return None
    return kept


def is_of_today(kept: Peak, now: datetime) -> bool:
    """Check whether the deposits and withdrawals in a peak are those of today, New York time."""
    return _day(kept.as_of) == _day(now)


def update(kept: Peak | None, name: str, account: Account, now: datetime, missed_usd: float = 0.0) -> Peak:
    """Return the peak after a look at the account, or `kept` itself if nothing has changed.

    A deposit or withdrawal changes the peak by the same fraction as the equity, so it changes no drawdown. `missed_usd`
    are the deposits less withdrawals after the last look on an earlier day.
    """
    seen_usd = kept.flows_usd if kept and is_of_today(kept, now) else 0.0
    new_usd = account.flows_usd - seen_usd + missed_usd
    before_usd = account.equity_usd - new_usd
    highest_usd = kept.equity_usd if kept else 0.0
    if new_usd:
        has_base = before_usd > 0 and account.equity_usd > 0  # without money before or after, a new peak begins
        highest_usd *= account.equity_usd / before_usd if has_base else 0.0
    highest_usd = round(max(highest_usd, account.equity_usd, 0.0), 6)
    if kept and is_of_today(kept, now) and (kept.equity_usd, kept.flows_usd) == (highest_usd, account.flows_usd):
        return kept
    return Peak(account=name, equity_usd=highest_usd, flows_usd=account.flows_usd, as_of=now)


def _day(moment: datetime) -> date:
    return moment.astimezone(NEW_YORK).date()
