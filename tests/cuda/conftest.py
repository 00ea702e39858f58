"""Small strained crystals of several species, and models away from where their parameters start."""

from __future__ import annotations

import ase.build
import numpy as np
import torch
from ase import Atoms

from composer.model import Model, compile
from tests.catalogue import CATALOGUE


def crystal(species: tuple[str, ...], seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    atoms.set_chemical_symbols([species[n % len(species)] for n in range(len(atoms))])
    return atoms


def model_of(name: str) -> Model:
    expression, species = CATALOGUE[name]
    model = compile(expression, species, quiet=True)
    return model.with_parameters(1.02 * model.theta + 0.01)


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-12) -> None:
    """Equal to within a part of the largest number, which is not zero."""
    scale = float(expected.abs().max())
    assert scale > 0
    assert float((found - expected).abs().max()) <= tolerance * scale
