import io
import json
import os
import re
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scripts.backtest import report, uncertainty
from scripts.backtest.model import Restatement, Result
from scripts.backtest.report import Paths, formatting
from scripts.backtest.statistics import figures
from scripts.console import UnwritableError
from scripts.report.formatting import MINUS, NOTHING
from tests.backtest_results import fill, panel, result, score, year_of_trading
from tests.builders import settings
from trader.model import Note

WIDTHS = [80, 100, 140]
PATHS = Paths(page=Path("out/backtest.html"), json=Path("out/backtest.json"))
HOSTILE = "\x1b[2J[red]gone[/red]\r\nnext"


def show_text(result: Result, width: int = 100, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    report.show(figures(result), PATHS, console)
    return out.getvalue()


def line_of(label: str, text: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(label))


def words(text: str) -> str:
    return " ".join(text.split())


def hold(*closes: float, bars: int = 0, **fields: Any) -> Result:
    """Return a result with all the cash in AAA; the last close is repeated until there are `bars` bars."""
    over = panel({"AAA": [*closes, *[closes[-1]] * (bars - len(closes))]})
    return result(over, [fill(over, 0, "AAA", 100, 10.0)], **fields)


# --- the headline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (hold(10, 12), "Made 20.0% without any costs in 2 days, while buying and holding AAA made 20.0%"),
        (hold(10, 9), "Lost 10.0% without any costs in 2 days, while buying and holding AAA lost 10.0%"),
        (hold(10, 10), "Made nothing without any costs in 2 days, while buying and holding AAA made nothing"),
        (
            hold(10, 12, options={"commission_fraction": 0.001}),
            "Made 20.0% after costs in 2 days, while buying and holding AAA made 19.9%",
        ),
        (
            hold(10, 12, options={"slippage_fraction": 0.001}),
            "Made 20.0% after costs in 2 days, while buying and holding AAA made 19.9%",
        ),
        (result(panel({"AAA": [10, 12]})), "Bought nothing in 2 days, while buying and holding AAA made 20.0%"),
        (
            result(panel({"AAA": [10, 9]}), is_complete=False),
            "Interrupted on 5 Jan 2021: bought nothing in 2 days, while buying and holding AAA lost 10.0%",
        ),
        (
            result(panel({"AAA": [10]}), first=1, is_complete=False),
            "Interrupted before the first bar: bought nothing in no bars",
        ),
    ],
)
def test_the_headline_compares_the_result_with_buy_and_hold(outcome: Result, expected: str) -> None:
    assert formatting.headline(figures(outcome)) == expected


@pytest.mark.parametrize(
    ("closes", "expected"),
    [
        ({"AAA": [10, 10], "BBB": [10, 10]}, "holding all 2 made nothing"),
        ({"AAA": [10, 10], "BBB": [10, 10], "CCC": [float("nan"), 10]}, "holding the 2 with prices from the start"),
    ],
)
def test_the_headline_says_what_was_held(closes: Mapping[str, list[float]], expected: str) -> None:
    assert expected in formatting.headline(figures(result(panel(closes))))


@pytest.mark.parametrize(
    ("bars", "expected"), [(1, "one bar"), (30, "40 days"), (150, "7 months"), (523, "2 years"), (652, "2.5 years")]
)
def test_the_span_is_put_in_everyday_words(bars: int, expected: str) -> None:
    assert formatting.span(figures(hold(10, bars=bars))) == expected


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = show_text(year_of_trading(), width).splitlines()
    assert [line for line in lines[:-1] if len(line.rstrip()) > width] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_key_figures_stand_beside_buy_and_hold_and_cash(width: int) -> None:
    text = show_text(hold(10, 15, 12.75), width)
    assert re.search(r"Return +\+27\.5% +\+27\.5% +0\.0%$", line_of("Return ", text))
    assert re.search(rf"{MINUS}15\.0% +{MINUS}15\.0% +0\.0%$", line_of("Maximum drawdown", text))
    assert re.search(r"1,275\.00 +1,275\.00 +1,000\.00$", line_of("Equity at the end", text))


