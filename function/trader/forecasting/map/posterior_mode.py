"""A search for the modes of many posteriors at once; each is a ridge and lasso regression with unknown noise.

Given the columns X and the values y of n bars, the search finds for each problem the parameters θ and the variance v of
the noise that minimize

    n/2 log v + |y - Xθ|²/(2v) + 2v + ½ Σ ridge·θ² + Σ lasso·|θ|

(2v is the half-normal prior of scale ½ on the noise's standard deviation.) For a given v, θ is the unique solution of a
lasso regression, found by block exchanges of its active set (Portugal, Júdice and Vicente 1994; for the lasso Kim and
Park 2010). For a given θ, the best v has a closed form, T(θ(v)). The residual sum of squares never falls as v rises, so
v ↦ T is monotone. Iterating it from above all stationary points leads to the largest of them, and from below to the
smallest. If the two are equal, there is no other stationary point, and this one is the mode. Otherwise the search
returns the better of the two.

Each result depends on its own problem alone, to the last bit, not on the other problems or on the start of the search.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

type Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
type Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
type Integers = np.ndarray[tuple[int, ...], np.dtype[np.intp]]
type Signs = np.ndarray[tuple[int, ...], np.dtype[np.int8]]

MAX_STEPS = 250
"""The maximum number of steps of the variance. 20 are usual; many are needed where a second mode is about to appear."""

MAX_EXCHANGES = 600
"""The maximum number of exchanges of the active set at one variance. 2 are usual."""

FULL_EXCHANGES = 5
"""The number of exchanges of all wrong signs at once without progress; then they are exchanged one at a time, which
always ends (Murty 1974)."""

CONVERGED = 1e-10
"""The relative change of the variance below which a search has converged."""

MIN_OUTSIDE = 1e-10
"""The fraction by which a gradient must exceed the lasso's weight for its parameter to enter; more than rounding."""

APART = 1e-6
"""The relative distance above which two variances belong to two modes."""

MEETS = 1e-4
"""The relative distance within which a piece's predicted end counts as the known one; the ridge's effect is smaller."""

SIZE_STEP = 8
"""Systems are padded to multiples of this size, so that many can be solved in one call."""


