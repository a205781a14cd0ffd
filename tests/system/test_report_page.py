from pathlib import Path
from typing import Any

import pytest

from scripts.report import formatting
from scripts.report.html import write_page
from scripts.run import local
from tests.pages import DARK, LIGHT, Browse, Elements, RulesOfPages, measure
from tests.run_record import (
    LOST,
    SLOT,
    denial,
    order,
    record,
    record_of_a_lost_stop_loss,
    record_of_an_early_stop,
    stop_record,
)

HOSTILE = '<script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)">'
# Runs in a copy of the page without its content security policy, so that an injected script would run as well.
MEASURE = """
<script>
const box = element => { const {width, height} = element.getBoundingClientRect(); return {width, height}; };
const measured = {
  charts: [...document.querySelectorAll('article')].map(card => ({
    symbol: card.querySelector('h3').textContent,
    size: box(card.querySelector('svg.chart')),
    lines: [...card.querySelectorAll('svg.chart path[style*="stroke: var"]')].map(box),
    numbers: [...card.querySelectorAll('svg.chart text')].map(text => text.textContent),
  })),
  page: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector('svg.chart path[style*="--ink"]')).stroke,
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
  scripts: [...document.scripts].filter(each => !each.type).length,
  images: document.querySelectorAll('img').length,
};
document.body.innerHTML = '<pre></pre>';
document.querySelector('pre').textContent = 'measured' + JSON.stringify(measured) + 'end';
</script>
"""


HELD = 2
"""The rows of the table of what was held: its head, and one holding."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a run whose broker answered with HTML."""
    path = tmp_path_factory.mktemp("page") / "run.html"
    hostile = record(denials=[denial("EEE", "ORDER_REJECTED", HOSTILE)], detail=HOSTILE)
    hostile["settings"]["universe"] = [HOSTILE]
    write_page(hostile, path)
    return path


@pytest.fixture(scope="module")
def light(browse: Browse, page: Path) -> Any:
    return measure(browse, page, MEASURE, LIGHT, "--window-size=1280,900")


@pytest.fixture(scope="module")
def dark(browse: Browse, page: Path) -> Any:
    """Measure the page in dark mode and a narrow window."""
    return measure(browse, page, MEASURE, DARK, "--window-size=500,900")


class TestPage(RulesOfPages):
    """The rules for every page, applied to a run's."""


def test_the_browser_shows_a_chart_for_every_forecast(light: Any) -> None:
    assert [chart["symbol"] for chart in light["charts"]] == ["CCC", "AAA", "BRK.B", "EEE", "FFF", "DDD"]


def test_every_chart_has_a_size_and_draws_price_and_trend_across_it(light: Any) -> None:
    for chart in light["charts"]:
        assert chart["size"]["width"] > 200
        assert chart["size"]["height"] > 100
        long_lines = [line for line in chart["lines"] if line["width"] > chart["size"]["width"] / 2]
        assert len([line for line in long_lines if line["height"] > 5]) >= 2


def test_every_chart_names_its_last_price_and_trend(light: Any) -> None:
    numbers = {chart["symbol"]: chart["numbers"] for chart in light["charts"]}
    assert {"1,234.56", "1,300.00"} <= set(numbers["BRK.B"])


def test_a_narrow_window_needs_no_sideways_scrolling(dark: Any) -> None:
    assert dark["overflow"] <= 0


def test_a_stopped_runs_page_causes_no_browser_message(browse: Browse, tmp_path: Path) -> None:
    write_page(stop_record("HALTED", "parameter /bot/halt is true"), tmp_path / "run.html")
    dom, console = browse(tmp_path / "run.html")
    assert console == ""
    assert "Stopped: halted" in dom


def write(tmp_path: Path, record: dict[str, Any]) -> Elements:
    write_page(record, tmp_path / "deep" / "run.html")
    return Elements(tmp_path / "deep" / "run.html")


def test_a_brokers_html_is_shown_as_text(page: Path) -> None:
    assert Elements(page).text.count("<script>alert(1)</script>") >= 3  # in the note, the card and the table


def test_the_headline_says_what_happened(tmp_path: Path) -> None:
    text = write(tmp_path, record()).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "3 orders placed, 2 refused, 1 left alone" in text


