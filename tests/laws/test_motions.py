"""Energies do not know where a structure stands, how it is turned or mirrored, and how its atoms are numbered (acceptance 12)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from tests.laws.subjects import Subject, assert_close

QUARTER = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
ROTATION = QUARTER * np.sign(np.linalg.det(QUARTER))


def compare(subject: Subject, moved: list[Atoms], turn: np.ndarray, order: np.ndarray | None = None) -> None:
    """Energies are kept; forces and virial turn along; `order` says where each atom went."""
    ours = subject.model(subject.model.prepare(moved))
    wanted = subject.model(subject.batch)
    q = torch.from_numpy(np.ascontiguousarray(turn))
    kept = np.arange(subject.batch.atoms) if order is None else order
    assert_close(ours.energies, wanted.energies[kept], "symmetry")
    assert_close(ours.forces, wanted.forces[kept] @ q, "symmetry")
    assert_close(ours.virial, q.T @ wanted.virial @ q, "symmetry")
    net = [ours.forces[a:b].sum(0) for a, b in zip(ours.batch.offsets[:-1], ours.batch.offsets[1:])]
    assert torch.stack(net).abs().max() < 1e-11 * wanted.forces.abs().max()


def turned(structures: list[Atoms], turn: np.ndarray, shift: np.ndarray) -> list[Atoms]:
    found = []
    for atoms in structures:
        atoms = atoms.copy()
        atoms.set_cell(atoms.cell.array @ turn)
        atoms.positions = atoms.positions @ turn + shift
        found.append(atoms)
    return found


@pytest.mark.parametrize(
    "turn, shift", [(np.eye(3), 7.3), (ROTATION, 0.0), (-ROTATION, -1.1)], ids=["translation", "rotation", "reflection"]
)
def test_motions(subject: Subject, turn: np.ndarray, shift: float) -> None:
    compare(subject, turned(subject.structures, turn, shift * np.array([1.0, -0.3, 0.6])), turn)


def test_permutation_and_choice_of_images(subject: Subject) -> None:
    """Atoms in another order, each standing in any periodic image."""
    random, moved, order, start = np.random.default_rng(6), [], [], 0
    for atoms in subject.structures:
        places = random.permutation(len(atoms))
        atoms = atoms[places]
        atoms.positions += (random.integers(-2, 3, (len(atoms), 3)) * atoms.pbc) @ atoms.cell.array
        moved.append(atoms)
        order.append(start + places)
        start += len(atoms)
    compare(subject, moved, np.eye(3), np.concatenate(order))


def test_another_cell_of_the_same_crystal(subject: Subject) -> None:
    """Cell vectors replaced by integer combinations of them."""
    moved = [atoms.copy() for atoms in subject.structures]
    for atoms in moved:
        if atoms.pbc.all():
            atoms.set_cell(np.array([[1, 1, 0], [0, 1, 0], [1, 0, -1]]) @ atoms.cell.array)
    compare(subject, moved, np.eye(3))
