"""Covers: the few large terms whose Jacobian columns hold those of all smaller ones of a vocabulary.

Whether the functions of a term occur in a larger one is not asked of the term: both are evaluated by the reference at random atoms,
and columns that agree to rounding are the same function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from composer.algebra import Expression, Term
from composer.codegen.reference import site_values
from composer.errors import ComposerError
from composer.neighbors import build_batch
from composer.search.leaf import Leaf
from composer.search.polynomial import leaves

Array = NDArray[np.float64]
ATOMS, SPACING = 10, 0.42  # of the random cluster; the spacing in units of the cutoff
EQUAL = 1e-9  # largest difference of equal columns, relative to their size


class Leaves:
    """The leaves of a vocabulary and of whatever is made of it, by digest. Arguments: species; covers, terms that hold others."""

    def __init__(self, species: Sequence[str], covers: Iterable[Term] = ()) -> None:
        self.species = tuple(species)
        self.covers = {_kind(c): Leaf(c, self.species) for c in covers}
        self._known: dict[str, Leaf] = {}

    def __getitem__(self, expression: Expression) -> Leaf:
        if expression.digest not in self._known:
            self._known[expression.digest] = self._made(expression)
        return self._known[expression.digest]

    def of(self, expression: Expression) -> dict[str, Leaf]:
        """The leaves of an expression by digest."""
        return {digest: self[leaf] for digest, leaf in leaves(expression).items()}

    def _made(self, expression: Expression) -> Leaf:
        alone = Leaf(expression, self.species)
        if not (isinstance(expression, Term) and alone.linear and alone.size):
            return alone
        cover = self.covers.get(_kind(expression))
        places = None if cover is None else _places(Leaf(expression.nameless(), self.species), cover)
        return alone if places is None else Leaf(expression, self.species, cover, places)


def covers(vocabulary: Iterable[Expression], species: Sequence[str]) -> list[Term]:
    """For each kind of term that differs in whole numbers alone, one that is as large as the largest in each of them."""
    kinds: dict[Any, list[Term]] = {}
    for item in vocabulary:
        for leaf in leaves(item).values():
            if isinstance(leaf, Term):
                kinds.setdefault(_kind(leaf), []).append(leaf.nameless())
    found = []
    for members in kinds.values():
        sizes = {name: max(getattr(m, name) for m in members) for name in _counts(members[0])}
        largest = dataclasses.replace(members[0], **sizes)
        if sizes and len({m.digest for m in members}) > 1:
            found += [largest] if _holds(largest, members, tuple(species)) else []
    return sorted(found, key=lambda term: term.canonical)


def _holds(largest: Term, members: list[Term], species: tuple[str, ...]) -> bool:
    cover = Leaf(largest, species)
    try:
        return cover.linear and not cover.staged and all(_places(Leaf(m, species), cover) is not None for m in members)
    except ComposerError:
        return False


def _counts(term: Term) -> list[str]:
    return [f.name for f in dataclasses.fields(term) if type(getattr(term, f.name)) is int]


def _kind(term: Expression) -> Any:
    """What a term and its cover share."""
    if not isinstance(term, Term):
        return None
    rest = {f.name: getattr(term, f.name) for f in dataclasses.fields(term) if f.name not in (*_counts(term), "name")}
    return type(term).__name__, repr(sorted(rest.items()))


def _places(leaf: Leaf, cover: Leaf) -> NDArray[np.intp] | None:
    """Where the columns of a leaf stand among those of a cover, or None if some do not."""
    own, large = (_columns(l.expression, l.species, cover.model.cutoff) for l in (leaf, cover))
    size = np.linalg.norm(own, axis=0)
    apart = cdist(own.T, large.T)  # [p, P]
    places = apart.argmin(axis=1)
    same = (apart[np.arange(len(places)), places] <= EQUAL * size) & (size > 0)
    return places if same.all() and len(set(places.tolist())) == len(places) else None


@lru_cache(maxsize=1000)
def _columns(expression: Expression, species: tuple[str, ...], scale: float) -> Array:
    """Derivatives of the site values of a random cluster by the free numbers [atoms, p], by the reference."""
    leaf = Leaf(expression, species)
    model, random = leaf.model, np.random.default_rng(0)
    atoms = ATOMS + 4 * len(leaf.species) * (len(leaf.species) - 1)
    side = int(np.ceil(np.cbrt(atoms)))
    grid = np.array(list(np.ndindex(side, side, side)), dtype=float)[:atoms]
    positions = SPACING * scale * (grid + random.uniform(-0.2, 0.2, grid.shape))
    kinds = random.permutation(np.arange(atoms, dtype=np.int32) % len(leaf.species)).astype(np.int32)
    batch = build_batch([(kinds, positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))], model.cutoff)
    tables = {e.key: t.requires_grad_() for e, t in zip(model.entries, model.parameters.values(), strict=True)} | {
        e.key: e.start for e in model.known
    }
    values = site_values(model.node, batch, len(leaf.species), tables)
    wanted = [tables[e.key] for e in leaf.entries]
    rows = [torch.autograd.grad(v, wanted, retain_graph=True, allow_unused=True) for v in values]
    return np.array([np.concatenate([_flat(g, t) for g, t in zip(row, wanted, strict=True)]) for row in rows])


def _flat(gradient: torch.Tensor | None, table: torch.Tensor) -> Array:
    return np.zeros(table.numel()) if gradient is None else gradient.numpy().ravel()
