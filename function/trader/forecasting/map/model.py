"""Prophet's linear growth model, and its most probable parameters for many series at once, without Stan.

The model is that of Prophet 1 (Taylor and Letham 2018, "Forecasting at scale"; the package's prophet.stan): values
divided by the largest, time scaled to 0 to 1 over the history, a line whose rate changes at 25 changepoints spread
evenly over the first 80 % of the bars, Fourier terms added to it, and noise:

    y = k·t + m + Σ δⱼ·max(t - sⱼ, 0) + Σ βᵢ·xᵢ(t) + ε,   ε ~ N(0, sigma²)
    k, m ~ N(0, 5²)   δ ~ Laplace(0, 0.05)   β ~ N(0, 10²)   sigma ~ N⁺(0, 0.5²)

The mode of each series is found by the compiled search (`kernel`). Where that cannot be loaded, and in tests as the
reference, it is found by `posterior_mode` in NumPy, for which all series of one calendar share their columns.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np

from trader.forecasting.base import ROUNDING
from trader.forecasting.map import kernel, posterior_mode
from trader.forecasting.map.kernel import Grid, Nodes, Rows, Seasons, Words
from trader.forecasting.map.posterior_mode import Floats, Integers, Path, Problems

type Nanoseconds = np.ndarray[tuple[int], np.dtype[np.int64]]
"""Times in nanoseconds since 1970, without a zone, strictly increasing."""

CHANGEPOINTS = 25
CHANGEPOINT_RANGE = 0.8
LINE_SCALE = 5.0
CHANGEPOINT_SCALE = 0.05
SEASONALITY_SCALE = 10.0
"""Prophet's defaults; the scale 0.5 of the noise is in posterior_mode."""

MIN_BARS = 3
"""The minimum history: a line through two bars is exact and leaves no noise to estimate."""

CONVERGED = 1e-6
"""The largest residual of the optimality conditions that counts as converged."""

MIN_ROWS_PER_THREAD = 64
"""The number of series, of about 10 µs each, for which a thread is worth being started."""

DAY_NS = 86_400 * 10**9
WEEK_NS = 7 * DAY_NS

PERIODS = {"yearly": (365.25, 10), "weekly": (7.0, 3), "daily": (1.0, 4)}
"""The period in days and the order of the Fourier series, by name, in Prophet's order."""