def test_a_figure_that_cannot_be_measured_is_a_dash() -> None:
    assert re.search(rf"{NOTHING} +{NOTHING} +{NOTHING}$", line_of("Sharpe", show_text(hold(10))))


YEARLY = ("Annual return", "Annual volatility", "Sharpe ratio", "Sortino ratio", "Calmar ratio")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_span_of_22_bars_shows_no_figure_for_a_year_and_says_why(width: int) -> None:
    text = show_text(hold(10, 9.93, bars=22), width)
    for label in YEARLY:
        assert line_of(label, text).removeprefix(f" {label}").split() == [NOTHING] * 3
    assert "No figures for a year: the span is shorter than three months" in text


def test_a_short_span_still_shows_its_return_and_drawdown() -> None:
    text = show_text(hold(10, 9.93, bars=22))
    assert re.search(rf"{MINUS}0\.7% +{MINUS}0\.7% +0\.0%$", line_of("Return ", text))
    assert re.search(rf"{MINUS}0\.7% +{MINUS}0\.7% +0\.0%$", line_of("Maximum drawdown", text))


def test_a_span_of_two_years_shows_its_figures_for_a_year() -> None:
    text = show_text(hold(*[10 + 2.1 * bar / 522 for bar in range(523)]))
    assert re.search(r"\+10\.0% +\+10\.0% +0\.0%$", line_of("Annual return", text))
    assert "No figures for a year" not in text


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        (64, "No figures for a year: the span is shorter than three months"),
        (523, "Yearly figures go by the dates of the span, with 261.2 bars in a year"),
    ],
)
def test_the_reader_is_told_what_a_year_is(bars: int, expected: str) -> None:
    assert formatting.describe_year(figures(hold(10, 11, bars=bars))) == expected


def restated(
    cash_usd: float = 0.0, before: float = 10, after: float = 40, ratio: float = 4.0, count: int = 1
) -> Result:
    """Return the result of holding AAA over `count` splits, all at the bar of 6 January."""
    over = panel({"AAA": [100, 104, 26, 27, 28, 29, 29, 30]})
    split = Restatement(
        time=over.close.index[2].to_pydatetime(),
        symbol="AAA",
        ratio=ratio,
        quantity_before=before,
        quantity_after=after,
        cash_usd=cash_usd,
    )
    return result(over, [fill(over, 0, "AAA", before, 100.0)] if before else [], restatements=(split,) * count)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (restated(), "Split AAA, 6 Jan 2021, 4:1: 10 shares became 40 "),
        (
            restated(44.0, before=20, after=2, ratio=1 / 8),
            "Split AAA, 6 Jan 2021, 1:8: 20 shares became 2, and 44.00 USD in cash for a fraction ",
        ),
    ],
)
def test_a_split_of_the_shares_held_is_shown(split: Result, expected: str) -> None:
    assert expected in words(show_text(split, 140))


def test_a_split_of_shares_that_nobody_held_is_not_shown() -> None:
    assert "Split" not in show_text(restated(before=0, after=0))


def test_a_few_splits_are_shown_and_the_others_counted() -> None:
    text = show_text(restated(before=10, after=10, ratio=1.0, count=7))
    assert text.count("shares became") == 5
    assert "... and 2 more on the page" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_each_symbol_that_was_traded_has_a_line(width: int) -> None:
    over = panel({"AAA": [10, 10, 12, 12], "BBB": [20, 20, 20, 20]})
    fills = [fill(over, 0, "AAA", 10, 10.0), fill(over, 2, "AAA", -10, 12.0), fill(over, 3, "AAA", 10, 12.0)]
    text = show_text(result(over, fills), width)
    assert re.search(r"AAA +\+20\.00 +\+2\.0% +1 \+ 1 open +100\.0% +1 +\+20\.0%", line_of("AAA", text))
    assert "BBB" not in text


def test_only_the_best_and_worst_of_many_symbols_are_listed() -> None:
    symbols = [f"S{number:02d}" for number in range(40)]
    over = panel({symbol: [10.0, 10.0 + number] for number, symbol in enumerate(symbols)})
    text = show_text(result(over, [fill(over, 0, symbol, 1, 10.0) for symbol in symbols]))
    listed = [symbol for symbol in symbols if f" {symbol} " in text]
    assert listed == symbols[:15] + symbols[-15:]
    assert "... and 10 more on the page" in text


