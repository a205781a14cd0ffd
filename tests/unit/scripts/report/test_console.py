import io
import re
from typing import Any

import pytest
from rich.console import Console

from scripts.console import make_console
from scripts.report import formatting
from scripts.report.console import show
from tests.run_record import (
    denial,
    order,
    record,
    record_of_a_lost_stop_loss,
    record_of_an_early_stop,
    stop_record,
    target,
)
from trader.model import Code

WIDTHS = [80, 99, 100, 104, 128, 140]
UNPRICED = [denial(f"ZZ{number}", "NO_PRICE_DATA", "file: returned no prices") for number in range(9)]


def show_text(record: dict[str, Any], width: int = 100, terminal: bool = False) -> str:
    out = io.StringIO()
    show(
        record, Console(file=out, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    )
    return out.getvalue().replace(formatting.MINUS, "-")


def line_of(symbol: str, text: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(symbol))


def test_the_first_words_say_what_happened() -> None:
    first = show_text(record()).strip().splitlines()[0]
    assert first.strip() == "3 orders placed, 2 refused, 1 left alone"


@pytest.mark.parametrize(("engine", "is_named"), [("prophet", False), ("map", True)])
def test_an_engine_that_is_not_prophets_package_is_named(engine: str, is_named: bool) -> None:
    run = record()
    run["settings"] = {**run["settings"], "engine": engine}
    assert (f"ENGINE={engine}" in show_text(run)) is is_named


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for shown in (record(), record_of_an_early_stop()):
        assert max(len(line) for line in show_text(shown, width).splitlines()) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_is_cut_or_broken_over_lines(width: int) -> None:
    text = show_text(record(), width)
    numbers = ["1,234.56", "1,300.00", "-5.9%", "stop 95.41", "take 137.70", "take 1,728.38", "sell 12.5", "48.20"]
    numbers += ["100,000.00", "99,981.12", "-18.88", "-7,927.36", "0.41 s"]
    assert [number for number in numbers if number not in text] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_symbol_has_a_row_with_price_trend_gap_insight_and_target(width: int) -> None:
    text = show_text(record(), width)
    assert re.search(r"AAA +98\.36 +104\.50 +-5\.9% +▲ UP +37 +buy 37", line_of("AAA", text))
    assert re.search(r"CCC \* +52\.00 +48\.00 +\+8\.3% +▼ DOWN +0 +sell 12\.5", line_of("CCC", text))
    assert re.search(r"FFF +71\.00 +76\.00 +-6\.6% +▲ UP +2 +ORDER_REJECTED", line_of("FFF", text))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_symbol_without_a_target_has_a_blank_there(width: int) -> None:
    assert re.search(r"DDD +33\.00 +33\.10 +-0\.3% +● FLAT +left alone", line_of("DDD", show_text(record(), width)))


@pytest.mark.parametrize("width", WIDTHS)
def test_targets_stand_under_their_heading(width: int) -> None:
    text = show_text(record(targets=[target("AAA", 0, 1_234), target("CCC", 12.5, 11.5)]), width)
    end = line_of("Symbol", text).index("Target") + len("Target")
    assert line_of("AAA", text)[:end].endswith(" 1,234")
    assert line_of("CCC", text)[:end].endswith(" 11.5")


def test_an_old_record_is_shown_without_targets() -> None:
    old = record()
    del old["report"]["targets"]
    assert re.search(r"▲ UP +buy 37", line_of("AAA", show_text(old)))


@pytest.mark.parametrize("width", [80, 140])
def test_an_order_shows_its_status(width: int) -> None:
    assert "filled" in line_of("AAA", show_text(record(), width))
    assert "accepted" in line_of("BRK.B", show_text(record(), width))


def test_rows_are_orders_then_refusals_then_the_rest() -> None:
    rows = formatting.rows(record())
    assert [row.symbol for row in rows] == ["CCC", "AAA", "BRK.B", "EEE", "FFF", "DDD"]


def test_a_held_symbol_is_marked_and_the_mark_explained() -> None:
    text = show_text(record())
    assert line_of("CCC", text).strip().startswith("CCC *")
    assert "* held before the run" in text


def test_a_refusal_shows_its_code_and_its_detail() -> None:
    text = show_text(record(), 140)
    assert "QUANTITY_BELOW_ONE" in line_of("EEE", text)
    assert "48.20 USD to spend" in line_of("EEE", text)


def test_many_symbols_without_prices_become_one_line() -> None:
    text = show_text(record(denials=UNPRICED))
    assert sum("NO_PRICE_DATA" in line for line in text.splitlines()) == 1
    assert "9 symbols NO_PRICE_DATA (ZZ0, ZZ1" in text
    assert "9 without prices" in text


def stale(number: int) -> dict[str, Any]:
    return denial(f"ZZ{number}", "STALE_PRICE", f"the last price is {number} days old; MAX_PRICE_AGE_S allows 1")


def test_many_symbols_refused_with_one_code_become_one_line_with_an_example() -> None:
    text = show_text(record(denials=[stale(number) for number in range(503)]))
    assert sum("STALE_PRICE" in line for line in text.splitlines()) == 1
    assert "503 symbols STALE_PRICE (ZZ0, ZZ1" in text
    assert "ZZ0: the last price is 0 days old" in " ".join(text.split())


def test_each_code_that_is_repeated_has_its_own_line() -> None:
    text = show_text(record(denials=[*UNPRICED, *map(stale, range(20, 29))]))
    assert ("9 symbols NO_PRICE_DATA" in text, "9 symbols STALE_PRICE" in text) == (True, True)


def test_refusals_of_symbols_with_an_insight_keep_their_rows() -> None:
    shown = record(orders=[], denials=[denial("AAA", "POSITION_CAP", "no more"), *map(stale, range(9))])
    assert "POSITION_CAP" in line_of("AAA", show_text(shown, 140))


def test_missing_stop_losses_stand_above_repeated_refusals() -> None:
    lines = show_text(record(denials=list(map(stale, range(503))), unprotected=["CCC"])).splitlines()
    first = {
        word: next(at for at, line in enumerate(lines) if word in line) for word in ("Without a stop", "STALE_PRICE")
    }
    assert first["Without a stop"] < first["STALE_PRICE"] < 40


def test_a_few_symbols_without_prices_keep_their_rows() -> None:
    text = show_text(record(denials=UNPRICED[:8]))
    assert sum("NO_PRICE_DATA" in line for line in text.splitlines()) == 8


def test_an_order_of_unknown_fate_is_named_first() -> None:
    unclear = [order("AAA", "buy", 37.0, 98.36, status="unknown")]
    text = show_text(record(orders=unclear, denials=[]))
    assert text.strip().startswith("1 order of unknown fate")


def test_an_order_of_unknown_fate_is_shown_in_red() -> None:
    unclear = [order("AAA", "buy", 37.0, 98.36, status="unknown")]
    assert "\x1b[1;31mbuy 37" in show_text(record(orders=unclear, denials=[]), terminal=True)


@pytest.mark.parametrize("width", WIDTHS)
def test_symbols_without_a_stop_loss_follow_the_headline(width: int) -> None:
    lines = [line.strip() for line in show_text(record(unprotected=["DDD", "CCC"]), width).strip().splitlines()]
    assert lines[1:3] == ["Without a stop loss: DDD, CCC", f"What to do {formatting.UNPROTECTED_REMEDY}"]


def test_symbols_without_a_stop_loss_are_shown_in_red() -> None:
    assert "\x1b[1;31mWithout a stop loss: CCC" in show_text(record(unprotected=["CCC"]), terminal=True)


def test_a_holding_without_a_stop_is_named_with_its_reason() -> None:
    text = show_text(record_of_an_early_stop())
    assert "DDD        no stop is placed: trading is halted (the halt switch is on)" in text


def test_a_holding_without_a_stop_is_counted_by_itself() -> None:
    assert "3 orders placed, 1 without a stop loss" in show_text(record_of_an_early_stop())


@pytest.mark.parametrize("width", WIDTHS)
def test_the_orders_that_protect_holdings_are_shown(width: int) -> None:
    text = " ".join(show_text(record_of_an_early_stop(), width).split())
    assert "Stop CCC: stop 38.80 for 12, new" in text
    assert "Stop GGG: sell 3 at 7.00, because its price is at or below its stop, filled" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_what_became_of_earlier_orders_is_shown(width: int) -> None:
    text = " ".join(show_text(record_of_an_early_stop(), width).split())
    assert "Settled buy 10 AAA of Wed 28 Dec, 15:45: was accepted, is rejected" in text
    assert "Settled buy 7 HHH of Tue 27 Dec, 15:45: was accepted, is filled (7 at 51.50)" in text


def test_a_sale_that_came_to_nothing_is_shown_in_red() -> None:
    (line,) = (line for line in show_text(record_of_an_early_stop(), terminal=True).splitlines() if "4 BRK.B" in line)
    assert "\x1b[1;31m" in line


def test_an_order_that_was_canceled_without_a_fill_is_not_counted_as_placed() -> None:
    run = record(orders=[order("AAA", "buy", 37.0, 98.36, status="canceled")])
    run["report"]["denials"].append(denial("AAA", "NOT_FILLED", "buy 37: canceled"))
    assert "No orders, 3 refused" in show_text(run)


def test_a_run_with_all_positions_protected_does_not_say_so() -> None:
    assert "stop loss" not in show_text(record(unprotected=[]))


def test_an_old_record_says_nothing_about_protection() -> None:
    old = record()
    del old["report"]["unprotected"]
    assert "stop loss" not in show_text(old)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_refused_sale_that_cost_the_stop_loss_is_given_in_full(width: int) -> None:
    below_heading = show_text(record_of_a_lost_stop_loss(), width).split("CCC *")[1]
    assert "ITS STOP LOSS IS CANCELED and the shares held are not protected" in " ".join(below_heading.split())


@pytest.mark.parametrize("width", [80, 140])
def test_a_refused_sale_that_cost_the_stop_loss_is_red(width: int) -> None:
    text = show_text(record_of_a_lost_stop_loss(), width, terminal=True)
    assert text.count("\x1b[1;31mORDER_REJECTED") == 1  # for CCC; the refusal of FFF cost no stop loss
    assert "\x1b[31mthe broker answered 403" in text


def test_a_rejected_order_with_its_denial_counts_as_one_refusal() -> None:
    rejected = [order("FFF", "buy", 2.0, 71.0, status="rejected")]
    text = show_text(record(orders=rejected), 140)
    assert text.strip().startswith("No orders, 2 refused, 4 left alone")
    assert "rejected: the broker answered: not tradable" in line_of("FFF", text)


def test_a_dry_run_says_that_its_orders_were_not_placed() -> None:
    planned = [order("AAA", "buy", 37.0, 98.36, status="planned")]
    text = show_text(record(status="DRY_RUN", mode="dry-run", orders=planned, denials=[]))
    assert text.strip().startswith("1 order planned but not placed")
    assert "dry run, nothing is placed" in text


def test_a_run_for_real_money_says_so_in_red() -> None:
    text = show_text(record(mode="live"), terminal=True)
    assert re.search(r"\x1b\[1;31m[^\x1b]*REAL MONEY", text)


def test_the_slot_is_given_in_new_york_time() -> None:
    assert "Wed 28 Dec 2022, 16:00 New York" in show_text(record())


def test_the_account_shows_before_after_and_change() -> None:
    text = show_text(record())
    assert re.search(r"Equity +100,000\.00 +99,981\.12 +-18\.88", text)
    assert re.search(r"In positions +650\.00 +8,558\.48 +\+7,908\.48", text)


def test_an_account_known_only_before_the_run_has_one_column() -> None:
    before = record()["report"]["account"]["before"]
    text = show_text(record(account={"before": before, "after": None}))
    assert re.search(r"Account \(USD\) +Now", text)


def test_a_stopped_run_says_why_and_what_to_do() -> None:
    text = " ".join(show_text(stop_record("MARKET_CLOSED", "opens 2022-12-29 09:30")).split())
    assert text.startswith("Stopped: market closed")
    assert "MARKET_CLOSED: opens 2022-12-29 09:30" in text
    assert "The market was closed, or about to close, so no order could be sent." in text
    assert "What to do Nothing: the next run while the market is open" in text


def test_a_failed_run_says_what_failed() -> None:
    text = show_text(stop_record("FAILED", "OSError: disk full"))
    assert text.strip().startswith("The run failed")
    assert "OSError: disk full" in text


def test_a_run_stopped_half_way_still_counts_its_orders() -> None:
    text = show_text(record(status="OUT_OF_TIME"))
    assert text.strip().startswith("Stopped: out of time. 3 orders placed")


def test_a_failed_runs_unsent_orders_are_not_called_left_alone() -> None:
    half = record(status="FAILED", detail="BrokerError: no answer", denials=[], orders=record()["report"]["orders"][:1])
    half["decision"] = {"orders": [each | {"status": "planned"} for each in record()["report"]["orders"]]}
    text = show_text(half)
    assert text.strip().startswith("The run failed: 1 order placed, 2 orders not sent, 3 left alone")
    assert "planned" in line_of("BRK.B", text)


def test_a_planned_order_that_was_then_refused_is_a_refusal() -> None:
    late = record(orders=[], denials=[denial("AAA", "OUT_OF_TIME", "9 s left")])
    late["decision"] = {"orders": [order("AAA", "buy", 37.0, 98.36, status="planned")]}
    assert show_text(late).strip().startswith("No orders, 1 refused, 5 left alone")


def test_orders_of_a_run_that_never_ended_are_of_unknown_fate() -> None:
    cut_off = record(status="STARTED", orders=[], denials=[])
    cut_off["decision"] = {"orders": [order("AAA", "buy", 37.0, 98.36, status="planned")]}
    text = show_text(cut_off)
    assert text.strip().startswith("The run never ended: 1 order of unknown fate")
    assert "Check the broker's list of orders" in text


def test_a_run_that_was_cut_off_shows_what_was_placed() -> None:
    cut_off = record(status="INTERRUPTED", orders=[order("AAA", "buy", 37.0, 98.36, status="filled")], denials=[])
    cut_off["decision"] = {"orders": [order("AAA", "buy", 37.0, 98.36), order("FFF", "buy", 2.0, 71.0)]}
    text = show_text(cut_off)
    assert text.strip().startswith("The run was cut off: 1 order placed, 1 order not sent")
    assert "a later run wrote this record" in " ".join(text.split())


def test_a_run_that_recovered_others_names_them() -> None:
    text = show_text(record(recovered=["2022-12-28T20:45:00Z"]))
    assert "were cut off and are now on record: Wed 28 Dec 2022, 15:45 New York" in " ".join(text.split())


def test_a_held_symbol_without_prices_keeps_its_row_among_many() -> None:
    text = show_text(record(orders=[], denials=[*UNPRICED, denial("CCC", "NO_PRICE_DATA", "no price up to now")]), 140)
    assert "NO_PRICE_DATA" in line_of("CCC *", text)


def test_piped_output_carries_no_control_sequences() -> None:
    assert "\x1b" not in show_text(record())


def test_a_terminal_gets_colors() -> None:
    assert "\x1b[32m▲ UP" in show_text(record(), terminal=True)


def test_a_brokers_control_characters_and_markup_are_shown_as_plain_text() -> None:
    hostile = [denial("EEE", "ORDER_REJECTED", "\x1b[2J[red]gone[/red]\r\nnext")]
    text = show_text(record(denials=hostile), 140)
    assert r"\x1b[2J[red]gone[/red] next" in line_of("EEE", text)
    assert "\x1b" not in text


def test_a_refusal_of_the_whole_account_has_a_row() -> None:
    text = show_text(record(denials=[denial("", "DAILY_LOSS_STOP", "equity is 3.4 % below the last close")]), 140)
    assert "DAILY_LOSS_STOP" in line_of("account", text)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_explained_with_a_remedy(code: Code) -> None:
    explained = formatting.explanation(code)
    assert explained is not None
    assert explained.means.endswith(".")
    assert explained.remedy.endswith(".")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (formatting.quantity(37.0), "37"),
        (formatting.quantity(12.345678901), "12.345678901"),
        (formatting.quantity(1_000.0), "1,000"),
        (formatting.quantity(-2.5), f"{formatting.MINUS}2.5"),
        (formatting.usd(0.1234), "0.1234"),
        (formatting.usd(-0.5), f"{formatting.MINUS}0.5000"),
        (formatting.usd(0.0), "0.00"),
        (formatting.change(-0.001), "0.00"),
    ],
)
def test_numbers_are_written_as_people_read_them(words: str, expected: str) -> None:
    assert words == expected


