"""Structures on which NEP files are compared: those of `theory/nep.md`, section 5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk


def silicon() -> Atoms:
    """64 atoms, rattled."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=2)
    return atoms


def alloy(tungsten: bool = False) -> Atoms:
    """32 atoms of Al and Cu (and W), rattled, with one close pair; smaller than twice any cutoff."""
    atoms = bulk("Cu", "fcc", a=3.9, cubic=True) * (2, 2, 2)
    atoms.symbols[::3] = "Al"  # type: ignore[index]
    atoms.rattle(0.1, seed=3)
    atoms.positions[5] = atoms.positions[6] + [1.3, 0.2, 0.1]
    if tungsten:
        atoms.symbols[1::5] = "W"  # type: ignore[index]
    return atoms


def xyz_in(path: Path) -> Atoms:
    """The structure files of NEP_CPU: number of atoms, nine cell components, element x y z."""
    lines = path.read_text().split("\n")
    count, cell = int(lines[0]), np.array(lines[1].split(), float).reshape(3, 3)
    rows = [line.split() for line in lines[2 : 2 + count]]
    return Atoms([r[0] for r in rows], positions=[[float(x) for x in r[1:4]] for r in rows], cell=cell, pbc=True)
