"""Settings from environment variables, each typed and checked; all problems are reported at once."""

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

from trader.alpha import loader, own
from trader.alpha.base import Facts, RuleError
from trader.alpha.rule import PREFIX
from trader.logs import keep_secrets
from trader.messages import addresses
from trader.model import BAR_LENGTH, SAMPLE_PRICES, BrokerName, Engine, Mode, PriceSourceName, Shares, Sizing
from trader.prices.spelling import spell

LIVE_URL = "https://api.alpaca.markets"
PAPER_URL = "https://paper-api.alpaca.markets"
REFERENCE = "ssm:"
"""The prefix of a value that names a parameter of AWS Systems Manager; the parameter's value is used instead."""

MAX_PRICE_AGE_S = {"1d": 86_400, "1h": 7_200, "15m": 1_800, "5m": 900, "1m": 300}
"""Defaults by bar interval. Bars are stamped with their start: a daily bar under 24 h old is the current session's."""

STRATEGY_NAME = r"[a-z0-9](-?[a-z0-9]){0,31}"
STRATEGY_NAME_IN_WORDS = "at most 32 lower-case letters, digits and single hyphens"
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A decimal number in ASCII. Python itself would also accept 1_5 and the digits of other scripts."""

ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9a-f:]+\])(:\d{1,5})?(/[\w.~-]*)*", re.ASCII | re.IGNORECASE)
"""A URL whose host all programs read alike; they disagree about blanks, user names and dots outside ASCII."""

MAX_PATH_CHARACTERS = 4096
SHOWN = 100
"""The maximum number of characters of a value that an error shows."""

SHORT = 5
"""Names up to this length, such as MODEL, must be a setting's but for case, because many belong to other programs."""

type Fetch = Callable[[Sequence[str]], Mapping[str, str]]
"""A function that returns values by parameter name, without parameters that do not exist or may not be read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem with some variables. The text names them, their values and what is allowed."""

    variables: frozenset[str]
    text: str

    def __str__(self) -> str:
        return self.text


class SettingsError(ValueError):
    """The settings in the environment are invalid; `problems` lists everything that is wrong with them."""

    def __init__(self, problems: Sequence[Problem | str]) -> None:
        super().__init__("invalid settings:\n" + "\n".join(f"  - {problem}" for problem in problems))
        self.problems = tuple(map(str, problems))


# --- parsers: from text to value; a ValueError says what is allowed ------------------------------------------------


@dataclass(frozen=True, slots=True)
class OneOf:
    """A parser for one of the given words."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """Return the word. Raises ValueError if it is not one of `words`."""
        if text not in self.words:
            raise ValueError(f"one of {', '.join(self.words)}")
        return text


class RuleName:
    """A parser for a rule: the name of a registered one, or the path of a file such as rules/mine.py.

    It reads the registry at each call, and so knows new rules.
    """

    @property
    def words(self) -> tuple[str, ...]:
        """The names of all rules."""
        return loader.names()

    def __call__(self, text: str) -> str:
        """Return the text. Raises RuleError if the file cannot be used, or ValueError if no rule has the name."""
        if own.is_file(text):
            own.read(text)
        elif text not in self.words:
            raise ValueError(f"one of {', '.join(self.words)}, or the path of a file such as rules/mine.py")
        return text


@dataclass(frozen=True, slots=True)
class MemberOf[T: StrEnum]:
    """A parser for one member of an enumeration."""

    kind: type[T]

    def __call__(self, text: str) -> T:
        """Return the member. Raises ValueError if `kind` has no such member."""
        return self.kind(OneOf(tuple(self.kind))(text))


@dataclass(frozen=True, slots=True)
class MembersOf[T: StrEnum]:
    """A parser for a comma-separated list of distinct members of an enumeration; it keeps their order."""

    kind: type[T]

    def __call__(self, text: str) -> tuple[T, ...]:
        """Return the members. Raises ValueError for an unknown word, and for one that occurs twice."""
        words = tuple(word.strip() for word in text.split(","))
        if not set(words) <= set(self.kind) or len(set(words)) < len(words):
            raise ValueError(f"a comma-separated list of {', '.join(self.kind)}, each at most once")
        return tuple(self.kind(word) for word in words)


@dataclass(frozen=True, slots=True)
class Number:
    """A parser for a number from `low` to `high`; `above` excludes `low` itself, and `below` excludes `high`."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __call__(self, text: str) -> float:
        """Return the number. Raises ValueError if the text is not a number, or is out of bounds."""
        value = float(text) if DECIMAL.fullmatch(text) else math.nan
        is_inside = self.low <= value <= self.high
        is_left_out = (self.above and value == self.low) or (self.below and value == self.high)
        if not math.isfinite(value) or not is_inside or is_left_out:
            begin, end = "above" if self.above else "from", "and below" if self.below else "to"
            raise ValueError(f"a number {begin} {self.low:g} {end} {self.high:g}")
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """A parser for a whole number from `low` to `high`."""

    low: int
    high: int

    def __call__(self, text: str) -> int:
        """Return the number. Raises ValueError if the text is not a whole number, or is out of bounds."""
        if not re.fullmatch(r"[0-9]{1,9}", text) or not self.low <= int(text) <= self.high:
            raise ValueError(f"a whole number from {self.low} to {self.high}")
        return int(text)


