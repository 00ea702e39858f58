"""Reference data of other codes, and what calorine's C++ module says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.build
import numpy as np
import pytest
from ase import Atoms

import composer
from composer.fit.scaling import scaled
from composer.fit.training import Epoch
from composer.model import Model
from terms import NEP, StillingerWeber


class Stop(Exception):
    """A training run is stopped from outside."""


def stop_at(number: int) -> Callable[[Epoch], None]:
    """A report that stops a run after an epoch."""

    def report(epoch: Epoch) -> None:
        if epoch.number == number:
            raise Stop

    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The NEP reference data: `COMPOSER_SHARED`, or `shared` beside the repository."""
    folder = Path(os.environ.get("COMPOSER_SHARED", Path(__file__).parents[3] / "shared")) / "data" / "nep"
    if not folder.is_dir():
        pytest.skip(f"needs the GPL-3 NEP reference data in {folder}; set COMPOSER_SHARED")
    return folder


@pytest.fixture(scope="session")
def frames() -> list:
    """Rattled silicon with energies, forces and stresses of Stillinger and Weber."""
    truth = composer.compile(StillingerWeber(), ["Si"], {"E0": [-1.5]}, quiet=True)
    made = []
    for seed in range(10):
        atoms = ase.build.bulk("Si", "diamond", a=5.43 * (1 + 0.01 * (seed % 3)), cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = truth.calculator()
        frame = atoms.copy()
        frame.info["energy"], frame.arrays["forces"] = atoms.get_potential_energy(), atoms.get_forces()
        frame.info["stress"] = atoms.get_stress(voigt=False)
        made.append(frame)
    return list(composer.read_data(made, quiet=True))


@pytest.fixture(scope="session")
def model(frames: list) -> Model:
    start = composer.compile(NEP(cutoff=(5, 4), n_max=(2, 2), basis=(4, 4), l_max=(2, 0, 0), neurons=6), ["Si"], quiet=True)
    return scaled(start, frames)


def calorine(path: Path, atoms: Atoms) -> Any:
    """The C++ object of calorine for a file and a structure; it takes NEP3 and NEP5, which calorine's Python front refuses."""
    module = pytest.importorskip("_nepy", reason="needs calorine")
    cell, x = atoms.cell.array.T.flatten(), atoms.positions.T.flatten()
    return module.NEPY(str(path), len(atoms), list(cell), atoms.get_chemical_symbols(), list(x), list(atoms.get_masses()))


def by_calorine(path: Path, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Site energies [N] eV, forces [N, 3] eV/Å, virial [3, 3] eV."""
    energies, forces, virials = (np.array(x) for x in calorine(path, atoms).get_potential_forces_and_virials())
    return energies, forces.reshape(3, -1).T, virials.reshape(9, -1).sum(1).reshape(3, 3)
