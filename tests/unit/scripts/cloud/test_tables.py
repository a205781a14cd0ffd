"""Tables at any width: lines fit, and every value is there."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from scripts import console
from scripts.cloud.tables import UNLIMITED, TableRow, lay_out, show_paragraphs, wrap

ORDERS = ["time", "strategy", "slot", "symbol", "side", "quantity", "price_usd", "stop_loss_usd", "status", "why"]
ORDER = ["2026-11-27 10:00:07", "trend", "2026-11-27 10:00", "MSFT", "buy", "78", "95.41", "", "filled", "so it was"]


def plain(lines: Sequence[Text]) -> list[str]:
    return [line.plain for line in lines]


def lines_of(headings: Sequence[str], *rows: Sequence[str], width: int, numbers: Sequence[str] = ()) -> list[str]:
    return plain(list(lay_out(headings, [TableRow(cells=row) for row in rows], numbers=numbers, width=width)))


def test_a_table_that_fits_has_one_line_for_each_row() -> None:
    assert lines_of(["Name", "Number"], ["a", "1"], ["bb", "20"], width=20, numbers=["Number"]) == [
        " Name  Number",
        " ────────────",
        " a          1",
        " bb        20",
    ]


def test_what_does_not_fit_follows_below_its_row_with_its_name() -> None:
    assert lines_of(ORDERS, ORDER, width=80)[2:] == [
        " 2026-11-27 10:00:07  trend     2026-11-27 10:00  MSFT    buy   78",
        "    price_usd 95.41 · status filled · why so it was",
    ]


def test_without_a_terminal_each_row_is_one_line() -> None:
    assert len(lines_of(ORDERS, ORDER, ORDER, width=UNLIMITED)) == 4


def test_no_line_ends_in_blanks() -> None:
    lines = [*lines_of(ORDERS, ORDER, width=80), *lines_of(["A", "B"], ["long", ""], ["x", "y"], width=80)]
    assert [line for line in lines if line != line.rstrip()] == []


def test_long_text_is_wrapped_between_words() -> None:
    assert lines_of(["why"], ["the price is older than allowed"], width=24) == [
        "    why the price is",
        "    older than allowed",
    ]


def test_a_wide_character_counts_as_two_cells() -> None:
    assert all(cell_len(line) <= 10 for line in wrap("価格が古すぎます" * 3, 10))


@pytest.mark.parametrize("width", [20, 40, 80, 110])
def test_a_style_reaches_every_line_of_its_row(width: int) -> None:
    row = TableRow(cells=ORDER, style="red")
    assert {line.style for line in lay_out(ORDERS, [row], width=width) if "─" not in line.plain} <= {"red", "bold"}


@pytest.mark.parametrize("width", [30, 80])
def test_paragraphs_are_wrapped_and_indented_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setattr(console, "OUT", Console(force_terminal=True, width=width, color_system=None))
    show_paragraphs(f"one\n\n{'word ' * 40}")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [" one", ""]
    assert [line for line in lines if len(line) > width or (line.strip() and not line.startswith(" "))] == []


@given(
    rows=st.lists(st.lists(st.text("abcé価 .-", max_size=60), min_size=4, max_size=4), min_size=1, max_size=4),
    width=st.integers(min_value=12, max_value=160),
)
def test_at_any_width_lines_fit_and_no_value_is_lost(rows: list[list[str]], width: int) -> None:
    lines = lines_of(["time", "symbol", "why", "n"], *rows, width=width)
    assert [line for line in lines if cell_len(line) > width] == []
    shown = "".join("".join(lines).split())
    assert [text for row in rows for text in row if "".join(text.split()) not in shown] == []
