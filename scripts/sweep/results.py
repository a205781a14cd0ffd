"""Results of a sweep: the folds, the best settings, and all figures, as JSON and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from scripts.backtest import ledger
from scripts.backtest.report.formatting import BAR_FIGURES, KEY_FIGURES
from scripts.backtest.trials import judge
from scripts.backtest.uncertainty import Numbers
from scripts.backtest.yearly import measure_span
from scripts.files import write_text
from scripts.sweep.executors import Failure
from scripts.sweep.grid import Axis, LeftOut, Setting, Values, in_words
from scripts.sweep.overfitting import Overfitting, measure
from scripts.sweep.sweep import Swept
from scripts.sweep.walk_forward import (
    BETTER,
    Figure,
    Fold,
    Part,
    choose_criterion,
    out_of_sample,
    score_by,
    walk_forward,
)
from trader.alpha import loader
from trader.model import Json

BEST = 10
"""Number of best settings to show."""

FIGURES = (*(name for _, name, _, _ in KEY_FIGURES), *(name for _, name, _ in BAR_FIGURES))
"""The key figures in the CSV file."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A sweep's inputs and results, with everything that its reports need."""

    metric: str  # as chosen; see criterion
    axes: Mapping[str, Axis]
    settings: Sequence[Setting]
    left_out: Sequence[LeftOut]
    parts: Sequence[Part]
    swept: Swept
    has_default: bool  # the last row of `swept` is the environment's own setting
    tried: Mapping[str, float | None] = field(default_factory=dict)  # all settings so far, on the same data: the ledger

    @property
    def criterion(self) -> str:
        """The key figure that settings are ranked by; see choose_criterion."""
        return choose_criterion(self.metric, self.parts)

    @property
    def figures(self) -> list[list[Figure]]:
        """The criterion by setting, then by part."""
        return self.swept.figures(self.criterion)[: len(self.settings)]

    @property
    def default(self) -> list[Figure] | None:
        """The criterion of the environment's own setting, by part; None if it is invalid without a grid."""
        return self.swept.figures(self.criterion)[-1] if self.has_default else None

    @property
    def folds(self) -> list[Fold]:
        """The setting chosen in each fold, and its results."""
        return walk_forward(self.figures, self.default, BETTER[self.metric])

    @property
    def ranking(self) -> list[int]:
        """Indices of the settings by mean out of sample, best first; ties keep the order of the grid."""
        score, means = score_by(BETTER[self.metric]), [out_of_sample(row) for row in self.figures]
        return sorted(range(len(means)), key=lambda setting: -score(means[setting]))

    @property
    def failed(self) -> list[tuple[Values | None, Part, str]]:
        """Values, part and reason of each failed backtest; the values are None for the environment's own setting."""
        named = [*(each.values for each in self.settings), *([None] if self.has_default else [])]
        return [
            (values, part, each.why)
            for values, row in zip(named, self.swept.rows, strict=True)
            for part, each in zip(self.parts, row, strict=True)
            if isinstance(each, Failure)
        ]

    @cached_property
    def overfitting(self) -> Overfitting:
        """How likely it is that the best setting was best by luck, over all days of the sweep."""
        made = [each for each in self.swept.returns()[: len(self.settings)] if each is not None]
        if len(made) < len(self.settings):
            return Overfitting(reason="some backtests failed")
        return measure(made)

    @property
    def sharpes(self) -> dict[str, float | None]:
        """The Sharpe ratio per bar over all days, by the identity of each setting; None without one."""
        made = zip(self.settings, self.swept.returns(), strict=False)
        return {ledger.identify(each.options): _sharpe(returns) for each, returns in made}

    @property
    def luck(self) -> Json:
        """What the number of all settings tried so far makes of the best one; see judge of scripts.backtest.trials."""
        best = self.swept.returns()[self.ranking[0]]
        if best is None:
            return {"settings": len(self.tried), "sharpe_by_luck": None, "probability": None}
        span = measure_span([time for part in self.parts for time in part.times])
        return {"settings": len(self.tried), **judge(best, self.tried.values(), span.bars_a_year if span else None)}

    @property
    def caution(self) -> str:
        """A warning against trusting the best result."""
        count = len(self.settings)
        signals = self.axes.get("SIGNAL", ())
        rules = [loader.facts(name) for name in signals] if isinstance(signals, tuple) else []
        hints = [
            f" SIGNAL={rule.name} was run with {in_words(rule.backtest_defaults)} unless you set other values; "
            "deploy it with the same values."
            for rule in rules
            if rule.backtest_defaults
        ]
        return (
            f"The best of {count} settings is partly luck: with many settings, some look good by chance. "
            "Judge by the out-of-sample results of the chosen settings, compared with the default and the median "
            f"setting. Past results promise nothing.{''.join(hints)}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything except the figures by setting and part, which are in the CSV file."""
        figures = self.figures
        return {
            "metric": self.metric,
            "ranked_by": self.criterion,
            "better": "more" if BETTER[self.metric] > 0 else "less",
            "settings": len(self.settings),
            "left_out": [asdict(each) for each in self.left_out],
            "parts": [
                {"number": part.number, "start": str(part.start), "end": str(part.end), "bars": len(part.times)}
                for part in self.parts
            ],
            "folds": [
                {**asdict(fold), "chosen": None if fold.chosen is None else self.settings[fold.chosen].values}
                for fold in self.folds
            ],
            "best": [
                {
                    "values": self.settings[number].values,
                    "out_of_sample": out_of_sample(figures[number]),
                    "by_part": figures[number],
                }
                for number in self.ranking[:BEST]
            ],
            "default": {"out_of_sample": out_of_sample(self.default), "by_part": self.default}
            if self.default
            else None,
            "failed": [{"values": values, "part": part.number, "why": why} for values, part, why in self.failed],
            "computed": self.swept.computed,
            "taken_up": self.swept.taken_up,
            "overfitting": {**asdict(self.overfitting), "verdict": self.overfitting.verdict},
            "trials": self.luck,
            "caution": self.caution,
        }

    def write_csv(self, path: Path) -> None:
        """Write all settings, parts and figures, with ten significant digits: more would depend on the processor."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["setting", *self.axes, "part", "start", "end", *FIGURES, "failed"])
        for number, row in enumerate(self.swept.rows):
            is_default = number == len(self.settings)
            values = dict.fromkeys(self.axes, "") if is_default else self.settings[number].values
            for part, figures in zip(self.parts, row, strict=True):
                failure = figures.why if isinstance(figures, Failure) else ""
                numbers = (
                    [_digits(figures[name]) for name in FIGURES] if isinstance(figures, dict) else [""] * len(FIGURES)
                )
                name = "default" if is_default else str(number + 1)
                rows.writerow([name, *values.values(), part.number, part.start, part.end, *numbers, failure])
        write_text(path, text.getvalue())


def _sharpe(returns: Numbers | None) -> float | None:
    if returns is None or len(returns) < 2 or not returns.std(ddof=1):
        return None
    return float(returns.mean() / returns.std(ddof=1))


def _digits(figure: Figure) -> str:
    return "" if figure is None else f"{figure:.10g}"
