"""Pairs of atoms closer than a distance, found by vesin, in any mixture of periodic and open directions.

vesin 0.6 looks through all its bins along an open direction (40 s for a slab that spreads over 3 micrometres) and divides by zero when it
has to coarsen a very long row of bins. So it is given a cell that is periodic everywhere, wide enough in open directions that no image
comes near, and structures that it could not bin, or whose pairs no memory would hold, are refused.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import vesin
from numpy.typing import NDArray

from composer.errors import DataError
from composer.runtime import threads
from composer.runtime.memory import installed

Array = NDArray[Any]

_MANY_ATOMS = 4096  # below it, starting threads costs more than it saves
_MANY_BINS = 1e5  # above it, vesin makes fewer and larger bins
_MOST_PAIRS = 2e9  # however large the memory
_BYTES = 44  # of a pair while it is found and packed
_ROOM = 0.9  # share of the machine


class PairFinder:
    """Finds pairs closer than `reach` (Å), one structure after the other."""

    def __init__(self, reach: float) -> None:
        self.reach = reach
        self.vesin = vesin.NeighborList(cutoff=reach, full_list=False)

    def __call__(self, positions: Array, cell: Array, pbc: Array) -> tuple[Array, Array]:
        """All pairs of one structure, each once.

        Arguments: positions [n, 3] and cell [3, 3], Å; pbc [3].
        Returns: pairs (i, j) uint64 [P, 2] and shifts S int32 [P, 3] with x_j + S @ cell - x_i the vector of the pair; views that are
        valid until the next call.
        Errors: DataError for a structure that is more than some ten thousand times longer than wide, and for more pairs than memory holds.
        """
        if not len(positions):
            return np.empty((0, 2), np.uint64), np.empty((0, 3), np.int32)
        box = cell if pbc.all() else _closed(positions, cell, pbc, self.reach)
        if np.abs(box).sum() > 46 * self.reach:  # else there are fewer than 46^3 bins
            _check(positions, box, self.reach)
        self.enough(len(positions), box, bool(pbc.any()))
        self.vesin.n_threads = 1 if len(positions) < _MANY_ATOMS else threads.count()
        try:
            pairs, shifts = self.vesin.compute(positions, box, True, "PS", copy=False)
        except RuntimeError as error:
            del self.vesin._neighbors  # half made: vesin would crash when it frees it
            raise self.refusal(len(positions), str(error)) from None
        return pairs, shifts

    def enough(self, atoms: int, box: Array, periodic: bool) -> None:
        """Refuse more pairs than memory holds, by the density of the atoms in the box that is searched."""
        share = 4 / 3 * math.pi * self.reach**3 / abs(float(np.linalg.det(box)))  # of the atoms that are neighbours of one, images included
        count = 0.5 * atoms**2 * (share if periodic else min(share, 1.0))
        most = min(_MOST_PAIRS, _ROOM * installed() / _BYTES)
        if count > most:
            raise self.refusal(atoms, f"They are about {count:.1e} pairs, and {most:.1e} is the most that this machine's memory holds")

    def refusal(self, atoms: int, found: str) -> DataError:
        return DataError(
            f"Neighbours within {self.reach:g} Å of {atoms} atoms were asked for", found, "Write a shorter cutoff, for example cutoff=6.0"
        )


def _check(positions: Array, box: Array, reach: float) -> None:
    bins = np.maximum(1.0, np.floor(1 / (np.linalg.norm(np.linalg.inv(box), axis=0) * reach)))  # [3], of width reach or more
    if bins.prod() > _MANY_BINS and bins.min() ** 3 * _MANY_BINS < 8 * bins.prod():
        spread = " x ".join(f"{length:.6g}" for length in np.ptp(positions, axis=0))
        raise DataError(
            f"Neighbours within {reach} Å were asked for",
            f"A structure of {len(positions)} atoms spreads over {spread} Å, too long and thin to be searched",
            "Look for an atom that lies far away, or repeat the cell in its short directions",
        )


def _closed(positions: Array, cell: Array, pbc: Array, reach: float) -> Array:
    """The cell with vectors in open directions normal to the periodic ones and so long that no image is within reach."""
    normals = np.linalg.svd(cell * pbc[:, None])[2][pbc.sum() :] if pbc.any() else np.eye(3)
    lengths = np.ptp(positions @ normals.T, axis=0) + 1.01 * reach
    longest = max(lengths.max(), *np.linalg.norm(cell[pbc], axis=1)) if pbc.any() else lengths.max()
    box = cell.copy()
    box[~pbc] = np.maximum(lengths, longest / 50)[:, None] * normals  # not too thin to be binned
    return box
