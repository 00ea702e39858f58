"""Choice of data: which unlabelled structures would teach most, and the fewest that fix chosen properties."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as sla
from numpy.typing import ArrayLike, NDArray

from .factors import Factor, FloatArray, merge
from .fisher import coordinates


@dataclass(frozen=True, eq=False)
class Choice:
    """Structures in the order chosen, order [n] (indices of the pool), and what each gained when it was, gains [n]."""

    order: NDArray[np.intp]
    gains: FloatArray


def choose(start: Factor, pool: Sequence[Factor], picks: int, ridge: float = 1e-12, targets: ArrayLike | None = None) -> Choice:
    """Greedy choice of structures: D-optimal, or I-optimal where gradients of target properties are given.

    D: ln det(1 + J_c H^(-1) J_c^T), the growth of ln det H. I: the fall of tr(M H^(-1)), M = sum_q g_q g_q^T.
    Arguments: start, factor of the data one has; pool, factors of candidates (their right-hand sides are not read);
    picks; ridge relative to l_1 of start and pool together, H = I + ridge l_1 D; targets, gradients g_q [q, P].
    Returns: Choice. Source: V. V. Fedorov, Theory of Optimal Experiments (1972).
    """
    root = information_root(start, pool, ridge)
    views = [factor.triangle @ root for factor in pool]  # X_c [K_c, r]
    aims = None if targets is None else (np.atleast_2d(np.asarray(targets, dtype=np.float64)) @ root).T  # [r, q]
    left = list(range(len(pool)))
    order: list[int] = []
    gains: list[float] = []
    for _ in range(min(picks, len(pool))):
        worth = [_worth(views[c], aims) for c in left]
        best = int(np.argmax(worth))
        update = _update(views[left[best]])  # [r, r], H^(-1) -> root update update^T root^T
        order.append(left.pop(best))
        gains.append(worth[best])
        views = [view @ update for view in views]
        aims = None if aims is None else update.T @ aims
    return Choice(np.array(order, dtype=np.intp), np.array(gains))


def information_root(start: Factor, pool: Sequence[Factor], ridge: float) -> FloatArray:
    """Root W [P, r] of H^(-1) = W W^T, H = I_start + ridge l_1 D, D and l_1 of start and pool together."""
    whole = merge([start, *pool])
    frame = coordinates(whole)
    level = np.sqrt(ridge) * np.linalg.norm(frame.reduce(whole.triangle), 2)
    _, values, right = np.linalg.svd(np.concatenate([frame.reduce(start.triangle), level * np.eye(len(frame.scale))]), full_matrices=False)
    if not values.min(initial=np.inf) > 0:
        raise ValueError(
            f"Structures were to be ranked. The data one has leave directions free and ridge is {ridge}. Pass for example ridge=1e-12."
        )
    return frame.expand(right.T / values)


def information_matching(pool: Sequence[Factor], gradients: ArrayLike, gap: float = 1e-9) -> FloatArray:
    """Weights w [M] >= 0 of least sum with sum_m w_m I_m >= sum_q g_q g_q^T (positive semidefinite); few are not zero.

    Arguments: pool, factors of candidates; gradients g_q / tolerance_q [q, P] of target properties; gap, relative accuracy of
    the sum. Interior-point method: min t sum w - ln det(sum w_m I_m - T) - sum ln w, t growing.
    Errors: ValueError (infeasible) where a property depends on what no candidate sees.
    Source: Y. Kurniawan et al., arXiv 2411.02740.
    """
    slopes = np.atleast_2d(np.asarray(gradients, dtype=np.float64))
    weights = _matched(pool, slopes, gap)
    support = np.flatnonzero(weights > 1e-6 * weights.max(initial=0.0))
    if 0 < len(support) < len(pool):  # once more on the support alone, so that the result stays strictly feasible
        weights = np.zeros(len(pool))
        weights[support] = information_matching([pool[int(m)] for m in support], slopes, gap)
    return weights


def _matched(pool: Sequence[Factor], gradients: FloatArray, gap: float) -> FloatArray:
    views, target = _whiten(pool, gradients)
    if not target.any():
        return np.zeros(len(pool))
    blocks = np.array([view.T @ view for view in views])  # [M, r, r]
    weights = np.full(len(pool), 2.0 * float(np.linalg.norm(target, 2)))
    barriers = len(pool) + len(target)
    sharpness = barriers / float(np.sum(weights))
    while barriers / sharpness > gap * float(np.sum(weights)):
        sharpness *= 5.0
        weights = _centre(blocks, target, weights, sharpness)
    return weights


def _worth(view: FloatArray, aims: FloatArray | None) -> float:
    chol = np.linalg.cholesky(np.eye(len(view)) + view @ view.T)  # of S_c
    if aims is None:
        return 2.0 * float(np.sum(np.log(np.diagonal(chol))))
    return float(np.sum(sla.solve_triangular(chol, view @ aims, lower=True) ** 2))


def _update(view: FloatArray) -> FloatArray:
    # (1 + X^T X)^(-1/2), symmetric
    _, values, right = np.linalg.svd(view, full_matrices=False)
    return np.eye(view.shape[1]) + right.T * (1.0 / np.sqrt(1.0 + values**2) - 1.0) @ right


def _whiten(pool: Sequence[Factor], gradients: FloatArray) -> tuple[list[FloatArray], FloatArray]:
    # coordinates in which sum_m I_m = 1 on its range; the target must live there
    whole = merge(pool)
    frame = coordinates(whole)
    _, values, right = np.linalg.svd(frame.reduce(whole.triangle), full_matrices=False)
    rank = int(np.count_nonzero(values > 1e-10 * values.max(initial=0.0)))
    slopes = frame.reduce(gradients)  # [q, S]
    outside = np.linalg.norm(slopes - slopes @ right[:rank].T @ right[:rank], axis=1)
    unseen = np.any(gradients[:, ~frame.seen] != 0, axis=1)
    bad = np.flatnonzero(unseen | (outside > 1e-8 * np.linalg.norm(slopes, axis=1)))
    if bad.size:
        raise ValueError(
            f"Structures were to fix {len(gradients)} properties. Infeasible: properties {bad.tolist()} depend on parameter "
            "directions that no candidate sees. Add candidates that sample them or drop these properties."
        )
    root = frame.expand(right[:rank].T / values[:rank])
    views = [factor.triangle @ root for factor in pool]
    aims = gradients @ root
    return views, aims.T @ aims


def _centre(blocks: FloatArray, target: FloatArray, weights: FloatArray, sharpness: float) -> FloatArray:
    def barrier(w: FloatArray) -> tuple[float, FloatArray | None]:
        if not np.all(w > 0):
            return np.inf, None
        try:
            chol = np.linalg.cholesky(np.tensordot(w, blocks, 1) - target)
        except np.linalg.LinAlgError:
            return np.inf, None
        logs = 2.0 * np.sum(np.log(np.diagonal(chol))) + np.sum(np.log(w))
        return sharpness * float(np.sum(w)) - float(logs), np.asarray(chol, dtype=np.float64)

    value, chol = barrier(weights)
    for _ in range(50):
        assert chol is not None  # the start is inside and so is every accepted step
        inverse = np.linalg.inv(chol)
        inner = inverse @ blocks @ inverse.T  # [M, r, r]
        slope = sharpness - np.trace(inner, axis1=1, axis2=2) - 1.0 / weights
        flat = inner.reshape(len(weights), -1)
        step = -np.linalg.solve(flat @ flat.T + np.diag(weights**-2), slope)
        decrement = -float(slope @ step)
        if decrement < 1e-8:
            break
        length = 1.0
        trial, trial_chol = barrier(weights + step)
        while not trial <= value - 0.2 * length * decrement and length > 1e-12:
            length *= 0.5
            trial, trial_chol = barrier(weights + length * step)
        if trial_chol is None or not trial < value:
            break
        weights, value, chol = weights + length * step, trial, trial_chol
    return weights
