"""An independent way to find the mode, slow but exact: an interior-point solver for the line, a search for the noise.

For a given noise, the rest is a convex quadratic program, which Clarabel (Goulart and Chen 2024) solves with a bound on
the remaining gap. The best noise is first sought on a grid, because there may be several modes.
"""

from dataclasses import dataclass
from functools import cached_property

import clarabel
import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar

from trader.forecasting.map.model import Calendar, Fit, Scales, log_posterior
from trader.forecasting.map.posterior_mode import Floats

MIN_SIGMA, MAX_SIGMA, SIGMAS = 1e-4, 0.5, 80
"""The grid for the noise of scaled values: its ends, and its number of points, in logarithmic steps."""

PRECISE = 1e-12
"""The solver's tolerance for its gap and its constraints."""


def reference(calendar: Calendar, values: Floats, scales: Scales) -> Fit:
    """Find the most probable model of one series. Raises ArithmeticError if the solver gives up."""
    program = _Program(calendar=calendar, values=values, scales=scales)
    grid = np.linspace(np.log(MIN_SIGMA), np.log(MAX_SIGMA), SIGMAS)
    losses = np.array([-log_posterior(program.best(float(at)), values, scales) for at in grid])
    around = np.pad(losses, 1, constant_values=np.inf)
    is_lowest = (losses < around[:-2]) & (losses < around[2:])
    found = [
        minimize_scalar(
            lambda at: -log_posterior(program.best(at), values, scales),
            bounds=(grid[max(place - 1, 0)], grid[min(place + 1, SIGMAS - 1)]),
            method="bounded",
            options={"xatol": 1e-9},
        )
        for place in np.flatnonzero(is_lowest).tolist()
    ]
    return program.best(float(min(found, key=lambda each: each.fun).x))


@dataclass(frozen=True, kw_only=True)
class _Program:
    """The program: minimize |r|²/(2v) + ½ Σ ridge·θ² + Σ lasso·u with r = y - Xθ, -u ≤ θ ≤ u and noise variance v."""

    calendar: Calendar
    values: Floats
    scales: Scales

    @cached_property
    def scale(self) -> float:
        return float(np.abs(self.values).max())

    @cached_property
    def penalties(self) -> tuple[Floats, Floats]:
        """What the program has of the prior: the ridge of each θ, and the lasso of each u."""
        lasso = self.calendar.lasso(self.scales)
        return self.calendar.ridge(self.scales), lasso[lasso != 0]

    @cached_property
    def constraints(self) -> sparse.csc_matrix:
        """The matrix of the constraints, which take longer to put together than to solve, and know no noise."""
        bars, size = self.calendar.columns.shape
        (bent,) = np.nonzero(self.calendar.lasso(self.scales))
        picked, limits = sparse.eye(size, format="csr")[bent], -sparse.eye(len(bent))
        nothing = sparse.csr_matrix((len(bent), bars))
        return sparse.bmat(
            [
                [self.calendar.columns, sparse.csr_matrix((bars, len(bent))), sparse.eye(bars)],
                [picked, limits, nothing],
                [-picked, limits, nothing],
            ],
            format="csc",
        )

    def best(self, log_sigma: float) -> Fit:
        """Find the most probable model for this noise. Raises ArithmeticError if the solver gives up."""
        bars, size = self.calendar.columns.shape
        ridge, lasso = self.penalties
        sigma = float(np.exp(log_sigma))
        diagonal = np.concatenate([ridge, np.zeros(len(lasso)), np.full(bars, sigma**-2)])
        places = np.arange(len(diagonal) + 1)
        quadratic = sparse.csc_matrix((diagonal, places[:-1], places))
        linear = np.concatenate([np.zeros(size), lasso, np.zeros(bars)])
        bounds = np.concatenate([self.values / self.scale, np.zeros(2 * len(lasso))])
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = PRECISE
        cones = [clarabel.ZeroConeT(bars), clarabel.NonnegativeConeT(2 * len(lasso))]
        solved = clarabel.DefaultSolver(quadratic, linear, self.constraints, bounds, cones, settings).solve()
        if "Solved" not in str(solved.status):
            raise ArithmeticError(f"Clarabel ended with {solved.status} at sigma {sigma:.3g}")
        return Fit(
            calendar=self.calendar,
            parameters=np.asarray(solved.x)[:size],
            sigma=sigma,
            scale=self.scale,
            residual=0.0,
        )
