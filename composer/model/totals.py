"""Sums over a structure that should vanish, such as the raw total of learned charges, which neutral charges share out over all atoms."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from composer.algebra import Term
from composer.model.entries import E0, Entry
from composer.model.structures import by_structure, whole
from composer.neighbors import Batch

if TYPE_CHECKING:
    from composer.model.model import Model

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Total:
    """A site scalar of a model whose sum over a structure should vanish: its label, itself as a model, and where its numbers stand there."""

    label: str
    scalar: Model
    places: NDArray[np.intp]  # [P all of the scalar], in the flat array of the model; -1 for those it does not have

    def of(self, structures: Any) -> Array:
        """Totals of structures [S]."""
        batch = self._whole(structures)
        site = self.scalar.kernel("energies")(batch, self.scalar.flat).site["e"][: batch.atoms]
        return by_structure(batch, site).numpy()

    def rows(self, structures: Any, numbers: int) -> Array:
        """Their derivatives by the `numbers` of the flat array of the model [S, numbers]."""
        batch = self._whole(structures)
        found, seed = torch.zeros(batch.structures, len(self.places), dtype=torch.float64), torch.ones(batch.atoms, dtype=torch.float64)
        self.scalar.kernel("parameters")(batch, self.scalar.flat, inputs={"seed": seed}, into=(None, found), by_structure=True)
        out = np.zeros((batch.structures, numbers))
        out[:, self.places[self.places >= 0]] = found.numpy()[:, self.places >= 0]
        return out

    def _whole(self, structures: Any) -> Batch:
        return whole(self.scalar.prepare(structures))


def totals(model: Model) -> list[Total]:
    """The sums that terms of a model want to vanish, at its present numbers."""
    model, labels = model.host, model.expression.labels()
    return [_total(model, term, raw, labels[term.digest]) for term in model.expression.terms() if (raw := term.vanishing()) is not None]


def raw_totals(model: Model, structures: Any) -> dict[str, Array]:
    """The same sums, by label of the term, of each structure [S]."""
    return {total.label: total.of(structures) for total in totals(model)}


def _total(model: Model, term: Term, raw: Term, label: str) -> Total:
    scalar = type(model)(raw, model.species)
    known, places, flat = {_own(e, term): e for e in model.entries}, np.full(len(scalar.flat), -1), scalar.flat.clone()
    for entry in scalar.entries:
        here = scalar.layout.slots[entry.key]
        if entry.key == E0 or (same := known.get(_own(entry, raw))) is None:
            continue
        there = model.layout.slots[same.key]
        places[here.offset : here.offset + here.size] = np.arange(there.offset, there.offset + there.size)
        flat[here.offset : here.offset + here.size] = model.flat[there.offset : there.offset + there.size]
    scalar.flat = flat
    return Total(label, scalar, places)


def _own(entry: Entry, term: Term) -> tuple[bool, str]:
    """What a table of a term is called in the same term with other fields; tables of the terms that it is made of keep their key."""
    own = entry.term == term.digest
    return own, entry.key.rpartition(".")[2] if own else entry.key
