"""Plans: which columns the first-order expansion of a neighbour needs, and the bank of those that depend on no number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.algebra import Expression
from composer.errors import AlgebraError
from composer.search.columns import E0, OFFSET, REFERENCE, Key, Order, union
from composer.search.leaf import Leaf, build
from composer.search.polynomial import polynomial, tangent
from composer.search.sheet import Sheet, sheet
from composer.search.study import Study

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan:
    """The columns of a neighbour: free leaves with the key and the places of their block, what is fixed, and numbers at the expansion.

    ties, leaves (by digest) whose numbers are those of others.
    """

    expression: Expression
    blocks: tuple[tuple[Leaf, Key, tuple[int, ...]], ...]
    fixed: Key
    zero: frozenset[str]
    ties: tuple[tuple[str, str], ...] = ()

    @property
    def keys(self) -> list[Key]:
        return [k for _, k, _ in self.blocks] + [self.fixed]


class Bank:
    """Blocks that depend on no number: computed once for all parents of a search."""

    def __init__(self, study: Study, vocabulary: Sequence[Expression], mapper: Any = map) -> None:
        self.study, self.mapper = study, mapper
        self._static: dict[Key, tuple[int, ...]] = {}
        self._leaves: dict[str, Expression] = {}
        self._blocks: set[str] = set()
        self._sheet: Sheet | None = None
        for word in vocabulary:
            self.add(plan(study, word, {}, study.leaves.of(word)))

    def add(self, made: Plan) -> None:
        """Have the columns of a plan as far as they depend on no number."""
        self._leaves |= known(self.study, made)
        self._blocks |= {leaf.source.digest for leaf, _, _ in made.blocks}
        wanted = union([(k, p) for _, k, p in made.blocks if self.static(k)])
        for key, places in wanted.items():
            self._static[key] = tuple(sorted({*self._static.get(key, ()), *places}))
        if self.static(made.fixed):
            self._static.setdefault(made.fixed, (0,))

    def static(self, key: Key) -> bool:
        """Whether a key depends on no number: multipliers hold no free leaf, and the leaf itself is linear."""
        leaves = [self.study.leaves[self._leaves[d]] for d in (*key[1].leaves, *key[2:])]
        return not any(leaf.size for leaf in leaves[: len(key[1].leaves)]) and all(leaf.linear for leaf in leaves)

    def holds(self, made: Plan) -> bool:
        self._leaves |= known(self.study, made)
        if all(self.static(k) for k in made.keys):
            self.add(made)
            return True
        return False

    def build(self) -> dict[str, str]:
        """Compile what the blocks of all plans need; returns why some leaves could not be, by digest."""
        blocks = sorted(self._blocks)
        multipliers = sorted({d for k in self._static for d in k[1].leaves})
        batch = self.study.batches[0]
        leaves = {d: self.study.leaves[self._leaves[d]].source for d in (*blocks, *multipliers)}
        failed = build([leaves[d] for d in blocks], ("columns", "parameters"), batch)
        return failed | build([leaves[d] for d in multipliers], ("energies", "seeded"), batch)

    def sheet(self) -> Sheet:
        """The columns of the bank."""
        if (
            self._sheet is None
            or not set(self._static) <= set(self._sheet.place)
            or any(len(self._sheet.place[k]) < len(p) for k, p in self._static.items())
        ):
            self._sheet = sheet(self.study, order(self.study, self._static, self._leaves, {}), self.mapper)
        return self._sheet

    @property
    def wanted(self) -> dict[Key, tuple[int, ...]]:
        return self._static


def plan(study: Study, expression: Expression, present: Mapping[str, Array], leaves: Mapping[str, Leaf]) -> Plan:
    """How an expression is expanded at the present numbers of its leaves; leaves without are at amplitude zero."""
    fresh = frozenset(d for d, leaf in leaves.items() if leaf.size and d not in present)
    written = polynomial(expression)
    free = {d: bool(leaf.size) for d, leaf in leaves.items()}
    linear = {d: leaf.linear for d, leaf in leaves.items()}
    multipliers, rest = tangent(written, free, fresh, linear)
    blocks = []
    for digest, m in multipliers.items():
        leaf = leaves[digest]
        if leaf.staged and m.constant is None:
            raise AlgebraError(f"{leaf.expression} was to be multiplied", "It reads scalars of neighbours", "Add it instead")
        places = leaf.places if leaf.linear or digest not in fresh else leaf.places[leaf.amplitudes]
        blocks.append((leaf, ("block", m, leaf.source.digest), tuple(int(p) for p in places)))
    return Plan(expression, tuple(blocks), ("fixed", rest), fresh)


def known(study: Study, made: Plan) -> dict[str, Expression]:
    """Every leaf that the keys of a plan name."""
    inside = {leaf.digest: leaf.expression for leaf in study.leaves.of(made.expression).values()}
    return inside | {leaf.source.digest: leaf.source.expression for leaf, _, _ in made.blocks}


def columns_of(plans: Sequence[Plan]) -> dict[Key, tuple[int, ...]]:
    """Which columns of each block any of many plans wants."""
    blocks = union([(k, p) for made in plans for _, k, p in made.blocks])
    return blocks | {made.fixed: (0,) for made in plans}


def order(study: Study, wanted: Mapping[Key, tuple[int, ...]], leaves: Mapping[str, Expression], theta: Mapping[str, Array]) -> Order:
    """The order of a sheet with these columns beside the reference, the stress offset and E0."""
    keys = sorted(wanted, key=repr)
    blocks = {k: wanted[k] for k in keys if k[0] == "block"}
    return Order((REFERENCE, *([OFFSET] if study.offset else []), E0, *keys), dict(sorted(leaves.items())), theta, blocks)
