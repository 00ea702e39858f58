"""Least squares from a factor: the parameters, what the data gave them, and the inverse that everything else needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .factors import Factor, FloatArray, combine, merge, penalty
from .fisher import Blocks, Coordinates, coordinates

Correction = Literal["none", "count", "leverage"]


@dataclass(frozen=True, eq=False)
class Solution:
    """Minimum of |J theta - b|^2 + theta^T Lambda theta, with H^(-1) = (J^T J + Lambda)^(-1) = root root^T.

    Arguments: theta [P] or [P, M]; chi2 and penalty [] or [M], its two parts; dof, the trace of J H^(-1) J^T; rank of H;
    rows N; root [P, rank], zero along gauge and unseen directions; coordinates in which it was found.
    """

    theta: FloatArray
    chi2: FloatArray
    penalty: FloatArray
    dof: float
    rank: int
    rows: int
    root: FloatArray
    coordinates: Coordinates

    @property
    def cost(self) -> FloatArray:
        """Penalised chi2, |J theta - b|^2 + theta^T Lambda theta."""
        return self.chi2 + self.penalty

    @property
    def variance(self) -> FloatArray:
        """Residual variance s2 = chi2 / (N - dof), about 1 where the weights were the true noise."""
        return self.chi2 / max(self.rows - self.dof, 1.0)

    @property
    def inverse(self) -> FloatArray:
        """H^(-1) [P, P]."""
        return self.root @ self.root.T

    def leverage(self, rows: ArrayLike) -> FloatArray:
        """Leverage j_i^T H^(-1) j_i [m] of weighted rows [m, P]."""
        return np.sum((np.asarray(rows, dtype=np.float64) @ self.root) ** 2, axis=1)


def solve(
    factor: Factor, ridge: float = 0.0, prior: Factor | ArrayLike | None = None, gauge: ArrayLike | None = None, rcond: float | None = None
) -> Solution:
    """Regularised least squares by SVD of the scaled, gauge-free rows; the Gram matrix is never formed.

    Arguments: factor; ridge, relative to the largest eigenvalue l_1 of the unit-free information, penalty
    ridge l_1 |D^(1/2) theta|^2; prior, a `penalty` or the matrix L [Q, P] of |L theta|^2; gauge G [P, g], fixed by
    G^T D theta = 0; rcond, singular values below it (relative) are cut, default P eps, giving the shortest solution.
    Returns: Solution. Errors: ValueError for a negative ridge or a gauge that is none.
    """
    frame, data, extra, goal = system(factor, ridge, prior, gauge)
    left, values, right = np.linalg.svd(np.concatenate([data, extra]), full_matrices=False)
    limit = factor.parameters * np.finfo(np.float64).eps if rcond is None else rcond
    rank = int(np.count_nonzero(values > limit * values.max(initial=0.0)))
    inverse = right[:rank].T / values[:rank]  # [P', rank]
    x = inverse @ (left[:, :rank].T @ np.concatenate([factor.rhs, goal]))
    theta = frame.expand(x)
    dof = float(np.sum(left[: len(data), :rank] ** 2))
    fine = np.asarray(np.sum((extra @ x - goal) ** 2, axis=0))
    return Solution(theta, np.asarray(factor.chi2(theta)), fine, dof, rank, factor.rows, frame.expand(inverse), frame)


def system(
    factor: Factor, ridge: float = 0.0, prior: Factor | ArrayLike | None = None, gauge: ArrayLike | None = None
) -> tuple[Coordinates, FloatArray, FloatArray, FloatArray]:
    """Coordinates, data rows [K, P'], penalty rows [Q, P'] and their targets [Q] or [Q, M] of a regularised problem."""
    if not ridge >= 0:
        raise ValueError(f"A ridge of {ridge} was asked for. A ridge is a relative penalty, zero or more. Pass for example ridge=1e-10.")
    known = as_prior(prior, factor)
    frame = coordinates(factor, gauge, known)
    data, extra, goal = frame.reduce(factor.triangle), frame.reduce(known.triangle), known.rhs
    if ridge > 0 and data.size:
        size = data.shape[1]
        extra = np.concatenate([extra, np.sqrt(ridge) * np.linalg.norm(data, 2) * np.eye(size)])
        goal = np.concatenate([goal, np.zeros((size, *goal.shape[1:]))])
    return frame, data, extra, goal


def as_prior(prior: Factor | ArrayLike | None, factor: Factor) -> Factor:
    """Prior of P parameters as a factor, with as many right-hand sides as `factor`; no rows where it is None."""
    known = prior if isinstance(prior, Factor) else penalty(np.zeros((0, factor.parameters)) if prior is None else prior)
    if known.rhs.shape[1:] == factor.rhs.shape[1:]:
        return known
    rhs = np.broadcast_to(known.rhs[:, None], (len(known.rhs), *factor.rhs.shape[1:])).copy()
    return Factor(known.triangle, rhs, np.zeros(factor.rhs.shape[1:]), 0)


def ridge_prior(factor: Factor, ridge: float, base: Sequence[int] | None = None) -> FloatArray:
    """Diagonal root [P] of the ridge that `solve` uses: sqrt(ridge l_1 D), l_1 over the columns `base` (default all).

    Score gains compare a model with its children, so both must bear one penalty: take l_1 from the parent's columns.
    """
    part = factor if base is None else factor.columns(base)
    rows = coordinates(part).reduce(part.triangle)
    return np.sqrt(ridge) * (np.linalg.norm(rows, 2) if rows.size else 1.0) * factor.norms


def scores(groups: Sequence[Factor], solution: Solution, correction: Correction = "leverage") -> FloatArray:
    """Scores g_c = J_c^T r_c of clusters at the solution [C, P]; V = sum_c g_c g_c^T.

    Arguments: groups, factors whose sum is the fitted one, clusters of dependent rows; solution with theta [P];
    correction "none", "count" (V times C / (C - 1)) or "leverage" (r_c -> (1 - H_cc)^(-1/2) r_c, unbiased for a correct
    model). The gradient of a penalty is shared equally, so that uncorrected scores sum to zero.
    Source: R. M. Bell and D. F. McCaffrey, Survey Methodology 28, 169 (2002).
    """
    residuals = [group.residual(solution.theta) for group in groups]
    plain = np.array([group.triangle.T @ r for group, r in zip(groups, residuals, strict=True)])
    mean = plain.mean(axis=0)
    if correction == "leverage":
        freed = (_free(group.triangle @ solution.root, r, -0.5) for group, r in zip(groups, residuals, strict=True))
        return np.array([group.triangle.T @ r for group, r in zip(groups, freed, strict=True)]) - mean
    count = len(groups) / (len(groups) - 1) if correction == "count" else 1.0
    return np.sqrt(count) * (plain - mean)


def leave_one_out(groups: Sequence[Factor], solution: Solution) -> FloatArray:
    """Parameters theta_(-c) [C, P] refitted without group c, exactly, at the same absolute penalty.

    theta_(-c) = theta + H^(-1) J_c^T (1 - H_cc)^(-1) r_c, H_cc = J_c H^(-1) J_c^T. `group.chi2(theta_(-c))`, by observable if
    wanted, is the held-out error. Errors: ValueError where a group alone determines a direction and no ridge holds it.
    """
    out = []
    for index, group in enumerate(groups):
        view = group.triangle @ solution.root  # [K_c, rank]
        try:
            freed = _free(view, group.residual(solution.theta), -1.0)
        except ZeroDivisionError:
            raise ValueError(
                f"Group {index} was to be left out. It alone determines some parameters, which are free without it. "
                "Solve with a ridge or a prior, or use larger groups."
            ) from None
        out.append(solution.theta + solution.root @ (view.T @ freed))
    return np.array(out)


def leave_one_out_residual(rows: ArrayLike, residual: ArrayLike, solution: Solution) -> FloatArray:
    """Held-out residuals (1 - H_cc)^(-1) r_c [m] of the weighted rows J_c [m, P] with fitted residuals r_c [m]."""
    return _free(np.asarray(rows, dtype=np.float64) @ solution.root, np.asarray(residual, dtype=np.float64), -1.0)


def held_out(
    folds: Mapping[Any, Factor], ridge: float = 0.0, prior: Factor | ArrayLike | None = None, gauge: ArrayLike | None = None
) -> dict[Any, Solution]:
    """Solutions without each fold, by fold: fit of the other folds' factors (`folds[k].chi2(solution.theta)` is held out)."""
    return {key: solve(combine({k: f for k, f in folds.items() if k != key}), ridge, prior, gauge) for key in folds}


