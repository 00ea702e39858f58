"""The nearest edge of a model along its sloppiest direction: which numbers run away there, and which meet.

A sloppy model is a thin ribbon in the space of its predictions. The geodesic that starts along the least determined direction reaches an
edge of the ribbon, where a simpler model stands: an amplitude has gone to zero, two rates have become one, a number has gone to infinity and
no longer matters. Source: M. K. Transtrum and P. Qiu, Phys. Rev. Lett. 113, 098701 (2014) (manifold boundary approximation).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import RK23

from .factors import FloatArray, factorize
from .solution import solve
from .spectrum import fisher_spectrum

FASTEST, FURTHEST = 30.0, 7.0  # speed, and way along a number, in units of `scale`, at which the edge is reached
STEPS, RIDGE = 300, 1e-13
RUNS, MEETS = 0.1, 0.25  # shares of the fastest rate from which a number runs, and of their first distance below which two have met

Rows = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Geodesic:
    """Points theta [n, P] of a geodesic and its velocities [n, P]; stopped, why it ended: "fast", "far", "steps", or "wild" numbers."""

    path: FloatArray
    velocity: FloatArray
    stopped: str

    def running(self, logarithm: NDArray[np.bool_]) -> dict[int, float]:
        """Rates d ln|theta|/dt at the end of the numbers that run away, relative to the fastest, which comes first.

        Arguments: logarithm [P], whether a number of the path is the logarithm of what it stands for.
        """
        size = np.maximum(np.abs(self.path[-1]), 1e-300)
        rates = np.where(logarithm, self.velocity[-1], self.velocity[-1] * np.sign(self.path[-1]) / size)
        share = rates / max(float(np.abs(rates).max(initial=0.0)), 1e-300)
        return {int(p): float(share[p]) for p in np.argsort(-np.abs(share), kind="stable") if abs(share[p]) > RUNS}

    def meeting(self, pairs: Sequence[tuple[int, int]]) -> bool:
        """Whether the two numbers of every pair [(a, b), ...] have met, from different ones."""
        apart = [np.abs(self.path[[0, -1], a] - self.path[[0, -1], b]) for a, b in pairs]
        return bool(pairs) and all(end < MEETS * start for start, end in apart)


def geodesic(
    jacobian: Rows,
    curvature: Callable[[FloatArray, FloatArray], FloatArray],
    start: FloatArray,
    scale: FloatArray | None = None,
    gauge: Rows | None = None,
    side: int = 1,
) -> Geodesic:
    """The geodesic theta'' = -(J^T J + Lambda)^(-1) J^T A_vv from `start` along the sloppiest direction.

    Arguments: jacobian(theta) [m, P] of the weighted residuals by numbers theta [P] (logarithms of positive ones); curvature(theta, v) [m],
    their second derivative along v; scale [P], natural size of each number (default 1; infinite for those whose way does not count);
    gauge(theta) [P, g], directions that change nothing; side, 1 towards where it speeds up, -1 the other way. Lambda is 1e-13 of the largest
    eigenvalue. It ends where the speed has grown thirty-fold, or a number by seven powers of e: there an eigenvalue vanishes.
    Returns: Geodesic. Errors: ValueError where no row depends on any number.
    """
    size, unit = len(start), np.ones(len(start)) if scale is None else np.asarray(scale, dtype=np.float64)
    rows = jacobian(start)
    modes = fisher_spectrum(factorize(rows, np.zeros(len(rows))), None if gauge is None else gauge(start)).modes()
    if not modes.shape[1]:
        raise ValueError("The edge of a model was asked for. No row depends on any of its numbers. Give data that see them.")

    def slope(_: float, y: FloatArray) -> FloatArray:
        theta, v = y[:size], y[size:]
        factor = factorize(jacobian(theta), -curvature(theta, v))
        return np.concatenate([v, solve(factor, RIDGE, gauge=None if gauge is None else gauge(theta)).theta])

    v = modes[:, -1] / (np.linalg.norm(modes[:, -1] / unit) or np.linalg.norm(modes[:, -1]))
    begin = np.concatenate([start, v])
    if side * np.sum(v * slope(0.0, begin)[size:] / unit**2) < 0:
        begin[size:] = -v
    solver = RK23(slope, 0.0, begin, np.inf, first_step=1e-2, rtol=1e-4, atol=1e-6)
    points, stopped = [begin], ""
    while not stopped:
        try:
            solver.step()
        except (ValueError, ArithmeticError):  # rows that are not finite
            stopped = "wild"
        if stopped or solver.status == "failed" or not np.isfinite(solver.y).all():
            stopped = "wild"
            break
        points.append(solver.y.copy())
        speed, way = np.linalg.norm(solver.y[size:] / unit), np.abs((solver.y[:size] - start) / unit).max()
        stopped = "fast" if speed > FASTEST else "far" if way > FURTHEST else "steps" if len(points) > STEPS else ""
    found = np.array(points)
    return Geodesic(found[:, :size], found[:, size:], stopped)
