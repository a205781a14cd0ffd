import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.backtest import report
from scripts.backtest.model import Restatement, Result
from scripts.backtest.report.charts import drawdown
from scripts.backtest.statistics import figures
from scripts.report.formatting import NOTHING
from tests.backtest_results import fill, panel, result, with_bracket, year_of_trading
from tests.pages import DARK, LIGHT, Browse, Elements, RulesOfPages, measure

HOSTILE = '</title></svg><script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)">$\\frac{1}$'
SYMBOLS = ("AAA", "$B_1$", HOSTILE, "DDD")
CHARTS = ["equity", "drawdown", "rolling", "exposure", "results", "calibration"]
PHONE_PX = 360

# Runs in a copy of the page without its content security policy, so that an injected script would run as well.
# Chromium's own window is never as narrow as a phone, so the page can be shown in a frame; the measurements then go to
# the frame's parent.
MEASURE = """
<script>
const box = element => { const {width, height} = element.getBoundingClientRect(); return {width, height}; };
const seen = element => box(element).width > 0;
const pictures = figure => [...figure.querySelectorAll('svg.chart')].filter(seen).map(svg => ({
  size: box(svg),
  lines: [...svg.querySelectorAll('path[style*="stroke: var"]')].map(box),
  areas: [...svg.querySelectorAll('path[style*="fill: var"]')].map(box),
  texts: [...svg.querySelectorAll('text')].map(text => text.textContent),
  left: Math.min(...[...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect().left)),
  least_letter: Math.min(...[...svg.querySelectorAll('text')].map(text => box(text).height)),
  right: Math.max(...[...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect().right)),
}));
const measured = {
  charts: Object.fromEntries([...document.querySelectorAll('figure')].map(figure => [figure.id, pictures(figure)])),
  cards: [...document.querySelectorAll('article')].map(card => ({
    symbol: card.querySelector('h3').textContent,
    size: box(card.querySelector('svg.chart')),
    lines: [...card.querySelectorAll('svg.chart path[style*="stroke: var"]')].map(box),
    marks: [...card.querySelectorAll('svg.chart path[d*="z"]')].map(box),
  })),
  months: [...document.querySelectorAll('#chart-months td')].map(cell => getComputedStyle(cell).backgroundColor),
  page: getComputedStyle(document.body).backgroundColor,
  ink: getComputedStyle(document.querySelector('svg.chart path[style*="--accent"]')).stroke,
  width: window.innerWidth,
  ends: Object.fromEntries(['equity', 'drawdown'].map(name => {
    const svg = [...document.querySelectorAll(`#chart-${name} svg`)].find(seen);
    const left = svg.getBoundingClientRect().left;
    return [name, [left + Number(svg.dataset.left), left + Number(svg.dataset.right)]];
  })),
  sheets: [...document.querySelectorAll('.sheet')].filter(seen).map(sheet => {
    const cell = sheet.querySelector('tbody tr > :first-child'), before = cell.getBoundingClientRect().left;
    sheet.scrollLeft = 1_000;
    return {
      name: sheet.getAttribute('aria-labelledby') ?? sheet.getAttribute('aria-label'),
      hidden: sheet.scrollWidth - sheet.clientWidth,
      hint: getComputedStyle(sheet, '::before').content,
      moved: Math.round(cell.getBoundingClientRect().left - before),
    };
  }),
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
  scripts: [...document.scripts].filter(each => !each.type).length,
  images: document.querySelectorAll('img').length,
  folded: [...document.querySelectorAll('details:not([open])')].map(part => part.querySelector('summary').textContent),
};
if (parent !== window) parent.postMessage(measured, '*');
else document.body.textContent = 'measured' + JSON.stringify(measured) + 'end';
</script>
"""
FRAME = """
<!doctype html><link rel="icon" href="data:,"><body><script>
addEventListener('message', ({data}) => { document.body.textContent = 'measured' + JSON.stringify(data) + 'end'; });
</script><iframe src="measured.html" style="width: 360px; height: 900px; border: 0"></iframe>
"""