HISTORIES = {"yearly": (730.0, math.inf), "weekly": (14.0, 7.0), "daily": (2.0, 1.0)}
"""How many days a history must span at least for a seasonality, and below how many its shortest step must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The scales of the priors that a user of Prophet can choose."""

    changepoint: float = CHANGEPOINT_SCALE
    seasonality: float = SEASONALITY_SCALE


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The times of n bars, and everything derived from them that the series on these bars share."""

    times_ns: Nanoseconds
    seasonalities: tuple[str, ...]

    @classmethod
    def of(cls, times_ns: Nanoseconds, allowed: Collection[str], *, is_rising: bool = False) -> "Calendar":
        """Return a calendar with the allowed seasonalities for which the history suffices, as with Prophet's "auto".

        `is_rising`: the times are known to be strictly increasing. Raises ValueError if there are fewer than MIN_BARS
        times or they are not.
        """
        if len(times_ns) < MIN_BARS:
            raise ValueError(f"{len(times_ns)} bars; a line with noise needs at least {MIN_BARS}")
        if not is_rising and not is_strictly_increasing(times_ns):
            raise ValueError("timestamps are not strictly increasing")
        span_days = int(times_ns[-1] - times_ns[0]) / DAY_NS
        chosen = tuple(
            name
            for name, (least_days, below_days) in HISTORIES.items()
            if name in allowed and span_days >= least_days and _has_steps_below(times_ns, below_days)
        )
        return cls(times_ns=times_ns, seasonalities=chosen)

    @cached_property
    def changepoints(self) -> Integers:
        """The bars at which the rate may change."""
        return self.corners[1:-1]

    @cached_property
    def changes(self) -> Floats:
        """The scaled times of the changepoints."""
        return self.scale_times(self.times_ns[self.changepoints])

    @property
    def line_size(self) -> int:
        """The number of the line's parameters: rate, offset and changes of the rate."""
        return 2 + len(self.changepoints)

    @property
    def shape(self) -> "Shape":
        """The sizes of this calendar's models; models of calendars with the same shape can be fitted together."""
        return self.grid.size, len(self.changepoints)

    @property
    def corners(self) -> Integers:
        """The bars where the line may have a corner, and its two ends."""
        return _nodes(len(self.times_ns)).places

    @cached_property
    def grid(self) -> Grid:
        """This calendar as the compiled search reads it."""
        return Grid(times_ns=self.times_ns, nodes=_nodes(len(self.times_ns)), seasons=_seasons(self.seasonalities))

    @cached_property
    def harmless(self) -> Floats:
        """Placeholder values that a model can be fitted to."""
        return np.asarray(np.arange(len(self.times_ns)) % 2 / 2 + 0.5)

    @cached_property
    def columns(self) -> Floats:
        """The features of the bars, (bars, parameters): rate, offset, changes of the rate, Fourier terms."""
        return self.features(self.times_ns)

    @cached_property
    def mean_waves(self) -> Floats:
        """The mean of each Fourier term over the bars."""
        return np.asarray(self.columns[:, self.line_size :].mean(axis=0))

    @cached_property
    def gram(self) -> Floats:
        """The products of the columns, XᵀX."""
        product: Floats = self.columns.T @ self.columns
        return product

    def scale_times(self, times_ns: Nanoseconds) -> Floats:
        """Scale times as the model does: 0 at the first bar, 1 at the last."""
        return np.asarray((times_ns - self.times_ns[0]) / (self.times_ns[-1] - self.times_ns[0]))

    def features(self, times_ns: Nanoseconds) -> Floats:
        """Return the factors of the parameters at any times, in the order of `columns`."""
        scaled = self.scale_times(times_ns)
        # The fraction of a turn is computed in whole nanoseconds: weekly terms determine the level only to within a
        # hundred million times the rounding of their angles.
        waves = [
            wave(2 * np.pi * ((times_ns % period_ns) * order % period_ns / period_ns))
            for period_ns, most in self.grid.seasons.table.tolist()
            for order in range(1, most + 1)
            for wave in (np.sin, np.cos)
        ]
        bends = np.maximum(scaled[:, None] - self.changes, 0)
        return np.column_stack([scaled, np.ones(len(scaled)), bends, *waves])

    @property
    def has_free_level(self) -> bool:
        """True if terms share the level with the line, as weekly and daily ones do: bars cover only trading hours."""
        return "weekly" in self.seasonalities or "daily" in self.seasonalities

    def determines(self, time_ns: int) -> bool:
        """Check whether the history determines the terms with a free level at a time.

        It does at the times of the week that occur in it. At any other time, such as on a Saturday, the prior alone
        determines them.
        """
        return not self.has_free_level or time_ns % WEEK_NS in self.times_ns % WEEK_NS

    def ridge(self, scales: Scales) -> Floats:
        """Return 1/scale² of the normal priors, by parameter."""
        count = 2 * sum(PERIODS[name][1] for name in self.seasonalities)
        bends, waves = np.zeros(len(self.changepoints)), np.full(count, scales.seasonality**-2)
        return np.concatenate([np.full(2, LINE_SCALE**-2), bends, waves])

    def lasso(self, scales: Scales) -> Floats:
        """Return 1/scale of the Laplace priors, by parameter."""
        weights = np.zeros(self.shape[0])
        weights[2 : self.line_size] = 1 / scales.changepoint
        return weights


def is_strictly_increasing(times_ns: Nanoseconds) -> bool:
    """Check whether each time is later than the one before."""
    return bool((times_ns[1:] > times_ns[:-1]).all())


def _has_steps_below(times_ns: Nanoseconds, days: float) -> bool:
    return days == math.inf or int((times_ns[1:] - times_ns[:-1]).min()) / DAY_NS < days


@lru_cache(maxsize=1024)
def _nodes(bars: int) -> Nodes:
    """Return the first bar, those at which the rate may change, and the last."""
    until = int(np.floor(bars * CHANGEPOINT_RANGE))
    count = min(CHANGEPOINTS, until - 1)
    changepoints = np.linspace(0, until - 1, count + 1).round().astype(np.intp)[1:]
    return Nodes(np.concatenate([[0], changepoints, [bars - 1]]))


@lru_cache(maxsize=16)
def _seasons(names: tuple[str, ...]) -> Seasons:
    """Return the Fourier series of some seasonalities."""
    return Seasons([(round(days * DAY_NS), order) for days, order in (PERIODS[name] for name in names)])


