"""The pipeline: the stages of one run, in order. The local run, Lambda and replay all use it."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter

from trader.alpha.base import AlphaModel, RuleError, View
from trader.broker.base import Books, Broker, CashFlow, CashFlows, MarketClock, OrderHistory, OrderId
from trader.codec import encode
from trader.deadline import ORDER_TIME_S, Deadline
from trader.forecasting.base import Forecaster, Forecasts
from trader.journal import equity
from trader.journal.base import DamagedError, OrderStore, Peak, RankingStore, Run
from trader.logs import one_line
from trader.model import (
    NEW_YORK,
    Account,
    BrokerError,
    Closes,
    Code,
    Decision,
    Denial,
    Direction,
    Insight,
    Observation,
    OpenOrder,
    Order,
    OrderStatus,
    Outcome,
    Position,
    RunStopped,
    Side,
    Sizing,
    round_to_tick,
)
from trader.prices.base import Coverage, count_bars, keep_last, last_usd
from trader.prices.reader import Prices
from trader.progress import Progress, no_progress
from trader.reading import Begin, Reading, in_turn
from trader.settings import Settings
from trader.stages import execution, portfolio, protection, risk, settlement, universe

LOG = logging.getLogger("trader")

COMPLETE_FRACTION = 0.9
"""The share of candidates that must have prices for a day's ranking to be saved; otherwise the next run repeats it."""

MIN_FRACTION = 0.5
"""The share of the index that must have prices; with less, the ranking means nothing, and no candidate is chosen."""

OF_CASH = frozenset({Code.BUYING_POWER_EXCEEDED, Code.QUANTITY_BELOW_ONE})
"""Refusals that more cash could undo; after any other, a buy needs none of it."""

MAX_AGE = timedelta(minutes=10)
"""The age up to which a run may act on what it read at its beginning; later, its prices are no longer the market's."""

MAX_CLOCK_DIFFERENCE_S = 60.0
"""The largest difference between the broker's clock and this machine's; with a larger one, one of them is wrong."""

_PRICES = frozenset({"stop_loss_usd", "take_profit_usd"})
"""The names of the other prices in a log line; all are rounded to the tick, which is how prices are quoted."""

CLOSES_IN = "the market closes in"
"""The beginning of the detail of MARKET_CLOSED if too little time is left before the close."""

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
    present: Callable[[], datetime] | None = None  # this machine's clock; None if the broker follows the run's time
    fill_time_s: float | None = execution.FILL_TIME_S  # for the last orders; None if they are filled after the run
    history: OrderHistory | None = None  # None if no order outlives the run that placed it
    orders: OrderStore | None = None  # the journal's records of earlier orders
    flows: CashFlows | None = None  # None if nothing is paid in or out
    coverage: Callable[[], Coverage | None] = lambda: None  # what the only price source has, if it knows that
    refuse_account: Callable[[Account], str] = lambda _: ""  # why it is another strategy's; empty if it is not
    reading: Reading = in_turn  # how the broker and the halt switch are read
    prepare_prices: Callable[[], None] = lambda: None  # imports what the price sources need; sends no request

    @property
    def decision_deadline(self) -> Deadline:
        """The deadline for everything before the first order."""
        return self.deadline.before(ORDER_TIME_S)


def trade(services: RunServices, run: Run) -> Outcome | Code:
    """Settle, protect, observe, forecast, decide and place; note each result in `run` as soon as it is known.

    The caller has claimed the slot. Raises RunStopped if a gate is closed. Earlier orders are settled and the holdings
    protected whether the gates are open or not, and the holdings again after the last order.
    """
    with services.reading() as begin:
        holdings, account = prepare(services, run, begin)
        with run.time_stage("observe"):
            run.observation = observe(services, run, holdings, account)
    with run.time_stage("forecast"):
        forecasts = services.forecaster.forecast(run.observation.closes, services.decision_deadline, services.progress)
    with run.time_stage("decide"):
        try:
            run.decision = decide(run.observation, forecasts, services.alpha, run.settings)
        except RuleError as error:
            LOG.exception("the rule failed", extra={"signal": run.settings.signal})
            raise RunStopped(Code.RULE_FAILED, str(error)) from error
        log_decision(run, run.decision)
    if run.decision.orders and not run.is_dry:
        services.journal.note_plan(run)  # the plan is on record before the first order
        with services.reading() as begin:
            books = _BooksWithAccount(services.broker, begin, is_account_wanted=True)
            place(services, run, run.decision, books)
            run.account_after = closing_account(services, books.read_account)
    else:
        run.account_after = run.observation.account
    return outcome(run, run.observation, run.decision)


