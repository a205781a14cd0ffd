"""The backtest in the reader's browser, in Chromium, compared with the same backtest on this machine."""

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple

import pytest

from scripts.backtest import options, report, statistics
from scripts.backtest.run import run
from tests.browser.chromium import Chromium
from trader.progress import no_progress

pytestmark = pytest.mark.timeout(900)  # half a minute on an idle machine; what runs the backtest is slow

PATIENCE_S = 600


class Outcome(NamedTuple):
    figures: dict[str, Any]
    page: str
    status: str


class Words(HTMLParser):
    """The words of a page without its pictures and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._hidden += tag in {"svg", "style", "footer"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"svg", "style", "footer"}

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.found.append(" ".join(data.split()))


def native(env: Mapping[str, str]) -> Outcome:
    """Run the backtest as `make backtest` does."""
    result = run(options.from_env({"ENGINE": "map", **env}), no_progress)
    figures = statistics.figures(result)
    return Outcome(json.loads(json.dumps(figures)), report.page(figures, result), "")


def in_browser(chromium: Chromium, **choices: str) -> Outcome:
    """Fill in the open page's form, run the backtest, and return what the page shows."""
    chosen = {"signal": "trend", "threshold": "1", "cash": "100000", **choices}
    fill = "".join(f"document.getElementById('try-{name}').value = {value!r};" for name, value in chosen.items())
    chromium.evaluate(
        f"{fill} document.addEventListener('backtest', ({{ detail }}) => {{ window.shown = detail; }});"
        "window.shown = null; document.getElementById('try-signal').dispatchEvent(new Event('change'));"
        "document.getElementById('try-run').click()"
    )
    chromium.wait_for("window.shown !== null || !document.getElementById('try-error').hidden", PATIENCE_S)
    error = chromium.evaluate(
        "document.getElementById('try-error').hidden ? '' : document.getElementById('try-error').textContent"
    )
    assert error == ""
    return Outcome(
        chromium.evaluate("window.shown.figures"),
        chromium.evaluate("document.getElementById('try-result').srcdoc"),
        chromium.evaluate("document.getElementById('try-status').textContent"),
    )


def fail(chromium: Chromium, address: str, script: str) -> str:
    """Open the page, run a script, press the button and return the error that the page shows."""
    chromium.open(address)
    chromium.evaluate(f"{script}; document.getElementById('try-run').click()")
    chromium.wait_for("!document.getElementById('try-error').hidden", 60)
    message: str = chromium.evaluate("document.querySelector('#try-error p').textContent")
    return message


@pytest.fixture(scope="module")
def page(chromium: Chromium, address: str) -> Chromium:
    chromium.open(address)
    return chromium


@pytest.fixture(scope="module")
def theirs(page: Chromium) -> Outcome:
    return in_browser(page)


@pytest.fixture(scope="module")
def ours() -> Outcome:
    return native({})


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every number and text with its place."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{path}/{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}/{number}")
    else:
        yield path, value


def assert_equal(theirs: Outcome, ours: Outcome) -> None:
    """Check that the trades are the same to the last bit, and every other figure to nine digits."""
    for part in ("trades", "refusals", "denials", "statuses", "costs", "restatements"):
        assert theirs.figures[part] == ours.figures[part], part
    assert theirs.figures["curve"]["equity_usd"] == ours.figures["curve"]["equity_usd"]
    places = {"settings/price_file", "timings_s"}
    for (place, their), (other, our) in zip(leaves(theirs.figures), leaves(ours.figures), strict=True):
        assert place == other
        if not any(each in place for each in places):
            assert their == (pytest.approx(our, rel=1e-9, abs=1e-12) if isinstance(our, float) else our), place


@pytest.mark.slow
def test_the_browser_makes_the_same_trades_as_this_machine(theirs: Outcome, ours: Outcome) -> None:
    assert_equal(theirs, ours)


@pytest.mark.slow
def test_the_browser_shows_the_page_of_make_backtest_word_for_word(theirs: Outcome, ours: Outcome) -> None:
    unlike = re.compile(r"\S*sample_prices\.csv\.gz")  # its path
    theirs_words, our_words = ([unlike.sub("", each) for each in Words(one.page).found] for one in (theirs, ours))
    assert theirs_words == our_words


@pytest.mark.slow
def test_the_page_says_how_long_it_took_and_what_the_account_has_at_the_end(theirs: Outcome, ours: Outcome) -> None:
    end_usd = ours.figures["curve"]["equity_usd"][-1]
    assert re.fullmatch(
        rf"Done in \d+ s, after \d+ s of loading: 505 days, {end_usd:,.2f} USD at the end. The result is below\.",
        theirs.status,
    )


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_result_fits_the_window(theirs: Outcome, page: Chromium, width: int, scheme: str) -> None:
    page.resize(width, 900)
    page.prefer(scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.getElementById('try-result').contentDocument.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_the_result_follows_the_readers_dark_mode(theirs: Outcome, page: Chromium) -> None:
    look = "getComputedStyle(document.getElementById('try-result').contentDocument.body).backgroundColor"
    page.prefer("light")
    light = page.evaluate(look)
    page.prefer("dark")
    assert page.evaluate(look) != light


@pytest.mark.slow
def test_the_page_has_no_errors_on_its_console(theirs: Outcome, page: Chromium) -> None:
    assert page.messages == []


def test_every_control_has_a_name(page: Chromium) -> None:
    names = page.evaluate(
        "[...document.querySelectorAll('.try select, .try input, .try progress')].map((each) => each.labels.length)"
    )
    assert names == [1, 1, 1, 1]


@pytest.mark.slow
def test_other_settings_give_the_same_trades_as_this_machine_too(theirs: Outcome, page: Chromium) -> None:
    again = in_browser(page, threshold="2.5", cash="50000")
    assert_equal(again, native({"SIGNAL_THRESHOLD_FRACTION": "0.025", "CASH": "50000"}))


@pytest.mark.slow
def test_the_interval_rule_gives_the_same_trades_as_this_machine_too(theirs: Outcome, page: Chromium) -> None:
    assert_equal(in_browser(page, signal="interval"), native({"SIGNAL": "interval"}))


def test_a_browser_without_webassembly_is_told_so(program: str, address: str) -> None:
    with Chromium(program) as browser:
        assert "no WebAssembly" in fail(browser, address, "delete globalThis.WebAssembly")


def test_a_page_opened_as_a_file_says_how_to_serve_it(program: str, site: Any) -> None:
    with Chromium(program) as browser:
        assert "opened as a file" in fail(browser, (site / "index.html").as_uri(), "0")


def test_a_part_that_cannot_be_loaded_is_named(program: str, address: str) -> None:
    break_worker = (
        "const Real = Worker; globalThis.Worker = function () {"
        f"return new Real(URL.createObjectURL(new Blob(['import \"{address}lacking.js\"'])), {{ type: 'module' }}) }}"
    )
    with Chromium(program) as browser:
        assert "could not be started" in fail(browser, address, break_worker)
