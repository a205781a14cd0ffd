"""The search for the mode of many posteriors at once: a ridge and lasso regression each, its noise unknown.

Of each problem, given the columns X and the values y of n bars, the parameters θ and the variance v of the noise are
sought that minimise

    n/2 log v + |y - Xθ|²/(2v) + 2v + ½ Σ ridge·θ² + Σ lasso·|θ|

(2v is the half-normal prior of scale ½ on the noise's standard deviation.) With v given, θ is the only solution of a
lasso regression, found by exchanging blocks of its active set (Portugal, Júdice and Vicente 1994; for the lasso Kim and
Park 2010). With θ given, the best v has a closed form, T(θ(v)). The residual sum of squares never falls as v rises, so
v ↦ T is monotone: repeated from above every stationary point it leads to the largest of them, from below to the
smallest. If the two are the same there is no other, and that is the mode; if not, the better of the two is taken.

Each result depends on its own problem alone, to the bit: not on its neighbours, and not on where the search began.
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
"""Of the variance. The usual is 20; it takes many where a second mode is about to appear."""

MAX_EXCHANGES = 600
"""Of the active set at one variance. The usual is 2."""

FULL_EXCHANGES = 5
"""So often all that is wrong is exchanged without getting fewer; then one at a time, which always ends (Murty 1974)."""

CONVERGED = 1e-10
"""Relative change of the variance."""

MIN_OUTSIDE = 1e-10
"""A parameter enters if its gradient exceeds the lasso's weight by this fraction: rounding is less."""

APART = 1e-6
"""Relative distance of two variances that are two modes."""

MEETS = 1e-4
"""Relative distance within which the end of a piece, foreseen, is the one that is known: ridges bend it by less."""

SIZE_STEP = 8
"""Systems are solved in sizes that are multiples of this, so that many can be solved in one call."""


@dataclass(frozen=True, kw_only=True)
class Problems:
    """B problems with p parameters each: of each its sums over the bars.

    All columns may be shared: `gram` holds XᵀX of G calendars, and `calendar` says which is whose.
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
        """`gram` with a row and a column more for what is not free, all in one row."""
        return np.pad(self.gram, ((0, 0), (0, 1), (0, 1))).reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """The signs of the parameters along a search: those of a like problem save most of the work of the next."""

    down: tuple[Signs, ...] = ()  # each (B, p)
    up: tuple[Signs, ...] = ()

    @property
    def count(self) -> int:
        """Of how many problems it is."""
        return len(self.down[0]) if self.down else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """What was found, by problem. Where `is_found` is false the search gave up, and the rest means nothing."""

    parameters: Floats  # (B, p)
    variance: Floats  # (B,)
    is_found: Flags  # (B,)
    has_another: Flags  # (B,): a second mode was found, and it is worse
    path: Path = field(repr=False)


MIN_NOISE = 1e-3
"""Standard deviation of values about 1. With less, rounding may decide whether a search ends: so may where it began."""


def search(problems: Problems, path: Path | None = None) -> Modes:
    """The mode of each problem. `path` is that of as many like problems, such as the same series a bar earlier.

    What is found from there with hardly any noise, or not found, is searched again without it.
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
    """The mode of each problem, begun with a path."""
    with np.errstate(all="ignore"):  # what comes of a series without noise is looked at by the caller
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
    """The variance that minimises n/2 log v + squares/(2v) + 2v."""
    return np.asarray(2 * squares / (bars + np.sqrt(bars * bars + 16 * squares)))


@dataclass(slots=True, kw_only=True)
class _Search:
    """One of the two searches, while it is under way and when it is done."""

    parameters: Floats
    variance: Floats
    is_found: Flags
    trail: tuple[Signs, ...] = ()


