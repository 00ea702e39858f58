"""Reference data of other codes, and what calorine's C++ module says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

import terms  # noqa: F401  (the reader builds terms by name)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The NEP reference data: `COMPOSER_SHARED`, or `shared` beside the repository."""
    folder = Path(os.environ.get("COMPOSER_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "nep"
    if not folder.is_dir():
        pytest.skip(f"needs the GPL-3 NEP reference data in {folder}; set COMPOSER_SHARED")
    return folder


def calorine(path: Path, atoms: Atoms) -> Any:
    """The C++ object of calorine for a file and a structure; it takes NEP3 and NEP5, which calorine's Python front refuses."""
    module = pytest.importorskip("_nepy", reason="needs calorine")
    cell, x = atoms.cell.array.T.flatten(), atoms.positions.T.flatten()
    return module.NEPY(str(path), len(atoms), list(cell), atoms.get_chemical_symbols(), list(x), list(atoms.get_masses()))


def by_calorine(path: Path, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Site energies [N] eV, forces [N, 3] eV/Å, virial [3, 3] eV."""
    energies, forces, virials = (np.array(x) for x in calorine(path, atoms).get_potential_forces_and_virials())
    return energies, forces.reshape(3, -1).T, virials.reshape(9, -1).sum(1).reshape(3, 3)
