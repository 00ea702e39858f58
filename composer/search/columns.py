"""Columns of sheets: how they are named, and their observables on one chunk, from kernels of leaves alone.

A column is named by what it is: ("reference",), ("offset",), ("E0",), ("fixed", polynomial), ("block", polynomial, leaf) or
("tensor", monomial). A block holds the observables of m x_k for the k free numbers of a leaf x with a multiplier m whose leaves stand at
their present numbers; a tensor holds those of all products of the free numbers of its leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.algebra import Expression
from composer.neighbors import Batch
from composer.search.leaf import Leaf, Observables
from composer.search.polynomial import Polynomial
from composer.search.study import Study

Array = NDArray[np.float64]
Key = tuple[Any, ...]
REFERENCE, OFFSET, E0 = ("reference",), ("offset",), ("E0",)
WIDE = 2  # weights for each function from which sparse products are less work than kernels


@dataclass(frozen=True)
class Order:
    """Columns wanted: their keys, which columns of each block (all where it is not named), the leaves and their present numbers."""

    keys: tuple[Key, ...]
    leaves: Mapping[str, Expression]
    theta: Mapping[str, Array] = field(default_factory=dict)
    wanted: Mapping[Key, tuple[int, ...]] = field(default_factory=dict)


class Columns:
    """Observables of the columns of an order on one chunk."""

    def __init__(self, study: Study, order: Order, places: list[int], batch: Batch) -> None:
        self.study, self.order, self.places, self.batch = study, order, places, batch
        self._values: dict[str, Array] = {}
        self._pulls: dict[str, Callable[[Array], tuple[Array, Array]]] = {}

    def of(self, key: Key) -> Observables:
        match key:
            case ("E0",):
                return self._counts()
            case ("fixed", polynomial):
                return self._fixed(polynomial)
            case ("block", polynomial, leaf):
                return self._block(polynomial, leaf, self.order.wanted.get(key))
            case ("tensor", monomial):
                return self._tensor(monomial)
        return self._empty(1)

    def energies(self, key: Key) -> Array:
        """Energies of the structures alone [S, c]: what `of` gives, without the work of forces and virials."""
        match key:
            case ("fixed", polynomial):
                return self._by_structure(self.value(polynomial)[:, None])
            case ("block", multiplier, leaf):
                return self._by_structure(self.value(multiplier)[:, None] * self._chosen(leaf, self.order.wanted.get(key)))
            case ("tensor", monomial):
                return self._by_structure(self._products(self._parts(monomial)))
        return np.zeros((self.batch.structures, 1))

    def leaf(self, digest: str) -> Leaf:
        return self.study.leaves[self.order.leaves[digest]]

    def theta(self, digest: str) -> Array:
        return self.order.theta.get(digest, self.leaf(digest).start)

    def value(self, polynomial: Polynomial) -> Array:
        """A polynomial at every site [N]."""
        total = np.zeros(self.batch.atoms)
        for monomial, number in polynomial.terms:
            part = np.full(self.batch.atoms, number)
            for digest in monomial:
                if digest not in self._values:
                    self._values[digest] = self.leaf(digest).values(self.batch, self.theta(digest))
                part = part * self._values[digest]
            total += part
        return total

    def pull(self, digest: str, seeds: Array) -> tuple[Array, Array]:
        """Forces [N, 3, k] and virials [S, 3, 3, k] of a leaf under weights of the sites [N, k]."""
        if digest not in self._pulls:
            self._pulls[digest] = self.leaf(digest).pulls(self.batch, self.theta(digest))
        return self._pulls[digest](seeds)

    def _empty(self, width: int) -> Observables:
        atoms, structures = self.batch.atoms, self.batch.structures
        return Observables(np.zeros((structures, width)), np.zeros((atoms, 3, width)), np.zeros((structures, 3, 3, width)))

    def _counts(self) -> Observables:
        found = self._empty(len(self.study.species))
        for s, p in enumerate(self.places):
            found.energy[s] = [self.study.data[p].symbols.count(x) for x in self.study.species]
        return found

    def _fixed(self, polynomial: Polynomial) -> Observables:
        found = self._empty(1)
        found.energy[:, 0] = self._by_structure(self.value(polynomial))
        for digest in polynomial.leaves:
            forces, virial = self.pull(digest, self.value(polynomial.derivative(digest))[:, None])
            found.forces[...] += forces
            found.virial[...] += virial
        return found

    def _block(self, multiplier: Polynomial, digest: str, wanted: tuple[int, ...] | None) -> Observables:
        leaf, constant = self.leaf(digest), multiplier.constant
        seeds = self.value(multiplier) if constant is None else np.ones(self.batch.atoms)
        found = leaf.observables(self.batch, seeds, self.theta(digest))
        chosen = np.arange(leaf.size) if wanted is None else np.array(wanted, dtype=int)
        found = Observables(*(a[..., chosen] * (1.0 if constant is None else constant) for a in found))
        if constant is None:
            columns = self._chosen(digest, wanted)
            for other in multiplier.leaves:
                forces, virial = self.pull(other, self.value(multiplier.derivative(other))[:, None] * columns)
                found.forces[...] += forces
                found.virial[...] += virial
        return found

    def _chosen(self, digest: str, wanted: tuple[int, ...] | None) -> Array:
        """Derivatives of a leaf's site values by its wanted numbers (None: all) [N, p]."""
        columns = self.leaf(digest).columns(self.batch, self.theta(digest))
        return columns if wanted is None else columns[:, np.array(wanted, dtype=int)]

    def _parts(self, monomial: tuple[str, ...]) -> list[Array]:
        """The functions of each leaf [N, p]; its values where it has no free number."""
        parts = [self.leaf(d) for d in monomial]
        return [p.columns(self.batch, p.start) if p.size else p.values(self.batch, p.start)[:, None] for p in parts]

    def _tensor(self, monomial: tuple[str, ...]) -> Observables:
        """All products of the free numbers of the leaves, the last leaf fastest."""
        parts, columns = [self.leaf(d) for d in monomial], self._parts(monomial)
        widths = [c.shape[1] for c in columns]
        found = self._empty(int(np.prod(widths)))
        found.energy[...] = self._by_structure(self._products(columns))
        forces, virial = found.forces.reshape(-1, 3, *widths), found.virial.reshape(-1, 3, 3, *widths)
        for n, part in enumerate(parts):
            others = widths[:n] + widths[n + 1 :]
            f, w = self._under(part, self._products(columns[:n] + columns[n + 1 :]))
            forces += np.moveaxis(f.reshape(-1, 3, *others, widths[n]), -1, 2 + n)
            virial += np.moveaxis(w.reshape(-1, 3, 3, *others, widths[n]), -1, 3 + n)
        return found

    def _products(self, columns: Sequence[Array]) -> Array:
        """All products of columns [N, p], one of each, the last ones fastest [N, K]."""
        found = np.ones((self.batch.atoms, 1))
        for c in columns:
            found = (found[:, :, None] * c[:, None, :]).reshape(len(c), -1)
        return found

    def _under(self, leaf: Leaf, seeds: Array) -> tuple[Array, Array]:
        """Forces [N, 3, k, p] and virials [S, 3, 3, k, p] of the functions of a leaf under weights [N, k]; p = 1 without a free number."""
        if not leaf.size:
            forces, virials = self.pull(leaf.digest, seeds)
            return forces[..., None], virials[..., None]
        if not leaf.staged and seeds.shape[1] > WIDE * leaf.size:  # few functions under many weights
            each = [leaf.pulls(self.batch, unit)(seeds) for unit in np.eye(leaf.size)]
            return np.stack([f for f, _ in each], axis=-1), np.stack([w for _, w in each], axis=-1)
        found = [leaf.observables(self.batch, seed, leaf.start) for seed in seeds.T]
        return np.stack([f.forces for f in found], axis=-2), np.stack([f.virial for f in found], axis=-2)

    def _by_structure(self, site: Array) -> Array:
        return np.add.reduceat(site, self.batch.offsets.numpy()[:-1], axis=0)


def union(orders: Iterable[tuple[Key, Iterable[int]]]) -> dict[Key, tuple[int, ...]]:
    """Which columns of each block are wanted by any of many."""
    found: dict[Key, set[int]] = {}
    for key, places in orders:
        found.setdefault(key, set()).update(places)
    return {key: tuple(sorted(places)) for key, places in found.items()}
