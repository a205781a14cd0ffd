"""The picture of how a backtest's cost grows: a panel for bars and one for symbols, with its points and its line."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

AT = "cpu_s_at_"
"""The beginning of the name of a point's figure; the number of bars or symbols follows."""

PER = "s_per_"
"""The beginning of the name of the line's slope; what it is a slope by follows, such as `bar`."""

WIDTH, HEIGHT = 860, 300
PANEL, LEFT, TOP, BOTTOM = 410, 54, 44, 44
INK, MUTED, GRID, DOT, MARK = "#17191e", "#63676f", "#e9e9e4", "#3157d5", "#c2410c"
STEPS = 4
"""Lines of the grid above zero."""


def draw(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG file of the kept lines of the case `growth`."""
    panels = "\n".join(
        f'<g transform="translate({number * (WIDTH - PANEL)} 0)">\n' + "\n".join(draw_panel(line)) + "\n</g>"
        for number, line in enumerate(lines)
    )
    label = "; ".join(f"{line['what']}: {line['measured']}" for line in lines)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">
<rect width="100%" height="100%" fill="white"/>
<g font-family="sans-serif" font-size="12" fill="{MUTED}">
{panels}
</g>
</svg>
"""


def draw_panel(line: Mapping[str, Any]) -> Iterator[str]:
    """Yield the elements of a panel: its title, the grid, the line, and the points."""
    figures = line["figures"]
    points = {int(name.removeprefix(AT)): value for name, value in figures.items() if name.startswith(AT)}
    ((unit, slope),) = [(name.removeprefix(PER), value) for name, value in figures.items() if name.startswith(PER)]
    most_at, most_s = max(points), round_up(max(points.values()))

    def x(at: float) -> float:
        return round(LEFT + (PANEL - LEFT - 16) * at / most_at, 1)

    def y(value_s: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value_s / most_s, 1)

    yield f'<text x="8" y="20" font-size="14" fill="{INK}">{line["what"]}</text>'
    for step in range(STEPS + 1):
        value_s = most_s * step / STEPS
        yield f'<path d="M{LEFT} {y(value_s)}H{PANEL - 16}" stroke="{GRID}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(value_s) + 4}" text-anchor="end">{value_s:g} s</text>'
    start_s = figures["start_s"]
    yield (
        f'<path d="M{x(0)} {y(max(start_s, 0))}L{x(most_at)} {y(start_s + slope * most_at)}" '
        f'stroke="{MARK}" stroke-width="2"/>'
    )
    for at, value_s in points.items():
        yield f'<circle cx="{x(at)}" cy="{y(value_s)}" r="4.5" fill="{DOT}"/>'
        yield f'<text x="{x(at)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{at:,}</text>'
    yield f'<text x="{PANEL - 16}" y="{HEIGHT - 8}" text-anchor="end">{unit}s; CPU of all processes</text>'


def round_up(value: float) -> float:
    """Return the next number above that four even steps divide well."""
    scale = 1.0
    while value > 10 * scale:
        scale *= 10
    while value < scale:
        scale /= 10
    return next(scale * each for each in (1, 2, 4, 6, 8, 10) if value <= scale * each)