def matching(pattern: str, allowed: str) -> Callable[[str], str]:
    """Return a parser for text that matches a regular expression in full; `allowed` describes it in an error."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(allowed)
        return text

    return parse


def path(text: str) -> str:
    """Return the path of a file or folder. Raises ValueError if the file system would not accept it."""
    if not text.isprintable() or len(text) > MAX_PATH_CHARACTERS:
        raise ValueError(f"a path of at most {MAX_PATH_CHARACTERS} printable characters")
    return text


def universe(text: str) -> tuple[str, ...]:
    """Return `sp500`, or distinct symbols in Alpaca's spelling; Yahoo's (BRK-B) and others' are understood."""
    if text.strip().lower() == "sp500":
        return ("sp500",)
    symbols = [spell(symbol) for symbol in text.split(",")]
    if not text.isascii() or not all(re.fullmatch(r"[A-Z][A-Z0-9]{0,5}(\.[A-Z]{1,2})?", symbol) for symbol in symbols):
        raise ValueError("sp500, or a comma-separated list of symbols such as AAPL,BRK.B")
    if "SP500" in symbols:
        raise ValueError("sp500 alone, or a comma-separated list of symbols such as AAPL,BRK.B")
    return tuple(dict.fromkeys(symbols))


def strategies(text: str) -> tuple[str, ...]:
    """Return distinct names of strategies."""
    names = tuple(dict.fromkeys(each.strip() for each in text.split(",")))
    if not all(re.fullmatch(STRATEGY_NAME, name, re.ASCII) for name in names):
        raise ValueError(f"a comma-separated list of strategies' names, each of {STRATEGY_NAME_IN_WORDS}")
    return names


def base_url(text: str) -> str:
    """Return an address of Alpaca or of this machine; no other host may receive the keys.

    The /v2 that Alpaca's dashboard shows is removed, because the SDK adds it.
    """
    try:
        parts = urlsplit(text if ADDRESS.fullmatch(text) else "")
        # urlsplit checks the port only when it is read, here.
        scheme, host = (parts.scheme, parts.hostname or "") if parts.port != 0 else ("", "")
    except ValueError:
        scheme, host = "", ""
    is_alpacas = scheme == "https" and host.rstrip(".").endswith(".alpaca.markets")
    if not (is_alpacas or (scheme in {"http", "https"} and host in {"127.0.0.1", "localhost", "::1"})):
        raise ValueError(f"an https address of alpaca.markets, such as {PAPER_URL}, or an address of this machine")
    return text.rstrip("/").removesuffix("/v2").rstrip("/")


def journal(text: str) -> str:
    """Return the location of the journal: a folder or an S3 bucket."""
    if not re.fullmatch(r"folder:.+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w./-]*)?", text):
        raise ValueError("folder:PATH or s3://bucket/prefix")
    return path(text)


def halt_parameter(text: str) -> str:
    """Return the name of the halt switch's SSM parameter, which may be written with or without ssm: before it."""
    return matching(r"/[\w./-]+", "the name of an SSM parameter such as /prophet-trader/trend/halt")(
        text.removeprefix(REFERENCE)
    )


