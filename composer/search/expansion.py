"""Expressions that are linear in each of their leaves, fitted on sheets: nothing is compiled beyond the kernels of the leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import Factor, combine, factorize, merge, penalty
from composer.algebra import Expression
from composer.fit.gauges import gauges
from composer.fit.prior import held
from composer.fit.weights import Weights
from composer.model import Model
from composer.search.columns import E0, OFFSET, REFERENCE, Key, Order
from composer.search.leaf import Leaf
from composer.search.polynomial import Monomial, Polynomial, polynomial
from composer.search.sheet import CORE, Sheet, scale, sheet, walls
from composer.search.study import Study, at_home

Array = NDArray[np.float64]
Factors = dict[tuple[str, int], Factor]
RISE = 4e-3  # eV/atom from one step of a scan to the next: what a wall that failed is asked for
WIDEST = 1600  # columns of an expansion; beyond it fused kernels are cheaper


class Expansion:
    """The rows of an expression as a sheet times products w(u) of its numbers.

    Unknowns u [K]: the free numbers of the model in their order (E0 first), then the stress offset where there is one.
    """

    def __init__(self, study: Study, expression: Expression) -> None:
        self.study, self.expression = at_home(study), expression
        self.model = Model(expression, study.species)
        self.polynomial = polynomial(expression)
        self.leaves: dict[str, Leaf] = self.study.leaves.of(expression)
        self._weights: Weights | None = None
        self._by_fold: dict[int, Factor] = {}
        self._triangles: dict[frozenset[int], Array] = {}

    @property
    def size(self) -> int:
        return self.model.size + self.study.offset

    @cached_property
    def monomials(self) -> list[tuple[Monomial, float]]:
        """The monomials with free numbers."""
        return [(m, n) for m, n in self.polynomial.terms if any(self.leaves[d].size for d in m)]

    @property
    def fixed(self) -> Polynomial:
        """What has no number to fit."""
        return self.polynomial - Polynomial(tuple(self.monomials))

    @property
    def width(self) -> int:
        return sum(int(np.prod([max(self.leaves[d].size, 1) for d in m])) for m, _ in self.monomials)

    @property
    def possible(self) -> bool:
        """Whether the expression is linear in each leaf, and narrow enough."""
        shared = any(self.leaves[d].staged for m, _ in self.monomials if len(m) > 1 for d in m)
        return all(leaf.linear for leaf in self.leaves.values()) and not shared and self.width <= WIDEST

    @property
    def linear(self) -> bool:
        """Whether no two free numbers are multiplied."""
        return all(sum(bool(self.leaves[d].size) for d in m) == 1 for m, _ in self.monomials)

    @cached_property
    def places(self) -> dict[str, NDArray[np.intp]]:
        """Where the free numbers of every leaf stand among the unknowns."""
        position = np.cumsum(self.model.free.numpy()) - 1
        found = {}
        for digest, leaf in self.leaves.items():
            slots = [self.model.layout.slots[e.key] for e in leaf.entries]
            found[digest] = np.concatenate([np.zeros(0, int), *(position[s.offset : s.offset + s.size] for s in slots)])
        return found

    def order(self) -> Order:
        keys: list[Key] = [REFERENCE, *([OFFSET] if self.study.offset else []), E0, ("fixed", self.fixed)]
        return Order((*keys, *(("tensor", m) for m, _ in self.monomials)), {d: leaf.expression for d, leaf in self.leaves.items()})

    @cached_property
    def sheet(self) -> Sheet:
        found = sheet(self.study, self.order())
        if found.broken:
            raise FloatingPointError(f"{self.expression} gives numbers that are not finite")
        return found

    @cached_property
    def walls(self) -> Array:
        """Rises of the columns (eV/atom) on the ways to touching atoms [n, columns]."""
        return walls(self.study, self.order())

    def failing(self, u: Array) -> NDArray[np.bool_]:
        """Which of the walls do not rise [n]."""
        return ~(self.walls @ self.numbers(u) > 0.0)

    def numbers(self, u: Array) -> Array:
        """w [columns]: what the columns of the sheet are multiplied with; the reference is subtracted from their sum."""
        w = np.zeros(sum(len(p) for p in self.sheet.place.values()))
        w[self.sheet.place[REFERENCE]], w[self.sheet.place["fixed", self.fixed]] = -1.0, 1.0
        w[self.sheet.place[E0]] = u[: len(self.study.species)]
        if self.study.offset:
            w[self.sheet.place[OFFSET]] = u[-1]
        for monomial, number in self.monomials:
            w[self.sheet.place["tensor", monomial]] = number * _outer([self._of(u, d)[:, None] for d in monomial])[:, 0]
        return w

    def slopes(self, u: Array) -> Array:
        """dw/du [columns, K]."""
        out = np.zeros((sum(len(p) for p in self.sheet.place.values()), self.size))
        out[self.sheet.place[E0], np.arange(len(self.study.species))] = 1.0
        if self.study.offset:
            out[self.sheet.place[OFFSET], -1] = 1.0
        for monomial, number in self.monomials:
            rows = self.sheet.place["tensor", monomial]
            for n, digest in enumerate(monomial):
                if self.leaves[digest].size:
                    parts = [self._of(u, d)[:, None] if k != n else np.eye(self.leaves[d].size) for k, d in enumerate(monomial)]
                    out[np.ix_(rows, self.places[digest])] += number * _outer(parts)
        return out

    def _of(self, u: Array, digest: str) -> Array:
        return u[self.places[digest]] if self.leaves[digest].size else np.ones(1)

    # ---- what the fit asks for

    def steps(self, u: Array) -> Factors:
        """Factors by (observable, fold) whose solution is a step from u."""
        slopes, numbers = self.slopes(u), self.numbers(u)
        found = {}
        for key, factor in self.sheet.factors.items():
            made = factorize(factor.triangle @ slopes, -(factor.triangle @ numbers))
            found[key] = Factor(made.triangle, made.rhs, made.rss, factor.rows)
        return found

    def triangle(self, weights: Weights, folds: frozenset[int]) -> Array:
        """All rows of some folds under stated weights, reduced to a triangle [columns, columns]; the last ones are kept."""
        if weights != self._weights:
            self._weights, self._by_fold, self._triangles = weights, {}, {}
        if folds not in self._triangles:
            self._triangles[folds] = merge(
                self._fold(weights, fold) for fold in sorted({fold for _, fold in self.sheet.factors if fold in folds or fold == CORE[1]})
            ).triangle
        return self._triangles[folds]

    def _fold(self, weights: Weights, fold: int) -> Factor:
        """The rows of one fold (-1: those of the core) under stated weights."""
        if fold not in self._by_fold:
            kept = {key: f for key, f in self.sheet.factors.items() if key[1] == fold}
            self._by_fold[fold] = joined(kept, weights)
        return self._by_fold[fold]

    def squares(self, u: Array) -> dict[tuple[str, int], tuple[float, int]]:
        """Sum of squared residuals, in the shape of the weights, and count of rows by (observable, fold)."""
        numbers = self.numbers(u)
        return {key: (float(np.sum((f.triangle @ numbers) ** 2)), f.rows) for key, f in self.sheet.factors.items()}

    def penal(self, norms: Array) -> Factor:
        """The roughness penalty of strength one for columns of these norms [K]."""
        return roughness(((leaf, self.places[d]) for d, leaf in self.leaves.items()), norms)

    def gauge(self, u: Array) -> Array:
        """Gauge directions at u [K, g]."""
        import torch

        model = self.model.with_parameters(torch.from_numpy(np.ascontiguousarray(u[: self.model.size])))
        directions = gauges(model)
        return np.concatenate([directions, np.zeros((int(self.study.offset), directions.shape[1]))])


@dataclass(eq=False)
class Part:
    """Least squares of an expansion over some folds under stated weights, as `composer.fit.levenberg.minimise` asks for it.

    Arguments: held [n], how firmly each wall is held up: its rise is drawn to `RISE` within `RISE` / held.
    """

    expansion: Expansion
    weights: Weights
    folds: frozenset[int]
    held: Array

    @cached_property
    def rows(self) -> Array:
        """All rows of the folds, reduced to a triangle [columns, columns], and those of walls that are held up: every point of a fit is a product with them."""
        up = self.held > 0.0
        walls = self.expansion.walls[up] * (self.held[up] / RISE)[:, None]
        return np.concatenate([self.expansion.triangle(self.weights, self.folds), walls])

    @cached_property
    def goal(self) -> Array:
        """What the rows shall give: nothing, and for walls their rise."""
        up = self.held[self.held > 0.0]
        return np.concatenate([np.zeros(len(self.rows) - len(up)), up])

    def factor(self, u: Array) -> Factor:
        if not np.isfinite(u).all():
            raise ValueError("numbers that are not finite")
        return factorize(self.rows @ self.expansion.slopes(u), self.goal - self.rows @ self.expansion.numbers(u))


def joined(factors: Factors, weights: Weights) -> Factor:
    """One factor of many, each observable divided by its target."""
    return combine(factors, {key: 1.0 / scale(weights, key[0]) for key in factors})


def roughness(parts: Iterable[tuple[Leaf, NDArray[np.intp]]], norms: Array) -> Factor:
    """Penalty of strength one over K columns of norms [K]: for every table of a leaf its prior, as strong as what the data say."""
    blocks = [held(root, places[table], norms) for leaf, places in parts for table, root in leaf.roots]  # type: ignore[index]
    return penalty(np.concatenate([np.zeros((0, len(norms))), *blocks]))


def _outer(parts: list[Array]) -> Array:
    """Kronecker product of [p, k] matrices, the last one fastest."""
    found: Any = np.ones((1, 1))
    for part in parts:
        found = np.kron(found, part)
    return found
