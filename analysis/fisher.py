"""Fisher information of observables, terms and configurations; unit-free coordinates without gauge directions.

Everything here starts from factors (`analysis.factors`), so information matrices are sums over keys, I = sum_k w_k^2 R_k^T R_k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg as sla
from numpy.typing import ArrayLike, NDArray

from .factors import Factor, FloatArray

Blocks = Mapping[str, Sequence[int]]  # columns of each term, by name
NO_GAUGE = 1e-6  # |J g| beside |J| |g|, unit-free: above it a direction is no gauge


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Unit-free parameters with gauge and unseen directions removed: D^(1/2) theta = basis x.

    Arguments: seen [P] mask of parameters with any information; scale [S], square roots of D over the seen;
    basis [S, P'] orthonormal, the complement of the scaled gauge directions, P' = S - gauge dimension.
    """

    seen: NDArray[np.bool_]
    scale: FloatArray
    basis: FloatArray

    @property
    def unseen(self) -> NDArray[np.intp]:
        """Indices of parameters that no row depends on."""
        return np.flatnonzero(~self.seen)

    @property
    def gauge_dimension(self) -> int:
        """Number of independent gauge directions removed."""
        return self.basis.shape[0] - self.basis.shape[1]

    def reduce(self, rows: FloatArray) -> FloatArray:
        """Rows [m, P] (of J, of R, of gradients of a property) in these coordinates [m, P']."""
        return rows[:, self.seen] / self.scale @ self.basis

    def without(self, directions: ArrayLike) -> "Coordinates":
        """Coordinates without physical directions [P, g] (dependent ones count once)."""
        columns = np.asarray(directions, dtype=np.float64).reshape(len(self.seen), -1)[self.seen] * self.scale[:, None]
        return Coordinates(self.seen, self.scale, self.basis @ _complement(self.basis.T @ columns))

    def expand(self, x: FloatArray) -> FloatArray:
        """Physical parameters [P, ...] of coordinates x [P', ...]; zero where unseen."""
        theta = np.zeros((len(self.seen), *x.shape[1:]))
        theta[self.seen] = ((self.basis @ x).T / self.scale).T
        return theta


def coordinates(factor: Factor, gauge: ArrayLike | None = None, prior: Factor | None = None) -> Coordinates:
    """Unit-free, gauge-free coordinates of a factor: scale by D = diag(I), then the complement of D^(1/2) G.

    Arguments: factor; gauge G [P, g], null vectors of J known from the expression; prior, a penalty whose columns count as
    seen too (its norms scale what the data do not see). Returns: Coordinates.
    Errors: ValueError where a column of G is no null vector of J. Source: M. K. Transtrum et al., J. Chem. Phys. 143, 010901 (2015),
    for sloppy spectra; the projection is exact because I~ D^(1/2) G = 0.
    """
    norms = factor.norms
    if prior is not None:
        norms = np.where(norms > 0, norms, prior.norms)
    seen = norms > 0
    frame = Coordinates(seen, norms[seen], np.eye(int(np.count_nonzero(seen))))
    if gauge is None or np.size(gauge) == 0:
        return frame
    directions = np.asarray(gauge, dtype=np.float64).reshape(factor.parameters, -1)
    wrong = np.flatnonzero(gauge_defect(factor, directions) > NO_GAUGE)
    if wrong.size:
        raise ValueError(
            f"Gauge directions were to be projected out. Columns {wrong.tolist()} of {directions.shape[1]} change the "
            "observables, so they carry information. Pass null vectors of the Jacobian at the present parameters."
        )
    return frame.without(directions)


def gauge_defect(factor: Factor, gauge: ArrayLike) -> FloatArray:
    """|J g| / (|J| |g|) in unit-free coordinates, one number for each column of G [P, g]: about 1e-16 for a gauge."""
    norms = factor.norms
    scale = np.where(norms > 0, norms, 1.0)
    scaled = np.asarray(gauge, dtype=np.float64).reshape(factor.parameters, -1) * scale[:, None]  # [P, g]
    largest = np.sqrt(np.count_nonzero(norms)) or 1.0  # Frobenius norm of the scaled J
    length = np.linalg.norm(scaled, axis=0)
    return np.linalg.norm(factor.triangle / scale @ scaled, axis=0) / (largest * np.where(length > 0, length, 1.0))


def information(factors: Mapping[Any, Factor], weights: Mapping[Any, float] | None = None) -> dict[Any, FloatArray]:
    """Blocks I_k = w_k^2 R_k^T R_k [P, P] by observable, group or both; their sum is the information of all rows.

    At unit noise: divide by s2 = chi2 / (N - P_eff) for the statistical information. A mean over configurations, as other
    codes print it, is the sum over groups divided by their number.
    """
    weights = {} if weights is None else weights
    return {key: float(weights.get(key, 1.0)) ** 2 * factor.information for key, factor in factors.items()}


def term_blocks(matrix: FloatArray, terms: Blocks) -> dict[tuple[str, str], FloatArray]:
    """Sub-blocks I_tt' [p_t, p_t'] of an information matrix [P, P] for every ordered pair of terms."""
    return {(a, b): matrix[np.ix_(np.asarray(terms[a]), np.asarray(terms[b]))] for a in terms for b in terms}


def unit_free(matrix: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Unit-free information D^(-1/2) I D^(-1/2) over the seen parameters [S, S], and the indices of the unseen."""
    diagonal = np.diagonal(matrix)
    seen = diagonal > 0
    root = np.sqrt(diagonal[seen])
    return matrix[np.ix_(seen, seen)] / np.outer(root, root), np.flatnonzero(~seen)


def null_space(factor: Factor, gauge: ArrayLike | None = None, threshold: float = 1e-10) -> FloatArray:
    """Directions [P, n] (unit-free norm 1) that the data do not see, beyond unseen parameters and the gauge.

    Threshold: on singular values, relative to the largest. A direction found in all of several random data sets at random
    parameters is an unlisted gauge (or an identity of the span); one found in a single data set is data-null.
    """
    frame = coordinates(factor, gauge)
    _, values, right = np.linalg.svd(frame.reduce(factor.triangle), full_matrices=True)
    full = np.zeros(right.shape[0])
    full[: len(values)] = values
    return frame.expand(right[full <= threshold * full.max(initial=0.0)].T)


def _complement(directions: FloatArray) -> FloatArray:
    # columns may be dependent (products of products) or lose all seen rows: take the rank by singular values
    length = np.linalg.norm(directions, axis=0)
    unit = directions[:, length > 0] / length[length > 0]
    left, values, _ = sla.svd(unit, full_matrices=True) if unit.size else (np.eye(len(directions)), np.zeros(0), None)
    return np.ascontiguousarray(left[:, np.count_nonzero(values > 1e-10) :])