PATH = re.compile(r'<path d="([^"]*)"')


def write(done: Result, folder: Path) -> Path:
    return report.write(figures(done), done, folder).page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a year with a few symbols; the reasons, the notes and one symbol are HTML."""
    return write(year_of_trading(SYMBOLS, reason=HOSTILE), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def light(browse: Browse, page: Path) -> Any:
    return measure(browse, page, MEASURE, LIGHT, "--window-size=1280,900")


@pytest.fixture(scope="module")
def dark(browse: Browse, page: Path) -> Any:
    """Measure the page in dark mode on a phone, which is 360 px wide."""
    return measure(browse, page, MEASURE, DARK, "--hide-scrollbars", "--window-size=800,900", frame=FRAME)


class TestPage(RulesOfPages):
    """The rules for every page, applied to a backtest's."""


@pytest.mark.parametrize("name", CHARTS)
def test_a_desktop_shows_each_chart_once_and_large_enough(light: Any, name: str) -> None:
    (chart,) = light["charts"][f"chart-{name}"]
    assert chart["size"]["width"] > 400
    assert chart["size"]["height"] > 90


@pytest.mark.parametrize("name", CHARTS)
def test_a_phone_shows_each_chart_once_within_its_width(dark: Any, name: str) -> None:
    (chart,) = dark["charts"][f"chart-{name}"]
    assert 250 < chart["size"]["width"] <= PHONE_PX
    assert chart["least_letter"] > 8
    assert chart["left"] >= 0
    assert chart["right"] <= PHONE_PX


@pytest.mark.parametrize(("name", "lines"), [("equity", 2), ("drawdown", 2), ("exposure", 1)])
def test_the_lines_are_drawn_across_their_chart(light: Any, name: str, lines: int) -> None:
    (chart,) = light["charts"][f"chart-{name}"]
    across = [line for line in chart["lines"] if line["width"] > chart["size"]["width"] / 2 and line["height"] > 5]
    assert len(across) >= lines


@pytest.mark.parametrize(("name", "areas"), [("results", 3), ("calibration", 8)])
def test_the_bars_are_drawn(light: Any, name: str, areas: int) -> None:
    (chart,) = light["charts"][f"chart-{name}"]
    assert len([area for area in chart["areas"] if area["width"] > 1 and area["height"] > 5]) == areas


@pytest.mark.parametrize("words", ["Strategy 105,221", "Buy and hold 123,485", "Cash 100,000"])
def test_the_equity_lines_are_labeled_at_their_ends(light: Any, words: str) -> None:
    assert words in light["charts"]["chart-equity"][0]["texts"]


def test_the_drawdown_is_on_the_time_axis_of_the_equity(light: Any, dark: Any) -> None:
    for measured in (light, dark):
        assert measured["ends"]["drawdown"] == measured["ends"]["equity"]


def test_a_table_that_scrolls_says_so_and_keeps_its_first_column(dark: Any) -> None:
    scrolling = [sheet for sheet in dark["sheets"] if sheet["hidden"] > 1]
    assert {"Trades", "months"} <= {sheet["name"] for sheet in scrolling}
    assert [sheet for sheet in scrolling if sheet["moved"] or "Scroll sideways" not in sheet["hint"]] == []


def test_a_table_that_fits_says_nothing_of_scrolling(light: Any) -> None:
    fitting = [sheet for sheet in light["sheets"] if sheet["hidden"] <= 1]
    assert {"exits", "key-figures"} <= {sheet["name"] for sheet in fitting}
    assert {sheet["hint"] for sheet in fitting} == {"none"}


def test_a_symbols_spelling_is_unchanged(light: Any) -> None:
    assert {"AAA", "$B_1$"} <= set(light["charts"]["chart-results"][0]["texts"])


