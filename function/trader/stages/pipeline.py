"""The pipeline: the stages of one run, in order. The local run, Lambda and replay all use it."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from trader.alpha.base import AlphaModel
from trader.broker.base import Broker
from trader.codec import encode
from trader.deadline import ORDER_TIME_S, Deadline
from trader.forecasting.base import Forecaster, Forecasts
from trader.journal.base import RankingStore, Run
from trader.model import (
    NEW_YORK,
    Account,
    BrokerError,
    Code,
    Decision,
    Denial,
    Insight,
    Observation,
    Order,
    Outcome,
    RunStopped,
)
from trader.prices.reader import Prices
from trader.prices.series import last_bars
from trader.progress import Progress, no_progress
from trader.settings import Settings
from trader.stages import execution, portfolio, risk, universe

LOG = logging.getLogger("trader")

COMPLETE_FRACTION = 0.9
"""The share of candidates that must have prices for a day's ranking to be saved; otherwise the next run repeats it."""

MIN_FRACTION = 0.5
"""The share of the index that must have prices; with less, the ranking means nothing, and no candidate is chosen."""

MAX_LINES = 50
"""The most denials that get a log line each; more are logged in one line, as counts by code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunServices:
    """The services that a run uses, each behind its Protocol."""

    broker: Broker
    prices: Prices
    forecaster: Forecaster
    alpha: AlphaModel
    journal: RankingStore
    read_halt_reason: Callable[[], str]  # why trading is halted; empty when it is not
    deadline: Deadline
    progress: Progress = no_progress
    settle_time_s: float = execution.SETTLE_TIME_S  # how long a sale may take to fill before the next order

    @property
    def decision_deadline(self) -> Deadline:
        """The deadline for everything before the first order."""
        return self.deadline.before(ORDER_TIME_S)


def trade(services: RunServices, run: Run) -> Outcome | Code:
    """Observe, forecast, decide and place; note each result in `run` as soon as it is known.

    The caller has claimed the slot. Raises RunStopped if a gate is closed.
    """
    with run.time_stage("gates"):
        pass_gates(services)
    with run.time_stage("observe"):
        run.observation = observe(services, run)
    with run.time_stage("forecast"):
        forecasts = services.forecaster.forecast(run.observation.closes, services.decision_deadline, services.progress)
    with run.time_stage("decide"):
        run.decision = decide(run.observation, forecasts, services.alpha, run.settings)
        log_decision(run, run.decision)
    if run.decision.orders and not run.is_dry:
        services.journal.note_plan(run)  # the plan is on record before the first order
        with run.time_stage("place"):
            place(services, run, run.decision)
        run.account_after = closing_account(services)
    else:
        run.account_after = run.observation.account
    return outcome(run, run.observation, run.decision)


def pass_gates(services: RunServices) -> None:
    """Raise RunStopped if trading is halted or the market is closed. Called at the start and before each order."""
    if halted := services.read_halt_reason():
        raise RunStopped(Code.HALTED, halted)
    clock = services.broker.clock()
    if clock.is_open and clock.closes_in_s < 0:
        over = f"the session ended {-clock.closes_in_s:.0f} s ago by this machine's clock"
        raise RunStopped(
            Code.MARKET_CLOSED,
            f"{over}; the broker says that the market is open: its answer is old, or this machine's clock is fast",
        )
    if clock.is_open and clock.closes_in_s < ORDER_TIME_S:
        left = f"the market closes in {clock.closes_in_s:.0f} s, and an order may take {ORDER_TIME_S:.0f}"
        raise RunStopped(
            Code.MARKET_CLOSED, f"{left}; an order accepted after the close would wait for the next opening"
        )
    if not clock.is_open:
        raise RunStopped(
            Code.MARKET_CLOSED,
            f"the market opens next on {clock.next_open.astimezone(NEW_YORK):%a %d %b %Y, %H:%M} New York time",
        )


def observe(services: RunServices, run: Run) -> Observation:
    """Read all inputs of the decisions: the account, the day's ranking, and the closes of the chosen and held symbols.

    Raises RunStopped if the account is blocked.
    """
    account = services.broker.account()
    if account.blocked:
        raise RunStopped(Code.ACCOUNT_BLOCKED, account.blocked)
    open_orders = services.broker.open_orders()  # before the positions: an order that fills in between is then in both
    positions = services.broker.positions()
    ranking, unranked = rank(services, run)
    chosen = universe.top_performers(ranking, run.settings.universe_size)
    known = {*positions, *(order.symbol for order in open_orders)}
    bars = services.prices.bars([*chosen, *sorted(known - set(chosen))])
    return Observation(
        slot=run.slot,
        now=run.now,
        account=account,
        positions=positions,
        open_orders=open_orders,
        ranking=ranking,
        closes={symbol: last_bars(closes, run.settings.history_bars) for symbol, closes in bars.closes.items()},
        denials=tuple(
            {each.symbol: each for each in (*unranked, *bars.denials) if each.symbol not in bars.closes}.values()
        ),
    )


def rank(services: RunServices, run: Run) -> tuple[dict[str, float], tuple[Denial, ...]]:
    """Return the ranking (each candidate's return) and denials; it is computed once a day and kept in the journal."""
    settings = run.settings
    basis = {
        "universe": list(settings.universe),
        "lookback_bars": settings.universe_lookback_bars,
        "bar_interval": settings.bar_interval,
        "price_sources": list(settings.price_sources),
        "price_file": settings.price_file if "file" in settings.price_sources else "",
    }
    kept = services.journal.ranking(basis)
    if kept is not None:  # the universe, not the stored text, decides what may be traded
        return {symbol: kept[symbol] for symbol in universe.candidates(settings.universe, None) if symbol in kept}, ()
    symbols = universe.candidates(settings.universe, services.prices.symbols())
    LOG.info("ranking", extra={"universe": ",".join(settings.universe)[:40], "candidates": len(symbols)})
    bars = services.prices.bars(symbols)
    ranking = universe.returns(bars.closes, settings.universe_lookback_bars)
    if len(ranking) >= COMPLETE_FRACTION * len(symbols):
        services.journal.save_ranking(basis, ranking)
    needs = settings.universe_lookback_bars + 1
    short = tuple(
        Denial(
            symbol=symbol,
            code=Code.NO_PRICE_DATA,
            detail=f"{len(closes)} bars; the return over UNIVERSE_LOOKBACK_BARS needs {needs}",
        )
        for symbol, closes in bars.closes.items()
        if symbol not in ranking
    )
    if settings.universe == ("sp500",) and len(ranking) < MIN_FRACTION * len(symbols):
        LOG.warning(
            "too few candidates have prices, so none is chosen", extra={"ranked": len(ranking), "of": len(symbols)}
        )
        ranking = {}
    return ranking, bars.denials + short


def decide(observation: Observation, forecasts: Forecasts, alpha: AlphaModel, settings: Settings) -> Decision:
    """Derive insights, targets and planned orders within the limits. Pure: equal arguments give an equal decision."""
    positions = observation.positions
    prices_usd = {symbol: float(closes.to_numpy()[-1]) for symbol, closes in observation.closes.items()}
    account = portfolio.subtract_reserved(observation.account, observation.open_orders, prices_usd)
    pending = {order.symbol for order in observation.open_orders if not order.is_leg}
    insights = tuple(alpha.insight(forecast) for forecast in forecasts.forecasts)
    shares = alpha.facts.shares_per_order
    targets = portfolio.targets(insights, account, positions, pending, settings, shares_per_order=shares)
    allowed, refused = risk.limit(targets, account, positions, pending, settings)
    return Decision(
        forecasts=forecasts.forecasts,
        insights=insights,
        targets=targets,
        orders=execution.plan(allowed, observation.slot, settings),
        denials=observation.denials + forecasts.denials + refused,
    )


def place(services: RunServices, run: Run, decision: Decision) -> None:
    """Place the planned orders; note and log each result as soon as it is known."""
    planned = len(decision.orders)
    may_go_on = partial(pass_gates, services)  # trading may be halted, or the market close, between two orders
    for done in execution.place(decision.orders, services.broker, services.deadline, services.settle_time_s, may_go_on):
        run.outcomes.append(done)
        if isinstance(done, Order):
            _log(run, "order", done)
        else:
            _log(run, "denial", done, level=logging.WARNING)  # decided on, but not placed
        services.progress("orders", len(run.outcomes), planned)


def closing_account(services: RunServices) -> Account | None:
    """Return the account after the orders; None if it cannot be read: the orders are placed, so the run goes on."""
    if not services.deadline.allows(ORDER_TIME_S / 2):
        return None
    try:
        return services.broker.account()
    except BrokerError as error:
        LOG.warning("the account after the orders is not known", extra={"error": str(error)})
        return None


def outcome(run: Run, observation: Observation, decision: Decision) -> Outcome | Code:
    """Return how the run ended.

    If nothing was done and there are at least half as many denials as wanted symbols, return their most frequent code.
    """
    if any(isinstance(each, Order) for each in run.outcomes):
        return Outcome.TRADED
    if decision.orders and run.is_dry:
        return Outcome.DRY_RUN
    chosen = universe.top_performers(observation.ranking, run.settings.universe_size)
    wanted = {target.symbol for target in decision.targets} or {*chosen, *observation.positions}
    codes = Counter(denial.code for denial in run.denials if denial.symbol in wanted or not wanted)
    return codes.most_common(1)[0][0] if codes and 2 * codes.total() >= len(wanted) else Outcome.NOTHING_TO_DO


def log_decision(run: Run, decision: Decision) -> None:
    """Log one line for each insight with the order that follows, and one for each denial."""
    orders = {order.symbol: order.signed_quantity for order in decision.orders}
    for insight in decision.insights:
        _log(run, "decision", insight, order_quantity=orders.get(insight.symbol, 0))
    if len(decision.denials) > MAX_LINES:  # such as all candidates, if a source cannot be reached
        codes = Counter(denial.code for denial in decision.denials)
        extra = {"strategy": run.settings.strategy, "slot": encode(run.slot), "codes": dict(codes)}
        LOG.warning("denials", extra={**extra, "first": decision.denials[0].detail})
        return
    for denial in decision.denials:
        _log(run, "denial", denial)


def _log(run: Run, message: str, value: Insight | Order | Denial, level: int = logging.INFO, **more: object) -> None:
    if not LOG.isEnabledFor(level):  # as in a backtest, which would log a line for each symbol and bar
        return
    fields = {name: field for name, field in encode(value).items() if field not in (None, "")}
    LOG.log(level, message, extra={"strategy": run.settings.strategy, "slot": encode(run.slot), **fields, **more})
