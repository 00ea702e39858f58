"""Spectrum of the unit-free, gauge-free information: how many directions the data determine, and which terms they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as sla
from numpy.typing import ArrayLike, NDArray

from .factors import Factor, FloatArray, merge, weigh
from .fisher import Blocks, Coordinates, coordinates

DETERMINED = 1e-10  # eigenvalues below this share of l_1 are not determined by the data
GRAM_FLOOR = 1e-13  # eigenvalues of a Gram matrix below this share of l_1 are rounding


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues l_1 >= l_2 >= ... of the projected unit-free information and their vectors.

    Arguments: eigenvalues [P'] (dimensionless); vectors [S, P'] in scaled seen parameters D^(1/2) theta, orthonormal columns;
    floor, the eigenvalue below which a number is rounding; coordinates.
    """

    eigenvalues: FloatArray
    vectors: FloatArray
    floor: float
    coordinates: Coordinates

    def __repr__(self) -> str:
        """Its size, what the data determine, and the range of the eigenvalues, in a line."""
        return f"Spectrum: {self.rank()} of {len(self.eigenvalues)} directions determined, {self.decades:.1f} decades, N_eff {self.n_eff():.1f}"

    @property
    def rounding(self) -> NDArray[np.bool_]:
        """Flags [P'] of eigenvalues at or below the rounding floor: their size means nothing."""
        return self.eigenvalues <= self.floor

    @property
    def condition(self) -> float:
        """Condition number l_1 / l_P' of the information; infinite where the last eigenvalue is rounding."""
        if self.eigenvalues.size == 0:
            return 1.0
        return float("inf") if self.rounding[-1] else float(self.eigenvalues[0] / self.eigenvalues[-1])

    @property
    def decades(self) -> float:
        """Decades log10(l_1 / l_P') spanned, counted to the rounding floor at most."""
        if self.eigenvalues.size == 0:
            return 0.0
        return float(np.log10(self.eigenvalues[0] / max(self.eigenvalues[-1], self.floor, np.finfo(np.float64).tiny)))

    @property
    def decades_per_parameter(self) -> float:
        """Decades divided by the number of directions P'."""
        return self.decades / max(len(self.eigenvalues), 1)

    def rank(self, threshold: float = DETERMINED) -> int:
        """Number of eigenvalues above `threshold` l_1 and above the rounding floor."""
        return int(np.count_nonzero(self.eigenvalues > max(threshold * self.eigenvalues.max(initial=0.0), self.floor)))

    def n_eff(self, ridge: float = 1e-8) -> float:
        """Effective number of directions sum_k l_k / (l_k + l_0), l_0 = ridge l_1."""
        level = ridge * self.eigenvalues.max(initial=0.0)
        return float(np.sum(self.eigenvalues / (self.eigenvalues + level))) if level > 0 else float(self.rank(0.0))

    def modes(self) -> FloatArray:
        """Eigenvectors as physical directions D^(-1/2) v_k [P, P'], zero for unseen parameters."""
        out = np.zeros((len(self.coordinates.seen), self.vectors.shape[1]))
        out[self.coordinates.seen] = self.vectors / self.coordinates.scale[:, None]
        return out

    def participation(self, terms: Blocks, modes: int = 5) -> dict[str, tuple[float, float]]:
        """Share of each term in the `modes` stiffest and sloppiest modes (sum of squared entries, mean over modes)."""
        weight = np.zeros((len(self.coordinates.seen), self.vectors.shape[1]))
        weight[self.coordinates.seen] = self.vectors**2  # [P, P']
        count = max(min(modes, weight.shape[1]), 1)
        return {
            name: (float(weight[np.asarray(index), :count].sum() / count), float(weight[np.asarray(index), -count:].sum() / count))
            for name, index in terms.items()
        }


def fisher_spectrum(factor: Factor, gauge: ArrayLike | None = None, precision: float = 2.0**-52) -> Spectrum:
    """Eigenvalues of Q^T D^(-1/2) I D^(-1/2) Q as squared singular values of the scaled, projected factor.

    Arguments: factor; gauge G [P, g]; precision of the rows (2^-52, or 6e-8 where J was held in float32). The rounding floor is
    (P precision)^2 l_1, not P precision l_1, because no Gram matrix is formed. Returns: Spectrum.
    """
    frame = coordinates(factor, gauge)
    return _from_rows(frame.reduce(factor.triangle), frame, (factor.parameters * precision) ** 2)


