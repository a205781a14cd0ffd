"""All stand-ins at once: Alpaca, Yahoo and AWS on loopback, and the settings that point a run at them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from scripts.testkit import aws
from scripts.testkit.alpaca import AlpacaFake
from scripts.testkit.yahoo import Listing, YahooFake
from trader.model import NEW_YORK
from trader.schedule import sessions

BUCKET, PREFIX = "journal", "trader"
"""The journal's bucket and the folder in it; the SSM parameters have the same prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The running stand-ins. `environment` points boto3, yfinance and a run's settings at them."""

    alpaca: AlpacaFake
    yahoo: YahooFake
    aws: Mapping[str, str]
    environment: Mapping[str, str]

    def list_objects(self) -> Mapping[str, int]:
        """Return the size in bytes of each object in the journal's bucket, by key."""
        listing = aws.client("s3", self.aws).list_objects_v2(Bucket=BUCKET)
        return {item["Key"]: item["Size"] for item in listing.get("Contents", [])}

    def read_object(self, key: str) -> bytes:
        """Return an object of the journal's bucket."""
        body: bytes = aws.client("s3", self.aws).get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def write_object(self, key: str, body: bytes) -> None:
        """Put an object into the journal's bucket."""
        aws.client("s3", self.aws).put_object(Bucket=BUCKET, Key=key, Body=body)


@contextmanager
def start(
    closes: Mapping[str, Sequence[float]], *, not_at_yahoo: Sequence[str] = (), latency_s: float = 0.0
) -> Iterator[Services]:
    """Start the stand-ins with daily closes by symbol, up to today, and with an account that has no positions.

    The symbols in `not_at_yahoo` have their prices in Alpaca's data API instead. The AWS account contains only the
    journal's bucket and, in SSM, Alpaca's keys and the halt switch. This process's own environment is not changed.
    Yahoo and Alpaca wait `latency_s` before each answer.
    """
    now = datetime.now(UTC)
    listed = {symbol: series for symbol, series in closes.items() if symbol not in not_at_yahoo}
    with ExitStack() as stack:
        alpaca = stack.enter_context(AlpacaFake(prices={symbol: series[-1] for symbol, series in closes.items()}))
        alpaca.latency_s = latency_s
        alpaca.bars = {symbol: daily_bars(closes[symbol], now) for symbol in not_at_yahoo}
        listings = {symbol.replace(".", "-"): Listing(series, now) for symbol, series in listed.items()}
        yahoo = stack.enter_context(YahooFake(listings, latency_s=latency_s))
        variables = aws.open_account()
        aws.client("s3", variables).create_bucket(Bucket=BUCKET)
        settings = {
            **alpaca.environment,
            **keep_keys(alpaca, variables),
            "JOURNAL": f"s3://{BUCKET}/{PREFIX}",
            "PRICE_SOURCES": "yahoo,alpaca",
            "UNIVERSE": ",".join(closes),
            "HISTORY_BARS": str(max(len(series) for series in closes.values())),
            "MAX_PRICE_AGE_S": "600000",  # long enough for a weekend
        }
        yield Services(
            alpaca=alpaca, yahoo=yahoo, aws=variables, environment={**variables, **yahoo.environment, **settings}
        )


def keep_keys(alpaca: AlpacaFake, variables: Mapping[str, str]) -> Mapping[str, str]:
    """Put Alpaca's keys and the halt switch into SSM, and return the settings that name them."""
    ssm = aws.client("ssm", variables)
    for name, value in {"user": alpaca.key_id, "pw": alpaca.secret, "halt": "false"}.items():
        ssm.put_parameter(Name=f"/{PREFIX}/{name}", Value=value, Type="SecureString")
    return {
        "ALPACAUSER": f"ssm:/{PREFIX}/user",
        "ALPACAPW": f"ssm:/{PREFIX}/pw",
        "HALT_PARAMETER": f"/{PREFIX}/halt",
    }


def trend_closes(count: int, last_step: float = 0.0, *, seed: int = 1) -> list[float]:
    """Return daily closes that rise from 100 to 110 with a little noise; the last is 110 * (1 + last_step)."""
    noise = np.random.default_rng(seed).normal(0, 0.002, count)
    line = np.linspace(100, 110, count) * np.exp(noise)
    return [*line[:-1].tolist(), 110 * (1 + last_step)]


def daily_bars(closes: Sequence[float], now: datetime) -> list[tuple[datetime, float]]:
    """Return bars (start, close) of the last sessions up to today; like Alpaca's, they start at New York's midnight."""
    day = now.astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    days: list[datetime] = []
    while len(days) < len(closes):
        days += [day] if sessions.session(day.date()) else []
        day -= timedelta(days=1)
    return list(zip(reversed(days), closes, strict=True))