def term_dof(factor: Factor, solution: Solution, terms: Blocks) -> dict[str, float]:
    """Effective parameters of each term, the trace over its columns of I (I + Lambda)^(-1); gauge and unseen count zero."""
    share = np.sum(solution.root * (factor.triangle.T @ (factor.triangle @ solution.root)), axis=1)  # [P]
    return {name: float(np.sum(share[np.asarray(index)])) for name, index in terms.items()}


def with_prior(factor: Factor, ridge: float = 0.0, prior: Factor | ArrayLike | None = None, base: Sequence[int] | None = None) -> Factor:
    """Factor of data and penalty rows together: its chi2 is the penalised cost (l_1 of the ridge from the columns `base`)."""
    parts = [factor, as_prior(prior, factor)]
    if ridge > 0:
        parts.append(as_prior(penalty(ridge_prior(factor, ridge, base)), factor))
    return merge(parts)


def _free(view: FloatArray, residual: FloatArray, power: float) -> FloatArray:
    # (1 - U U^T)^power r by the SVD of U = J_c root; eigenvalues at zero: pseudo-inverse for -1/2, an error for -1
    left, values, _ = np.linalg.svd(view, full_matrices=False)
    gap = (1.0 - values) * (1.0 + values)
    held = gap <= 1e-13
    if power == -1.0 and held.any():
        raise ZeroDivisionError
    factor = np.where(held, 0.0, np.where(held, 1.0, gap) ** power)
    inside = left.T @ residual
    return residual + left @ ((factor - 1.0) * inside)
