"""Walk-forward: how the span is cut into parts, which setting is chosen, and how it is judged."""

from datetime import date, datetime, timedelta

import pandas as pd
import pytest

from scripts.backtest.model import BacktestError, Options, Panel
from scripts.sweep.panels import digest_of, with_history
from scripts.sweep.sweep import span
from scripts.sweep.walk_forward import (
    BETTER,
    WITHOUT_A_YEAR,
    Fold,
    choose_criterion,
    out_of_sample,
    parts,
    walk_forward,
)
from tests.builders import settings
from trader.model import NEW_YORK


def days(count: int) -> tuple[datetime, ...]:
    index = pd.bdate_range("2021-01-04", periods=count, tz=NEW_YORK).tz_convert("UTC")
    return tuple(index.to_pydatetime().tolist())


def minutes(sessions: int, bars: int) -> tuple[datetime, ...]:
    return tuple(day + timedelta(hours=10, minutes=15 * bar) for day in days(sessions) for bar in range(bars))


# --- the parts -------------------------------------------------------------------------------------------------------


def test_the_parts_are_consecutive_and_cover_the_span() -> None:
    span = days(250)
    cut = parts(span, 3)
    assert tuple(time for part in cut for time in part.times) == span


@pytest.mark.parametrize("count", [80, 81, 82, 83, 250])
def test_the_parts_are_of_nearly_equal_length(count: int) -> None:
    lengths = {len(part.times) for part in parts(days(count), 3)}
    assert max(lengths) - min(lengths) <= 1


def test_a_part_has_its_first_and_its_last_day() -> None:
    first = parts(days(40), 1)[0]
    assert (first.number, first.start, first.end) == (1, date(2021, 1, 4), date(2021, 1, 29))


def test_a_day_of_many_bars_is_never_cut() -> None:
    cut = parts(minutes(sessions=45, bars=26), 1)
    assert [len(part.times) for part in cut] == [22 * 26, 23 * 26]


def test_a_span_too_short_for_its_folds_names_how_many_it_allows() -> None:
    with pytest.raises(
        BacktestError, match=r"4 parts of at least 20 trading days, but the span has only 79, .* set FOLDS=2 or less"
    ):
        parts(days(79), 3)


def test_a_span_too_short_for_any_fold_asks_for_a_longer_one() -> None:
    with pytest.raises(BacktestError, match=r"set an earlier START$"):
        parts(days(30), 1)


# --- choosing and judging --------------------------------------------------------------------------------------------

FIGURES = ((1.0, 0.25, 0.5), (2.0, 0.5, 0.4), (3.0, 0.0, 0.9))
"""The figures of three settings on three parts."""


def test_the_best_on_one_part_is_judged_on_the_next() -> None:
    first, second = walk_forward(FIGURES, [0.5, 0.15, 0.7], better=1)
    assert first == Fold(number=1, chosen=2, in_sample=3.0, out_of_sample=0.0, rank=3, default=0.15, median=0.25)
    assert (second.chosen, second.out_of_sample, second.rank, second.default) == (1, 0.4, 3, 0.7)


def test_the_smallest_figure_is_chosen_if_smaller_is_better() -> None:
    first, _ = walk_forward(FIGURES, None, better=-1)
    assert (first.chosen, first.rank, first.default) == (0, 2, None)


def test_a_missing_figure_is_always_the_worst() -> None:
    figures = ((None, 0.1), (-5.0, 0.2), (-7.0, None))
    for better, chosen in ((1, 1), (-1, 2)):
        assert walk_forward(figures, None, better)[0].chosen == chosen


def test_a_chosen_setting_without_a_figure_out_of_sample_is_last() -> None:
    (fold,) = walk_forward(((9.0, None), (1.0, 0.5), (2.0, 0.25)), None, better=1)
    assert (fold.out_of_sample, fold.rank, fold.median) == (None, 3, 0.375)