@dataclass(slots=True)
class _BooksWithAccount:
    """The broker's books at the beginning and the end of a run, read beside what does not depend on them.

    The holdings are read only after the open orders: an order that is filled in between is then in both, and not in
    neither. The account, which shows what orders did to its money, is read beside the holdings.
    """

    broker: Broker
    begin: Begin
    is_account_wanted: bool = False
    orders: Callable[[], tuple[OpenOrder, ...]] | None = field(default=None, init=False)  # begun, not yet asked for
    account: Callable[[], Account] | None = field(default=None, init=False)  # begun with the latest holdings

    def begin_open_orders(self) -> None:
        self.orders = self.begin(self.broker.open_orders)

    def open_orders(self) -> tuple[OpenOrder, ...]:
        begun, self.orders = self.orders, None
        return begun() if begun else self.broker.open_orders()

    def positions(self) -> Mapping[str, Position]:
        if self.is_account_wanted:
            self.account = self.begin(self.broker.account)
        return self.broker.positions()

    def read_account(self) -> Account:
        begun, self.account = self.account, None
        return begun() if begun else self.broker.account()


def prepare(services: RunServices, run: Run, begin: Begin) -> tuple[protection.Holdings, Callable[[], Account]]:
    """Settle and protect, then raise the error of the first stage that failed; a closed gate comes before the others.

    Return the holdings, and the function that returns the account. Only a failure of the other stages comes before a
    closed market, because that is no alarm. Each stage is run whatever happened to the one before. So a broken clock, a
    halt or a closed market keeps the bot from trading, but not from looking after what it holds.
    """
    failure: Exception | None = None
    holdings = protection.Holdings()
    books = _BooksWithAccount(services.broker, begin)
    with run.time_stage("gates"):
        pass_gates = begin_gates(services, run, begin)
        if not run.unsettled:  # otherwise settling may cancel some
            books.begin_open_orders()
        closed = find_closed_gate(pass_gates)
    if not closed:
        books.is_account_wanted = True
        begin(services.prepare_prices)
    with run.time_stage("settle"):
        try:
            settle(services, run)
        except Exception as error:
            failure = error
    with run.time_stage("protect"):
        try:
            holdings = protect(services, run, closed, books)
        except Exception as error:
            failure = failure or error
    if closed and failure:
        LOG.error("the orders and holdings could not be checked", extra={"error": one_line(failure)})
        if isinstance(closed, RunStopped) and closed.code is not Code.HALTED:
            raise failure from closed  # a closed market is no reason to be silent about it; a halt has its own alarm
    if closed or failure:
        raise closed or failure  # type: ignore[misc]  # one of them is an error
    return holdings, books.read_account


def guard(services: RunServices, run: Run) -> None:
    """Protect the holdings, and do nothing else: for a run that cannot trade."""
    with services.reading() as begin:
        closed = find_closed_gate(begin_gates(services, run, begin))
    protect(services, run, closed)


def find_closed_gate(pass_gates: Callable[[], None]) -> Exception | None:
    """Return why the run may not trade: a closed gate, or the error with which the gates could not be checked."""
    try:
        pass_gates()
    except Exception as error:
        return error
    return None


def settle(services: RunServices, run: Run) -> None:
    """Find out what became of the orders of earlier runs."""
    if services.history is not None and services.orders is not None and run.unsettled and not run.is_dry:
        run.settled += settlement.settle(
            run.unsettled,
            services.broker,
            services.history,
            services.orders,
            run.settings.strategy,
            run.now,
            services.deadline,
        )


