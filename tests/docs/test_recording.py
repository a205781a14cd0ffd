"""The moving picture of a run shows what a run prints, and nothing moves or loads but itself."""

import re
from xml.etree import ElementTree

from rich.text import Text

from scripts.docs import recording

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(picture: str) -> list[str]:
    """Return the text of each line of the picture but the typed command, with single blanks."""
    texts = ElementTree.fromstring(picture).findall(f"{SVG}text")
    found = [[part.text or "" for part in text.iter() if part.tag == f"{SVG}tspan"] for text in texts]
    return [" ".join(" ".join(parts).split()) for parts in found if parts]


def delays(picture: str) -> list[float]:
    return [float(delay) for delay in re.findall(r"animation-delay:([\d.]+)s", picture)]


def test_every_line_is_drawn_with_its_text_and_colors() -> None:
    lines = [Text.from_ansi(" \x1b[1mAAPL\x1b[0m  \x1b[32m▲ UP\x1b[0m  buy 39"), Text(""), Text(" a < b & c")]
    picture = recording.draw(lines)
    assert lines_of(picture) == ["AAPL ▲ UP buy 39", "a < b & c"]
    assert re.findall(r">(AAPL|▲ UP)</tspan>", picture) == ["AAPL", "▲ UP"]
    assert 'font-weight="bold">AAPL' in picture


def test_the_lines_appear_from_top_to_bottom_after_the_command_is_typed() -> None:
    found = delays(recording.draw([Text("one"), Text("two")]))
    assert found == sorted(found)


def test_the_picture_loads_nothing() -> None:
    picture = recording.PICTURE.read_text(encoding="utf-8").replace('"http://www.w3.org/2000/svg"', "")
    assert [word for word in ("http", "url(", "<script", "@import", "href") if word in picture] == []


def test_the_picture_in_the_readme_is_light() -> None:
    assert recording.PICTURE.stat().st_size < 30_000