def test_without_any_figure_in_sample_none_is_chosen() -> None:
    (fold,) = walk_forward(((None, 0.3), (None, 0.2)), None, better=1)
    assert (fold.chosen, fold.out_of_sample, fold.rank) == (None, None, None)


def test_a_tie_goes_to_the_first_setting_of_the_grid() -> None:
    assert walk_forward(((1.0, 0.1), (1.0, 0.9)), None, better=1)[0].chosen == 0


def test_the_first_part_does_not_count_in_the_mean() -> None:
    assert out_of_sample([100.0, 1.0, 2.0]) == 1.5


def test_a_mean_over_a_part_without_a_figure_is_none() -> None:
    assert out_of_sample([1.0, None, 2.0]) is None


# --- the figure that decides -----------------------------------------------------------------------------------------


def test_a_yearly_figure_decides_only_if_all_parts_cover_three_months() -> None:
    short, whole = parts(days(131), 1)
    assert (short.end, whole.start, whole.end) == (date(2021, 4, 2), date(2021, 4, 5), date(2021, 7, 5))
    assert choose_criterion("sharpe_ratio", [whole, whole]) == "sharpe_ratio"
    assert choose_criterion("sharpe_ratio", [short, whole]) == "bar_sharpe_ratio"


def test_every_yearly_metric_can_be_ranked_without_a_year() -> None:
    assert {name for name in BETTER if name.startswith("annual_") or name.endswith("_ratio")} == set(WITHOUT_A_YEAR)


# --- the prices that a part needs ------------------------------------------------------------------------------------


def panel(rows: int, *, gap: int | None = None) -> Panel:
    close = pd.DataFrame({"AAPL": range(1, rows + 1)}, index=pd.DatetimeIndex(days(rows)), dtype=float)
    if gap is not None:
        close.iloc[gap] = float("nan")
    return Panel(open=close, high=close, low=close, close=close, has_ohlc=False, source="a test")


def test_a_part_gets_its_history_and_nothing_after_it() -> None:
    part = parts(days(100), 1)[1]
    cut = with_history(panel(120), part.times[0], part.times[-1], 30)
    assert (cut.close.index[29], cut.close.index[-1]) == (part.times[0], part.times[-1])


def test_bars_without_a_price_do_not_count_as_history() -> None:
    part = parts(days(100), 1)[1]
    assert with_history(panel(120, gap=40), part.times[0], part.times[-1], 30).close.index[30] == part.times[0]


def test_closes_alone_are_handed_over_once_not_four_times() -> None:
    part = parts(days(100), 1)[1]
    cut = with_history(panel(120), part.times[0], part.times[-1], 30)
    assert cut.open is cut.close


def test_a_changed_price_changes_the_digest_and_a_copy_does_not() -> None:
    prices, other = panel(60), panel(60, gap=59)
    assert digest_of(prices) == digest_of(panel(60))
    assert digest_of(prices) != digest_of(other)


def hourly(first_hour: int) -> Panel:
    """Return forty sessions of seven hourly bars each; the first session begins with bar number `first_hour`."""
    starts = [
        time + timedelta(hours=hour)
        for session, time in enumerate(days(40))
        for hour in range(first_hour if session == 0 else 0, 7)
    ]
    frame = pd.DataFrame({"AAA": 100.0}, index=pd.DatetimeIndex(starts))
    return Panel(open=frame, high=frame, low=frame, close=frame, has_ohlc=False, source="a test")


@pytest.mark.parametrize("first_hour", [0, 3])
def test_trading_begins_with_a_whole_day(first_hour: int) -> None:
    prices = hourly(first_hour)
    chosen = Options(
        settings=settings(BAR_INTERVAL="1h", HISTORY_BARS=30, UNIVERSE_LOOKBACK_BARS=5, UNIVERSE="AAA"),
    )
    traded = span(prices, [chosen])
    first_day = traded[0].astimezone(NEW_YORK).date()
    that_day = [time for time in prices.close.index if time.astimezone(NEW_YORK).date() == first_day]
    assert traded[0] == that_day[0]
    assert len(prices.close.loc[: traded[0]]) >= 30