def protect(
    services: RunServices, run: Run, closed: Exception | None = None, books: Books | None = None
) -> protection.Holdings:
    """Protect the holdings, and note those that are not protected. `closed` is the gate that is closed, if one is.

    A halt holds all stops back, but for those of what this run has bought: it finishes what it has begun.
    """
    is_halted = isinstance(closed, RunStopped) and closed.code is Code.HALTED
    held_back = f"trading is halted ({closed})" if is_halted else "MODE=dry-run" if run.is_dry else ""
    planned = services.orders.planned_orders if services.orders else None
    is_open = closed is None
    look = partial(
        protection.protect, run, services.broker, services.deadline, is_open=is_open, planned=planned, books=books
    )
    try:
        bought = {order.symbol for order in run.placed if order.side is Side.BUY}
        holdings = look(held_back=held_back, finishing=bought if is_halted else ())
    finally:
        run.is_guarded = False  # until the look after the last order
    if not holdings.is_touched:
        return holdings
    # What was placed is believed only once the broker lists it.
    reasons = dict(run.unprotected)
    unconfirmed = "its new stop has not been confirmed; the next run looks again"
    holdings = look(held_back=unconfirmed)
    run.unprotected |= {symbol: reasons[symbol] for symbol in run.unprotected.keys() & reasons.keys()}
    return holdings


def begin_gates(services: RunServices, run: Run, begin: Begin) -> Callable[[], None]:
    """Begin to read the halt switch and the clock, and return the function that checks them: see `check_gates`.

    Called at the start, before each buy is sent and before each sale is begun.
    """
    return partial(check_gates, services, run, begin(services.read_halt_reason), begin(services.broker.clock))


def check_gates(
    services: RunServices, run: Run, read_halt_reason: Callable[[], str], read_clock: Callable[[], MarketClock]
) -> None:
    """Raise RunStopped if trading is halted, the market is closed, or the run is too old.

    Raises BrokerError if the broker's clock and this machine's contradict each other.
    """
    if halted := read_halt_reason():
        raise RunStopped(Code.HALTED, halted)
    clock = read_clock()
    compare_clocks(services, run, clock)
    if clock.is_open and clock.closes_in_s < 0:
        over = f"the session ended {-clock.closes_in_s:.0f} s ago by this machine's clock"
        raise RunStopped(
            Code.MARKET_CLOSED,
            f"{over}; the broker says that the market is open: its answer is old, or this machine's clock is fast",
        )
    if clock.is_open and clock.closes_in_s < ORDER_TIME_S:
        left = f"{CLOSES_IN} {clock.closes_in_s:.0f} s, and an order may take {ORDER_TIME_S:.0f}"
        raise RunStopped(
            Code.MARKET_CLOSED, f"{left}; an order accepted after the close would wait for the next opening"
        )
    if not clock.is_open:
        raise RunStopped(
            Code.MARKET_CLOSED,
            f"the market opens next on {clock.next_open.astimezone(NEW_YORK):%a %d %b %Y, %H:%M} New York time",
        )


def compare_clocks(services: RunServices, run: Run, clock: MarketClock) -> None:
    """Raise RunStopped if the run began too long ago by either clock, or BrokerError if the clocks differ too much."""
    if services.present is None or clock.now is None:
        return
    here = services.present()
    if abs(difference_s := (here - clock.now).total_seconds()) > MAX_CLOCK_DIFFERENCE_S:
        way = "ahead of" if difference_s > 0 else "behind"
        raise BrokerError(
            f"this machine's clock is {abs(difference_s):,.0f} s {way} the broker's ({clock.now:%Y-%m-%d %H:%M:%S%z}); "
            f"at most {MAX_CLOCK_DIFFERENCE_S:.0f} s are allowed: set this machine's clock by NTP"
        )
    require_timely(run, max(here, clock.now))


def require_timely(run: Run, now: datetime) -> None:
    """Raise RunStopped if the run began too long before `now`."""
    age = now - run.now
    if age > MAX_AGE:
        words = f"the run began {age.total_seconds() / 60:,.0f} minutes ago, but its prices are good for"
        raise RunStopped(Code.OUT_OF_TIME, f"{words} {MAX_AGE.seconds // 60}; the machine may have been asleep")