LAPTOP = {"broker": "embedded", "journal": "folder:out/journal"}
ALPACA = {"broker": "alpaca", "journal": "folder:out/journal"}
LAMBDA = {"broker": "alpaca", "journal": "s3://bucket/journal"}


def advice(status: str, detail: str = "", settings: dict[str, Any] | None = None, **more: object) -> str:
    stopped = {**stop_record(status, detail), "settings": settings or {}, **more}
    return " ".join(show_text(stopped, 140).split())


@pytest.mark.parametrize(
    ("used", "other"), [("out/account.json", "second"), ("out/mine.json", "second"), ("out/second.json", "third")]
)
def test_on_a_laptop_a_used_slot_can_be_traded_in_an_account_that_is_not_this_one(used: str, other: str) -> None:
    said = advice("ALREADY_RAN", settings={**LAPTOP, "account_file": used})
    assert f"begin a {other} account: ACCOUNT_FILE=out/{other}.json JOURNAL=folder:out/{other}" in said


@pytest.mark.parametrize(("used", "is_named"), [("out/account.json", True), ("out/mine.json", False)])
def test_make_clean_is_advised_where_it_removes_the_account(used: str, is_named: bool) -> None:
    assert ("make clean" in advice("ALREADY_RAN", settings={**LAPTOP, "account_file": used})) is is_named


