"""Extrapolation grades: how far an atom's surroundings lie outside of what a model was fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.evaluate import chunks
from composer.model import E0, Model

Array = NDArray[np.float64]
KEPT = 1e-6  # singular values of the training atoms' rows below it, relative to the largest, are rounding


@dataclass(frozen=True, eq=False)
class Grades:
    """g_i = |R^(-T) b_i| over its largest value among the training atoms, b_i = de_i/dtheta, R^T R = sum b b^T over the training atoms.

    Below 1 the atom lies within the ellipsoid of the training atoms, above 1 the model extrapolates; a scale of its own needs no labels. Directions
    that no training atom has count as far as the least known one. Arguments: model, whose free numbers are looked at; root [P, r]; largest.
    """

    model: Model
    root: Array
    largest: float

    def __call__(self, structures: Any) -> Array:
        """Grades of all atoms [N] of structures, or of a prepared batch."""
        return np.linalg.norm(sites(self.model, structures) @ self.root, axis=1) / self.largest


def grades(model: Model, structures: Sequence[Any]) -> Grades:
    """Grades from the structures that a model was fitted to."""
    rows = [np.linalg.qr(part, mode="r") for part in _parts(model, structures)]
    _, values, right = np.linalg.svd(np.concatenate(rows), full_matrices=True)
    known = np.zeros(len(right))
    known[: len(values)] = values
    root = right.T / np.maximum(known, KEPT * known.max())
    largest = max(float(np.linalg.norm(part @ root, axis=1).max()) for part in _parts(model, structures))
    return Grades(model, root, largest)


def sites(model: Model, structures: Any) -> Array:
    """de_i/dtheta of every atom [N, P], without E0."""
    return model.site_jacobian(structures).numpy()[:, model.each(lambda entry: entry.key != E0)]


def _parts(model: Model, structures: Sequence[Any]) -> Iterator[Array]:
    for places in chunks(structures, max(2**24 // max(model.size, 1), 1)):
        yield sites(model, [structures[p] for p in places])