def test_the_tiles_show_the_account_before_and_after(tmp_path: Path) -> None:
    text = write(tmp_path, record()).text
    assert "Equity 99,981.12 USD 100,000.00 before, " + formatting.MINUS + "18.88" in text


def test_every_chart_has_a_text_description(tmp_path: Path) -> None:
    elements = write(tmp_path, record())
    assert sum(attributes.get("role") == "img" for attributes in elements.find_all("svg")) == 6
    assert "AAA: price and trend line" in elements.text
    assert "is 5.9% below the trend line at 104.50 USD. Insight: UP." in elements.text


def test_every_table_header_has_a_scope(tmp_path: Path) -> None:
    scopes = [attributes.get("scope") for attributes in write(tmp_path, record()).find_all("th")]
    assert scopes == ["col"] * 7 + ["row"] + ["col"] * 8 + ["row"] * 6


def test_the_table_shows_each_symbols_target(tmp_path: Path) -> None:
    text = write(tmp_path, record()).text
    assert "Insight Target Order or refusal" in text
    assert "▲ UP 37 buy 37" in text
    assert "▼ DOWN 0 sell 12.5" in text
    assert "▲ UP 2 ORDER_REJECTED" in text
    assert "● FLAT left alone" in text


def test_symbols_without_a_stop_loss_raise_an_alarm_with_advice(tmp_path: Path) -> None:
    elements = write(tmp_path, record(unprotected=["DDD", "CCC"]))
    assert "Without a stop loss: DDD, CCC" in elements.alarms
    assert f"What to do: {formatting.UNPROTECTED_REMEDY}" in elements.text


def test_a_holding_without_a_stop_is_named_with_its_reason(tmp_path: Path) -> None:
    text = write(tmp_path, record_of_an_early_stop()).text
    assert "DDD : no stop is placed: trading is halted (the halt switch is on)" in text


def test_stops_and_the_fate_of_earlier_orders_are_shown(tmp_path: Path) -> None:
    elements = write(tmp_path, record_of_an_early_stop())
    assert "CCC: stop 38.80 for 12, new" in elements.text
    assert "buy 10 AAA of Wed 28 Dec, 15:45: was accepted, is rejected" in elements.text
    assert "sell 4 BRK.B of Wed 28 Dec, 15:45: was pending_new, is expired" in elements.alarms


def test_earlier_runs_that_were_cut_off_are_named(tmp_path: Path) -> None:
    text = write(tmp_path, record(recovered=["2022-12-28T20:45:00Z", "2022-12-28T20:30:00Z"])).text
    assert "were cut off and are now on record: Wed 28 Dec 2022, 15:45; Wed 28 Dec 2022, 15:30 New York" in text


def test_a_run_that_was_cut_off_raises_an_alarm(tmp_path: Path) -> None:
    badges = [
        each["class"] for each in write(tmp_path, record(status="INTERRUPTED")).find_all("span") if "class" in each
    ]
    assert "badge alarm" in badges


def test_a_run_whose_positions_are_all_protected_has_no_alarm(tmp_path: Path) -> None:
    elements = write(tmp_path, record(unprotected=[]))
    assert elements.alarms == []
    assert "Without a stop loss" not in elements.text


def test_an_old_record_without_targets_or_protection_has_a_page(tmp_path: Path) -> None:
    old = record()
    del old["report"]["targets"], old["report"]["unprotected"]
    assert "▲ UP buy 37" in write(tmp_path, old).text


def test_a_refused_sale_that_cost_the_stop_loss_stands_out(tmp_path: Path) -> None:
    alarms = write(tmp_path, record_of_a_lost_stop_loss()).alarms
    assert alarms.count("ORDER_REJECTED") == 2  # in the card and in the table; FFF's refusal cost no stop loss
    assert alarms.count(LOST) == 2


def test_only_the_codes_that_occurred_are_explained(tmp_path: Path) -> None:
    text = write(tmp_path, record()).text
    assert "does not buy one whole share" in text
    assert "The halt switch is on" not in text


