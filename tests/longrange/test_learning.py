"""Charges found from energies and forces alone; labels come from the dense sum, no line of which a model shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor

from composer.algebra import Expression
from composer.data import Frame
from composer.errors import DataError
from composer.fit.loss import Loss, Targets, loss, missed, slope
from composer.fit.recipe import Recipe
from composer.model import Model
from composer.model.structures import whole
from composer.ops import dense
from composer.search.leaf import Leaf
from composer.units import COULOMB
from terms import Charges, Coulomb, Pair
from tests.longrange.systems import F64, rock_salt

WATER = {"O": -0.8476, "H": 0.4238}


class Label(NamedTuple):
    atoms: Atoms
    energy: Tensor  # eV
    forces: Tensor  # eV/Å [N, 3]


def labelled(atoms: Atoms, charges: dict[str, float], pair: Callable[[Tensor, list[str]], Tensor]) -> Label:
    """Coulomb energy of charges without pairs of one molecule, and a pair energy: pair(r [N, N], symbols) for each of 27 images."""
    x, side = torch.tensor(atoms.positions, requires_grad=True), float(atoms.cell[0, 0])
    q = torch.tensor([charges[s] for s in atoms.symbols], dtype=F64)
    d = x[:, None] - x
    images = d - side * (d / side).round() + side * torch.cartesian_prod(*[torch.tensor([0.0, -1.0, 1.0], dtype=F64)] * 3)[:, None, None]
    r2 = (images**2).sum(-1)  # [27, N, N], the nearest first
    r = torch.where(r2 > 0, r2, 1.0).sqrt()
    molecule = torch.tensor(atoms.arrays.get("mol-id", np.arange(len(atoms))))
    bonded = (molecule[:, None] == molecule).double().fill_diagonal_(0)
    energy = COULOMB * (q @ dense.potential(x, q, torch.tensor(atoms.cell.array)) - q @ (bonded / r[0]) @ q) / 2
    energy = energy + sum(torch.triu(pair(image, list(atoms.symbols)), 1).sum() for image in r)
    return Label(atoms, energy.detach(), -torch.autograd.grad(energy, x)[0])


def born(r: Tensor, symbols: list[str]) -> Tensor:
    """1500 eV exp(-r/0.3 Å) between unlike ions."""
    unlike = torch.tensor([[a != b for b in symbols] for a in symbols])
    return torch.where(unlike, 1500 * torch.exp(-r / 0.3), 0.0)


def lennard_jones(r: Tensor, symbols: list[str]) -> Tensor:
    """That of SPC/E between oxygens."""
    oxygen = torch.tensor([s == "O" for s in symbols])
    six = (3.16555789 / r) ** 6
    return torch.where(oxygen[:, None] & oxygen, 4 * 0.0067386 * (six**2 - six), 0.0)


def water_boxes(count: int) -> list[Atoms]:
    """Eight rigid molecules of SPC/E each, turned at random, 1.4 Å apart at least."""
    random, half, boxes = np.random.default_rng(3), np.radians(109.47) / 2, []
    rigid = np.array([[0, 0, 0], [np.sin(half), 0, np.cos(half)], [-np.sin(half), 0, np.cos(half)]])
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3) / 2
    while len(boxes) < count:
        side = 6.4 * (0.95 + 0.1 * random.random())
        turned = [g * side + random.normal(size=3) * 0.1 + rigid @ np.linalg.qr(random.normal(size=(3, 3)))[0] for g in grid]
        atoms = Atoms("OHH" * 8, np.concatenate(turned), cell=[side] * 3, pbc=True)
        atoms.arrays["mol-id"] = 1 + np.arange(24) // 3
        distances = atoms.get_all_distances(mic=True)
        if distances[atoms.arrays["mol-id"][:, None] != atoms.arrays["mol-id"]].min() > 1.4:
            boxes.append(atoms)
    return boxes


def learned(expression: Expression, labels: list[Label], steps: int) -> Model:
    """Gauss-Newton on energies and forces."""
    start = Model(expression, list(dict.fromkeys(labels[0].atoms.symbols)))
    theta = start.theta.clone()
    for _ in range(steps):
        model, rows, residuals = start.with_parameters(theta), [], []
        for atoms, energy, forces in labels:
            found, columns = model(atoms), model.jacobian(atoms)
            rows += [columns.energy, columns.forces.reshape(-1, model.size)]
            residuals += [found.energy - energy, (found.forces - forces).reshape(-1)]
        theta = theta - torch.linalg.lstsq(torch.cat(rows), torch.cat(residuals)[:, None], driver="gelsd").solution[:, 0]
    return start.with_parameters(theta)


def test_charges_of_a_salt() -> None:
    """Within 1 %, beside a pair potential that is learned too."""
    frames = []
    for seed in range(6):
        atoms = rock_salt(1, shake=0.25, seed=seed)
        atoms.set_cell(atoms.cell * (0.94 + 0.03 * seed), scale_atoms=True)
        frames.append(labelled(atoms, {"Na": 0.8, "Cl": -0.8}, born))
    sums = Coulomb(Charges(learn="per species"), accuracy=1e-4, damping=0.0)
    charge = learned(Pair(cutoff=4.5, n_max=6) + sums, frames, 8).parameters["Coulomb.Charges.charge"]
    assert abs(abs(float(charge[0] - charge[1])) / 1.6 - 1) < 0.01


def test_charges_of_water() -> None:
    """Within 1 %, in molecules whose own pairs are left out."""
    sums = Coulomb(Charges(learn="per species"), accuracy=1e-4, damping=0.0, excluded=True)
    model = learned(Pair(cutoff=5.0, n_max=6) + sums, [labelled(a, WATER, lennard_jones) for a in water_boxes(5)], 5)
    oxygen, hydrogen = model.parameters["Coulomb.Charges.charge"].tolist()
    assert abs(abs(oxygen - hydrogen) / 1.2714 - 1) < 0.01


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_bonded_pairs_are_left_out(damping: float) -> None:
    """Acceptance 23 for the term: energies and forces of water boxes, one by one and together, named by molecules or by pairs."""

    def nothing(r: Tensor, _: list[str]) -> Tensor:
        return torch.zeros_like(r)

    def smeared(r: Tensor, symbols: list[str]) -> Tensor:
        q = torch.tensor([WATER[s] for s in symbols], dtype=F64)
        molecule = torch.arange(len(q)) // 3
        apart = molecule[:, None] != molecule
        return torch.where(apart, -COULOMB * q[:, None] * q * torch.special.erfc(r / (2**0.5 * damping)) / r, 0.0)

    boxes = water_boxes(2)
    labels = [labelled(atoms, WATER, smeared if damping else nothing) for atoms in boxes]
    pairs = [[m + a, m + b] for m in range(0, 24, 3) for a, b in ((0, 1), (2, 0), (1, 2))]
    boxes[1].info["excluded"] = pairs
    model = Model(Coulomb(Charges(WATER), accuracy=1e-8, damping=damping, excluded=True), ["O", "H"])
    both = model(boxes)
    for n, (atoms, energy, forces) in enumerate(labels):
        assert abs(float(both.energy[n] - energy)) < 1e-7 * len(atoms)
        assert float((both.forces[24 * n : 24 * n + 24] - forces).abs().max()) < 1e-6
        assert abs(float(model(boxes[n]).energy - both.energy[n])) < 1e-10
    del boxes[0].arrays["mol-id"]
    with pytest.raises(DataError, match="name none"):
        model(boxes[0])
    boxes[0].info["excluded"] = [[0, 24]]
    with pytest.raises(DataError, match="no pairs of different atoms"):
        model(boxes[0])


def test_the_slope_of_a_loss_of_virials_by_charges() -> None:
    """By central differences: sums over all images see the cell by itself, beyond the positions of sites."""
    atoms = rock_salt(1)
    stress = 0.01 * np.eye(3)
    frame = Frame(tuple(atoms.symbols), atoms.positions, atoms.cell.array, atoms.pbc, energy=0.0, forces=np.zeros((8, 3)), stress=stress)
    model = Model(Pair(cutoff=5.0, n_max=2, inner=1.8) + Coulomb(Charges(learn="per species"), accuracy=1e-6), ["Na", "Cl"])
    theta = np.random.default_rng(0).normal(size=model.size)
    batch = whole(model.prepare([frame]))
    targets = Targets.of(Recipe(energy=0.0, forces=0.0, virial=1.0).squares, [frame], batch)

    def found(at: np.ndarray) -> Loss:
        return loss(targets, missed(targets, model.with_parameters(torch.from_numpy(at))(batch)))

    slopes = 2 * slope(model.with_parameters(torch.from_numpy(theta)), batch, found(theta))
    expected = [(found(theta + h).value - found(theta - h).value) / 2e-5 for h in 1e-5 * np.eye(model.size)]
    assert np.abs(slopes[-2:]).min() > 1e-3  # of the charges
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


def test_the_far_part_of_a_leaf_of_a_search_knows_its_cell() -> None:
    """Forces and virials that leaves give under weights of one are those of the model."""
    leaf = Leaf(Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=1e-6), ("Na", "Cl"))
    batch = whole(leaf.model.prepare(rock_salt(1)))
    forces, virial = leaf.pulls(batch, leaf.start)(np.ones((batch.atoms, 1)))
    expected = leaf.model(batch)
    assert float(expected.virial.abs().max()) > 1.0
    np.testing.assert_allclose(forces[..., 0], expected.forces.numpy(), atol=1e-10)
    np.testing.assert_allclose(virial[..., 0], expected.virial.numpy(), atol=1e-10)
