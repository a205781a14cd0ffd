"""What needs a person after a run, and when it is told."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders import SLOT, account, settings
from trader import problems
from trader.codec import encode
from trader.journal.base import Run
from trader.journal.record import build_report
from trader.model import Code, Denial, Observation, Order, OrderStatus, Outcome, Settled, Side, Unprotected
from trader.problems import Kind, Previous, Problem

QUARTER = timedelta(minutes=15)


DEPLOYED = {"JOURNAL": "s3://bucket"}


def make_run(**variables: object) -> Run:
    return Run(settings=settings(**{**DEPLOYED, **variables}), slot=SLOT, now=SLOT)


def find(
    run: Run, status: str, previous: Previous | None = None, *, used: float = 0.0, detail: str = ""
) -> list[Problem]:
    return problems.find(run, build_report(run, status, detail), used, previous)


def before(run: Run, found: list[Problem], gap: timedelta = QUARTER) -> Previous:
    """Return what a later run, after `gap`, reads in the record of this one."""
    report = {**build_report(run, "any"), "problems": encode(found)}
    previous = problems.read_previous({"report": report})
    assert previous is not None
    run.slot += gap
    return previous


def test_a_run_that_did_its_work_has_no_problem() -> None:
    assert find(make_run(), Outcome.TRADED) == []


def test_a_holding_without_a_stop_is_told_at_once_with_its_reason() -> None:
    run = make_run()
    run.unprotected = {"AAPL": Unprotected(symbol="AAPL", reason="the stop was refused", is_ours=True)}
    run.is_guarded = True
    (found,) = find(run, Outcome.TRADED)
    assert (found.kind, found.subject, found.is_told) == (Kind.UNPROTECTED, "AAPL", True)
    assert "the stop was refused" in found.words


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Code.ACCOUNT_BLOCKED, Kind.BLOCKED),
        (Outcome.FAILED, Kind.FAILED),
    ],
)
def test_what_no_later_run_makes_good_is_told_at_once(status: str, kind: Kind) -> None:
    (found,) = find(make_run(), status, detail="why")
    assert (found.kind, found.is_told) == (kind, True)
    assert "why" in found.words


@pytest.mark.parametrize("status", [Code.NO_PRICE_DATA, Code.STALE_PRICE, Code.HALTED, "A_NEW_STATUS"])
def test_what_the_next_run_may_make_good_is_told_when_it_does_not(status: str) -> None:
    run = make_run()
    first = find(run, status)
    assert [each.is_told for each in first] == [False]
    second = find(run, status, before(run, first))
    assert [(each.runs, each.is_told) for each in second] == [(2, True)]
    third = find(run, status, before(run, second))
    assert [(each.runs, each.is_told) for each in third] == [(3, False)]


def test_a_bad_run_between_good_ones_is_not_told() -> None:
    run = make_run()
    bad = find(run, Code.STALE_PRICE)
    good = find(run, Outcome.TRADED, before(run, bad))
    assert not any(each.is_told for each in (*bad, *good, *find(run, Code.STALE_PRICE, before(run, good))))


def test_a_bad_run_is_told_at_once_if_no_other_comes_within_the_hour() -> None:
    run = make_run()
    good = before(run, find(run, Outcome.TRADED), timedelta(days=1))
    assert [each.is_told for each in find(run, Code.STALE_PRICE, good)] == [True]


def test_on_a_laptop_a_bad_run_is_told_at_once_because_it_leaves_no_record_for_the_next() -> None:
    assert [each.is_told for each in find(make_run(JOURNAL="folder:x"), Code.STALE_PRICE)] == [True]


def test_what_lasts_is_told_again_on_the_next_day() -> None:
    run = make_run()
    run.unprotected = {"AAPL": Unprotected(symbol="AAPL", reason="none", is_ours=True)}
    run.is_guarded = True
    told = []
    found = find(run, Outcome.TRADED)
    for _ in range(28):  # 20:45 UTC, and on to the next morning in steps of 45 minutes
        told += [run.slot for each in found if each.is_told]
        found = find(run, Outcome.TRADED, before(run, found, 3 * QUARTER))
    assert len(told) == 2
    assert (told[1].day, told[1].hour) == (29, 5)  # the first run after midnight in New York


def test_a_second_holding_without_a_stop_is_news_and_the_first_is_not() -> None:
    run = make_run()
    run.is_guarded = True
    run.unprotected = {"AAPL": Unprotected(symbol="AAPL", reason="none", is_ours=True)}
    previous = before(run, find(run, Outcome.TRADED))
    run.unprotected = {**run.unprotected, "KO": Unprotected(symbol="KO", reason="none", is_ours=True)}
    found = find(run, Outcome.TRADED, previous)
    assert {each.subject: each.is_told for each in found} == {"AAPL": False, "KO": True}


def test_orders_that_are_unknown_refused_or_ended_otherwise_are_told() -> None:
    run = make_run()
    sale = Order(client_order_id="trend-x-KO-sell", symbol="KO", side=Side.SELL, quantity=3, price_usd=60)
    run.note(replace(sale, status=OrderStatus.UNKNOWN))
    run.note(Denial(symbol="MCD", code=Code.ORDER_REJECTED, detail="wash trade"))
    run.settled = [
        Settled(
            client_order_id="trend-y-PEP-buy",
            symbol="PEP",
            side=Side.BUY,
            quantity=4,
            recorded_status=OrderStatus.NEW,
            status=OrderStatus.EXPIRED,
            filled_quantity=1,
        )
    ]
    run.is_guarded = True
    found = find(run, Outcome.TRADED)
    assert [(each.kind, each.subject) for each in found] == [
        (Kind.ORDER_UNKNOWN, "KO"),
        (Kind.REFUSED, "MCD"),
        (Kind.CHANGED, "PEP"),
    ]
    assert "1 of 4 filled" in found[2].words


@pytest.mark.parametrize("status", [Code.ORDER_REJECTED, Code.UNPROTECTED])
def test_a_status_of_which_each_case_is_named_is_no_second_problem(status: Code) -> None:
    assert find(make_run(), status, used=0.1) == []


def test_a_run_that_was_cut_off_is_told() -> None:
    run = make_run()
    run.recovered = [SLOT - QUARTER]
    assert [each.kind for each in find(run, Outcome.NOTHING_TO_DO)] == [Kind.INTERRUPTED]


@pytest.mark.parametrize(("used", "kinds"), [(0.8, []), (0.81, [Kind.SLOW])])
def test_a_run_is_slow_from_four_fifths_of_its_time_on(used: float, kinds: list[Kind]) -> None:
    assert [each.kind for each in find(make_run(), Outcome.TRADED, used=used)] == kinds


@pytest.mark.parametrize(
    ("equity_usd", "variables", "is_named"),
    [
        (81_000, {}, False),
        (80_000, {}, True),
        (89_000, {"MAX_DRAWDOWN_FRACTION": 0.1}, True),
        (89_000, {"MAX_DRAWDOWN_FRACTION": 0.1, "DRAWDOWN_MESSAGE_FRACTION": 0.3}, False),
    ],
)
def test_a_fall_is_told_where_the_bot_stops_buying_or_at_a_fifth(
    equity_usd: float, variables: dict[str, object], is_named: bool
) -> None:
    run = make_run(**variables)
    run.observation = seen(equity_usd)
    assert bool(find(run, Outcome.TRADED)) == is_named


def seen(equity_usd: float) -> Observation:
    return Observation(
        slot=SLOT,
        now=SLOT,
        account=account(equity_usd),
        positions={},
        open_orders=(),
        ranking={},
        closes={},
        denials=(),
        peak_equity_usd=100_000,
    )


def test_the_message_names_the_strategy_the_worst_kind_first_and_only_what_is_told() -> None:
    found = [
        Problem(kind=Kind.UNPROTECTED, subject="AAPL", words="AAPL has none", is_told=True),
        Problem(kind=Kind.UNPROTECTED, subject="KO", words="KO has none", is_told=True),
        Problem(kind=Kind.SLOW, subject="", words="slow", is_told=True),
        Problem(kind=Kind.HALTED, subject="", words="halted", is_told=False),
    ]
    message = problems.write("trend", SLOT, "paper", found)
    assert message is not None
    assert message.subject == "trend: held without a stop (AAPL, KO), and 1 more"
    assert message.text.splitlines() == [
        "trend (paper), slot of Wed 28 Dec 2022 15:45 New York",
        "",
        "- held without a stop: AAPL has none",
        "- held without a stop: KO has none",
        "- slow run: slow",
    ]


def test_without_news_there_is_no_message() -> None:
    assert problems.write("trend", SLOT, "paper", [Problem(kind=Kind.HALTED, subject="", words="halted")]) is None


@pytest.mark.parametrize("record", [{}, {"report": {}}, {"report": {"slot": "2022-12-28T20:45:00Z"}}, {"report": 3}])
def test_a_record_of_an_older_version_is_no_previous_run(record: dict[str, object]) -> None:
    assert problems.read_previous(record) is None
