"""Numbers that go from an expression to its neighbours, by leaf."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from composer.algebra import Expression
from composer.model import Model
from composer.search.leaf import Leaf
from composer.search.study import Study

Array = NDArray[np.float64]


def numbers(study: Study, expression: Expression, theta: Array) -> dict[str, Array]:
    """Free numbers of every leaf by digest, from those of the model [P]."""
    model = Model(expression, study.species)
    flat = model.flat.numpy().copy()
    flat[model.free.numpy()] = theta[: model.size]
    found = {}
    for digest, leaf in study.leaves.of(expression).items():
        slots = [model.layout.slots[e.key] for e in leaf.entries]
        found[digest] = np.concatenate([np.zeros(0), *(flat[s.offset : s.offset + s.size] for s in slots)])
    return found


def inherited(study: Study, expression: Expression, known: Mapping[str, Array], species: Array) -> Array:
    """Free numbers of an expression's model [P]: those that are known by leaf, E0 [species], and zero for linear leaves that are new."""
    model = Model(expression, study.species)
    flat = model.flat.numpy().copy()
    for digest, leaf in study.leaves.of(expression).items():
        if digest in known or leaf.linear:
            put(model, flat, leaf, np.asarray(known.get(digest, np.zeros(leaf.size))))
    flat[: len(study.species)] = species
    return flat[model.free.numpy()]


def put(model: Model, flat: Array, leaf: Leaf, values: Array) -> None:
    """Write the free numbers of a leaf where they stand in the flat numbers of a model."""
    begin = 0
    for entry in leaf.entries:
        slot = model.layout.slots[entry.key]
        flat[slot.offset : slot.offset + slot.size] = values[begin : begin + slot.size]
        begin += slot.size