def gram_spectrum(matrix: FloatArray, gauge: ArrayLike | None = None) -> Spectrum:
    """The same from an information matrix I [P, P]: a fast preview, rounding below 1e-13 l_1 and flagged there."""
    norms = np.sqrt(np.diagonal(matrix))
    # any rows of the right column norms lead to the same coordinates; the gauge was checked where I was made
    stand_in = Factor(np.diag(norms), np.zeros(len(norms)), np.zeros(()), 0)
    frame = coordinates(stand_in) if gauge is None else coordinates(stand_in).without(gauge)
    scaled = matrix[np.ix_(frame.seen, frame.seen)] / np.outer(frame.scale, frame.scale)
    values, vectors = np.linalg.eigh(frame.basis.T @ scaled @ frame.basis)
    values, vectors = values[::-1], frame.basis @ vectors[:, ::-1]
    return Spectrum(values, vectors, GRAM_FLOOR * float(values.max(initial=0.0)), frame)


def bootstrap(groups: Sequence[Factor], gauge: ArrayLike | None = None, draws: int = 100, seed: int = 0) -> FloatArray:
    """log10 eigenvalues [draws, P'] over resampled groups of configurations, at the scaling of the whole set.

    Arguments: groups, factors of exchangeable clusters; gauge G [P, g]; seed of the draws. The standard deviation over
    axis 0 is the error bar of log10 l_k; values at the rounding floor are raised to it.
    """
    frame = coordinates(merge(groups), gauge)
    random = np.random.default_rng(seed)
    out = []
    for _ in range(draws):
        counts = np.bincount(random.integers(len(groups), size=len(groups)), minlength=len(groups))
        drawn = merge(weigh(group, float(np.sqrt(n))) for group, n in zip(groups, counts, strict=True) if n)
        values = np.zeros(frame.basis.shape[1])
        found = np.linalg.svd(frame.reduce(drawn.triangle), compute_uv=False)
        values[: len(found)] = found**2
        floor = (drawn.parameters * np.finfo(np.float64).eps) ** 2 * values.max(initial=1.0)
        out.append(np.log10(np.maximum(values, floor)))
    return np.array(out)


def principal_angles(factor: Factor, first: Sequence[int], second: Sequence[int]) -> FloatArray:
    """Principal angles in degrees, ascending, between the column spaces J_t and J_t' (small ones from the sine).

    Source: A. V. Knyazev and M. E. Argentati, SIAM J. Sci. Comput. 23, 2008 (2002).
    """
    blocks = [_unit_columns(factor.triangle[:, np.asarray(index)]) for index in (first, second)]
    if min(block.shape[1] for block in blocks) == 0:
        return np.zeros(0)
    return np.degrees(sla.subspace_angles(*blocks)[::-1])


def term_angles(factor: Factor, terms: Blocks) -> FloatArray:
    """Smallest principal angle in degrees between every two terms [T, T] (90 where a term is unseen, 0 on the diagonal).

    Below 1 degree the pair is redundant: some combination of one term is a combination of the other on these data.
    """
    names = list(terms)
    out = np.zeros((len(names), len(names)))
    for a in range(len(names)):
        for b in range(a):
            out[a, b] = out[b, a] = principal_angles(factor, terms[names[a]], terms[names[b]]).min(initial=90.0)
    return out


def _from_rows(rows: FloatArray, frame: Coordinates, relative_floor: float) -> Spectrum:
    _, values, right = np.linalg.svd(rows, full_matrices=True)
    padded = np.zeros(right.shape[0])  # fewer rows than directions: the rest of the spectrum is zero
    padded[: len(values)] = values**2
    return Spectrum(padded, frame.basis @ right.T, relative_floor * float(padded.max(initial=0.0)), frame)


def _unit_columns(block: FloatArray) -> FloatArray:
    norms = np.linalg.norm(block, axis=0)
    return block[:, norms > 0] / norms[norms > 0]