def test_a_backtest_without_trades_has_no_table_of_symbols() -> None:
    assert "Symbol" not in show_text(result(panel({"AAA": [10, 11]})))


def test_the_costs_are_shown_with_their_rates() -> None:
    rates = {"commission_fraction": 0.001, "slippage_fraction": 0.0005}
    text = words(show_text(hold(10, 12, options=rates), 140))
    assert "1 order filled for 1,000.00 USD in all: commission 0.00 USD (0.1% of an order's value)" in text
    assert "slippage 0.4998 USD (0.05% of the price; none on a take-profit)" in text


def test_the_calibration_is_summed_up_in_two_sentences() -> None:
    judged = tuple(score("AAA", 100, 102, 5, actual) for actual in (103, 104, 90, 120))
    text = words(show_text(hold(10, 11, scored=judged, options={"settings": settings(SIGNAL="interval")}), 140))
    inside, errors = (each.strip() for each in text.partition("4 forecasts: ")[2].split(". ")[:2])
    assert inside == "50.0% of the prices ended inside the interval (80% should), 25.0% above it, 25.0% below"
    assert errors.startswith("The mean error was 8.2% of the price, compared with 9.2% for simply taking the last")
    assert errors.endswith(": the forecasts' is 0.89 times as large")


def test_forecasts_that_the_signal_did_not_need_are_called_a_sample() -> None:
    assert "1 forecast sampled for this report" in words(show_text(hold(10, 11, scored=(score("AAA", 1, 1, 1, 1),))))


def test_without_forecasts_the_reason_is_given() -> None:
    assert "No forecasts to score: the span has no price" in words(show_text(hold(10, 11)))


def test_a_few_notes_are_shown_and_the_others_counted() -> None:
    notes = tuple(Note(symbol=f"S{number}", what="is listed later") for number in range(9))
    over = panel({"AAA": [10, 11]}, notes=notes)
    text = show_text(result(over))
    assert text.count("is listed later") == 5
    assert "... and 4 more on the page" in text


def test_the_paths_of_the_page_and_the_figures_share_a_line() -> None:
    assert "out/backtest.html    figures: out/backtest.json" in show_text(year_of_trading(), 40)


def test_an_interruption_is_shown_in_red() -> None:
    assert "\x1b[1;31mInterrupted on 5 Jan 2021" in show_text(hold(10, 9, is_complete=False), terminal=True)


def test_piped_output_carries_no_control_sequences() -> None:
    assert "\x1b" not in show_text(year_of_trading())


def test_control_characters_and_markup_from_outside_are_shown_as_plain_text() -> None:
    text = show_text(year_of_trading((f"A{HOSTILE}", "BBB"), reason=HOSTILE), 140)
    assert r"A\x1b[2J[red]gone[/red] next" in text
    assert "\x1b" not in text


# --- uncertainty -----------------------------------------------------------------------------------------------------


def show_measured(width: int = 100, **trials: Any) -> str:
    found = figures(year_of_trading())
    found["uncertainty"] = uncertainty.measure(found)
    found["trials"] = {"settings": 1, "sharpe_by_luck": 0.0, "probability": 0.79} | trials
    out = io.StringIO()
    report.show(found, PATHS, Console(file=out, width=width))
    return out.getvalue()


def test_intervals_fit_the_terminal() -> None:
    assert max(map(len, show_measured(80).splitlines())) <= 80


def test_each_interval_stands_beside_that_of_buy_and_hold_and_of_the_difference() -> None:
    shown = show_measured().partition("How sure is this?")[2].partition("Symbol")[0]
    assert re.search(r"Sharpe ratio +\S+ to \S+ +\S+ to \S+ +\S+ to \S+", shown)
    assert line_of("Return", shown).count("%") == 6


def test_the_only_setting_tried_is_compared_with_no_skill() -> None:
    assert "the probability that its true Sharpe ratio is above 0 is 79%" in words(show_measured())


