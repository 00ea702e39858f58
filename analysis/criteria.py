"""Criteria of model choice: information criteria with effective counts, TIC by clusters, evidence.

Conventions: chi2 and scores are of weighted rows; s2 is a residual variance (1 where the weights are the true noise).
Exact leave-one-group-out errors stand in `analysis.solution`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .factors import Factor
from .solution import Correction, Solution, scores, system


def aic(rss: float, count: float, parameters: float) -> float:
    """Akaike's criterion N ln(RSS / N) + 2 P; N an effective count of rows, P effective parameters (lower is better)."""
    return float(count * np.log(rss / count) + 2.0 * parameters)


def aicc(rss: float, count: float, parameters: float) -> float:
    """AIC + 2 P (P + 1) / (N - P - 1); infinite where N <= P + 1."""
    room = count - parameters - 1.0
    return aic(rss, count, parameters) + 2.0 * parameters * (parameters + 1.0) / room if room > 0 else float("inf")


def bic(rss: float, count: float, parameters: float) -> float:
    """Schwarz's criterion N ln(RSS / N) + P ln N."""
    return float(count * np.log(rss / count) + parameters * np.log(count))


def tic_trace(groups: Sequence[Factor], solution: Solution, correction: Correction = "leverage") -> float:
    """tr(H^(-1) V), V = sum_c g_c g_c^T clustered by group, in units of chi2.

    Divided by s2 it is P for a correct model with independent rows; above P by dependence of rows and misspecification.
    Arguments: groups, factors by configuration (symmetry-equivalent ones together); solution. Source: K. Takeuchi (1976).
    """
    return float(np.sum((scores(groups, solution, correction) @ solution.root) ** 2))


def tic(chi2: float, trace: float, variance: float = 1.0) -> float:
    """Takeuchi's criterion -2 ln L + 2 tr(H^(-1) V) / s2 with -2 ln L = chi2 / s2, up to a constant of the data.

    Models are compared at one variance (that of the largest, or 1).
    """
    return float((chi2 + 2.0 * trace) / variance)


def effective_count(rows: int, dof: float, trace: float, variance: float) -> float:
    """Effective number of independent rows N s2 P_eff / tr(H^(-1) V), at most N: rows of one snapshot hang together."""
    return float(rows * min(1.0, dof * variance / trace)) if trace > 0 else float(rows)


def evidence(
    factor: Factor, ridge: float = 0.0, prior: Factor | ArrayLike | None = None, gauge: ArrayLike | None = None, variance: float = 1.0
) -> float:
    """Log evidence of a linear model (Laplace's formula otherwise), up to the logarithms of the row weights.

    ln Z = -(chi2 + penalty) / (2 s2) - (N/2) ln(2 pi s2) + (1/2) ln det Lambda - (1/2) ln det(I + Lambda)
    over the gauge-free seen parameters, with prior covariance s2 Lambda^(-1).
    Errors: ValueError where the penalty leaves a direction free, for then the prior has no volume.
    """
    _, data, extra, goal = system(factor, ridge, prior, gauge)
    size = data.shape[1]
    held = np.linalg.svd(extra, compute_uv=False) if extra.size else np.zeros(0)
    proper = int(np.count_nonzero(held > 0))
    if proper < size:
        raise ValueError(
            f"The evidence was asked for. The penalty holds {proper} of {size} directions, so the prior is improper. "
            "Give a ridge > 0 or a prior of full rank."
        )
    rows = np.concatenate([data, extra])
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    target = np.concatenate([factor.rhs, goal])
    cost = float(np.sum((target - left @ (left.T @ target)) ** 2) + factor.rss)
    volume = float(np.sum(np.log(held[:size])) - np.sum(np.log(values)))
    return -cost / (2.0 * variance) - 0.5 * factor.rows * float(np.log(2.0 * np.pi * variance)) + volume
