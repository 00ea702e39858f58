"""Levenberg-Marquardt on factors, with linear numbers solved exactly at every step (variable projection)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis import Factor, coordinates, solve
from composer.errors import DataError

Array = NDArray[np.float64]
FIRST, LEAST, MOST = 1e-3, 1e-12, 1e12  # damping, relative to the columns
REACH = 0.5  # largest change of a limited number in a step, relative
STALE = 0.1  # share of a step's fall that the linear numbers may add before the Jacobian by the others is taken anew


class LeastSquares(Protocol):
    """What can be minimised: residual rows at unknowns u [K], as a factor."""

    def factor(self, u: Array, /) -> Factor: ...


@dataclass(frozen=True)
class Step:
    """One evaluation of a fit: its number, the penalised chi2, the damping and whether it was kept."""

    number: int
    cost: float
    damping: float
    kept: bool


@dataclass(frozen=True, eq=False)
class Point:
    """Unknowns u [K], the factor of weighted rows whose Jacobian was taken at `rows_at` [K], and the penalised chi2."""

    u: Array
    factor: Factor
    cost: float
    rows_at: Array

    def moved(self, step: Array, prior: Factor) -> Point:
        """The point after a step along numbers that enter linearly: no new rows are needed."""
        factor = self.factor.after(step)
        return Point(self.u + step, factor, _cost(factor, self.u + step, prior), self.rows_at)


def minimise(
    problem: LeastSquares,
    start: Array,
    prior: Factor,
    linear: NDArray[np.bool_],
    gauge: Callable[[Array], Array],
    tolerance: float = 1e-9,
    limit: int = 100,
    report: Callable[[Step], None] = lambda step: None,
    limited: NDArray[np.bool_] | None = None,
) -> tuple[Point, list[Step]]:
    """Minimise |r(u)|^2 + |L (u - goal)|^2.

    With `linear` numbers c and the others eta, each step solves the damped problem in (c, eta), damping eta alone, then c exactly at the
    new eta (L. Kaufman, BIT 15, 49 (1975)); with no linear numbers it is plain Levenberg-Marquardt (H. B. Nielsen's damping, 1999). Steps
    are orthogonal to gauge directions. All least squares go through QR and SVD of rows, never through normal equations.
    Arguments: start [K]; prior of the final strength; linear [K]; gauge(u), null vectors [K, g]; tolerance, relative fall of the cost
    below which the fit ends after two steps; limit on evaluations; limited [K], numbers that no step changes by more than a share of what
    they are: none jumps across a pole at zero. Returns: the minimum and the steps.
    """
    with threadpool_limits(1, "blas"):
        return _minimise(problem, start, prior, linear, gauge, tolerance, limit, report, limited)


def _minimise(
    problem: LeastSquares,
    start: Array,
    prior: Factor,
    linear: NDArray[np.bool_],
    gauge: Callable[[Array], Array],
    tolerance: float,
    limit: int,
    report: Callable[[Step], None],
    limited: NDArray[np.bool_] | None,
) -> tuple[Point, list[Step]]:
    point = _first(problem, start, prior, linear)
    history = [Step(0, point.cost, 0.0, True)]
    damping, growth, quiet = FIRST, 2.0, 0
    if linear.all():
        return point, history
    while len(history) < limit and quiet < 2 and damping < MOST:
        step, predicted = _step(point, prior, linear, gauge(point.rows_at), damping)
        share = _share(step, point.u, limited)
        step, predicted = share * step, share * (2 - share) * predicted
        trial = _evaluate(problem, point.u + step, prior)
        if trial is not None and linear.any():
            trial = _settled(problem, trial, prior, linear, point.cost)
        fall = point.cost - trial.cost if trial is not None else -np.inf
        kept = fall >= 0 and trial is not None
        history.append(Step(len(history), trial.cost if kept and trial else point.cost, damping, kept))
        report(history[-1])
        if trial is not None and kept:
            quiet = quiet + 1 if fall <= tolerance * point.cost else 0
            quality = fall / predicted if predicted > 0 else 1.0
            damping = max(damping * max(1 / 3, 1 - (2 * min(quality, 1.0) - 1) ** 3), LEAST)
            growth, point = 2.0, trial
        else:
            quiet = quiet + 1 if predicted <= tolerance * point.cost else 0
            damping, growth = damping * growth, 2 * growth
    return point, history


def _first(problem: LeastSquares, start: Array, prior: Factor, linear: NDArray[np.bool_]) -> Point:
    """The start with its linear numbers solved, and rows taken there."""
    point = _evaluate(problem, start, prior)
    if point is None:
        raise DataError(
            "A fit was to start from the model's numbers",
            "The energies or forces they give are not finite",
            "Start from other numbers with model.with_parameters({...}), or look for overlapping atoms with data.inspect()",
        )
    if not linear.any():
        return point
    solved = _project(point, prior, linear)
    return solved if linear.all() else _evaluate(problem, solved.u, prior) or solved


def _evaluate(problem: LeastSquares, u: Array, prior: Factor) -> Point | None:
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a wild trial step: it is refused below
            factor = problem.factor(u)
            cost = _cost(factor, u, prior)
    except ValueError:  # a number that is not finite
        return None
    return Point(u, factor, cost, u) if np.isfinite(cost) and np.isfinite(factor.norms).all() else None


def _project(point: Point, prior: Factor, linear: NDArray[np.bool_]) -> Point:
    """The point with the linear numbers at their minimum."""
    around = Factor(prior.triangle[:, linear], prior.rhs - prior.triangle @ point.u, np.zeros(()), 0)
    step = np.zeros(len(point.u))
    step[linear] = solve(point.factor.columns(linear), prior=around).theta
    return point.moved(step, prior)


def _settled(problem: LeastSquares, trial: Point, prior: Factor, linear: NDArray[np.bool_], before: float) -> Point:
    """The trial with its linear numbers at their minimum; rows are taken anew there if that moved them much."""
    solved = _project(trial, prior, linear)
    moved_much = trial.cost - solved.cost > STALE * (before - solved.cost) > 0
    return (_evaluate(problem, solved.u, prior) or solved) if moved_much else solved


def _step(point: Point, prior: Factor, linear: NDArray[np.bool_], gauge: Array, damping: float) -> tuple[Array, float]:
    """The damped step and the fall of the cost that the linearised problem predicts for it."""
    around = Factor(prior.triangle, prior.rhs - prior.triangle @ point.u, np.zeros(()), 0)
    frame = coordinates(point.factor, gauge, around)
    rows = np.concatenate([frame.reduce(point.factor.triangle), frame.reduce(around.triangle)])
    target = np.concatenate([point.factor.rhs, around.rhs])
    held = np.sqrt(damping) * frame.basis[~linear[frame.seen]]  # rows of the identity in scaled coordinates, over eta alone
    left, values, right = np.linalg.svd(np.concatenate([rows, held]), full_matrices=False)
    solid = values > len(values) * np.finfo(float).eps * values.max(initial=0.0)
    x = right[solid].T @ (left[: len(rows), solid].T @ target / values[solid])
    return frame.expand(x), float(np.sum(target**2) - np.sum((target - rows @ x) ** 2))


def _share(step: Array, u: Array, limited: NDArray[np.bool_] | None) -> float:
    """The share of a step that changes no limited number by more than REACH of it; one that is zero may go anywhere."""
    if limited is None:
        return 1.0
    bound = limited & (u != 0) & (step != 0)
    return float(min(1.0, *(REACH * np.abs(u[bound] / step[bound])))) if bound.any() else 1.0


def _cost(factor: Factor, u: Array, prior: Factor) -> float:
    held = prior.triangle @ u - prior.rhs
    return float(np.sum(factor.rhs**2) + factor.rss + held @ held)