def test_no_day_is_advised_of_which_there_may_be_no_prices() -> None:
    assert "AT=" not in advice("ALREADY_RAN", settings=LAPTOP)


def test_a_closed_market_names_the_last_session_before_the_slot() -> None:
    stopped = stop_record("MARKET_CLOSED")
    stopped["report"]["slot"] = "2022-12-26T15:00:00Z"  # a holiday after a weekend
    assert "such as AT=2022-12-23" in show_text({**stopped, "settings": LAPTOP}, 200)


@pytest.mark.parametrize("settings", [ALPACA, LAMBDA, {}])
def test_the_journal_of_a_real_account_is_to_be_kept(settings: dict[str, Any]) -> None:
    said = advice("ALREADY_RAN", settings=settings)
    assert "Keep the journal" in said
    assert not any(word in said for word in ("make clean", "AT=", "STRATEGY=other"))


def test_a_deployed_function_is_invoked_again_without_an_event() -> None:
    assert "make invoke STRATEGY=trend without EVENT" in advice("ALREADY_RAN", settings=LAMBDA)


def test_a_halt_names_the_command_that_ends_it() -> None:
    assert "make resume STRATEGY=trend" in advice("HALTED", settings=LAMBDA)


def test_a_run_shortly_before_the_close_was_not_in_a_closed_market() -> None:
    said = advice("MARKET_CLOSED", "the market closes in 60 s, and an order may take 100", settings=LAMBDA)
    assert "Too little time was left before the close" in said
    assert "The market was closed" not in said


