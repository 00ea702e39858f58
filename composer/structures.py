"""Structures as arrays, and whether neighbours can be found in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.errors import DataError

Array = NDArray[Any]
Structure = tuple[Any, Any, Any, Any]  # species [n], positions [n, 3], cell [3, 3], pbc [3]: arrays or tensors


def checked(structures: Sequence[Structure], cutoff: float, skin: float) -> tuple[list[Array], list[Array], Array, Array]:
    """Species and positions of each structure, cells [S, 3, 3] and pbc [S, 3], of which neighbours can be found; see `neighbors.build_batch`."""
    if not (0 < cutoff < math.inf and 0 <= skin < math.inf):
        raise DataError(f"Neighbours were asked for within {cutoff} + {skin} Å", "They must be > 0 and >= 0", "Pass cutoff=5.0, skin=0.0")
    species, positions, cells, pbc = _gather(structures)
    _check(positions, cells, pbc)
    return species, positions, cells, pbc


def _gather(structures: Sequence[Structure]) -> tuple[list[Array], list[Array], Array, Array]:
    gathered = []
    for number, (species, positions, cell, pbc) in enumerate(structures):
        kinds, x = np.asarray(species, np.int32), np.ascontiguousarray(positions, np.float64)
        box, periodic = np.asarray(cell, np.float64), np.asarray(pbc, np.bool_)
        shapes = [array.shape for array in (kinds, x, box, periodic)]
        if shapes != [(kinds.size,), (kinds.size, 3), (3, 3), (3,)]:
            raise DataError(
                f"Structure {number} was to enter a batch",
                "Its species, positions, cell and pbc have the shapes " + ", ".join(str(list(shape)) for shape in shapes),
                "Pass [n], [n, 3], [3, 3] and [3]",
            )
        gathered.append((kinds, x, box, periodic))
    kinds, x, cells, pbc = zip(*gathered) if gathered else ((), (), (), ())
    return list(kinds), list(x), np.array(cells, np.float64).reshape(-1, 3, 3), np.array(pbc, np.bool_).reshape(-1, 3)


def _check(positions: list[Array], cells: Array, pbc: Array) -> None:
    for number, x in enumerate(positions):
        if not np.isfinite(x).all():
            atom = int(np.argmin(np.isfinite(x).all(axis=1)))
            raise DataError(
                f"Neighbours of structure {number} were asked for",
                f"Atom {atom} stands at {x[atom].tolist()}",
                "Remove the structure or give it finite positions",
            )
    finite = np.asarray(np.isfinite(cells).all(axis=(1, 2)))  # [S]
    read = np.where(pbc[:, :, None] & finite.reshape(-1, 1, 1), cells, 0.0)  # only vectors of periodic directions
    sizes = np.linalg.svd(read, compute_uv=False)  # [S, 3], falling
    periodic = pbc.sum(axis=1)
    smallest = sizes[np.arange(len(cells)), np.maximum(periodic, 1) - 1]
    bad = ~finite | (periodic > 0) & (smallest <= 1e-8 * sizes[:, 0])
    if bad.any():
        number = int(np.argmax(bad))
        raise DataError(
            f"Neighbours of structure {number} were asked for",
            f"Its periodic directions {pbc[number].tolist()} do not span a volume in the cell {cells[number].tolist()}",
            "Give it a cell, or pbc=False",
        )