def time_of_day(text: str) -> str:
    """Return a time of day in hours and minutes, such as 15:00."""
    return matching(r"([01]\d|2[0-3]):[0-5]\d", "a time of day such as 15:00")(text)


PIN = f"{PREFIX}SHA256"
"""The variable that demands a certain version of an own rule; no parameter of a rule can have this name."""


def setting(
    default: object,
    parse: Callable[[str], object],
    meaning: str,
    *,
    secret: bool = False,
    recorded: bool = True,
    optional: bool = False,
) -> Any:  # noqa: ANN401 like dataclasses.field, it stands where the field's own type is declared
    """Declare a field of Settings: its default, the parser for its text, and its meaning.

    One that is not `recorded` changes nothing that a run decides, and is left out of its record; so is a secret. The
    parameter in SSM of one that is `optional` need not exist.
    """
    metadata = {"parse": parse, "meaning": meaning, "secret": secret, "recorded": recorded and not secret}
    return field(default=default, repr=not secret, metadata={**metadata, "optional": optional})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Each field is read from the environment variable of the same name in capitals."""

    strategy: str = setting(
        loader.DEFAULT,
        matching(STRATEGY_NAME, STRATEGY_NAME_IN_WORDS),
        "name: part of order ids and of the journal's path",
    )
    broker: BrokerName = setting(
        BrokerName.EMBEDDED, MemberOf(BrokerName), "a paper account in a local file, or Alpaca"
    )
    mode: Mode = setting(Mode.PAPER, MemberOf(Mode), "dry-run decides but places no orders")
    daily_at: str = setting(
        "", time_of_day, "New York time of the only run of a day; a scheduled event at another time is NOT_DUE"
    )
    price_sources: tuple[PriceSourceName, ...] = setting(
        (PriceSourceName.FILE,),
        MembersOf(PriceSourceName),
        "queried in this order, each for the symbols that the previous ones lack",
    )
    price_file: str = setting(
        str(SAMPLE_PRICES), path, "CSV (may be .gz): timestamp, then a column of closes per symbol"
    )
    universe: tuple[str, ...] = setting(("sp500",), universe, "sp500, or a comma-separated list of symbols")
    universe_size: int = setting(20, Integer(1, 1_000), "number of top performers to consider")
    universe_lookback_bars: int = setting(60, Integer(1, 2_000), "bars over which performance is measured")
    bar_interval: str = setting("1d", OneOf(tuple(BAR_LENGTH)), "length of a bar")
    history_bars: int = setting(250, Integer(30, 5_000), "bars that a trend line is fitted to")
    engine: Engine = setting(
        Engine.PROPHET,
        MemberOf(Engine),
        "what fits the trend lines: Prophet's package, or its model for all symbols at once",
    )
    signal: str = setting(loader.DEFAULT, RuleName(), "the rule that turns forecasts into insights")
    signal_threshold_fraction: float = setting(0.01, Number(0, 1, below=True), "dead band around the trend line")
    rule_parameters: tuple[tuple[str, float], ...] = ()  # those set by RULE_..., sorted by name
    horizon_bars: int = setting(1, Integer(1, 250), "bars that a rule with a forecast interval looks ahead")
    sizing: Sizing = setting(
        Sizing.EQUAL,
        MemberOf(Sizing),
        "how the cash is divided among buys: equally, the less the more a price varies, or by the weights of your rule",
    )
    shares: Shares = setting(
        Shares.WHOLE,
        MemberOf(Shares),
        "whole shares with a bracket, or parts of a share with a stop that is renewed each day, and no take profit",
    )
    cash_buffer_fraction: float = setting(0.05, Number(0, 1, below=True), "share of the equity never spent")
    max_position_fraction: float = setting(0.10, Number(0, 1, above=True), "largest share of the equity in one symbol")
    max_order_usd: float = setting(25_000.0, Number(0, 1e9, above=True), "largest buy")
    max_orders_per_run: int = setting(20, Integer(1, 500), "orders in one run, sales included")
    stop_loss_fraction: float = setting(0.03, Number(0, 1, below=True), "stop below the price of a buy; 0: no bracket")
    take_profit_fraction: float = setting(0.40, Number(0, 10), "limit above the price of a buy; 0: no bracket")
    pause_after_stop_bars: int = setting(
        1, Integer(0, 1_000), "bars after a stop loss before the symbol may be bought again; 0: no pause"
    )
    max_price_drift_fraction: float = setting(
        0.01,
        Number(0, 1, above=True),
        "largest change from the decided price to the latest trade; default: a third of STOP_LOSS_FRACTION, or 0.01",
    )
    max_daily_loss_fraction: float = setting(
        0.03, Number(0, 1, above=True), "no new buys once equity is this far below yesterday's close"
    )
    max_drawdown_fraction: float = setting(
        0.0, Number(0, 1, below=True), "no new buys once equity is this far below its highest on record; 0: no limit"
    )
    max_price_age_s: float = setting(float(MAX_PRICE_AGE_S["1d"]), Number(1, 1e9), "older prices are STALE_PRICE")
    halt_parameter: str = setting("", halt_parameter, "SSM parameter read before each order; HALTED unless false")
    journal: str = setting("folder:out/journal", journal, "folder:PATH or s3://bucket/prefix")
    account_file: str = setting("out/account.json", path, "where the embedded broker keeps its account")
    starting_cash_usd: float = setting(100_000.0, Number(0, 1e12, above=True), "cash of a new embedded account")
    alpacauser: str = setting("", str, "Alpaca key id", secret=True)
    alpacapw: str = setting("", str, "Alpaca secret key", secret=True)
    apca_api_base_url: str = setting(PAPER_URL, base_url, "Alpaca's trading API; the default depends on MODE")
    apca_api_data_url: str = setting("https://data.alpaca.markets", base_url, "Alpaca's data API")

    message_topic: str = setting(
        "",
        matching(r"arn:aws[\w-]*:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}", "the ARN of a topic in Amazon SNS"),
        "topic that messages go to: what needs a person, and the day's digest",
        recorded=False,
    )
    message_url: tuple[str, ...] = setting(
        (),
        addresses.split,
        "addresses of Apprise that messages go to, separated by blanks",
        secret=True,
        optional=True,
    )
    silent_sessions: int = setting(
        2,
        Integer(0, 4),
        "sessions without a healthy run after which the digest says so; 0: never",
        recorded=False,
    )
    watch: tuple[str, ...] = setting(
        (), strategies, "other strategies, comma-separated, of which the digest says that they had none", recorded=False
    )
    drawdown_message_fraction: float = setting(
        0.2,
        Number(0, 1, above=True),
        "a message says that the equity is this far below its highest; default: MAX_DRAWDOWN_FRACTION, or 0.2",
        recorded=False,
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str], fetch: Fetch) -> Self:
        """Read and check all settings; `fetch` resolves ssm: references. Raises SettingsError with all problems."""
        texts = {name: env[name].strip() for name in variables() if env.get(name, "").strip()}
        problems = _find_misspelled(env)
        values, unusable = _parse(texts, fetch)
        keep_secrets(values.get("alpacauser", ""), values.get("alpacapw", ""))  # from here on, nothing shows them
        keep_secrets(*addresses.list_secrets(values.get("message_url", ())))
        if stop_loss := values.get("stop_loss_fraction", cls.stop_loss_fraction):
            values.setdefault("max_price_drift_fraction", round(stop_loss / 3, 6))
        if most := values.get("max_drawdown_fraction"):
            values.setdefault("drawdown_message_fraction", most)
        values.setdefault("max_price_age_s", float(MAX_PRICE_AGE_S[values.get("bar_interval", "1d")]))
        if values.get("mode") is Mode.LIVE:
            values.setdefault("apca_api_base_url", LIVE_URL)
        if "SIGNAL" not in unusable:
            of_rule, wrong = _read_rule(env, values.get("signal", cls.signal))
            values = {**of_rule, **values}
            problems += wrong
        settings = cls(**values)
        problems += unusable.values()
        problems += [each for each in settings._contradictions() if each.variables.isdisjoint(unusable)]
        if problems:
            raise SettingsError(problems)
        return settings

    @property
    def is_local(self) -> bool:
        """True if the account and the journal are files of this machine, so that no other machine trades with them."""
        return self.broker is BrokerName.EMBEDDED and self.journal.startswith("folder:")

    def _contradictions(self) -> Iterator[Problem]:
        needs_keys = self.broker is BrokerName.ALPACA or PriceSourceName.ALPACA in self.price_sources
        lacking = [name.upper() for name in ("alpacauser", "alpacapw") if not getattr(self, name)]
        if self.mode is Mode.LIVE and self.broker is not BrokerName.ALPACA:
            yield _problem("MODE=live needs BROKER=alpaca", "MODE", "BROKER")
        yield from self._wrong_hosts()
        if needs_keys and lacking:
            remedy = "must be set for Alpaca: the key id and the secret key, or ssm:/path of each"
            yield _problem(f"{' and '.join(lacking)} {remedy}", *lacking)
        if (self.stop_loss_fraction > 0) != (self.take_profit_fraction > 0):
            rule = "must both be above 0, or both be 0 for no bracket"
            names = ("STOP_LOSS_FRACTION", "TAKE_PROFIT_FRACTION")
            yield _problem(f"{' and '.join(names)} {rule}", *names)
        with suppress(RuleError):  # which _read_rule reports
            yield from self._contradict_rule(loader.facts(self.signal, dict(self.rule_parameters)))
        if self.shares is Shares.FRACTIONAL and self.daily_at and self.stop_loss_fraction:
            yield _problem(
                f"SHARES=fractional: DAILY_AT={self.daily_at} leaves holdings without a stop from the opening on, "
                "because the stop of a part of a share ends with the day, and only a run renews it; remove DAILY_AT",
                "SHARES",
                "DAILY_AT",
            )

    def _contradict_rule(self, rule: Facts) -> Iterator[Problem]:
        """Yield the settings that do not go with the rule."""
        if self.history_bars < rule.min_bars:
            text = f"HISTORY_BARS={self.history_bars}: SIGNAL={self.signal} needs at least {rule.min_bars}"
            yield _problem(text, "HISTORY_BARS", "SIGNAL")
        if (shares := rule.shares_per_order) is not None:
            for name, chosen, default in (
                ("SIZING", self.sizing, Sizing.EQUAL),
                ("SHARES", self.shares, Shares.WHOLE),
            ):
                if chosen is not default:
                    text = f"{name}={chosen}: SIGNAL={self.signal} buys {shares} share{'s' * (shares != 1)} each time"
                    yield _problem(text, name, "SIGNAL")
        elif self.sizing is Sizing.WEIGHT and not own.is_file(self.signal):
            text = f"SIZING=weight: SIGNAL={self.signal} gives no weights; a rule of your own can"
            yield _problem(text, "SIZING", "SIGNAL")
        if rule.bar_interval and rule.bar_interval != self.bar_interval:
            text = f"BAR_INTERVAL={self.bar_interval}: SIGNAL={self.signal} is made for bars of {rule.bar_interval}"
            yield _problem(text, "BAR_INTERVAL", "SIGNAL")

    def _wrong_hosts(self) -> Iterator[Problem]:
        host = (urlsplit(self.apca_api_base_url).hostname or "").rstrip(".")
        is_paper_host = host == urlsplit(PAPER_URL).hostname
        url = f"APCA_API_BASE_URL={self.apca_api_base_url}"
        if self.mode is Mode.PAPER and host.endswith("alpaca.markets") and not is_paper_host:
            text = f"{url} is not for paper trading; use it with MODE=live or MODE=dry-run"
            yield _problem(text, "APCA_API_BASE_URL", "MODE")
        if self.mode is Mode.LIVE and is_paper_host:
            yield _problem(
                f"{url} is for paper trading; remove it for MODE=live, or set MODE=paper", "APCA_API_BASE_URL", "MODE"
            )

    def public(self) -> dict[str, object]:
        """Return every setting that a record keeps, in JSON types: those that change what a run decides; no secret."""
        found = {
            item.name: list(value) if isinstance(value := getattr(self, item.name), tuple) else value
            for item in list_fields()
            if item.metadata["recorded"]
        }
        found |= {f"{PREFIX.lower()}{name}": value for name, value in self.rule_parameters}
        return found | (
            {PIN.lower(): own.hash_sources(own.list_decided(self.signal))} if own.is_file(self.signal) else {}
        )


def _problem(text: str, *names: str) -> Problem:
    return Problem(frozenset(names), text)


def list_fields() -> "list[Field[Any]]":
    """Return the fields that a variable of the same name sets: all but the parameters of an own rule."""
    return [item for item in fields(Settings) if "parse" in item.metadata]


def variables() -> dict[str, str]:
    """Return the environment variables, each with the name of the field that it sets."""
    return {item.name.upper(): item.name for item in list_fields()}


def hash_rule(signal: str) -> str:
    """Return the hash of an own rule's files, which RULE_SHA256 can demand. Raises RuleError if there are none."""
    return own.hash_sources(own.list_sources(signal))


