"""Numbered acceptance tests of the compiler that need a whole model: values of LAMMPS, threads, long rows, sums of kernels."""

import subprocess
import sys

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms

from benchmarks import hand_written, models, peers_lammps, peers_torch, systems
from composer.model import Model
from composer.runtime.kernel import row_length
from composer.runtime.threads import count, set_threads
from terms import LennardJones, Pair, ThreeBody

CRYSTALS = {
    "LJ": (models.lennard_jones, lambda: systems.argon(5), peers_lammps.lj, 1e-11),
    "EAM": (models.embedded_atom, lambda: systems.copper(5), peers_lammps.eam, 1e-8),  # LAMMPS reads the functions as splines
    "SW": (models.stillinger_weber, lambda: systems.silicon(4), peers_lammps.sw, 1e-11),
    "Tersoff": (models.tersoff, lambda: systems.silicon(4), peers_lammps.tersoff, 1e-11),
}


@pytest.fixture
def threads():
    before = count()
    yield set_threads
    set_threads(before)


@pytest.mark.parametrize("name", CRYSTALS)
def test_compiler_02_forces_of_lammps(name: str) -> None:
    make, atoms, style, tolerance = CRYSTALS[name]
    structure = atoms()
    result = make()(structure)
    with peers_lammps.Anchor(structure, style(), 1.0) as anchor:
        assert np.abs(anchor.forces).max() > 0.1 * (name != "LJ") + 0.001
        assert result.forces.numpy() == pytest.approx(anchor.forces, abs=tolerance * max(1.0, np.abs(anchor.forces).max()))
        assert float(result.energy) == pytest.approx(anchor.energy, rel=1e-12 if name != "EAM" else 1e-8)
        assert result.virial[0].numpy() == pytest.approx(anchor.virial, abs=1e3 * tolerance * max(1.0, np.abs(anchor.virial).max()))


@pytest.mark.parametrize("name", ["SW", "Tersoff"])
def test_compiler_03_switching_region_of_shaken_silicon(name: str) -> None:
    structure = systems.silicon(5, amplitude=0.35)
    distances = structure.get_all_distances(mic=True)
    assert ((distances > 2.8) & (distances < 3.2)).sum() / 2 >= 100
    make, _, style, _ = CRYSTALS[name]
    result = make()(structure)
    with peers_lammps.Anchor(structure, style(), 1.0) as anchor:
        assert np.abs(anchor.forces).max() > 5.0
        assert result.forces.numpy() == pytest.approx(anchor.forces, abs=1e-10)


def test_compiler_14_more_neighbours_than_the_rows_hold() -> None:
    model = Model(Pair(cutoff=6.0, n_max=3), ["Si"])
    model = model.with_parameters(torch.linspace(0.5, 1.0, model.size, dtype=torch.float64))
    few = ase.build.bulk("Si", "diamond", a=5.43)
    dense = ase.build.bulk("Si", "fcc", a=2.6)
    short, long = model.prepare(few), model.prepare(dense)
    assert row_length(short.max_neighbors) < row_length(long.max_neighbors)
    model(short)
    supercell = model(dense * (2, 2, 2))
    assert float(model(long).energy) == pytest.approx(float(supercell.energy) / 8, rel=1e-12)


def test_compiler_15_sum_of_two_cutoffs() -> None:
    pair, angles = Pair(cutoff=6.0, n_max=4), ThreeBody(cutoff=4.0, n_max=2, l_max=2)
    both, one, other = (Model(e, ["Si"]) for e in (pair + angles, pair, angles))
    values = {
        "Pair.coefficients": torch.linspace(1, 2, 4).reshape(1, 4),
        "ThreeBody.coefficients": torch.linspace(-1, 1, 9).reshape(1, 3, 3),
    }
    atoms = systems.silicon(1)
    together = both.with_parameters(values)(atoms)
    apart = [m.with_parameters({k: v for k, v in values.items() if k in m.parameters})(atoms) for m in (one, other)]
    assert torch.allclose(together.forces, apart[0].forces + apart[1].forces, rtol=0, atol=1e-12)
    assert float(together.forces.abs().max()) > 0.01


