"""Prices of terms without refits: what removing a block costs (Wald) and what adding one gains (Rao's score).

Both are projections of columns, on the stacked rows of data and penalty, so that they equal refits of the penalised cost
exactly for linear blocks, and no inverse of an ill-conditioned information is taken. Directions that the kept columns
span already (gauges included) drop out by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .factors import Factor, FloatArray
from .fisher import Blocks
from .solution import as_prior, with_prior


@dataclass(frozen=True, eq=False)
class Gain:
    """What a block of columns would gain if it were added at amplitude zero.

    Arguments: gain, fall of the penalised chi2; amplitude a_0 [p_B], its solution; base [p_A], the solution of the present
    columns beside it (a step where the right-hand side is minus the residual); angle in degrees, smallest between the
    block and the present columns on the data; kept, directions of the block not spanned already; trace tr(S^(-1) V_B), or
    0 without groups.
    """

    gain: float
    amplitude: FloatArray
    base: FloatArray
    angle: float
    kept: int
    trace: float

    @property
    def corrected(self) -> float:
        """Gain minus 2 tr(S^(-1) V_B), the rule of TIC for one addition: rank candidates by it."""
        return self.gain - 2.0 * self.trace


@dataclass(frozen=True, eq=False)
class _Span:
    """Column space of a matrix: left [K, r] orthonormal, inverse [p, r] with matrix @ inverse = left."""

    left: FloatArray
    inverse: FloatArray

    def without(self, columns: FloatArray) -> FloatArray:
        """Columns minus their part in the span, twice, for the first pass leaves rounding of the size of the columns."""
        once = columns - self.left @ (self.left.T @ columns)
        return once - self.left @ (self.left.T @ once)

    def coefficients(self, target: FloatArray) -> FloatArray:
        """Shortest least-squares coefficients of the matrix for a target [K] or [K, M]."""
        return self.inverse @ (self.left.T @ target)


def wald_prices(
    factor: Factor, theta: FloatArray, blocks: Blocks, ridge: float = 0.0, prior: Factor | ArrayLike | None = None
) -> dict[str, float]:
    """Rise of the penalised chi2 when a block is removed and the rest refitted, theta_B^T ([H^(-1)]_BB)^(-1) theta_B.

    Arguments: factor; theta [P] at the minimum of the same penalty; blocks, columns of each term; ridge and prior as given to
    `solve`. Returns: price by name, exact where theta_B enters linearly. Source: A. Wald, Trans. Am. Math. Soc. 54, 426 (1943).
    """
    joined = with_prior(factor, ridge, prior).triangle
    everyone = np.arange(joined.shape[1])
    prices = {}
    for name, block in blocks.items():
        index = np.asarray(block)
        rest = _span(joined[:, np.setdiff1d(everyone, index)])
        prices[name] = float(np.sum(rest.without(joined[:, index] @ theta[index]) ** 2))
    return prices


def score_gains(
    factor: Factor,
    base: Sequence[int],
    blocks: Blocks,
    ridge: float = 0.0,
    prior: Factor | ArrayLike | None = None,
    groups: Sequence[Factor] | None = None,
    tolerance: float = 1e-8,
) -> dict[str, Gain]:
    """Rao's score gain of every candidate block beside the present columns, g_B^T S^(-1) g_B at amplitude zero.

    S = H_BB - H_BA H_AA^(-1) H_AB. For a candidate `+ a X` the columns are the observables of X; for `* (1 + a X)` those of the
    site energy u X with u frozen. The gain is the exact fall of chi2 on refit for linear A and B.
    Arguments: factor over present and candidate columns [.., P] with one right-hand side; base, columns present; blocks,
    columns by candidate; ridge relative to l_1 of the present columns (`solve` the child with `ridge_prior(factor, ridge,
    base)` to compare); prior over all P; groups, factors by configuration for the trace; tolerance, sine of an angle below
    which a direction counts as present. Returns: Gain by name. Source: C. R. Rao, Proc. Camb. Phil. Soc. 44, 50 (1948).
    """
    present = np.asarray(base)
    joined = with_prior(factor, ridge, as_prior(prior, factor), base)
    span, seen = _span(joined.triangle[:, present]), _span(factor.triangle[:, present])
    start = np.zeros(factor.parameters)
    start[present] = span.coefficients(joined.rhs)
    gradients = np.array([group.gradient(start) for group in groups or []]).reshape(-1, factor.parameters)  # [C, P]
    if len(gradients):
        gradients[:, present] -= gradients[:, present].mean(axis=0)  # zero but for the penalty, which all groups share
    return {name: _gain(joined, factor, span, seen, present, np.asarray(block), gradients, tolerance) for name, block in blocks.items()}


def _gain(
    joined: Factor,
    factor: Factor,
    span: _Span,
    seen: _Span,
    present: NDArray[np.intp],
    block: NDArray[np.intp],
    gradients: FloatArray,
    tolerance: float,
) -> Gain:
    columns = joined.triangle[:, block]
    own = _span(columns)
    left, sines, right = np.linalg.svd(span.without(own.left), full_matrices=False)  # sines of the principal angles
    kept = sines > tolerance
    fresh = left[:, kept].T @ joined.rhs
    towards = own.inverse @ (right[kept].T / sines[kept])  # [p_B, kept]: coefficients of the efficient directions
    amplitude = towards @ fresh
    efficient = gradients[:, block] @ towards - gradients[:, present] @ span.coefficients(columns @ towards)
    apart = np.linalg.svd(seen.without(_span(factor.triangle[:, block]).left), compute_uv=False)
    angle = float(np.degrees(np.arcsin(np.clip(apart.min(initial=1.0), 0.0, 1.0))))
    return Gain(
        float(np.sum(fresh**2)),
        amplitude,
        span.coefficients(joined.rhs - columns @ amplitude),
        angle,
        int(np.count_nonzero(kept)),
        float(np.sum(efficient**2)),
    )


def _span(matrix: FloatArray) -> _Span:
    norms = np.linalg.norm(matrix, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    left, values, right = np.linalg.svd(matrix / scale, full_matrices=False)
    rank = int(np.count_nonzero(values > matrix.shape[1] * np.finfo(np.float64).eps * values.max(initial=0.0)))
    return _Span(left[:, :rank], right[:rank].T / values[:rank] / scale[:, None])
