"""Prophet's model of linear growth, and its most probable parameters for many series at once, without Stan.

The model is that of Prophet 1 (Taylor and Letham 2018, "Forecasting at scale"; the package's prophet.stan): values
scaled by their largest, time scaled to 0 to 1 over the history, a line whose rate changes at 25 places evenly over the
first 80 % of the bars, Fourier terms added to it, and noise:

    y = k·t + m + Σ δⱼ·max(t - sⱼ, 0) + Σ βᵢ·xᵢ(t) + ε,   ε ~ N(0, sigma²)
    k, m ~ N(0, 5²)   δ ~ Laplace(0, 0.05)   β ~ N(0, 10²)   sigma ~ N⁺(0, 0.5²)

All series of one calendar share their columns, and the mode of each is found by `mode_search`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trader.forecasting.map import posterior_mode
from trader.forecasting.map.posterior_mode import Floats, Integers, Path, Problems

type Nanoseconds = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Times without a zone, strictly increasing, since 1970."""

CHANGEPOINTS = 25
CHANGEPOINT_RANGE = 0.8
LINE_SCALE = 5.0
CHANGEPOINT_SCALE = 0.05
SEASONALITY_SCALE = 10.0
"""Prophet's defaults, all of them; the noise's scale of 0.5 is in posterior_mode."""

MIN_BARS = 3
"""With two, the line goes through both, and there is no noise to speak of."""

CONVERGED = 1e-6
"""The largest residual of the optimality conditions that is called converged."""

DAY_NS = 86_400 * 10**9
WEEK_NS = 7 * DAY_NS