def _follow(
    problems: Problems, start: Floats, signs: Signs, trail: Sequence[Signs], upper: _Search | None = None
) -> _Search:
    """Repeat v ↦ T from `start` until it stands still: from above, or from below towards `upper`, where that ended.

    On a piece of the way where the signs stay, the residuals are linear in v, and where it ends has a closed form: that
    is tried, and taken if the signs are the same there, for then they are so in between. On the piece that `upper` is
    on, it need not be tried.
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
        values, slopes, signs_here, is_solved = _regress(problems, todo, here, signs[todo])
        signs[todo] = signs_here
        trails.append(signs.copy())
        found.is_found[todo] &= is_solved
        is_same = (signs_here == piece[todo]).all(axis=1)
        is_on = is_same | ~is_jump[todo]  # else the jump has left its piece: back, and one plain step instead
        squares = _squares(problems, todo, values)
        bars = problems.bars[todo]
        next_plain = best_variance(squares, bars)
        end = _end_of_piece(squares, (problems.lasso * signs_here * slopes).sum(axis=1), here, bars)
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
    """Where T(v) = v, if the sum of squares goes on as squares + bend·(v² - variance²); NaN if nowhere."""
    at_zero, bend = squares - bend * variance**2, 4 - bend
    root = bars**2 + 4 * bend * at_zero
    return np.asarray(np.where(root >= 0, 2 * at_zero / (bars + np.sqrt(np.abs(root))), math.nan))


def _regress(problems: Problems, rows: Integers, variance: Floats, signs: Signs) -> tuple[Floats, Floats, Signs, Flags]:
    """The lasso regression at a variance, begun with these signs: parameters, -dθ/dv, signs, and whether it ended."""
    count, size = len(rows), problems.lasso.size
    values, slopes = np.zeros((count, size)), np.zeros((count, size))
    signs, is_solved = signs.copy(), np.ones(count, bool)
    fewest, patience = np.full(count, size + 1), np.full(count, FULL_EXCHANGES)
    todo = np.arange(count)
    for _ in range(MAX_EXCHANGES):
        some, had, noise = rows[todo], signs[todo], variance[todo]
        values[todo], slopes[todo] = now, _ = _solve(problems, some, noise, had)
        weight = noise[:, None] * problems.lasso
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
    return values, slopes, signs, is_solved & np.isfinite(values).all(axis=1)


def _solve(problems: Problems, rows: Integers, variance: Floats, signs: Signs) -> tuple[Floats, Floats]:
    """Parameters and -dθ/dv if the signs are right: those with a sign, and those without a lasso, are free."""
    size = problems.lasso.size
    is_free = (signs != 0) | (problems.lasso == 0)
    order = np.argsort(~is_free, axis=1, kind="stable")  # the free ones first
    counts = is_free.sum(axis=1)
    sizes = np.minimum(-(-counts // SIZE_STEP) * SIZE_STEP, size)
    order[np.arange(size) >= counts[:, None]] = size  # the others stand for an equation of their own: 1·θ = 0
    known, penalty = np.zeros((2, len(rows), size + 1))
    penalty[:, :size] = problems.lasso * signs
    known[:, :size] = problems.projections[rows]
    known -= variance[:, None] * penalty
    values, slopes = np.zeros((2, len(rows), size + 1))
    begin = problems.calendar[rows] * (size + 1) ** 2
    for most in np.unique(sizes):
        (some,) = np.nonzero(sizes == most)
        row, chosen = some[:, None], order[some, :most]
        system = problems.padded.take((begin[row] + chosen * (size + 1))[:, :, None] + chosen[:, None, :])
        diagonal = np.where(chosen < size, variance[row] * problems.ridge.take(chosen, mode="clip"), 1.0)
        system.reshape(len(some), -1)[:, :: most + 1] += diagonal
        sides = np.stack((known[row, chosen], penalty[row, chosen]), axis=-1)
        solved = _solutions(system, sides)
        values[row, chosen], slopes[row, chosen] = solved[..., 0], solved[..., 1]
    return values[:, :size], slopes[:, :size]


def _solutions(systems: Floats, sides: Floats) -> Floats:
    """Of each system; NaN for one that is singular, as that of a series without noise may become."""
    try:
        return np.linalg.solve(systems, sides)
    except np.linalg.LinAlgError:
        if len(systems) == 1:
            return np.full_like(sides, math.nan)
        return np.concatenate([_solutions(systems[[place]], sides[[place]]) for place in range(len(systems))])


def _lowest(problems: Problems, variance: Floats) -> Floats:
    """A variance below all stationary points: that of least squares, with hardly a prior."""
    system = problems.gram[problems.calendar]
    size = problems.lasso.size
    prior = np.where(problems.ridge > 0, problems.ridge, 1e-6)
    system.reshape(len(system), -1)[:, :: size + 1] += 1e-3 * variance[:, None] * prior
    values = _solutions(system, problems.projections[:, :, None])[..., 0]
    squares = np.maximum(_squares(problems, np.arange(len(values)), values), 0)
    return np.minimum(best_variance(squares, problems.bars), variance)


def _apply_gram(problems: Problems, rows: Integers, values: Floats) -> Floats:
    """XᵀXθ of these problems."""
    product: Floats = (problems.gram[problems.calendar[rows]] @ values[:, :, None])[..., 0]
    return product


def _squares(problems: Problems, rows: Integers, values: Floats) -> Floats:
    """The residual sums of squares of these problems."""
    explained = (values * (2 * problems.projections[rows] - _apply_gram(problems, rows, values))).sum(axis=1)
    return np.asarray(problems.squares[rows] - explained)


def _loss(problems: Problems, found: _Search) -> Floats:
    """What is minimised."""
    values, variance = found.parameters, found.variance
    squares = _squares(problems, np.arange(len(values)), values)
    prior = (problems.ridge * values**2 / 2 + problems.lasso * np.abs(values)).sum(axis=1)
    return np.asarray(problems.bars / 2 * np.log(variance) + squares / (2 * variance) + 2 * variance + prior)
