"""The values behind a chart, which values.js shows under the pointer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

type Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a chart: its name, how its values are formatted (usd, percent or ratio), and them; None for none."""

    name: str
    unit: str
    values: list[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """The values of a chart's lines at places on its x axis, in order.

    Without `labels` the places are bars, and the page's list of times names them. `notes` are sentences on some places,
    by their position.
    """

    places: list[float]
    lines: list[Line]
    labels: list[str] | None = None
    notes: Mapping[int, Sequence[str]] = field(default_factory=dict)


def line(name: str, unit: str, values: Numbers) -> Line:
    """Return a line whose values have eight digits, so that a page of many stays small."""
    listed = [None if np.isnan(value) else float(f"{value:.8g}") for value in values.tolist()]
    return Line(name=name, unit=unit, values=listed)
