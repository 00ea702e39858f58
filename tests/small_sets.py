"""Small sets for fits and Fisher reports: shaken silicon crystals labelled by a model, and a part of the shipped set."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from composer.data import Data, Frame, read_data
from composer.model import Model

Label = Callable[..., Data]


def crystals(count: int, seed: int, species: Sequence[str] = ("Si",)) -> list[Atoms]:
    """Strained and shaken diamond cells of 8 atoms, of several species if asked."""
    random, found = np.random.default_rng(seed), []
    for n in range(count):
        atoms = bulk("Si", "diamond", a=5.43 * random.uniform(0.95, 1.06), cubic=True)
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.03 * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += random.normal(scale=0.15, size=atoms.positions.shape)
        atoms.symbols[:] = random.choice(species, size=8)
        atoms.info["config_type"] = ("hot", "cold")[n % 2]
        found.append(atoms)
    return found


@pytest.fixture(scope="session")
def shaken() -> Callable[..., list[Atoms]]:
    """shaken(count, seed, species) -> crystals."""
    return crystals


@pytest.fixture(scope="session")
def label() -> Label:
    """label(model, structures, noise=0, seed=0, offset=0) -> Data with the model's energies, forces and stress, and noise on them."""

    def labelled(model: Model, structures: list[Atoms], noise: float = 0.0, seed: int = 0, offset: float = 0.0) -> Data:
        result, random, frames = model(structures), np.random.default_rng(seed), []
        bounds = result.batch.offsets.tolist()
        for s, atoms in enumerate(structures):
            n = len(atoms)
            energy = float(result.energy[s]) + noise * n * 0.01 * random.normal()
            forces = result.forces[bounds[s] : bounds[s + 1]].numpy() + noise * random.normal(size=(n, 3))
            stress = result.stress[s].numpy() + offset * n / atoms.get_volume() * np.eye(3)
            symbols, kind = tuple(atoms.get_chemical_symbols()), atoms.info["config_type"]
            frames.append(Frame(symbols, atoms.positions, atoms.cell[:], atoms.pbc, energy, forces, stress, kind, index=s))
        return Data(frames, model.species)

    return labelled


@pytest.fixture(scope="session")
def silicon() -> Data:
    """Forty frames of the shipped set."""
    return read_data("silicon.xyz.xz", quiet=True)[:40]