def observe(
    services: RunServices, run: Run, holdings: protection.Holdings, read_account: Callable[[], Account]
) -> Observation:
    """Read all inputs of the decisions: the account, the day's ranking, and the closes of the chosen and held symbols.

    Raises RunStopped if the account is blocked, or another strategy's.
    """
    account = read_account()
    seen_at = services.present() if services.present else run.now
    if account.blocked:
        raise RunStopped(Code.ACCOUNT_BLOCKED, account.blocked)
    if taken := services.refuse_account(account):
        raise RunStopped(Code.ACCOUNT_TAKEN, taken)
    open_orders = holdings.open_orders
    positions = {symbol: position for symbol, position in holdings.positions.items() if position.is_stock}
    ranking, unranked = rank(services, run)
    chosen = universe.top_performers(ranking, run.settings.universe_size)
    known = {*positions, *(order.symbol for order in open_orders)}
    bars = services.prices.bars([*chosen, *sorted(known - set(chosen))])
    account, peak, peak_problem = read_equity(services, run, account, seen_at)
    return Observation(
        slot=run.slot,
        now=run.now,
        account=account,
        positions=positions,
        open_orders=open_orders,
        ranking=ranking,
        closes=keep_last(bars.closes, run.settings.history_bars),
        ohlv={symbol: rest[-run.settings.history_bars :] for symbol, rest in bars.ohlv.items()},
        denials=tuple(
            {each.symbol: each for each in (*unranked, *bars.denials) if each.symbol not in bars.closes}.values()
        ),
        prices=services.prices.describe(),
        notes=services.prices.notes(),
        stopped_at=find_stops(services, run, [symbol for symbol in chosen if symbol not in positions]),
        peak_equity_usd=peak.equity_usd if peak else None,
        peak_problem=peak_problem,
        bought_at=find_buys(services, list(positions), run.settings.strategy)
        if services.alpha.facts.held_since
        else {},
    )


def read_equity(
    services: RunServices, run: Run, account: Account, seen_at: datetime
) -> tuple[Account, Peak | None, str]:
    """Return the account with its deposits and withdrawals, the highest equity so far, and why that is not known.

    `account` is as the broker showed it at `seen_at`. What was paid in or out since the last look is looked up by the
    first run of a day, and by every run whose account does not count it. If that fails, nothing is saved, and the next
    run looks it up again. With a limit on the drawdown, a highest equity that is in doubt is None.
    """
    name, has_limit = equity.name_account(run.settings), run.settings.max_drawdown_fraction > 0
    kept, problem = load_peak(services, run, name, seen_at)
    since = equity.find_gap(kept, account, seen_at)
    flows: Sequence[CashFlow] = ()
    is_complete = True
    counted = account
    if since and services.flows:
        try:
            flows = services.flows.list_flows(since)
            counted = equity.complete(account, flows, seen_at)
        except BrokerError as error:
            is_complete = kept is None  # without a highest equity, there is none that they could change
            prevents_buys = counted.flows_usd is None or (has_limit and kept is not None)
            LOG.log(
                logging.ERROR if prevents_buys else logging.WARNING,
                "deposits and withdrawals since the last run are not known",
                extra={"since": encode(since), "prevents_buys": prevents_buys, "error": one_line(error)},
            )
            if kept:
                unread = f"the deposits and withdrawals since {encode(since)} cannot be read ({one_line(error, 200)})"
                problem = f"{unread}; the next run asks again"
    if has_limit and problem:
        return counted, None, problem
    peak = equity.update(kept, name, account, seen_at, flows)
    if is_complete and peak is not kept and not run.is_dry:
        services.journal.save_peak(peak)
    return counted, peak, ""