PERIODS = {"yearly": (365.25, 10), "weekly": (7.0, 3), "daily": (1.0, 4)}
"""By name: period in days, and order of the Fourier series, in Prophet's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The scales of the priors that Prophet lets its user choose."""

    changepoint: float = CHANGEPOINT_SCALE
    seasonality: float = SEASONALITY_SCALE


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """What the times of n bars decide for all series on them."""

    times_ns: Nanoseconds
    seasonalities: tuple[str, ...]

    @classmethod
    def of(cls, times_ns: Nanoseconds, allowed: Collection[str]) -> "Calendar":
        """With those of the allowed seasonalities that Prophet's "auto" would choose: there has to be history enough.

        Raises ValueError if the times are fewer than MIN_BARS or do not increase.
        """
        if len(times_ns) < MIN_BARS:
            raise ValueError(f"{len(times_ns)} bars; a line with noise takes at least {MIN_BARS}")
        steps_ns = np.diff(times_ns)
        if steps_ns.min() <= 0:
            raise ValueError("timestamps are not strictly increasing")
        span_days, step_days = (times_ns[-1] - times_ns[0]) / DAY_NS, steps_ns.min() / DAY_NS
        has_enough = {
            "yearly": span_days >= 730,
            "weekly": span_days >= 14 and step_days < 7,
            "daily": span_days >= 2 and step_days < 1,
        }
        chosen = tuple(name for name in PERIODS if name in allowed and has_enough[name])
        return cls(times_ns=times_ns, seasonalities=chosen)

    @cached_property
    def changepoints(self) -> Integers:
        """The bars at which the rate may change."""
        until = int(np.floor(len(self.times_ns) * CHANGEPOINT_RANGE))
        count = min(CHANGEPOINTS, until - 1)
        return np.linspace(0, until - 1, count + 1).round().astype(np.intp)[1:]

    @cached_property
    def changes(self) -> Floats:
        """Their scaled times."""
        return self.scale_times(self.times_ns[self.changepoints])

    @property
    def line_size(self) -> int:
        """How many parameters the line has: rate, offset and changes."""
        return 2 + len(self.changepoints)

    @property
    def shape(self) -> "Shape":
        """What models of this calendar have in common with those of others."""
        return self.columns.shape[1], len(self.changepoints)

    @cached_property
    def corners(self) -> Integers:
        """The bars where the line may have a corner, its ends included."""
        return np.concatenate([[0], self.changepoints, [len(self.times_ns) - 1]])

    @cached_property
    def harmless(self) -> Floats:
        """Values that a model can be fitted to, to fill a place."""
        return np.asarray(np.arange(len(self.times_ns)) % 2 / 2 + 0.5)

    @cached_property
    def columns(self) -> Floats:
        """Bars by parameters: rate, offset, changes of the rate, Fourier terms."""
        return self.features(self.times_ns)

    @cached_property
    def gram(self) -> Floats:
        """The products of the columns."""
        product: Floats = self.columns.T @ self.columns
        return product

    def scale_times(self, times_ns: Nanoseconds) -> Floats:
        """Times on the scale of the model: 0 at the first bar, 1 at the last."""
        return np.asarray((times_ns - self.times_ns[0]) / (self.times_ns[-1] - self.times_ns[0]))

    def features(self, times_ns: Nanoseconds) -> Floats:
        """What the parameters are multiplied by at other times: as `columns`."""
        scaled, days = self.scale_times(times_ns), times_ns / DAY_NS
        waves = [
            wave(2 * np.pi * (order + 1) / period_days * days)
            for period_days, most in (PERIODS[name] for name in self.seasonalities)
            for order in range(most)
            for wave in (np.sin, np.cos)
        ]
        bends = np.maximum(scaled[:, None] - self.changes, 0)
        return np.column_stack([scaled, np.ones(len(scaled)), bends, *waves])

    @property
    def has_free_level(self) -> bool:
        """Whether there are terms that share the level with the line: weekly and daily ones, of trading hours only."""
        return not {"weekly", "daily"}.isdisjoint(self.seasonalities)

    def determines(self, time_ns: int) -> bool:
        """Whether the history says what the terms with a free level are at a time.

        It does at the times of the week that it has; what they are on a Saturday, or an hour later by a change of the
        clocks, is left to the prior.
        """
        return not self.has_free_level or time_ns % WEEK_NS in self.times_ns % WEEK_NS

    def ridge(self, scales: Scales) -> Floats:
        """1/scale² of the normal priors, by parameter."""
        count = 2 * sum(PERIODS[name][1] for name in self.seasonalities)
        bends, waves = np.zeros(len(self.changepoints)), np.full(count, scales.seasonality**-2)
        return np.concatenate([np.full(2, LINE_SCALE**-2), bends, waves])

    def lasso(self, scales: Scales) -> Floats:
        """1/scale of the Laplace priors, by parameter."""
        weights = np.zeros(self.columns.shape[1])
        weights[2 : self.line_size] = 1 / scales.changepoint
        return weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The model of one series. The parameters are of scaled values and times; `scale` is the largest value."""

    calendar: Calendar
    parameters: Floats  # (p,)
    sigma: float
    scale: float
    residual: float  # of the optimality conditions: see optimality
    has_another: bool = False  # a second mode was found, and it is worse

    @property
    def changes(self) -> Floats:
        """δ, the changes of the rate."""
        return self.parameters[2 : self.calendar.line_size]

    def trend(self, times_ns: Nanoseconds) -> Floats:
        """The line at these times, in units of the series; Fourier terms are not part of it."""
        return self._line(self.calendar.features(times_ns))

    @property
    def corners(self) -> Floats:
        """The line at the first bar, where its rate may change, and at the last."""
        return self._line(self.calendar.columns[self.calendar.corners])

    @property
    def mean_season(self) -> float:
        """What the Fourier terms add to the line on average over the bars, in units of the series.

        Where the level is free only the sum of the line and this is determined.
        """
        size = self.calendar.line_size
        waves = self.calendar.columns[:, size:].mean(axis=0)
        return float((waves * self.parameters[size:]).sum() * self.scale)

    def yhat(self, times_ns: Nanoseconds) -> Floats:
        """The line and the Fourier terms."""
        return np.asarray((self.calendar.features(times_ns) * self.parameters).sum(axis=1) * self.scale)

    def _line(self, features: Floats) -> Floats:
        size = self.calendar.line_size
        return np.asarray((features[:, :size] * self.parameters[:size]).sum(axis=1) * self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Series on one calendar."""

    calendar: Calendar
    values: Floats  # (series, bars)


type Shape = tuple[int, int]
"""Of a model: the number of its parameters, and of those that are changes of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """The models in the order of the batches and their series, in words why there is none, and the searches' paths."""

    fits: tuple[Fit | str, ...]
    paths: Mapping[Shape, Path]


def fit(
    batches: Sequence[Batch],
    scales: Scales = Scales(),
    paths: Mapping[Shape, Path] | None = None,
) -> Fits:
    """The most probable models. `paths` are those of the same series a little earlier, and save time."""
    alike: dict[Shape, list[int]] = {}
    for place, batch in enumerate(batches):
        alike.setdefault(batch.calendar.shape, []).append(place)
    fits: dict[int, list[Fit | str]] = {}
    found = {}
    for shape, places in alike.items():
        models, found[shape] = _fit_rows([batches[place] for place in places], scales, (paths or {}).get(shape))
        fits |= dict(zip(places, models, strict=True))
    return Fits(fits=tuple(model for place in range(len(batches)) for model in fits[place]), paths=found)