def test_the_months_are_colored_by_their_return(light: Any) -> None:
    assert len(set(light["months"])) > 8


def test_each_traded_symbol_has_prices_trend_line_and_marks(light: Any) -> None:
    assert sorted(card["symbol"] for card in light["cards"]) == sorted(SYMBOLS[:3])
    for card in light["cards"]:
        across = [line for line in card["lines"] if line["width"] > card["size"]["width"] / 2 and line["height"] > 5]
        assert len(across) >= 2
        assert len(card["marks"]) >= 3  # bought and sold, with a gain or a loss
        assert all(marks["width"] > 3 and marks["height"] > 3 for marks in card["marks"])


def test_a_phone_needs_no_sideways_scrolling(dark: Any) -> None:
    assert (dark["width"], dark["overflow"]) == (PHONE_PX, 0)


def test_many_trades_are_folded_away(light: Any) -> None:
    assert "All 33 trades" in light["folded"]


def test_html_from_outside_is_shown_as_text(page: Path) -> None:
    text = Elements(page).text
    assert text.count(HOSTILE) >= 30  # reasons of trades, the note, the source, the refusals, a symbol
    assert "<script>alert" not in page.read_text(encoding="utf-8")


def test_every_picture_has_a_text_description(page: Path) -> None:
    elements = Elements(page)
    pictures = [attributes for attributes in elements.find_all("svg") if attributes.get("role") == "img"]
    assert len(pictures) == 2 * len(CHARTS) + 3
    assert "At the end: Strategy 105,221 USD, Buy and hold 123,485 USD, cash 100,000 USD." in elements.text


def test_the_page_says_what_it_does_not_show(page: Path) -> None:
    text = Elements(page).text
    for words in ("What this does not show", "Costs are assumed", "Survivorship", "No promise of profit"):
        assert words in text


def test_the_page_says_by_what_year_its_figures_go(page: Path) -> None:
    assert "Yearly figures go by the dates of the span, with 261.9 bars in a year." in Elements(page).text


def test_the_page_of_22_bars_has_no_figure_for_a_year_and_says_why(tmp_path: Path) -> None:
    text = Elements(write(year_of_trading(bars=22), tmp_path)).text
    assert "No figures for a year: the span is shorter than three months." in text
    for label in ("Annual return", "Annual volatility", "Sharpe ratio", "Sortino ratio", "Calmar ratio"):
        assert re.search(rf"{label}\W+{NOTHING}\W+{NOTHING}\W+{NOTHING}", text)


def test_the_page_says_how_the_trades_ended(page: Path) -> None:
    text = Elements(page).text
    assert re.search(r"How the trades ended.*By the rule \d+.*By the stop loss \d+", text)
    assert re.search(
        r"profit factor \d\.\d\d; mean gain \+.*; mean loss .*; turnover [\d.]+ times the equity a year", text
    )


def test_the_page_has_the_command_that_makes_it_again(tmp_path: Path) -> None:
    done = year_of_trading()
    made = {
        "at": "2026-03-01T12:30:15Z",
        "version": "1.2.3",
        "code": "0123456789ab",
        "engine": "map, compiled from ab",
        "command": "make backtest A='<b>'",
    }
    text = Elements(report.write({**figures(done), "made": made}, done, tmp_path).page).text
    words = "Made on 1 Mar 2026 at 12:30 UTC by prophet-trader 1.2.3, code 0123456789ab, engine map, compiled from ab"
    assert f"Make it again make backtest A='<b>' {words}" in text


def test_the_stop_of_a_purchase_stands_beside_it(tmp_path: Path) -> None:
    over = panel({"AAA": [10.0, 11.0, 12.0, 11.0]})
    buy = fill(over, 1, "AAA", 10, 11.0)
    done = with_bracket(result(over, [buy]), buy, stop_loss_usd=10.67, take_profit_usd=15.4)
    text = write(done, tmp_path).read_text(encoding="utf-8")
    assert '<td class="number">11.00</td><td class="number">10.67</td>' in text
    assert "bought at 11.00, stop 10.67" in text


