"""Error bars: covariances of parameters, propagation to properties, envelopes of misspecified models, calibration."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .factors import Factor, FloatArray
from .solution import Correction, Solution, scores


def naive_root(solution: Solution, variance: float | None = None) -> FloatArray:
    """Root C [P, rank] of the covariance C C^T = s2 H^(-1) of a correct model with independent rows.

    s2 = chi2 / (N - P_eff) unless given. A draw of parameters is theta + C z, z [rank] standard normal.
    """
    return np.sqrt(float(solution.variance) if variance is None else variance) * solution.root


def sandwich_root(solution: Solution, groups: Sequence[Factor], correction: Correction = "leverage") -> FloatArray:
    """Root C [P, C] of the clustered covariance H^(-1) V H^(-1), V = sum_c g_c g_c^T.

    Right for dependent rows and wrong models, hence the default error bar.
    Arguments: solution; groups, factors by cluster whose rows are those fitted; correction of `scores`.
    Source: H. White, Econometrica 50, 1 (1982); K.-Y. Liang and S. L. Zeger, Biometrika 73, 13 (1986).
    """
    return solution.root @ (scores(groups, solution, correction) @ solution.root).T


def propagate(gradient: ArrayLike, root: FloatArray) -> FloatArray:
    """Standard deviations |g C| of properties with gradients g = dq/dtheta [..., P], in the unit of q.

    Root C [P, n] of the covariance, from `sandwich_root` or `naive_root`: the covariance itself would lose half the digits
    where soft directions cancel.
    """
    return np.linalg.norm(np.asarray(gradient, dtype=np.float64) @ root, axis=-1)


def pointwise_optimal(rows: ArrayLike, residual: ArrayLike, solution: Solution, least: float = 1e-8) -> FloatArray:
    """Parameters [m', P] that fit single rows exactly: theta_i = theta - H^(-1) j_i r_i / (j_i^T H^(-1) j_i).

    Arguments: weighted rows J [m, P] and residuals r = J theta - b [m]; solution; least leverage, below which a row says
    nothing of the parameters and is left out. Source: T. D. Swinburne and D. Perez, POPS regression (2025).
    """
    matrix = np.asarray(rows, dtype=np.float64)
    view = matrix @ solution.root  # [m, rank]
    leverage = np.sum(view**2, axis=1)
    kept = leverage > least * leverage.max(initial=0.0)
    amount = np.asarray(residual, dtype=np.float64)[kept] / leverage[kept]
    return solution.theta - (amount[:, None] * view[kept]) @ solution.root.T


def envelope(gradient: ArrayLike, members: FloatArray, theta: FloatArray, tail: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest change [q], [q] of properties with gradients [q, P] over pointwise-optimal members [m, P].

    Tail: share of members cut on each side (0 keeps the whole envelope). The interval always holds the zero change.
    """
    change = np.asarray(gradient, dtype=np.float64) @ (members - theta).T  # [q, m]
    low, high = np.quantile(change, [tail, 1.0 - tail], axis=1)
    return np.minimum(low, 0.0), np.maximum(high, 0.0)


def conformal_scale(errors: ArrayLike, deviations: ArrayLike, coverage: float = 0.9, groups: Sequence[Hashable] | None = None) -> float:
    """Factor on predicted standard deviations that covers held-out errors with probability >= coverage.

    Arguments: held-out errors [m]; predicted deviations [m] > 0 of the same rows; groups [m], each of which counts once
    (default: every row its own). Returns the (C + 1)-corrected quantile of |error| / deviation, infinite where there are
    too few groups. Source: R. Dunn, L. Wasserman and A. Ramdas, J. Am. Stat. Assoc. 118, 2491 (2023).
    """
    ratio = np.abs(np.asarray(errors, dtype=np.float64)) / np.asarray(deviations, dtype=np.float64)
    names = list(range(len(ratio))) if groups is None else list(groups)
    _, member = np.unique(np.array([str(name) for name in names]), return_inverse=True)
    sizes = np.bincount(member)
    order = np.argsort(ratio, kind="stable")
    mass = np.cumsum(1.0 / sizes[member[order]]) / (len(sizes) + 1)  # one unit of mass stays at infinity
    enough = np.flatnonzero(mass >= coverage - 1e-12)
    return float(ratio[order[enough[0]]]) if enough.size else float("inf")


def covered(errors: ArrayLike, deviations: ArrayLike, scale: float = 1.0) -> float:
    """Share of errors within scale times the predicted deviation."""
    return float(np.mean(np.abs(np.asarray(errors)) <= scale * np.asarray(deviations)))