@dataclass(slots=True, kw_only=True)
class Fit:
    """The model of one series. Its parameters refer to scaled values and times; `scale` is the largest value.

    It is not to be changed. It is not frozen only because freezing an object costs as much as a sixth of a search.
    """

    calendar: Calendar
    parameters: Floats  # (p,)
    sigma: float
    scale: float
    residual: float  # of the optimality conditions: see optimality
    has_another: bool = False  # a second, worse mode was found
    _corners: Floats | None = field(default=None, repr=False)  # what `corners` and `mean_season` return, if known
    _mean_season: float | None = field(default=None, repr=False)

    @property
    def changes(self) -> Floats:
        """δ, the changes of the rate."""
        return self.parameters[2 : self.calendar.line_size]

    def trend(self, times_ns: Nanoseconds) -> Floats:
        """Return the line at these times in units of the series, without the Fourier terms."""
        return self._line(self.calendar.features(times_ns))

    @property
    def corners(self) -> Floats:
        """The line at the first bar, at the changepoints and at the last bar, in units of the series."""
        if self._corners is not None:
            return self._corners
        return self._line(self.calendar.columns[self.calendar.corners])

    @property
    def mean_season(self) -> float:
        """The mean of the Fourier terms over the bars, in units of the series.

        With a free level, only the sum of this mean and the line is determined.
        """
        if self._mean_season is not None:
            return self._mean_season
        return float((self.calendar.mean_waves * self.parameters[self.calendar.line_size :]).sum() * self.scale)

    def level_usd(self, time_ns: Nanoseconds) -> float:
        """Return the line at a time, at the level of the prices; see Fits.line_usd."""
        usd = float(self.trend(time_ns)[0])
        return usd + self.mean_season if self.calendar.has_free_level else usd

    def yhat(self, times_ns: Nanoseconds) -> Floats:
        """Return the line plus the Fourier terms at these times, in units of the series."""
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
"""The number of a model's parameters, and how many of them are changes of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The paths of the searches for some series, in order: of the compiled search, or of the reference by shape."""

    compiled: Words | None = None  # (series, kernel.PATH_WORDS)
    reference: Mapping[Shape, Path] = field(default_factory=dict)

    def of(self, names: Sequence[str], before: Sequence[str]) -> "Paths":
        """Return the paths of the named series, if these are of the series `before`; a series without one has none."""
        if self.compiled is None or names == before:
            return self
        rows = {name: row for row, name in enumerate(before)}
        nothing = np.zeros((1, kernel.PATH_WORDS), np.uint32)
        chosen = [rows.get(name, -1) for name in names]
        return replace(self, compiled=np.concatenate([self.compiled, nothing])[chosen])


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The models of all series, in the order of the batches, and the paths of the searches."""

    batches: Sequence[Batch]
    rows: Rows
    reasons: dict[int, str]  # why a series has no model, by its place among all series
    paths: Paths

    @cached_property
    def fits(self) -> tuple[Fit | str, ...]:
        """The models, or the reasons for having none."""
        return tuple(self.reasons.get(place) or self.at(place) for place in range(len(self.rows.status)))

    def at(self, place: int) -> Fit:
        """Return the model of the series at a place, which has one."""
        batch, _, parameters, line = self._find(place)
        sigma, scale, residual, mean_season = self.rows.numbers[place].tolist()
        return Fit(
            calendar=batch.calendar,
            parameters=self.rows.parameters[parameters],
            sigma=sigma,
            scale=scale,
            residual=residual,
            has_another=bool(self.rows.status[place, 1]),
            _corners=self.rows.line[line],
            _mean_season=mean_season,
        )

    def line_usd(self, place: int) -> Floats:
        """Return the line of a series at its corners, at the level of the prices; without a model, it means nothing.

        With a free level, that is the line plus the mean of the Fourier terms: only their sum is determined.
        """
        return self._lines[0][self._bounds[place] : self._bounds[place + 1]]

    @cached_property
    def ends_usd(self) -> list[float]:
        """The last value of each series' `line_usd`."""
        line, ends = self._lines
        found: list[float] = line[ends - 1].tolist()
        return found

    @cached_property
    def are_finite(self) -> list[bool]:
        """Whether all values of each series' `line_usd` are finite."""
        line, ends = self._lines
        is_finite = np.isfinite(line)
        if is_finite.all():
            return [True] * len(ends)
        found: list[bool] = np.logical_and.reduceat(is_finite, np.concatenate([[0], ends[:-1]])).tolist()
        return found

    @cached_property
    def _lines(self) -> tuple[Floats, Integers]:
        """The lines at the level of the prices, one after another, and where each ends."""
        counts = [len(batch.values) for batch in self.batches]
        corners = np.array([batch.calendar.grid.nodes.count for batch in self.batches]).repeat(counts)
        line, are_free = self.rows.line, [batch.calendar.has_free_level for batch in self.batches]
        if any(are_free):
            is_free = np.array(are_free).repeat(counts)
            raised = line + self.rows.numbers[:, 3].repeat(corners)
            line = np.where(is_free.repeat(corners), raised, line)
        return line, corners.cumsum()

    def _find(self, place: int) -> tuple[Batch, int, slice, slice]:
        """Return the batch of a series, its row there, and where its parameters and its line are in `rows`."""
        series, parameters, corners = self._begins
        number = bisect_right(series, place) - 1
        batch, row = self.batches[number], place - series[number]
        size, nodes = batch.calendar.grid.size, batch.calendar.grid.nodes.count
        first, corner = parameters[number] + row * size, corners[number] + row * nodes
        return batch, row, slice(first, first + size), slice(corner, corner + nodes)

    @cached_property
    def _bounds(self) -> list[int]:
        """Where each series' line begins, and where the last one ends."""
        return [0, *self._lines[1].tolist()]

    @cached_property
    def _begins(self) -> tuple[list[int], list[int], list[int]]:
        """Where each batch begins: among all series, their parameters and their corners."""
        grids = [(len(batch.values), batch.calendar.grid) for batch in self.batches]
        return (
            list(accumulate((count for count, _ in grids), initial=0)),
            list(accumulate((count * grid.size for count, grid in grids), initial=0)),
            list(accumulate((count * grid.nodes.count for count, grid in grids), initial=0)),
        )

    def _put(self, place: int, outcome: Fit | str) -> None:
        """Take a model, or the reason why there is none, for the result of a series."""
        if isinstance(outcome, str):
            self.reasons[place] = outcome
            return
        _, _, parameters, line = self._find(place)
        self.rows.parameters[parameters], self.rows.line[line] = outcome.parameters, outcome.corners
        self.rows.numbers[place] = outcome.sigma, outcome.scale, outcome.residual, outcome.mean_season
        self.rows.status[place] = kernel.FOUND, outcome.has_another

    @classmethod
    def compiled(cls, batches: Sequence[Batch], rows: Rows) -> "Fits":
        """Return what the compiled search has found."""
        made = cls(batches=batches, rows=rows, reasons={}, paths=Paths(compiled=rows.path))
        status, residual = rows.status[:, 0], rows.numbers[:, 2]
        is_found = (status == kernel.FOUND) & (residual < CONVERGED)
        for place in () if is_found.all() else np.flatnonzero(~is_found).tolist():
            batch, row, _, _ = made._find(place)
            moves, has_mode = status[place] in {kernel.FOUND, kernel.NOT_FOUND}, status[place] == kernel.FOUND
            made._put(place, _without_mode(batch, row, moves, has_mode, float(residual[place])))
        return made

    @classmethod
    def reference(cls, batches: Sequence[Batch], outcomes: Sequence[Fit | str], paths: Paths) -> "Fits":
        """Return what the reference has found."""
        rows = kernel.make_room([(batch.calendar.grid, len(batch.values)) for batch in batches])
        made = cls(batches=batches, rows=rows, reasons={}, paths=paths)
        for place, outcome in enumerate(outcomes):
            made._put(place, outcome)
        return made