def load_peak(services: RunServices, run: Run, name: str, now: datetime) -> tuple[Peak | None, str]:
    """Return the highest equity on record, None if there is none of this account, and why it cannot be used.

    Without a limit on the drawdown, one that cannot be used begins anew, and the next save replaces it.
    """
    kept, problem = None, ""
    try:
        kept = services.journal.load_peak()
    except DamagedError as error:
        problem = str(error)
    if kept and kept.account != name:
        return None, ""
    if kept and equity.is_of_a_later_day(kept, now):
        problem = f"it is of {kept.as_of:%Y-%m-%d %H:%M%z}, which is later than now: a clock was or is wrong"
        kept = None
    if problem and run.settings.max_drawdown_fraction:
        file = f"equity/{run.settings.strategy}/peak.json"
        problem += f"; to go on, restore {file} in the journal, or delete it: then today's equity is the highest"
        LOG.error("the highest equity is not known, so nothing is bought", extra={"error": problem})
    elif problem:
        LOG.warning("the highest equity cannot be used and begins anew", extra={"error": problem})
    return kept, problem


def find_stops(services: RunServices, run: Run, symbols: Sequence[str]) -> dict[str, datetime]:
    """Return when a stop of each symbol was last filled, if only in part, for symbols that were stopped out.

    If nobody knows when that was, it is taken to be now, so that the symbol is not bought.
    """
    if not run.settings.pause_after_stop_bars or not symbols:
        return {}
    orders = [each for order in services.broker.orders_of(symbols) for each in (order, *order.legs)]
    filled = [
        (order.symbol, order.filled_at or run.now)
        for order in orders
        if order.side is Side.SELL and (order.filled_quantity or order.status is OrderStatus.FILLED) and _is_stop(order)
    ]
    return dict(sorted(filled, key=itemgetter(1)))


def find_buys(services: RunServices, symbols: Sequence[str], strategy: str) -> dict[str, datetime]:
    """Return when each holding was bought, as far as the broker knows.

    Of the strategy's own shares that is their entry, whatever somebody else has added since.
    """
    orders = services.broker.orders_of(symbols) if symbols else ()
    bought: dict[str, datetime] = {}
    for symbol in sorted(symbols):
        history = [order for order in orders if order.symbol == symbol]  # newest first
        buys = [order for order in history if order.side is Side.BUY and order.filled_quantity]
        own = protection.find_open_entry(history, strategy)
        if moment := next((order.filled_at for order in ([own] if own else buys) if order.filled_at), None):
            bought[symbol] = moment
    return bought


def _is_stop(order: Order) -> bool:
    """Check whether an order is a stop, or a sale that protection made at a price below the stop."""
    if order.type.is_stop or "-stop" not in order.client_order_id:  # a backtest asks of thousands at each bar
        return order.type.is_stop
    parts = OrderId.parse(order.client_order_id)
    return bool(parts and parts.stop_number)


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
        named = universe.candidates(settings.universe, None, run.index)
        return {symbol: kept[symbol] for symbol in named if symbol in kept}, ()
    symbols = universe.candidates(settings.universe, services.prices.symbols(), run.index)
    LOG.info("ranking", extra={"universe": ",".join(settings.universe)[:40], "candidates": len(symbols)})
    bars = services.prices.bars(symbols)
    ranking = universe.returns(bars.closes, settings.universe_lookback_bars)
    if ranking and len(ranking) >= COMPLETE_FRACTION * len(symbols):
        services.journal.save_ranking(basis, ranking)
    needs = settings.universe_lookback_bars + 1
    counts = {symbol: count_bars(bars.closes, symbol) for symbol in bars.closes if symbol not in ranking}
    short = tuple(
        Denial(
            symbol=symbol,
            code=Code.NO_PRICE_DATA,
            detail=f"{count} bars; the return over UNIVERSE_LOOKBACK_BARS needs {needs}",
        )
        for symbol, count in counts.items()
    )
    if settings.universe == ("sp500",) and len(ranking) < MIN_FRACTION * len(symbols):
        LOG.warning(
            "too few candidates have prices, so none is chosen", extra={"ranked": len(ranking), "of": len(symbols)}
        )
        ranking = {}
    known = {*universe.sp500(), *(run.index or ())}
    return ranking, (*(each if each.symbol in known else _add_guess(each) for each in bars.denials), *short)