def test_the_dead_band_is_drawn_only_for_the_trend_signal(tmp_path: Path) -> None:
    assert "too close to call: ±1%" in write(tmp_path, record()).text
    assert "±" not in write(tmp_path, interval_record()).text


def test_the_forecast_interval_is_drawn_where_the_signal_has_one(tmp_path: Path) -> None:
    text = write(tmp_path, interval_record()).text
    assert "forecast interval" in text
    assert "104.60" in text  # AAA's forecast, next to its bar


def interval_record() -> dict[str, Any]:
    changed = record()
    changed["settings"]["signal"] = "interval"
    for each in changed["report"]["forecasts"]:
        each |= {"lower_usd": each["yhat_usd"] * 0.95, "upper_usd": each["yhat_usd"] * 1.05}
    return changed


def test_many_symbols_refused_with_one_code_are_folded_away(tmp_path: Path) -> None:
    unpriced = [denial(f"ZZ{number}", "NO_PRICE_DATA", "file: no such symbol there") for number in range(483)]
    elements = write(tmp_path, record(denials=unpriced))
    assert "483 symbols NO_PRICE_DATA" in elements.text
    assert len(list(elements.find_all("tr"))) == HELD + 7


def test_an_order_of_unknown_fate_stands_out(tmp_path: Path) -> None:
    elements = write(tmp_path, record(orders=[order("AAA", "buy", 1.0, 98.36, status="unknown")]))
    assert elements.alarms.count("buy 1") == 2  # in the card and in the table


def test_a_stopped_run_is_explained_with_what_to_do(tmp_path: Path) -> None:
    elements = write(tmp_path, stop_record("ALREADY_RAN", "claimed at 16:00:02"))
    assert "a slot is never traded twice" in elements.text
    assert "Detail: claimed at 16:00:02" in elements.text
    assert "What to do: Nothing: the next slot trades again." in elements.text
    assert list(elements.find_all("table")) == []


def test_a_failed_run_shows_its_error(tmp_path: Path) -> None:
    text = write(tmp_path, stop_record("FAILED", "OSError: disk full")).text
    assert "The run failed" in text
    assert "OSError: disk full" in text


def test_a_page_with_a_long_history_stays_small(tmp_path: Path) -> None:
    long = record()
    bars = 5_000
    long["observation"]["closes"] = {
        each["symbol"]: {
            "times": [SLOT.timestamp() - 900 * (bars - 1 - bar) for bar in range(bars)],
            "usd": [each["price_usd"] + bar % 7 for bar in range(bars)],
        }
        for each in long["report"]["forecasts"]
    }
    write_page(long, tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_size < 150_000


@pytest.mark.parametrize("usd", [[5.0], [5.0, 5.0]], ids=["one bar", "a flat line"])
def test_a_flat_history_is_drawn(tmp_path: Path, usd: list[float]) -> None:
    flat = record()
    times = [SLOT.timestamp() - 86_400 * bar for bar in reversed(range(len(usd)))]
    flat["observation"]["closes"]["AAA"] = {"times": times, "usd": usd}
    flat["report"]["forecasts"][0] |= {"price_usd": 5.0, "trend_usd": 5.0, "line": [[SLOT.isoformat(), 5.0]]}
    assert "AAA: price and trend line" in write(tmp_path, flat).text


def test_a_symbol_without_kept_prices_has_a_row_but_no_chart(tmp_path: Path) -> None:
    lost = record()
    del lost["observation"]["closes"]["AAA"]
    elements = write(tmp_path, lost)
    assert len(list(elements.find_all("article"))) == 5
    assert len(list(elements.find_all("tr"))) == HELD + 7


def test_the_page_of_a_run_says_what_happened_since_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGINE", "map")
    for day in ("2022-12-27", "2022-12-28"):
        monkeypatch.setenv("AT", day)
        with pytest.raises(SystemExit):
            local.main()
    text = Elements(tmp_path / "out" / "run.html").text
    assert "Run before Tue 27 Dec 2022, 15:45 New York: TRADED" in text
    assert "AAPL at 125.67, at its stop" in text
    assert "Not by default: ENGINE=map" in text.replace("  ", " ")


def test_the_first_run_has_no_run_before(tmp_path: Path) -> None:
    assert "Since the run before" not in write(tmp_path, record()).text