def fit(batches: Sequence[Batch], scales: Scales = Scales(), paths: Paths | None = None, threads: int = 1) -> Fits:
    """Return the most probable models. `paths` from a fit of the same series a little earlier save time."""
    library = kernel.load()
    if library is None:
        return _fit_by_reference(batches, scales, paths)
    count = sum(len(batch.values) for batch in batches)
    before = paths.compiled if paths and paths.compiled is not None and len(paths.compiled) == count else None
    rows = library.fit(
        [(batch.calendar.grid, batch.values) for batch in batches],
        LINE_SCALE**-2,
        scales.seasonality**-2,
        1 / scales.changepoint,
        before,
        max(1, min(threads, count // MIN_ROWS_PER_THREAD)),
    )
    return Fits.compiled(batches, rows)


def _fit_by_reference(batches: Sequence[Batch], scales: Scales, paths: Paths | None) -> Fits:
    """Fit all batches with the search in NumPy."""
    alike: dict[Shape, list[int]] = {}
    for place, batch in enumerate(batches):
        alike.setdefault(batch.calendar.shape, []).append(place)
    fits: dict[int, list[Fit | str]] = {}
    found = {}
    before = paths.reference if paths else {}
    for shape, places in alike.items():
        models, found[shape] = _fit_rows([batches[place] for place in places], scales, before.get(shape))
        fits |= dict(zip(places, models, strict=True))
    outcomes = [model for place in range(len(batches)) for model in fits[place]]
    return Fits.reference(batches, outcomes, Paths(reference=found))


def _fit_rows(batches: Sequence[Batch], scales: Scales, path: Path | None) -> tuple[list[list[Fit | str]], Path]:
    """Fit batches of one shape. The values of a series that cannot be fitted are replaced by placeholder values."""
    ridge, lasso = batches[0].calendar.ridge(scales), batches[0].calendar.lasso(scales)
    with np.errstate(invalid="ignore"):
        scale = [np.abs(batch.values).max(axis=1) for batch in batches]
        is_sound = [
            np.isfinite(most) & (np.ptp(each.values, axis=1) > ROUNDING * most)
            for most, each in zip(scale, batches, strict=True)
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
            moves, is_found = bool(sound[place]), bool(modes.is_found[row])
            if not (moves and is_found and residual < CONVERGED):
                models[-1].append(_without_mode(batch, place, moves, is_found, residual))
            else:
                models[-1].append(
                    Fit(
                        calendar=batch.calendar,
                        parameters=parameters[place],
                        sigma=math.sqrt(variance[place]),
                        scale=float(most[place]),
                        residual=residual,
                        has_another=bool(modes.has_another[row]),
                    )
                )
    return models, modes.path


def _without_mode(batch: Batch, place: int, moves: bool, is_found: bool, residual: float) -> Fit | str:
    """Return the model of a series without noise, or why a series has no model."""
    if not moves:
        return _still(batch.calendar, batch.values[place])
    if not is_found:
        return "its mode was not found: the search for it, or for a second mode, did not converge"
    return f"its mode was not found: the optimality conditions are missed by {residual:.2g}"


def _still(calendar: Calendar, values: Floats) -> Fit | str:
    """Return the model of a series that only rounding moves, without noise as in Prophet, or why there is none."""
    if not np.isfinite(values).all():
        return "a value is not a finite number"
    scale = float(abs(values[0])) or 1.0
    parameters = np.zeros(calendar.shape[0])
    parameters[1] = values[0] / scale
    return Fit(calendar=calendar, parameters=parameters, sigma=1e-9, scale=scale, residual=0.0)


def optimality(
    columns: Floats, values: Floats, parameters: Floats, variance: Floats, ridge: Floats, lasso: Floats
) -> Floats:
    """Return each series' distance from a stationary point of its -log posterior; NaN if a value is not finite.

    The distance is the largest component of the smallest subgradient, each in units of its prior's scale (for sigma: of
    its logarithm). The residuals come from the bars, not from the sums that the search uses. `values` and `parameters`
    have one row for each series.
    """
    with np.errstate(all="ignore"):
        rest = values - _by_row(parameters, columns.T)
        pull = _by_row(rest, columns) / variance[:, None] - ridge * parameters  # from likelihood and normal priors
        scale = np.where(lasso > 0, 1 / np.where(lasso > 0, lasso, 1), 1 / np.sqrt(np.where(ridge > 0, ridge, 1)))
        missed = np.abs(pull * scale - np.sign(parameters) * (lasso > 0))
        missed = np.where((lasso > 0) & (parameters == 0), np.maximum(missed - 1, 0), missed)
        of_sigma = np.abs(values.shape[1] - (rest**2).sum(axis=1) / variance + 4 * variance)
        return np.asarray(np.maximum(missed.max(axis=1), of_sigma))


def _by_row(rows: Floats, matrix: Floats) -> Floats:
    """Multiply each row by the matrix separately: in one product, the last bits would depend on the number of rows."""
    product: Floats = (rows[:, None, :] @ matrix)[:, 0]
    return product


def log_posterior(
    fitted: Fit,
    values: Floats,
    scales: Scales = Scales(),
) -> float:
    """Return the log posterior without its constants, which Stan calls lp__."""
    rest = values / fitted.scale - fitted.calendar.columns @ fitted.parameters
    variance = fitted.sigma**2
    ridge, lasso = fitted.calendar.ridge(scales), fitted.calendar.lasso(scales)
    prior = (ridge * fitted.parameters**2 / 2 + lasso * np.abs(fitted.parameters)).sum()
    return float(-len(values) / 2 * np.log(variance) - rest @ rest / (2 * variance) - 2 * variance - prior)
