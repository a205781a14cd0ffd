"""How long a deployed strategy's journal is kept, and when its oldest record is removed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from scripts.cloud.aws import CONFIG
from trader.model import NEW_YORK
from trader.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import LifecycleRuleOutputTypeDef

NEAR = timedelta(days=60)
"""How long before its end a record is spoken of."""

DAY = re.compile(r"/(\d{4}-\d{2}-\d{2})/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A bucket's period in days, and its oldest record's day and end."""

    days: int
    oldest_day: str
    ends_at: datetime

    def warn(self, now: datetime) -> str:
        """Return what is removed soon and how to keep it; empty if that is not soon."""
        if self.ends_at - now > NEAR:
            return ""
        year = self.oldest_day[:4]
        return (
            f"The bucket keeps records for {self.days} days (retention_days): that of {self.oldest_day} is removed on "
            f"{self.ends_at.astimezone(NEW_YORK):%Y-%m-%d}. make export DEPLOYED=1 YEAR={year} keeps its trades."
        )


def find(settings: Settings) -> Retention | None:
    """Return the retention of a journal; None if it is no bucket, is empty or keeps all, or nobody may ask."""
    if not settings.journal.startswith("s3://"):
        return None
    parts = urlsplit(settings.journal)
    prefix = "/".join(filter(None, (parts.path.strip("/"), "runs", settings.strategy, "")))
    client = boto3.client("s3", config=CONFIG)
    try:
        rules = client.get_bucket_lifecycle_configuration(Bucket=parts.netloc)["Rules"]
        first = client.list_objects_v2(Bucket=parts.netloc, Prefix=prefix, MaxKeys=1).get("Contents", [])
    except (BotoCoreError, ClientError):
        return None
    days = min(_list_days(rules, prefix), default=None)
    day = DAY.search(first[0]["Key"]) if first else None
    if days is None or day is None:
        return None
    return Retention(days=days, oldest_day=day[1], ends_at=first[0]["LastModified"] + timedelta(days=days))


def _list_days(rules: "list[LifecycleRuleOutputTypeDef]", prefix: str) -> Iterator[int]:
    for rule in rules:
        is_about = rule["Status"] == "Enabled" and prefix.startswith(rule.get("Filter", {}).get("Prefix", ""))
        if is_about and "Days" in (expiration := rule.get("Expiration", {})):
            yield expiration["Days"]