def test_on_a_laptop_a_closed_market_is_a_matter_of_the_time_chosen() -> None:
    assert "Choose a time in a session with AT" in advice("MARKET_CLOSED", settings=LAPTOP, gave_back=True)


@pytest.mark.parametrize(("gave_back", "is_said"), [(True, True), (False, False)])
def test_a_slot_that_is_free_again_is_said_to_be(gave_back: bool, is_said: bool) -> None:
    said = advice("NO_PRICE_DATA", settings=LAPTOP, gave_back=gave_back)
    assert ("The slot is free again" in said) is is_said


@pytest.mark.parametrize(
    ("signal", "gap"),
    [("trend", "above (+) or below (-) the trend line"), ("interval", "the farther end of the forecast")],
)
def test_the_rule_is_named_with_what_its_gap_means(signal: str, gap: str) -> None:
    run = record()
    run["settings"] = {**run["settings"], "signal": signal}
    text = " ".join(show_text(run, 140).split())
    assert f"SIGNAL={signal}" in text
    assert gap in text


def test_a_change_is_that_of_the_amounts_shown() -> None:
    run = record()
    run["report"]["account"]["before"]["equity_usd"] = 102_501.004
    run["report"]["account"]["after"]["equity_usd"] = 102_501.006
    assert re.search(r"Equity +102,501\.00 +102,501\.01 +\+0\.01", line_of("Equity", show_text(run)))


def test_piped_output_has_no_blanks_at_the_ends_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show(record(), make_console(width=100))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    assert [line for line in lines if line.endswith(" ")] == []
