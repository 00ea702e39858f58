"""Random structures on which an export is compared with its model before it is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

STRETCH = 1.12  # nearest distance in units of the mean sum of covalent radii


def random_structures(species: Sequence[str], seed: int = 0, periodic: bool = False) -> list[Atoms]:
    """A strained and shaken crystal, a cell smaller than most cutoffs, and (unless `periodic`) a free cluster; all species occur.

    Arguments: chemical symbols; seed. Returns: three structures (two, if all are to be periodic) with distances near chemical bonds, Å.
    """
    random = np.random.default_rng(seed)
    length = STRETCH * 2 * float(np.mean([covalent_radii[atomic_numbers[s]] for s in species]))
    crystal = _crystal(species, length, (3, 2, 2), random)
    small = _crystal(species, 1.05 * length, (1, 1, 1), random)
    cluster = _crystal(species, 1.1 * length, (2, 2, 1), random)
    cluster.pbc, cluster.cell = False, None
    return [crystal, small] if periodic else [crystal, small, cluster]


def _crystal(species: Sequence[str], length: float, repeats: tuple[int, int, int], random: np.random.Generator) -> Atoms:
    """A face-centred crystal with nearest distance `length` (Å), sheared, with atoms moved by up to 5 % of that distance."""
    base = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / np.sqrt(2)
    edge = np.sqrt(2) * length
    corners = np.array([[x, y, z] for x in range(repeats[0]) for y in range(repeats[1]) for z in range(repeats[2])]) * edge
    positions = (corners[:, None] + base * length).reshape(-1, 3)
    symbols = [species[n % len(species)] for n in range(len(positions))]
    random.shuffle(symbols)
    shear = np.eye(3) + np.tril(random.uniform(-0.06, 0.06, (3, 3)))
    positions = (positions + random.uniform(-0.05, 0.05, positions.shape) * length) @ shear
    return Atoms(symbols, positions=positions, cell=np.diag(repeats) * edge @ shear, pbc=True)