def _read_rule(env: Mapping[str, str], signal: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return what an own rule brings along, by field name: its parameters, and enough bars; and its problems."""
    problems: list[Problem] = []
    given = own.list_given(env)
    known = own.read_parameters(own.read(signal)) if own.is_file(signal) else {}
    if (pin := given.pop(PIN, None)) and (not own.is_file(signal) or pin != hash_rule(signal)):
        text = f"{PIN}={pin:.12}...: SIGNAL={signal} is not the rule with this hash; it was changed since"
        problems.append(_problem(text, PIN))
    parameters: dict[str, float] = {}
    for name, text in given.items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has no parameters"
            problems.append(_problem(f"{name} is not a parameter of SIGNAL={signal}; {has}", name))
            continue
        try:
            parameters[known[name].name] = known[name].read(text)
        except ValueError as error:
            problems.append(_problem(f"{name}={text!r:.{SHOWN}}: must be {error}", name))
    found: dict[str, Any] = {"rule_parameters": tuple(sorted(parameters.items()))}
    if own.is_file(signal):
        try:
            found["history_bars"] = max(loader.facts(signal, parameters).min_bars, Settings.history_bars)
        except RuleError as error:
            problems.append(_problem(f"SIGNAL={signal}: {error}", "SIGNAL"))
    return found, problems


def _find_misspelled(env: Mapping[str, str]) -> list[Problem]:
    """Report variables whose names resemble a setting's: a misspelled cap that is silently ignored could cost money."""
    known = variables()
    meant = {name: _guess(name) for name in env if name not in known}
    return [_problem(f"{name} is not a setting; did you mean {match}?", name) for name, match in meant.items() if match]


@cache
def _guess(name: str) -> str | None:
    """Return the setting that a variable misspells; every run of a process has the same variables."""
    return nearest(name, variables())


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the setting that a name misspells, shortens or writes in another case; None if there is none."""
    upper = name.upper()
    if upper in known:
        return upper
    begun = [each for each in known if "_" in upper and each.startswith(f"{upper}_")]
    close = difflib.get_close_matches(upper, known, n=1, cutoff=0.85) if len(name) > SHORT else []
    return next(iter(begun + close), None)


def _parse(texts: Mapping[str, str], fetch: Fetch) -> tuple[dict[str, Any], dict[str, Problem]]:
    """Return values by field name, and problems by variable. No problem quotes a secret or a parameter's value."""
    metadata = {item.name.upper(): item.metadata for item in list_fields()}
    references = {
        name: text.removeprefix(REFERENCE)
        for name, text in texts.items()
        if text.startswith(REFERENCE) and name != "HALT_PARAMETER"
    }
    fetched = fetch(sorted(set(references.values()))) if references else {}
    values: dict[str, Any] = {}
    problems: dict[str, Problem] = {}
    for name, text in texts.items():
        parameter = references.get(name)
        if parameter is not None and parameter not in fetched:
            if metadata[name]["optional"]:
                continue
            text = f"{name}={text:.{SHOWN}}: there is no such SSM parameter, or the role may not read it"
            problems[name] = _problem(text, name)
            continue
        try:
            values[name.lower()] = metadata[name]["parse"](
                fetched[parameter].strip() if parameter is not None else text
            )
        except RuleError as error:
            problems[name] = _problem(f"{name}={text!r:.{SHOWN}}: {error}", name)
        except ValueError as error:
            shown = text if not metadata[name]["secret"] else "(secret)"
            problems[name] = _problem(f"{name}={shown!r:.{SHOWN}}: must be {error}", name)
    return values, problems