def _add_guess(denial: Denial) -> Denial:
    """Say which symbol of the index an unknown one may be meant for."""
    guess = universe.find_nearest(denial.symbol, ()) if denial.code is Code.NO_PRICE_DATA else None
    return replace(denial, detail=f"did you mean {guess}? {denial.detail}") if guess else denial


def decide(observation: Observation, forecasts: Forecasts, alpha: AlphaModel, settings: Settings) -> Decision:
    """Derive insights, targets and planned orders within the limits. Pure: equal arguments give an equal decision."""
    positions = observation.positions
    closes = observation.closes
    on_order = {order.symbol for order in observation.open_orders if order.side is Side.BUY} & closes.keys()
    prices_usd = {symbol: last_usd(closes, symbol) for symbol in on_order}
    account = portfolio.subtract_reserved(observation.account, observation.open_orders, prices_usd)
    pending = {order.symbol for order in observation.open_orders if not order.is_leg}
    unshown = tuple(find_short(closes, alpha)) if alpha.forecast_spec is None else ()
    short = {each.symbol for each in unshown}
    view = View(
        slot=observation.slot,
        closes={symbol: each for symbol, each in closes.items() if symbol not in short} if short else closes,
        forecasts={forecast.symbol: forecast for forecast in forecasts.forecasts},
        positions=positions,
        bought_at=observation.bought_at,
        ohlv=observation.ohlv,
    )
    insights = tuple(alpha.insights(view))
    shares = alpha.facts.shares_per_order
    ups = {each.symbol for each in insights if each.direction is Direction.UP}
    bars_since_stop = {
        symbol: count_bars(closes, symbol, after=moment)
        for symbol, moment in observation.stopped_at.items()
        if symbol in ups and symbol in closes
    }
    without_cash = pending
    while True:
        targets = portfolio.targets(
            insights, closes, account, positions, without_cash, settings, shares_per_order=shares
        )
        allowed, refused = risk.limit(
            targets,
            account,
            positions,
            pending,
            settings,
            bars_since_stop=bars_since_stop,
            peak_equity_usd=observation.peak_equity_usd,
            peak_problem=observation.peak_problem,
            has_gap=alpha.facts.has_gap,
        )
        more = {each.symbol for each in refused if not each.is_partial and each.code not in OF_CASH} - without_cash
        if settings.sizing is not Sizing.WEIGHT or not more:  # otherwise the cash of a refused buy is for the others
            break
        without_cash = without_cash | more
    return Decision(
        forecasts=forecasts.forecasts,
        insights=insights,
        targets=targets,
        orders=execution.plan(allowed, observation.slot, settings),
        denials=observation.denials + forecasts.denials + unshown + refused,
    )


def find_short(closes: Mapping[str, Closes], alpha: AlphaModel) -> Iterator[Denial]:
    """Yield a denial for each symbol with fewer bars than a rule without a forecast needs."""
    needs = alpha.facts.min_bars
    for symbol in closes:
        if (count := count_bars(closes, symbol)) < needs:
            detail = f"{count} bars; SIGNAL={alpha.facts.name} needs {needs}"
            yield Denial(symbol=symbol, code=Code.NO_PRICE_DATA, detail=detail)


def place(services: RunServices, run: Run, decision: Decision, books: Books) -> None:
    """Place the planned orders, end what is not filled, and protect what is held; note and log each result at once.

    The holdings are protected even if an order ends the run with an error, which is then raised.
    """
    planned = len(decision.orders)
    present = services.present or (lambda: run.now)
    try:
        with run.time_stage("place"):
            placing = execution.place(
                decision.orders,
                services.broker,
                services.deadline,
                max_drift_fraction=run.settings.max_price_drift_fraction,
                begin_gates=partial(begin_gates, services, run),  # trading may be halted between two orders
                require_timely=lambda: require_timely(run, present()),
                reading=services.reading,
            )
            for done in placing:
                note(run, done)
                services.progress("orders", len(run.outcomes), planned)
    except BaseException as error:
        try:
            close_out(services, run, books, error)
        except Exception:
            LOG.exception("the orders and holdings could not be checked")
        raise
    close_out(services, run, books)