def _fit_rows(batches: Sequence[Batch], scales: Scales, path: Path | None) -> tuple[list[list[Fit | str]], Path]:
    """The models of batches of one shape. A series that cannot be fitted is searched as a harmless one in its place."""
    ridge, lasso = batches[0].calendar.ridge(scales), batches[0].calendar.lasso(scales)
    with np.errstate(invalid="ignore"):
        scale = [np.abs(batch.values).max(axis=1) for batch in batches]
        is_sound = [
            np.isfinite(most) & (np.ptp(each.values, axis=1) > 0) for most, each in zip(scale, batches, strict=True)
        ]
    scaled = [
        np.where(sound[:, None], batch.values / np.where(sound, most, 1)[:, None], batch.calendar.harmless)
        for batch, most, sound in zip(batches, scale, is_sound, strict=True)
    ]
    counts = [len(batch.values) for batch in batches]
    problems = Problems(
        gram=np.stack([batch.calendar.gram for batch in batches]),
        calendar=np.repeat(np.arange(len(batches)), counts),
        projections=np.concatenate(
            [_by_row(y, batch.calendar.columns) for y, batch in zip(scaled, batches, strict=True)]
        ),
        squares=np.concatenate([(y[:, None, :] @ y[:, :, None])[:, 0, 0] for y in scaled]),
        bars=np.concatenate([np.full(len(y), float(y.shape[1])) for y in scaled]),
        ridge=ridge,
        lasso=lasso,
    )
    modes = posterior_mode.search(problems, path if path is not None and path.count == sum(counts) else None)
    models: list[list[Fit | str]] = []
    begin = 0
    for batch, y, most, sound in zip(batches, scaled, scale, is_sound, strict=True):
        rows = slice(begin, begin := begin + len(y))
        parameters, variance = modes.parameters[rows], modes.variance[rows]
        residuals = optimality(batch.calendar.columns, y, parameters, variance, ridge, lasso)
        models.append([])
        for place, (row, residual) in enumerate(zip(range(rows.start, rows.stop), residuals.tolist(), strict=True)):
            if not sound[place]:
                models[-1].append(_still(batch.calendar, batch.values[place]))
            elif not modes.is_found[row]:
                models[-1].append("its mode was not found: the search for it, or for a second one, was given up")
            elif not residual < CONVERGED:
                models[-1].append(f"its mode was not found: the optimality conditions are missed by {residual:.2g}")
            else:
                models[-1].append(
                    Fit(
                        calendar=batch.calendar,
                        parameters=parameters[place],
                        sigma=float(variance[place]) ** 0.5,
                        scale=float(most[place]),
                        residual=residual,
                        has_another=bool(modes.has_another[row]),
                    )
                )
    return models, modes.path


def _still(calendar: Calendar, values: Floats) -> Fit | str:
    """Of a series that does not move: of such Prophet takes the value, and no noise."""
    if not np.isfinite(values).all():
        return "a value is not a number"
    scale = float(abs(values[0])) or 1.0
    parameters = np.zeros(calendar.shape[0])
    parameters[1] = values[0] / scale
    return Fit(calendar=calendar, parameters=parameters, sigma=1e-9, scale=scale, residual=0.0)


def optimality(
    columns: Floats, values: Floats, parameters: Floats, variance: Floats, ridge: Floats, lasso: Floats
) -> Floats:
    """How far each series is from a stationary point of its -log posterior: 0 at one, NaN where there are no numbers.

    The largest component of the smallest subgradient, each in units of its prior's scale (sigma's: of its logarithm),
    with the residuals computed from the bars and not from the sums that the search works on. `values` and `parameters`
    have a row for each series.
    """
    with np.errstate(all="ignore"):
        rest = values - _by_row(parameters, columns.T)
        pull = _by_row(rest, columns) / variance[:, None] - ridge * parameters  # of likelihood and normal priors
        scale = np.where(lasso > 0, 1 / np.where(lasso > 0, lasso, 1), 1 / np.sqrt(np.where(ridge > 0, ridge, 1)))
        missed = np.abs(pull * scale - np.sign(parameters) * (lasso > 0))
        missed = np.where((lasso > 0) & (parameters == 0), np.maximum(missed - 1, 0), missed)
        of_sigma = np.abs(values.shape[1] - (rest**2).sum(axis=1) / variance + 4 * variance)
        return np.asarray(np.maximum(missed.max(axis=1), of_sigma))


def _by_row(rows: Floats, matrix: Floats) -> Floats:
    """Each row times the matrix: in one product for all, the last bits of each would depend on how many there are."""
    product: Floats = (rows[:, None, :] @ matrix)[:, 0]
    return product


def log_posterior(
    fitted: Fit,
    values: Floats,
    scales: Scales = Scales(),
) -> float:
    """What Stan calls lp__: the log of the posterior but for its constants."""
    rest = values / fitted.scale - fitted.calendar.columns @ fitted.parameters
    variance = fitted.sigma**2
    ridge, lasso = fitted.calendar.ridge(scales), fitted.calendar.lasso(scales)
    prior = (ridge * fitted.parameters**2 / 2 + lasso * np.abs(fitted.parameters)).sum()
    return float(-len(values) / 2 * np.log(variance) - rest @ rest / (2 * variance) - 2 * variance - prior)
