"""The oracle itself: neighbours by images, sums with relations, species, inputs and refusals."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms

from composer.codegen.reference import energy, evaluate, site_values
from composer.errors import BackendError
from composer.ir.nodes import displacement, parameter, site_input
from composer.neighbors import build_batch
from composer.quantities import Environment, Range, dot, exp, read_at, row, rows, stack, sum_over, sum_over_pairs

ONE, TWO = Environment(["A"]), Environment(["A", "B"])


def batch(*structures: Atoms) -> SimpleNamespace:
    """A batch without any neighbour list; species by the first letters A and B of the tags 0 and 1."""
    tensors = [(a.get_tags(), a.positions, a.cell.array, a.pbc) for a in structures]
    return SimpleNamespace(
        species=torch.tensor(np.concatenate([t[0] for t in tensors])),
        positions=torch.tensor(np.concatenate([t[1] for t in tensors])),
        cells=torch.tensor(np.array([t[2] for t in tensors])),
        pbc=torch.tensor(np.array([t[3] for t in tensors])),
        offsets=torch.tensor([0, *itertools.accumulate(len(a) for a in structures)]),
    )


def mixed() -> list[Atoms]:
    """A one-atom cell, a triclinic cell, a slab, a molecule, an isolated atom and a wrapped chain."""
    random = np.random.default_rng(0)
    triclinic = Atoms(
        "H3", random.uniform(-4, 8, (3, 3)), cell=[[3.0, 0.2, 0.1], [1.0, 3.5, 0], [-0.7, 0.4, 4.0]], pbc=True, tags=[0, 1, 0]
    )
    slab = Atoms("H2", random.uniform(0, 3, (2, 3)), cell=[[2.9, 0, 0], [1.2, 3.0, 0], [0, 0, 0]], pbc=[True, True, False], tags=[1, 0])
    chain = Atoms("H", [[0, 0, 70.0]], cell=[0, 0, 1.9], pbc=[False, False, True])
    molecule = Atoms("H4", random.uniform(0, 3, (4, 3)), tags=[0, 1, 1, 0])
    return [ase.build.bulk("H", "fcc", a=3.0), triclinic, slab, molecule, Atoms("H"), chain]


def test_neighbours_by_images_are_those_of_the_list() -> None:
    j = ONE.neighbors(5.3)
    structures = mixed()
    listed = build_batch([(a.get_tags(), a.positions, a.cell.array, a.pbc) for a in structures], 5.3)
    counted = site_values(sum_over(j, 1.0 + 0 * j.r + (j.r - j.r)), batch(*structures), 1, {})
    assert counted.tolist() == listed.first.diff().tolist()
    assert counted[-2] == 0 and counted[-1] == 4


def test_supercells_and_vacuum_change_nothing() -> None:
    j = ONE.neighbors(4.0)
    k = ONE.neighbors(3.0, other_than=j)
    node = sum_over(j, k, exp(-j.r) * dot(j.u, k.u) ** 2 * (9 - k.r**2) ** 2)
    cell = ase.build.bulk("H", "fcc", a=3.0)
    small, large = evaluate(node, batch(cell), 1, {}), evaluate(node, batch(cell * (2, 2, 2)), 1, {})
    torch.testing.assert_close(large.energies, small.energies.expand(8), rtol=1e-12, atol=0)
    torch.testing.assert_close(large.stress, small.stress, rtol=1e-12, atol=1e-14)
    slab = mixed()[2]
    thick = slab.copy()
    thick.cell[2], thick.pbc = [0.0, 0.0, 40.0], True
    torch.testing.assert_close(evaluate(node, batch(slab), 1, {}).forces, evaluate(node, batch(thick), 1, {}).forces)
    assert evaluate(node, batch(slab), 1, {}).stress.isnan().all()


def test_relations_between_two_neighbours() -> None:
    j = ONE.neighbors(4.0)
    k = ONE.neighbors(4.0, other_than=j)
    body = (j.r + k.r) * dot(j.d, k.d)
    structures = batch(*mixed())
    every, once = (site_values(n, structures, 1, {}) for n in (sum_over(j, k, body), sum_over_pairs(j, k, body)))
    torch.testing.assert_close(every, 2 * once)
    nested = site_values(sum_over(j, sum_over(k, body)), structures, 1, {})
    torch.testing.assert_close(nested, every)
    count = site_values(sum_over(j, sum_over(k, k.r / k.r)), structures, 1, {})
    number = site_values(sum_over(j, j.r / j.r), structures, 1, {})
    torch.testing.assert_close(count, number * (number - 1))


def test_rows_of_parameters_follow_the_species() -> None:
    """Two species, every kind of table, against loops over a molecule."""
    atoms = mixed()[3]
    kinds, x = atoms.get_tags(), atoms.positions
    j = TWO.neighbors(9.0)
    k = TWO.neighbors(9.0, other_than=j)
    random = torch.Generator().manual_seed(0)
    for per, atoms_of in (("pair", 2), ("ordered pair", 2), ("triplet", 3), ("ordered triplet", 3)):
        table = torch.rand(rows(per, 2), 2, generator=random, dtype=torch.float64)
        n = Range("n", 2)
        weight = parameter("p", ("i", j.species, k.species)[:atoms_of], (n,))
        node = sum_over(j, k, sum_over(n, weight * stack(n, [j.r, k.r**2])))
        wanted = np.zeros(4)
        for a, b, c in itertools.permutations(range(4), 3):
            p = table[row(per, 2, kinds[a], kinds[b], kinds[c])]
            wanted[a] += p[0] * np.linalg.norm(x[b] - x[a]) + p[1] * np.linalg.norm(x[c] - x[a]) ** 2
        np.testing.assert_allclose(site_values(node, batch(atoms), 2, {"p": table}), wanted, rtol=1e-13)


def test_sums_resolved_by_species_add_up() -> None:
    j = TWO.neighbors(4.0)
    table = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    structures = batch(*mixed())
    direct = sum_over(j, parameter("p", ("i", j.species)) * exp(-j.r))
    resolved = sum(parameter("p", ("i", t)) * sum_over(j, exp(-j.r), species=t) for t in TWO.species)
    ours = [site_values(n, structures, 2, {"p": table}) for n in (direct, resolved)]
    assert ours[0].max() > 1.0
    torch.testing.assert_close(ours[1], ours[0])


def test_fields_at_neighbours_and_inputs_from_outside() -> None:
    j = ONE.neighbors(4.0)
    structures = batch(mixed()[1], mixed()[3])
    q = torch.arange(7, dtype=torch.float64) + 1
    moved = site_values(sum_over(j, read_at(site_input("q"), j) * exp(-j.r)), structures, 1, {}, {"q": q})
    own = site_values(site_input("q") * sum_over(j, exp(-j.r)), structures, 1, {}, {"q": q})
    torch.testing.assert_close(moved.sum(), own.sum())  # each pair is seen from both sides
    assert (moved - own).abs().max() > 1e-3


def test_stress_and_virial_are_slopes_along_strain() -> None:
    j = ONE.neighbors(4.0)
    node, atoms, step = sum_over(j, exp(-j.r) * (16 - j.r**2) ** 3), mixed()[1], 1e-5
    found = evaluate(node, batch(atoms), 1, {})
    for a, b in ((0, 0), (0, 1), (2, 1)):
        strained = []
        for sign in (1, -1):
            other = atoms.copy()
            deformation = np.eye(3)
            deformation[a, b] += sign * step
            other.set_cell(atoms.cell.array @ deformation, scale_atoms=False)
            other.positions = atoms.positions @ deformation
            strained.append(energy(node, batch(other), 1, {}).item())
        slope = (strained[0] - strained[1]) / (2 * step)
        assert found.stress[0, a, b].item() * atoms.get_volume() == pytest.approx(slope, rel=1e-6)
        assert -found.virial[0, a, b].item() == pytest.approx(slope, rel=1e-6)


def test_parameters_have_derivatives() -> None:
    j = ONE.neighbors(4.0)
    table = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    total = energy(sum_over(j, exp(-j.r * parameter("a", ("i", 0)))), batch(mixed()[0], mixed()[4], mixed()[5]), 1, {"a": table})
    (slope,) = torch.autograd.grad(total.sum(), table)
    assert total.shape == (3,) and slope.item() < -0.1


def test_what_is_no_author_level_scalar_is_refused() -> None:
    j = ONE.neighbors(4.0)
    structures = batch(*mixed())
    with pytest.raises(BackendError, match="depends on"):
        site_values(j.r, structures, 1, {})
    with pytest.raises(BackendError, match="transform"):
        site_values(sum_over(j, displacement(0, j.index, "d_t")), structures, 1, {})
    with pytest.raises(BackendError, match="rows"):
        site_values(sum_over(j, j.r * parameter("p", ("i", j.species))), structures, 2, {"p": torch.zeros(5, dtype=torch.float64)})