def close_out(services: RunServices, run: Run, books: Books, ended: BaseException | None = None) -> None:
    """End the orders that are not filled, and protect what is held then. `ended` is the error that ended the run."""
    if services.fill_time_s is None:
        return
    with run.time_stage("close out"):
        try:
            for done in execution.close_out(run.placed, services.broker, services.fill_time_s):
                note(run, done)
        finally:
            if ended or run.unprotected or not protection.are_protected(run.outcomes):
                protect(services, run, ended if isinstance(ended, RunStopped) else None, books)
        run.is_guarded = True
        run.outcomes = [
            replace(each, is_unprotected=each.symbol in run.unprotected) if isinstance(each, Denial) else each
            for each in run.outcomes
        ]


def note(run: Run, done: Order | Denial) -> None:
    """Note and log one result."""
    run.note(done)
    if isinstance(done, Order):
        is_known = done.is_final or done.status is OrderStatus.UNKNOWN
        _log(run, "order" if is_known else "order sent", done)
    else:
        _log(run, "denial", done, level=logging.WARNING)  # decided on, but not placed


def closing_account(services: RunServices, read_account: Callable[[], Account]) -> Account | None:
    """Return the account after the orders; None if it cannot be read: the orders are placed, so the run goes on."""
    if not services.deadline.allows(ORDER_TIME_S / 2):
        return None
    try:
        return read_account()
    except BrokerError as error:
        LOG.warning("the account after the orders is not known", extra={"error": str(error)})
        return None


def outcome(run: Run, observation: Observation, decision: Decision) -> Outcome | Code:
    """Return how the run ended.

    If nothing was done, return the most frequent code of the denials that kept the run from its work: those for want of
    prices if most candidates have none, or all if there are at least half as many as wanted symbols.
    """
    if any(isinstance(each, Order) and not each.came_to_nothing for each in run.outcomes):
        return Outcome.TRADED
    if decision.orders and run.is_dry:
        return Outcome.DRY_RUN
    if lack := find_lack_of_prices(observation, run):
        return lack
    chosen = universe.top_performers(observation.ranking, run.settings.universe_size)
    wanted = {target.symbol for target in decision.targets} or {*chosen, *observation.positions}
    refused = [denial for denial in run.denials if not denial.is_partial]
    codes = Counter(denial.code for denial in refused if denial.symbol in wanted or not wanted)
    return codes.most_common(1)[0][0] if codes and 2 * codes.total() >= len(wanted) else Outcome.NOTHING_TO_DO


def find_lack_of_prices(observation: Observation, run: Run) -> Code | None:
    """Return the most frequent reason why candidates have no prices; None if at least half of them have prices."""
    lacking = _list_lacking(observation, run)
    count = len({denial.symbol for denial in lacking} | observation.ranking.keys())
    if not count:  # the source has no candidate at all
        return Code.NO_PRICE_DATA
    return Counter(each.code for each in lacking).most_common(1)[0][0] if 2 * len(lacking) > count else None


def explain(services: RunServices, run: Run, status: Outcome | Code) -> str:
    """Say what a run saw instead of prices, and what to set; empty if its status is not about prices."""
    seen = run.observation
    if seen is None or status is not find_lack_of_prices(seen, run):
        return ""
    lacking = _list_lacking(seen, run)
    ranked = len(seen.ranking.keys() - {denial.symbol for denial in lacking})
    return universe.explain_absence(run.settings.universe, run.now, lacking, ranked, services.coverage(), run.index)


def _list_lacking(observation: Observation, run: Run) -> list[Denial]:
    """List the denials of candidates for want of prices."""
    named = frozenset(universe.candidates(run.settings.universe, None, run.index))
    return [denial for denial in observation.denials if denial.symbol in named]


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
    fields = {name: field for name, field in encode(value).items() if field not in (None, "") and name != "legs"}
    for name in fields:
        if name.endswith("price_usd") or name in _PRICES:
            fields[name] = float(round_to_tick(fields[name]))
    if "type" in fields:  # in Lambda's log, `type` is the kind of a line of its own
        fields["order_type"] = fields.pop("type")
    LOG.log(level, message, extra={"strategy": run.settings.strategy, "slot": encode(run.slot), **fields, **more})