@dataclass(frozen=True, kw_only=True)
class Problems:
    """B problems with p parameters each, given by their sums over the bars.

    Problems may share columns: `gram` holds XᵀX of G calendars, and `calendar` the index of each problem's calendar.
    """

    gram: Floats  # (G, p, p)
    calendar: Integers  # (B,)
    projections: Floats  # (B, p): Xᵀy
    squares: Floats  # (B,): yᵀy
    bars: Floats  # (B,): n
    ridge: Floats  # (p,): 1/scale² of the normal priors, 0 elsewhere
    lasso: Floats  # (p,): 1/scale of the Laplace priors, 0 elsewhere

    @cached_property
    def padded(self) -> Floats:
        """`gram`, flattened, with one more row and column for the parameters that are not free."""
        return np.pad(self.gram, ((0, 0), (0, 1), (0, 1))).reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The signs of the parameters along a search; they save most of the work of the next search on similar problems."""

    down: tuple[Signs, ...] = ()  # each (B, p)
    up: tuple[Signs, ...] = ()

    @property
    def count(self) -> int:
        """The number of problems."""
        return len(self.down[0]) if self.down else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """The mode of each problem. Where `is_found` is false the search gave up, and the other values are meaningless."""

    parameters: Floats  # (B, p)
    variance: Floats  # (B,)
    is_found: Flags  # (B,)
    has_another: Flags  # (B,): a second, worse mode was found
    path: Path = field(repr=False)


MIN_NOISE = 1e-3
"""The minimum standard deviation, for values of about 1. Below it, rounding and the start of a search may decide
whether the search converges."""


def search(problems: Problems, path: Path | None = None) -> Modes:
    """Return the mode of each problem. `path` comes from similar problems in the same order, such as one bar earlier.

    Problems that this path leaves without a mode, or with noise below MIN_NOISE, are searched again without it.
    """
    found = _search(problems, path or Path())
    (again,) = np.nonzero(~(found.is_found & (found.variance >= MIN_NOISE**2)))
    if path is None or not len(again):
        return found
    some = replace(
        problems,
        calendar=problems.calendar[again],
        projections=problems.projections[again],
        squares=problems.squares[again],
        bars=problems.bars[again],
    )
    anew = _search(some, Path())
    for name in ("parameters", "variance", "is_found", "has_another"):
        getattr(found, name)[again] = getattr(anew, name)
    return found


def _search(problems: Problems, path: Path) -> Modes:
    """Return the mode of each problem; the search follows a path at first."""
    with np.errstate(all="ignore"):  # the caller checks the results of series without noise
        start = best_variance(problems.squares, problems.bars)
        nothing = np.zeros(problems.projections.shape, np.int8)
        upper = _follow(problems, start, nothing, path.down)
        lower = _follow(problems, _lowest(problems, upper.variance), upper.trail[-1], path.up, upper)
        has_two = np.abs(upper.variance / lower.variance - 1) > APART
        is_lower = has_two & (_loss(problems, lower) < _loss(problems, upper))
    return Modes(
        parameters=np.where(is_lower[:, None], lower.parameters, upper.parameters),
        variance=np.where(is_lower, lower.variance, upper.variance),
        is_found=upper.is_found & lower.is_found,
        has_another=has_two,
        path=Path(down=upper.trail, up=lower.trail),
    )


def best_variance(squares: Floats, bars: Floats) -> Floats:
    """Return the variance that minimizes n/2 log v + squares/(2v) + 2v."""
    return np.asarray(2 * squares / (bars + np.sqrt(bars * bars + 16 * squares)))


@dataclass(slots=True, kw_only=True)
class _Search:
    """The state of one of the two searches, and at the end its result."""

    parameters: Floats
    variance: Floats
    is_found: Flags
    trail: tuple[Signs, ...] = ()


def _follow(
    problems: Problems, start: Floats, signs: Signs, trail: Sequence[Signs], upper: _Search | None = None
) -> _Search:
    """Iterate v ↦ T from `start` until it converges: from above or, if `upper` is that search's result, from below.

    On a piece of the path with constant signs the residuals are linear in v, so the limit of the iteration has a closed
    form. The search jumps there, and accepts the jump if the signs are the same, because they are then the same in
    between. On the piece where `upper` ended, it takes that result without a jump.
    """
    count, size = problems.projections.shape
    found = _Search(parameters=np.zeros((count, size)), variance=start.copy(), is_found=np.ones(count, bool))
    signs, trails, todo = signs.copy(), [], np.arange(count)
    at, plain, is_jump = start.copy(), start.copy(), np.zeros(count, bool)
    piece = np.full((count, size), 9, np.int8)  # no signs yet
    for step in range(MAX_STEPS):
        if step < len(trail):
            signs[todo] = trail[step][todo]
        here = at[todo]
        values, signs_here, is_solved = _regress(problems, todo, here, signs[todo])
        signs[todo] = signs_here
        trails.append(signs.copy())
        found.is_found[todo] &= is_solved
        is_same = (signs_here == piece[todo]).all(axis=1)
        is_on = is_same | ~is_jump[todo]  # otherwise the jump has left its piece: go back and take a plain step
        squares = _squares(problems, todo, values)
        bars = problems.bars[todo]
        next_plain = best_variance(squares, bars)
        pull = problems.lasso * signs_here + problems.ridge * values
        slopes = _solve(problems, todo, here, signs_here, pull)  # -dθ/dv
        end = _end_of_piece(squares, (pull * slopes).sum(axis=1), here, bars)
        is_ahead = (end <= here if upper is None else end >= here) | (np.abs(end / here - 1) < APART)
        is_last = np.abs(next_plain / here - 1) < CONVERGED
        is_last |= is_jump[todo] & is_same & (np.abs(end / here - 1) < CONVERGED)
        found.parameters[todo], found.variance[todo] = values, here
        if upper is not None:
            meets = (signs_here == upper.trail[-1][todo]).all(axis=1) & is_ahead
            meets &= np.abs(end / upper.variance[todo] - 1) < MEETS
            met = todo[meets]
            found.parameters[met], found.variance[met] = upper.parameters[met], upper.variance[met]
            is_last |= meets
            is_on |= meets
        jumps = is_on & is_same & is_ahead & np.isfinite(end)
        plain[todo] = np.where(is_on, next_plain, plain[todo])
        piece[todo] = np.where(is_on[:, None], signs_here, piece[todo])
        at[todo] = np.where(jumps, end, plain[todo])
        is_jump[todo] = jumps
        todo = todo[is_solved & ~(is_last & is_on)]
        if not len(todo):
            break
    found.is_found[todo] = False
    found.trail = tuple(trails)
    return found


def _end_of_piece(squares: Floats, bend: Floats, variance: Floats, bars: Floats) -> Floats:
    """Return the v with T(v) = v if the sum of squares is squares + bend·(v² - variance²); NaN if there is none."""
    at_zero, bend = squares - bend * variance**2, 4 - bend
    root = bars**2 + 4 * bend * at_zero
    return np.asarray(np.where(root >= 0, 2 * at_zero / (bars + np.sqrt(np.abs(root))), math.nan))


def _regress(problems: Problems, rows: Integers, variance: Floats, signs: Signs) -> tuple[Floats, Signs, Flags]:
    """Solve the lasso regression at a variance, from these signs.

    Return the parameters, the signs, and whether the regression is solved.
    """
    count, size = len(rows), problems.lasso.size
    values = np.zeros((count, size))
    signs, is_solved = signs.copy(), np.ones(count, bool)
    fewest, patience = np.full(count, size + 1), np.full(count, FULL_EXCHANGES)
    todo = np.arange(count)
    for _ in range(MAX_EXCHANGES):
        some, had, noise = rows[todo], signs[todo], variance[todo]
        weight = noise[:, None] * problems.lasso
        values[todo] = now = _solve(problems, some, noise, had, problems.projections[some] - weight * had)
        gradient = problems.projections[some] - _apply_gram(problems, some, now)
        leaves = now * had < 0
        enters = (had == 0) & (problems.lasso > 0) & (np.abs(gradient) > weight * (1 + MIN_OUTSIDE))
        wrong = leaves | enters
        amount = wrong.sum(axis=1)
        is_fewer = amount < fewest[todo]
        fewest[todo] = np.where(is_fewer, amount, fewest[todo])
        patience[todo] = np.where(is_fewer, FULL_EXCHANGES, patience[todo] - 1)
        (slow,) = np.nonzero(patience[todo] < 0)
        if len(slow):
            last = size - 1 - np.argmax(wrong[slow, ::-1], axis=1)
            wrong[slow] = False
            wrong[slow, last] = True
        signs[todo] = np.where(wrong, np.where(enters, np.sign(gradient).astype(np.int8), 0), had)
        todo = todo[amount > 0]
        if not len(todo):
            break
    is_solved[todo] = False
    return values, signs, is_solved & np.isfinite(values).all(axis=1)


def _solve(problems: Problems, rows: Integers, variance: Floats, signs: Signs, side: Floats) -> Floats:
    """Solve (XᵀX + v·ridge) θ = side, in which parameters with a sign or without a lasso weight are free."""
    size = problems.lasso.size
    is_free = (signs != 0) | (problems.lasso == 0)
    order = np.argsort(~is_free, axis=1, kind="stable")  # free parameters first
    counts = is_free.sum(axis=1)
    sizes = np.minimum(-(-counts // SIZE_STEP) * SIZE_STEP, size)
    order[np.arange(size) >= counts[:, None]] = size  # each of the others gets the equation 1·θ = 0
    known, values = np.zeros((2, len(rows), size + 1))
    known[:, :size] = side
    begin = problems.calendar[rows] * (size + 1) ** 2
    for most in np.unique(sizes):
        (some,) = np.nonzero(sizes == most)
        row, chosen = some[:, None], order[some, :most]
        system = problems.padded.take((begin[row] + chosen * (size + 1))[:, :, None] + chosen[:, None, :])
        diagonal = np.where(chosen < size, variance[row] * problems.ridge.take(chosen, mode="clip"), 1.0)
        system.reshape(len(some), -1)[:, :: most + 1] += diagonal
        values[row, chosen] = _solutions(system, known[row, chosen][..., None])[..., 0]
    return values[:, :size]


def _solutions(systems: Floats, sides: Floats) -> Floats:
    """Return the solution of each system; NaN for a singular one, which a series without noise may produce."""
    try:
        return np.linalg.solve(systems, sides)
    except np.linalg.LinAlgError:
        if len(systems) == 1:
            return np.full_like(sides, math.nan)
        return np.concatenate([_solutions(systems[[place]], sides[[place]]) for place in range(len(systems))])


def _lowest(problems: Problems, variance: Floats) -> Floats:
    """Return a variance below all stationary points: that of least squares with a very weak prior."""
    system = problems.gram[problems.calendar]
    size = problems.lasso.size
    prior = np.where(problems.ridge > 0, problems.ridge, 1e-6)
    system.reshape(len(system), -1)[:, :: size + 1] += 1e-3 * variance[:, None] * prior
    values = _solutions(system, problems.projections[:, :, None])[..., 0]
    squares = np.maximum(_squares(problems, np.arange(len(values)), values), 0)
    return np.minimum(best_variance(squares, problems.bars), variance)


def _apply_gram(problems: Problems, rows: Integers, values: Floats) -> Floats:
    """Return XᵀXθ of these problems."""
    product: Floats = (problems.gram[problems.calendar[rows]] @ values[:, :, None])[..., 0]
    return product


def _squares(problems: Problems, rows: Integers, values: Floats) -> Floats:
    """Return the residual sum of squares of each of these problems."""
    explained = (values * (2 * problems.projections[rows] - _apply_gram(problems, rows, values))).sum(axis=1)
    return np.asarray(problems.squares[rows] - explained)


def _loss(problems: Problems, found: _Search) -> Floats:
    """Return the objective that the search minimizes."""
    values, variance = found.parameters, found.variance
    squares = _squares(problems, np.arange(len(values)), values)
    prior = (problems.ridge * values**2 / 2 + problems.lasso * np.abs(values)).sum(axis=1)
    return np.asarray(problems.bars / 2 * np.log(variance) + squares / (2 * variance) + 2 * variance + prior)