def test_the_page_shows_the_splits_of_shares_held(tmp_path: Path) -> None:
    over = panel({HOSTILE: [100, 104, 26, 27, 28, 29, 29, 30]})
    split = Restatement(
        time=over.close.index[2].to_pydatetime(),
        symbol=HOSTILE,
        ratio=4.0,
        quantity_before=10,
        quantity_after=40,
        cash_usd=0.0,
    )
    fills = [fill(over, 0, HOSTILE, 10, 100.0), fill(over, 4, HOSTILE, -40, 28.0)]
    path = write(result(over, fills, restatements=(split,)), tmp_path)
    assert f"{HOSTILE} : 6 Jan 2021, 4:1: 10 shares became 40" in Elements(path).text
    assert '<td class="number">10 → 40</td>' in path.read_text(encoding="utf-8")


def test_the_page_without_splits_does_not_mention_them(page: Path) -> None:
    assert "Splits of shares held" not in Elements(page).text


def test_an_interrupted_backtest_says_so_at_the_top(tmp_path: Path) -> None:
    elements = Elements(write(replace(year_of_trading(bars=40), is_complete=False), tmp_path))
    assert "Interrupted on 7 May 2021" in elements.alarms
    assert "Interrupted on 7 May 2021: " in elements.text


def test_a_complete_backtest_has_no_alarm(page: Path) -> None:
    assert Elements(page).alarms == []


def test_a_backtest_that_traded_nothing_says_so(tmp_path: Path) -> None:
    elements = Elements(write(result(panel({"AAA": [10, 11], "BBB": [10, 9]})), tmp_path))
    assert "No symbol was traded." in elements.text
    assert "Never traded: AAA, BBB." in elements.text
    assert list(elements.find_all("article")) == []


@pytest.mark.parametrize("bars", [0, 1, 2])
def test_the_shortest_backtests_have_a_page(tmp_path: Path, bars: int) -> None:
    over = panel({"AAA": [10.0, 10.0]})
    fills = [fill(over, 0, "AAA", 100, 10.0)] if bars == 2 else []
    done = result(over, fills, first=2 - bars, is_complete=bool(bars))
    assert "What this does not show" in Elements(write(done, tmp_path)).text


def test_bars_shorter_than_a_day_show_their_time(tmp_path: Path) -> None:
    over = year_of_trading(bars=40)
    hourly = replace(over.options, settings=replace(over.options.settings, bar_interval="1h"))
    assert "15 Mar 2021, 00:00 to" in Elements(write(replace(over, options=hourly), tmp_path)).text


def test_many_symbols_are_folded_away_and_the_page_stays_small(tmp_path: Path) -> None:
    path = write(year_of_trading([f"S{number:02d}" for number in range(28)], 300), tmp_path)
    assert path.stat().st_size < 1_000_000
    summaries = re.findall(r"<summary>([^<]*)</summary>", path.read_text(encoding="utf-8"))
    assert "27 symbols" in summaries


@pytest.mark.parametrize("bar", [500, 501, 502, 503])
def test_a_one_bar_fall_survives_the_thinning_of_a_picture(bar: int) -> None:
    calm = [10.0] * 1_000
    fallen = [*calm[:bar], 5.0, *calm[bar + 1 :]]
    over = [panel({"AAA": closes}) for closes in (calm, fallen)]
    held = [figures(result(prices, [fill(prices, 0, "AAA", 100, 10.0)])) for prices in over]
    for each in held:
        each["curve"]["buy_and_hold_drawdown_fraction"] = None  # it fell equally deep
    for without, with_it in zip(*(drawdown(each).pictures for each in held), strict=True):
        assert PATH.findall(without) != PATH.findall(with_it)