def test_compiler_16_two_species_against_a_hand_written_energy() -> None:
    rng = np.random.default_rng(5)
    atoms = ase.build.bulk("NaCl", "rocksalt", a=4.4, cubic=True) * (2, 2, 2)
    atoms.positions += rng.uniform(-0.2, 0.2, atoms.positions.shape)
    epsilon, sigma = [0.01, 0.02, 0.03], [2.0, 2.3, 2.6]  # Cl-Cl, Cl-Na, Na-Na
    model = Model(LennardJones(cutoff=4.0), ["Cl", "Na"]).with_parameters({"LennardJones.epsilon": epsilon, "LennardJones.sigma": sigma})
    e = peers_torch.edges(atoms, 4.0)
    kinds = np.array([0 if s == "Cl" else 1 for s in atoms.get_chemical_symbols()])
    row = kinds[e.center.numpy()] + kinds[e.neighbor.numpy()] if hasattr(e, "neighbor") else None
    if row is None:
        pytest.fail("the edges of the hand-written energy have no field `neighbor`")
    r = (torch.from_numpy(atoms.positions)[e.neighbor] + e.shift - torch.from_numpy(atoms.positions)[e.center]).norm(dim=1)
    s6 = (torch.tensor(sigma)[row].double() / r) ** 6
    expected = float((2 * torch.tensor(epsilon, dtype=torch.float64)[row] * (s6**2 - s6)).sum())
    assert float(model(atoms).energy) == pytest.approx(expected, rel=1e-6)
    swapped = atoms.copy()
    swapped.symbols = ["Na" if s == "Cl" else "Cl" for s in atoms.get_chemical_symbols()]
    mirror = model.with_parameters({"LennardJones.epsilon": epsilon[::-1], "LennardJones.sigma": sigma[::-1]})
    assert float(mirror(swapped).energy) == pytest.approx(float(model(atoms).energy), rel=1e-12)


def test_compiler_17_threads(threads) -> None:
    model = models.stillinger_weber()
    single, many = systems.silicon(5), [systems.silicon(1, seed=s) for s in range(20)]
    found = {}
    for number in (1, 4):
        threads(number)
        found[number] = (model([single]), model(many))
    assert torch.allclose(found[1][0].forces, found[4][0].forces, rtol=0, atol=1e-12)
    assert torch.equal(found[1][1].forces, found[4][1].forces)  # whole structures: bit for bit
    assert torch.equal(found[1][1].energy, found[4][1].energy)


def test_compiler_20_two_processes_build_one_model(tmp_path) -> None:
    script = (
        "from composer.model import Model; from terms import Pair; from ase.build import bulk\n"
        "print(float(Model(Pair(cutoff=4.0, n_max=2), ['Si'])(bulk('Si')).energy))"
    )
    import os

    environment = {**os.environ, "COMPOSER_CACHE": str(tmp_path)}
    runs = [subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    assert [run.communicate()[0] for run in runs] == [b"0.0\n"] * 2


def test_compiler_22_a_training_gradient_keeps_nothing_for_each_pair() -> None:
    model = models.three_body()
    batch = model.prepare([systems.molybdenum((6, 6, 6))])
    kernel = model.kernel("gradient")
    per_thread = 8 * kernel.code.rows * row_length(batch.max_neighbors)
    assert per_thread < 4e6  # bytes: rows of one site, whatever the number of atoms


def test_a_term_equals_what_an_expert_writes_by_hand() -> None:
    model = hand_written.model()
    batch = model.prepare([hand_written.crystal(3)], skin=0.5)
    energies, forces = hand_written.by_hand(model, batch)()
    result = model(batch)
    assert float(forces.abs().max()) > 0.1
    assert torch.allclose(result.energies, energies, rtol=0, atol=1e-11)
    assert torch.allclose(result.forces, forces, rtol=0, atol=1e-10)


def test_an_atom_without_neighbours_and_atoms_at_one_place() -> None:
    model = Model(Pair(cutoff=4.0, n_max=3) + ThreeBody(cutoff=4.0, n_max=2, l_max=2), ["Si"])
    model = model.with_parameters(torch.linspace(0.5, 1.0, model.size, dtype=torch.float64))
    alone, twins = model(Atoms("Si")), model(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0]]))
    assert float(alone.energy) == 0.5
    assert float(alone.forces.abs().max()) == 0.0
    assert bool(torch.isfinite(twins.energy).all())
    assert bool(torch.isfinite(twins.forces).all())