def test_many_settings_tried_are_compared_with_luck() -> None:
    shown = words(show_measured(settings=64, sharpe_by_luck=1.234, probability=0.12))
    assert "The best of so many without any skill would have a Sharpe ratio of about 1.23" in shown
    assert "the probability that this one's true ratio is higher is 12% (deflated Sharpe ratio)" in shown


def test_without_intervals_there_is_no_table_of_them() -> None:
    assert "How sure" not in show_text(hold(10, 11, 12))


# --- caveats ---------------------------------------------------------------------------------------------------------


def caveats(result: Result) -> str:
    return " ".join(f"{each.what}: {each.words}" for each in formatting.caveats(figures(result)))


def with_settings(ohlc: bool = False, refit_every_bars: int = 1, fills_at_close: bool = False, **variables: Any) -> str:
    over = panel({"AAA": [10, 11]}, has_ohlc=ohlc)
    options = {
        "settings": settings(**variables),
        "refit_every_bars": refit_every_bars,
        "fills_at_close": fills_at_close,
    }
    return caveats(result(over, options=options))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_settings(), "filled at the close of the bar after"),
        (with_settings(ohlc=True), "filled at the open of the bar after"),
        (with_settings(fills_at_close=True), "filled at the same close that the decision is based on"),
        (with_settings(ohlc=True), "the stop is assumed to come first"),
        (with_settings(), "a stop loss is filled at the first close at or below it"),
        (with_settings(), "20 companies that are large today, chosen with hindsight"),
        (with_settings(PRICE_FILE="mine.csv", UNIVERSE="AAPL"), "Whoever chose the symbols knew that they still exist"),
        (with_settings(refit_every_bars=5), "REFIT_EVERY=5: The live bot fits a model on every run"),
        (with_settings(), "No promise of profit"),
    ],
)
def test_the_caveats_say_what_the_figures_rest_on(text: str, expected: str) -> None:
    assert expected in text


@pytest.mark.parametrize(
    ("text", "unexpected"),
    [
        (with_settings(), "REFIT_EVERY"),
        (with_settings(STOP_LOSS_FRACTION=0, TAKE_PROFIT_FRACTION=0), "stop loss"),
        (with_settings(PRICE_SOURCES="yahoo"), "20 companies"),
    ],
)
def test_a_caveat_that_does_not_apply_is_left_out(text: str, unexpected: str) -> None:
    assert unexpected not in text


# --- writing ---------------------------------------------------------------------------------------------------------


def test_symbols_that_end_in_the_span_are_named() -> None:
    over = panel({"AAA": [10.0] * 30, "BBB": [5.0] * 12 + [float("nan")] * 18})
    said = caveats(result(over))
    assert "Survivorship: 1 of the 2 symbols has no prices at the end of the span (BBB)" in said
    assert "still exist" not in said


def test_a_symbol_without_a_price_on_the_last_day_has_not_ended() -> None:
    over = panel({"AAA": [10.0] * 30, "BBB": [5.0] * 29 + [float("nan")]})
    assert "no prices at the end of the span" not in caveats(result(over))


def test_the_page_and_the_figures_are_written_into_a_new_folder(tmp_path: Path) -> None:
    done = hold(10, 11)
    paths = report.write(figures(done), done, tmp_path / "deep" / "out")
    assert json.loads(paths.json.read_text(encoding="utf-8")) == figures(done)
    assert paths.page.read_text(encoding="utf-8").endswith("</html>")
    assert sorted(path.name for path in paths.page.parent.iterdir()) == ["backtest.html", "backtest.json"]


def test_a_file_in_place_of_the_folder_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(UnwritableError, match=r"out/backtest\.json cannot be written: .*OUT="):
        report.write(figures(hold(10)), hold(10), tmp_path / "out")


def test_a_full_disk_leaves_the_older_report_intact(tmp_path: Path) -> None:
    older = hold(10, 11)
    paths = report.write(figures(older), older, tmp_path)
    before = paths.page.read_bytes(), paths.json.read_bytes()
    newer = year_of_trading()
    drawn = figures(newer)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # like a disk that is full after 20 kB
    try:
        with pytest.raises(UnwritableError, match=os.strerror(27)):
            report.write(drawn, newer, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (paths.page.read_bytes(), paths.json.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backtest.html", "backtest.json"]
