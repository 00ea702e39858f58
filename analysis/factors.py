"""Triangular factors of weighted rows: everything a linear least-squares problem needs, in P x P numbers.

Rows [J | b] enter in chunks and leave as [R | Q^T b] with the rest of |b|^2 kept apart, so that

    |J theta - b|^2 = |R theta - Q^T b|^2 + rss        J^T J = R^T R

exactly. Factors of energies, forces, stress and of every group of configurations are kept apart; stacking them again
with other weights, without some groups, or with the rows of a prior costs linear algebra only. The Gram matrix is never
formed: singular values of R reach 1e-15 of the largest, those of a Gram matrix only 1e-7.

Sign: `rhs` is what J theta should reach. It is the reference itself for a linear model, and minus the residual
r = y(theta) - y_ref where J is the derivative at theta (then the solution is a step).
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg as sla
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
(TPQRT,) = sla.get_lapack_funcs(("tpqrt",), dtype=np.float64)
BLOCK = 32  # columns that are eliminated together
FAN = 8  # factors stacked at one node of the merging tree: fixed, for the result must not depend on workers


@dataclass(frozen=True, eq=False)
class Factor:
    """Triangular factor of weighted rows: |J theta - b|^2 = |triangle theta - rhs|^2 + rss.

    Arguments: triangle [K, P] upper trapezoidal with non-negative diagonal, K = min(rows, P); rhs [K] or [K, M];
    rss [] or [M], the part of |b|^2 that no theta reaches; rows, the number of rows that entered. All are dimensionless
    in the data (rows divided by their noise); column p has the inverse unit of parameter p.
    Source: G. H. Golub and C. F. Van Loan, Matrix Computations, 4th ed., 5.2 and 6.5.
    """

    triangle: FloatArray
    rhs: FloatArray
    rss: FloatArray
    rows: int

    @property
    def parameters(self) -> int:
        """Number of columns P."""
        return self.triangle.shape[1]

    @property
    def information(self) -> FloatArray:
        """Fisher information at unit noise, I = R^T R [P, P]."""
        return self.triangle.T @ self.triangle

    @property
    def norms(self) -> FloatArray:
        """Norms of the columns of J, the square roots of diag(I) [P]."""
        return np.sqrt(np.sum(self.triangle**2, axis=0))

    def residual(self, theta: FloatArray) -> FloatArray:
        """Compressed residual R theta - rhs [K] or [K, M] at theta [P] or [P, M]."""
        return self.triangle @ theta - self.rhs

    def chi2(self, theta: FloatArray) -> FloatArray:
        """Sum of squared residuals |J theta - b|^2 ([] or [M]) at theta [P] or [P, M]."""
        return np.sum(self.residual(theta) ** 2, axis=0) + self.rss

    def gradient(self, theta: FloatArray) -> FloatArray:
        """Half the gradient of chi2, g = J^T (J theta - b) [P] or [P, M]."""
        return self.triangle.T @ self.residual(theta)

    def after(self, step: FloatArray) -> "Factor":
        """Factor of the steps that follow a step [P]: the same rows with the right-hand side rhs - R step."""
        return replace(self, rhs=-self.residual(step))

    def columns(self, index: ArrayLike) -> "Factor":
        """Factor of the columns `index` (integers or a mask [P]), in that order."""
        return _reduce(self.triangle[:, np.asarray(index)], self.rhs, self.rss, self.rows)

    def rescale(self, scale: ArrayLike) -> "Factor":
        """Factor in parameters theta_p / scale_p, scale [P]; scale = theta gives logarithms of positive parameters."""
        return _reduce(self.triangle * np.asarray(scale, dtype=np.float64), self.rhs, self.rss, self.rows)


def factorize(rows: ArrayLike, rhs: ArrayLike, weights: ArrayLike | None = None) -> Factor:
    """Factor of one chunk of rows, QR of [w J | w b].

    Arguments: rows J [m, P]; rhs b [m] or [m, M]; weights w [m] (1 / noise, default 1). Returns: Factor.
    Errors: ValueError where shapes disagree or a number is not finite.
    """
    matrix, target = np.asarray(rows, dtype=np.float64), np.asarray(rhs, dtype=np.float64)
    if matrix.ndim != 2 or target.shape[:1] != matrix.shape[:1]:
        raise ValueError(
            f"A factor needs rows [m, P] and rhs [m] or [m, M]. Found shapes {matrix.shape} and {target.shape}. "
            "Pass a matrix and one target for each of its rows."
        )
    if weights is not None:
        weight = np.asarray(weights, dtype=np.float64)
        matrix, target = matrix * weight[:, None], (target.T * weight).T
    bad = np.flatnonzero(~np.isfinite(np.column_stack([matrix, target])).all(axis=1))
    if bad.size:
        raise ValueError(
            f"A factor needs finite rows. Row {bad[0]} of {len(matrix)} holds NaN or infinity. "
            "Leave missing observables out instead of filling them."
        )
    return _reduce(matrix, target, np.zeros(target.shape[1:]), len(matrix))


def stream(chunks: Iterable[Sequence[Any]], mapper: Callable[..., Iterable[Factor]] = map) -> Factor:
    """Factor of many chunks without ever holding J; the result depends on the chunks and their order only.

    Arguments: chunks, tuples (rows, rhs) or (rows, rhs, weights) as of `factorize`; mapper, `map` or the `map` of an
    executor, which keeps order. Returns: Factor, bitwise equal for any number of workers as long as the linear algebra
    library runs with the same number of threads (one, in workers: its blocked products round by their split).
    """
    return merge(mapper(_factorize_chunk, chunks))


def merge(factors: Iterable[Factor]) -> Factor:
    """Factor of the rows of all factors, stacked in a fixed tree by position, `FAN` at a node.

    Errors: ValueError without any factor or where numbers of parameters differ.
    """
    levels: list[list[Factor]] = []  # waiting factors of a level, each the root of a full subtree
    for factor in factors:
        level = 0
        while True:
            if level == len(levels):
                levels.append([])
            levels[level].append(factor)
            if len(levels[level]) < FAN:
                break
            factor, levels[level] = _join(levels[level]), []
            level += 1
    rest: list[Factor] = []
    for level in levels:  # lower levels hold the later rows
        rest = [_join(level + rest)] if level + rest else []
    if not rest:
        raise ValueError("A factor was asked of no rows at all. The list of factors is empty. Keep at least one group or observable.")
    return rest[0]


def combine(factors: Mapping[Any, Factor], weights: Mapping[Any, float] | None = None) -> Factor:
    """Factor of all rows under other weights: QR of the stacked w_k R_k, chi2 = sum_k w_k^2 chi2_k.

    Arguments: factors by observable, group, or (observable, group); weights by the same keys, default 1, zero to drop.
    A fold is the same call on the factors of the other groups. Returns: Factor; its `rows` counts rows of weight > 0.
    Errors: ValueError for a weight whose key no factor has, or a negative one.
    """
    weights = {} if weights is None else weights
    wrong = [key for key in weights if key not in factors or not weights[key] >= 0]
    if wrong:
        raise ValueError(f"Weights {wrong!r} were asked for. The factors are {list(factors)!r} and weights are >= 0. Use their keys.")
    kept = ((factor, float(weights.get(key, 1.0))) for key, factor in factors.items())
    return merge(weigh(factor, weight) for factor, weight in kept if weight > 0)


def weigh(factor: Factor, weight: float) -> Factor:
    """Factor of rows multiplied by `weight` (chi2 by weight^2)."""
    if weight == 1.0:
        return factor
    return replace(factor, triangle=weight * factor.triangle, rhs=weight * factor.rhs, rss=weight**2 * factor.rss)


def penalty(root: ArrayLike, target: ArrayLike | None = None) -> Factor:
    """Prior as a factor: |L (theta - target)|^2 with L = root.

    Arguments: root L [Q, P], or [P] for a diagonal one; target [P] or [P, M], default 0. Around present parameters
    theta_0, where the unknown is a step, the target is -theta_0. Returns: Factor with no rows counted.
    """
    matrix = np.asarray(root, dtype=np.float64)
    matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
    goal = np.zeros(matrix.shape[1]) if target is None else np.asarray(target, dtype=np.float64)
    return replace(factorize(matrix, matrix @ goal), rows=0)


def group_by(factors: Mapping[Any, Factor], key: Callable[[Any], Hashable]) -> dict[Hashable, Factor]:
    """Factors merged by `key(name)`, in order of first appearance (configurations into folds, observables into one)."""
    sorted_out: dict[Hashable, list[Factor]] = {}
    for name, factor in factors.items():
        sorted_out.setdefault(key(name), []).append(factor)
    return {name: merge(members) for name, members in sorted_out.items()}


def _factorize_chunk(chunk: Sequence[Any]) -> Factor:
    return factorize(*chunk)


def _join(factors: Sequence[Factor]) -> Factor:
    if len(factors) == 1:
        return factors[0]
    if len({factor.parameters for factor in factors}) > 1 or len({factor.rhs.shape[1:] for factor in factors}) > 1:
        raise ValueError(
            f"Factors were to be merged. They have {[factor.parameters for factor in factors]} parameters and right-hand "
            f"sides of shapes {[factor.rhs.shape for factor in factors]}. Build all of them from the same columns."
        )
    target, held, rows = factors[0].rhs, sum(len(factor.rhs) for factor in factors), sum(factor.rows for factor in factors)
    rss = np.sum([factor.rss for factor in factors], axis=0)
    if held < factors[0].parameters:  # few rows: beside columns of zeros their triangle has gaps
        return _reduce(np.concatenate([f.triangle for f in factors]), np.concatenate([f.rhs for f in factors]), rss, rows)
    full = _stacked([np.column_stack([factor.triangle, factor.rhs]) for factor in factors])
    return _divided(full, factors[0].parameters, target.shape[1:], rss, rows)


def _stacked(parts: Sequence[FloatArray]) -> FloatArray:
    """The triangle [n, n] of stacked triangles [k <= n, n], at the cost of their upper halves alone."""
    width = parts[0].shape[1]
    full = np.zeros((width, width), order="F")
    full[: len(parts[0])] = parts[0]
    for part in parts[1:]:
        rows = np.array(part, order="F")
        full = TPQRT(len(part), min(BLOCK, width), full, rows, overwrite_a=True, overwrite_b=True)[0]
    return full


def _reduce(matrix: FloatArray, target: FloatArray, rss: FloatArray, rows: int) -> Factor:
    # Householder QR without pivoting commutes with a scaling of columns (its error bound is columnwise), hence no scaling here
    full = np.asarray(np.linalg.qr(np.column_stack([matrix, target]), mode="r"), dtype=np.float64)  # [min(m, P + M), P + M]
    return _divided(full, min(matrix.shape), target.shape[1:], rss, rows)


def _divided(full: FloatArray, size: int, shape: tuple[int, ...], rss: FloatArray, rows: int) -> Factor:
    """The factor of a triangle of [J | b]: its first `size` rows with a positive diagonal, and what is left of b in the sum of squares."""
    sign = np.where(np.diagonal(full[:size]) < 0, -1.0, 1.0)
    head = full[:size] * sign[:, None]
    split = full.shape[1] - int(np.prod(shape))
    rest = np.sum(full[size:, split:] ** 2, axis=0).reshape(shape)
    return Factor(np.triu(head[:, :split]), head[:, split:].reshape(size, *shape), np.asarray(rss + rest), rows)
