"""How much memory a training will take, said before it is taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from composer.data import Frame
from composer.errors import DataError
from composer.model import Model
from composer.runtime.kernel import BLOCKS

ENTRY, SITE = 4, 100  # bytes of an entry of the neighbour list, and of a site or ghost
ROOM = 0.9  # share of the machine


def needed(model: Model, frames: Sequence[Frame], matrices: int = 0) -> int:
    """Bytes of the neighbour lists of frames, ghosts included, of a gradient for each block of atoms, and of so many matrices [P, P].

    Neighbours are counted by the density of each cell; a molecule has all pairs at most. An estimate from above.
    """
    total = 8 * (matrices * model.size**2 + BLOCKS * len(model.flat))
    for frame in frames:
        n, reach = len(frame.symbols), model.cutoff
        volume = abs(float(np.linalg.det(frame.cell)))
        if frame.pbc.all() and volume > 0:
            neighbours = 4 / 3 * np.pi * reach**3 * n / volume
            x = reach / volume ** (1 / 3)
            sites = n * (1 + 6 * x + 3 * np.pi * x**2 + 4 / 3 * np.pi * x**3)  # of a cube and what is within reach of it
        else:
            neighbours, sites = min(n, 4 / 3 * np.pi * reach**3), 3.0 * n  # one atom for each cubic ångström is more than there are
        total += int(n * neighbours * ENTRY + sites * SITE)
    return total


def enough(model: Model, frames: Sequence[Frame], matrices: int = 0) -> None:
    """Errors: DataError where the machine has less memory than a training needs."""
    need, there = needed(model, frames, matrices), model.memory
    if need > ROOM * there:
        raise DataError(
            f"A training on {len(frames)} frames with {model.size} numbers was asked for",
            f"Neighbour lists, gradients and matrices need about {need / 1e9:.1f} GB, and the machine has {there / 1e9:.1f} GB",
            "Take fewer frames, a shorter cutoff, or method='adam', which keeps no matrices",
        )
