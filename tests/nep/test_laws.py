"""T11 of `theory/nep.md`: the laws on a file of random numbers (those of the term by itself, with others and under all engines are in tests/laws)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.stats import ortho_group

import composer
from composer.export.nepfile import text
from composer.model import Model
from tests.nep.random_files import random_file
from tests.nep.structures import alloy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("laws") / "nep.txt"
    path.write_text(text(random_file(l_max=(4, 2, 1))))
    return composer.read_model(path)


def small() -> Atoms:
    """Two unlike atoms in a skew cell that is shorter than the cutoffs in all directions."""
    return Atoms("AlCu", [[0.1, 0, 0.2], [1.4, 1.7, 1.6]], cell=[[2.7, 0.1, 0], [0.3, 2.9, 0.2], [0, 0.4, 3.1]], pbc=True)


def agree(
    model: Model, atoms: Atoms, wanted: Atoms, copies: int = 1, turn: np.ndarray | None = None, order: np.ndarray | None = None
) -> None:
    """E(atoms) = copies * E(wanted), and forces alike."""
    ours, theirs = model(atoms), model(wanted)
    forces = np.tile(theirs.forces.numpy(), (copies, 1)) @ (np.eye(3) if turn is None else turn)
    np.testing.assert_allclose(float(ours.energy), copies * float(theirs.energy), rtol=1e-11)
    np.testing.assert_allclose(ours.forces.numpy(), forces if order is None else forces[order], rtol=0, atol=1e-10 * np.abs(forces).max())


def test_t11_translation(model: Model) -> None:
    moved = alloy()
    moved.positions += [0.7, -3.1, 12.2]
    agree(model, moved, alloy())


@pytest.mark.parametrize("reflected", [False, True])
def test_t11_rotation_and_reflection(model: Model, reflected: bool) -> None:
    turn = ortho_group.rvs(3, random_state=4)
    turn = turn if (np.linalg.det(turn) < 0) == reflected else -turn
    turned = alloy()
    turned.set_cell(turned.cell.array @ turn)
    turned.positions = turned.positions @ turn
    agree(model, turned, alloy(), turn=turn)


def test_t11_permutation(model: Model) -> None:
    order = np.random.default_rng(5).permutation(32)
    agree(model, alloy()[order], alloy(), order=order)


@pytest.mark.parametrize("structure", [alloy, small], ids=["cell", "own images"])
def test_t11_supercell(model: Model, structure) -> None:
    agree(model, structure() * (2, 1, 3), structure(), copies=6)


def test_t11_a_batch_is_its_structures_one_by_one(model: Model) -> None:
    parts = [alloy(), small(), alloy() * (1, 1, 2)]
    together, alone = model(parts), [model(p) for p in parts]
    np.testing.assert_allclose(together.energy.numpy(), [float(a.energy) for a in alone], rtol=1e-12)
    np.testing.assert_allclose(together.forces.numpy(), np.concatenate([a.forces.numpy() for a in alone]), rtol=0, atol=1e-10)
