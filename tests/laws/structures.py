"""Structures of every kind, in which no two atoms come close."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import ase.build
import numpy as np
from ase import Atoms

CLOSEST = 1.75  # Å


def placed(count: int, cell: np.ndarray, pbc: Sequence[bool], seed: int, closest: float = CLOSEST) -> np.ndarray:
    """Random positions [count, 3] (Å) in a cell, no two closer than `closest` in any image."""
    random = np.random.default_rng(seed)
    shifts = np.array(list(itertools.product(*((-1, 0, 1) if p else (0,) for p in pbc)))) @ cell
    found: list[np.ndarray] = []
    while len(found) < count:
        x = random.uniform(0, 1, 3) @ cell
        if all(np.linalg.norm(x - y + shifts, axis=1).min() > closest for y in found):
            found.append(x)
    return np.array(found)


def one_atom() -> Atoms:
    """A strained cell of one atom, far smaller than the cutoffs."""
    atoms = ase.build.bulk("Si", "fcc", a=3.6)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * np.random.default_rng(5).normal(size=(3, 3))), scale_atoms=True)
    return atoms


def triclinic() -> Atoms:
    """Three species in a triclinic cell with a left-handed set of vectors."""
    cell = np.array([[4.6, 0.3, -0.2], [-1.1, 0.2, 4.4], [0.6, 4.9, 0.5]])
    return Atoms("SiCOSiC", placed(5, cell, [True] * 3, 1), cell=cell, pbc=True)


def slab() -> Atoms:
    """Periodic in two directions; the third vector means nothing."""
    cell = np.array([[4.4, 0.0, 0.4], [1.2, 4.6, 0.0], [0.0, 0.0, 3.9]])
    return Atoms("SiOSiC", placed(4, cell, [True, True, False], 2), cell=cell, pbc=[True, True, False])


def molecule(symbols: str = "SiCO2Si", seed: int = 3, size: float = 3.6) -> Atoms:
    """Open in all directions, without a cell."""
    count = len(Atoms(symbols))
    return Atoms(symbols, placed(count, size * np.eye(3), [False] * 3, seed) - 40.0)


def mixed() -> list[Atoms]:
    """A one-atom cell, a triclinic cell of three species, a slab, a molecule, isolated atoms of three species."""
    return [one_atom(), triclinic(), slab(), molecule(), Atoms("Si"), Atoms("O", [[1e3, 0, -7]]), Atoms("C")]


def of(species: Sequence[str], structures: Sequence[Atoms]) -> list[Atoms]:
    """The same structures in the species of a model: symbols it lacks become others, in turn."""
    found = []
    for atoms in structures:
        atoms = atoms.copy()
        lacking = [s for s in ("Si", "C", "O") if s not in species]
        replace = {s: species[n % len(species)] for n, s in enumerate(lacking)}
        atoms.set_chemical_symbols([replace.get(s, s) for s in atoms.get_chemical_symbols()])
        found.append(atoms)
    return found
