"""`python -m scripts.docs.recording`: run the bot, and draw what its terminal showed as docs/images/recording.svg.

The picture moves without scripts and needs no font from the network: a browser shows it inside a page, as GitHub does.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from rich.color import Color
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

from scripts import ROOT, console, files
from scripts.console import CommandError

PICTURE = ROOT / "docs" / "images" / "recording.svg"
COMMAND = "make run"
COLUMNS = 100
CHARACTER_PX, LINE_PX, MARGIN_PX = 7.8, 17, 16
FONT_PX = 13
KEY_S, THINK_S, LINE_S = 0.09, 1.2, 0.03
"""The time for a key, for the run before its first line, and for each line."""

PAPER, INK, DIM = "#16181d", "#d7dae0", "#8b93a3"


def main() -> None:
    """Run the bot in an empty folder and write the picture."""
    with console.plain_errors():
        files.write_text(PICTURE, draw(run_bot()))
        console.OUT.print(str(PICTURE.relative_to(ROOT)))


def run_bot() -> Sequence[Text]:
    """Return the lines that a run prints on a terminal with colors. Raises CommandError if the run fails."""
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'function'}{os.pathsep}{ROOT}",
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
        }
        words = [sys.executable, "-m", "scripts", "run"]
        made = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if made.returncode:
        raise CommandError(f"the run failed, so there is nothing to draw: {made.stderr.strip()}")
    return list(Text.from_ansi(made.stdout.strip("\n")).split("\n"))


def draw(lines: Sequence[Text]) -> str:
    """Return the picture: the command is typed, then the lines appear."""
    width_px = COLUMNS * CHARACTER_PX + 2 * MARGIN_PX
    height_px = (len(lines) + 1) * LINE_PX + 2 * MARGIN_PX
    begin_s = len(COMMAND) * KEY_S + THINK_S
    shown = "\n".join(
        draw_line(line, number + 1, begin_s + number * LINE_S)
        for number, line in enumerate(lines)
        if line.plain.strip()
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width_px:g} {height_px:g}"
role="img" aria-label="$ {COMMAND}, and what it prints">
<style>
text {{ font: {FONT_PX}px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }}
.t {{ animation: show 1ms both; }}
@keyframes show {{ from {{ opacity: 0; }} }}
@media (prefers-reduced-motion: reduce) {{ .t {{ animation: none; }} }}
</style>
<rect width="100%" height="100%" rx="10" fill="{PAPER}"/>
{"".join(draw_keys())}
{shown}
</svg>
"""


def draw_keys() -> Iterator[str]:
    """Yield the prompt, and each character of the command as it is typed."""
    yield f'<text x="{MARGIN_PX}" y="{place(0)}" fill="{DIM}">$</text>'
    for number, key in enumerate(COMMAND):
        if key != " ":
            yield (
                f'<text class="t" style="animation-delay:{number * KEY_S:.2f}s" x="{column(number + 2):g}" '
                f'y="{place(0)}" fill="{INK}">{key}</text>'
            )


def draw_line(line: Text, number: int, at_s: float) -> str:
    """Return a line of the output; each stretch of one color has its own place, whatever the font's width."""
    parts, begin = [], 0
    for text, style in stretches(line):
        if text.strip():
            blank = len(text) - len(text.lstrip())
            length = len(text.strip())
            parts.append(
                f'<tspan x="{column(begin + blank):g}" textLength="{length * CHARACTER_PX:g}"{attributes(style)}>'
                f"{escape(text.strip())}</tspan>"
            )
        begin += len(text)
    return (
        f'<text class="t" style="animation-delay:{at_s:.2f}s" y="{place(number)}" fill="{INK}">{"".join(parts)}</text>'
    )


def stretches(line: Text) -> Iterator[tuple[str, Style]]:
    """Yield the parts of a line that have one style, from left to right."""
    ends = sorted({0, len(line.plain), *(end for span in line.spans for end in (span.start, span.end))})
    for begin, end in pairwise(ends):
        styles = [span.style for span in line.spans if span.start <= begin and end <= span.end]
        yield (
            line.plain[begin:end],
            Style.combine([Style.null(), *(each for each in styles if isinstance(each, Style))]),
        )


def attributes(style: Style) -> str:
    """Return a style's color and weight as attributes."""
    color = "" if style.color is None else f' fill="{to_hex(style.color)}"'
    if style.dim:
        color = f' fill="{DIM}"'
    return color + (' font-weight="bold"' if style.bold else "")


def to_hex(color: Color) -> str:
    """Return a color of the terminal as a browser writes it."""
    return color.get_truecolor(DIMMED_MONOKAI).hex


def place(number: int) -> int:
    """Return the height of a line's letters, in pixels from the top."""
    return MARGIN_PX + (number + 1) * LINE_PX - 4


def column(number: int) -> float:
    """Return the left end of a column, in pixels."""
    return round(MARGIN_PX + number * CHARACTER_PX, 2)


if __name__ == "__main__":
    main()
