"""Files of other codes give the numbers of other codes. T1, T2, ... are the acceptance tests of `theory/nep.md`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

import composer
from composer.export.nepfile import count, parse
from composer.model import Model
from tests.nep.conftest import by_calorine, calorine
from tests.nep.structures import alloy, silicon, xyz_in

SIX = [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)]  # order of virials in files of GPUMD

# file, structure, numbers of the file without scaler, energy (eV) by an independent evaluator in NumPy
TABLE: list[tuple[str, str, int, float]] = [
    *(
        (f"models/Si_2022_NEP{v}_{n}body.txt", "silicon", p, e)
        for v in (3, 4)
        for n, p, e in ((3, 3093, -282.24017028), (4, 3643, -282.17229537), (5, 4193, -282.16187277))
    ),
    *((f"models/C_2022_NEP{v}.txt", "refs/gpumd_pytest/structures/C-nat16-rattled.xyz", 6903, -52.55564490) for v in (3, 4)),
    ("refs/gpumd_pytest/models/nep_water.txt", "refs/gpumd_pytest/structures/water-nat63-from-md.xyz", 2281, -1.00016431),
    ("models/synthetic/nep3_2el.txt", "alloy", 547, -18.51725442),
    ("models/synthetic/nep5_2el.txt", "alloy", 859, 34.38051466),
    ("models/synthetic/nep4_allq_L8.txt", "alloy", 1497, -41.83585892),
    ("models/synthetic/nep4_zbl_typewise.txt", "alloy", 857, 13.57601030),
    ("models/synthetic/nep4_zbl_flex.txt", "alloy", 777, 42.89848691),
    ("models/synthetic/nep4_zbl_flex3.txt", "alloy with W", 1342, 32.18632950),
    ("refs/nep_cpu/test_nep/nep.txt", "refs/nep_cpu/test_nep/xyz.in", 1321, -932.82932902),
]


def structure(shared: Path, name: str) -> Atoms:
    if name.endswith(".in"):
        return xyz_in(shared / name)
    if name.endswith(".xyz"):
        return read(shared / name)  # type: ignore[return-value]
    return silicon() if name == "silicon" else alloy(name.endswith("W"))


@pytest.mark.parametrize(("file", "where", "size", "energy"), TABLE, ids=[t[0].rsplit("/", 2)[-1] for t in TABLE])
def test_t1_energies_forces_and_virials_equal_calorine(shared: Path, file: str, where: str, size: int, energy: float) -> None:
    atoms = structure(shared, where)
    found = composer.read_model(shared / file)(atoms)
    contents = parse(shared / file)
    assert count(contents) - contents.size - contents.zbl_pairs.size == size
    assert float(found.energy) == pytest.approx(energy, abs=1e-8)
    sites, forces, virial = by_calorine(shared / file, atoms)
    largest = np.abs(forces).max()
    assert largest > 0.1
    assert float(found.energy) == pytest.approx(sites.sum(), rel=1e-10)
    np.testing.assert_allclose(found.energies.numpy(), sites, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.forces.numpy(), forces, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.virial[0].numpy(), virial, rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def lead_telluride(shared: Path) -> tuple[Model, composer.Data]:
    return composer.read_model(shared / "pbte/gpumd_nep.txt"), composer.read_data(shared / "pbte/train.xyz", quiet=True)


def test_t2_pbte_equals_the_output_of_gpumd(shared: Path, lead_telluride: tuple[Model, composer.Data]) -> None:
    """float32 outputs; order and sign of the virial; the errors of the published fit."""
    model, data = lead_telluride
    found = model(model.prepare(list(data)))
    energies, forces, virials = (np.loadtxt(shared / f"pbte/gpumd_{what}_train.out") for what in ("energy", "force", "virial"))
    np.testing.assert_allclose(found.energy.numpy() / 250, energies[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.forces.numpy(), forces[:, :3], rtol=0, atol=5e-5)
    ours = np.array([found.virial.numpy()[:, a, b] / 250 for a, b in SIX]).T
    np.testing.assert_allclose(ours, virials[:, :6], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.energy[:3].numpy() / 250, [-3.7474421, -3.7787556, -3.7488879], rtol=0, atol=1e-7)
    errors = model.evaluate(data).scores
    assert errors["energy"].rmse == pytest.approx(0.41, abs=0.01) and errors["forces"].rmse == pytest.approx(0.0399, abs=1e-4)


def test_t2_qnep_pbte_equals_the_output_of_gpumd(shared: Path) -> None:
    """Mode 2: energies, and charges before they are made neutral."""
    model = composer.read_model(shared / "qnep_pbte/nep.txt")
    data = list(composer.read_data(shared / "pbte/train.xyz", quiet=True))[:5]
    found = model(model.model.prepare(data))  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.energy.numpy() / 250, np.loadtxt(shared / "qnep_pbte/energy_train.out")[:5, 0], rtol=0, atol=1e-5)
    charges = np.loadtxt(shared / "qnep_pbte/charge_train.out", ndmin=2)[: 5 * 250, 0]  # type: ignore[call-overload]
    np.testing.assert_allclose(found.bare.numpy(), charges, rtol=0, atol=1e-5)  # type: ignore[attr-defined]


CHARGED = [
    ("refs/gpumd_pytest/models/qnep_mode1_water.txt", "refs/gpumd_pytest/structures/water-nat63-from-md.xyz"),
    ("refs/nep_cpu/test_qnep/nep.txt", "refs/nep_cpu/test_qnep/xyz.in"),
    ("qnep_pbte/nep.txt", "refs/nep_cpu/test_qnep/xyz.in"),
]


@pytest.mark.parametrize(("file", "where"), CHARGED, ids=["mode 1, water", "mode 1, PbTe", "mode 2, PbTe"])
def test_t1_charges_that_interact_equal_calorine(shared: Path, file: str, where: str) -> None:
    atoms = structure(shared, where)
    found = composer.read_model(shared / file)(atoms)
    sites, forces, virials, charges, _ = (np.array(x) for x in calorine(shared / file, atoms).get_potential_forces_virials_and_charges())
    assert float(found.energy) == pytest.approx(sites.sum(), rel=1e-10)
    np.testing.assert_allclose(found.forces.numpy(), forces.reshape(3, -1).T, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.virial[0].numpy(), virials.reshape(9, -1).sum(1).reshape(3, 3), rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.charges.numpy(), charges, rtol=0, atol=1e-12)  # type: ignore[attr-defined]
    assert abs(charges).max() > 1e-3


def test_t4_stored_forces_of_nep_cpu(shared: Path) -> None:
    """test_nep: analytical forces and total virial; test_qnep: finite differences, without the pair that crosses the cutoff within them."""
    folder = shared / "refs/nep_cpu/test_nep"
    atoms = xyz_in(folder / "xyz.in")
    found = composer.read_model(folder / "nep.txt")(atoms)
    np.testing.assert_allclose(found.forces.numpy(), np.loadtxt(folder / "force_analytical.out"), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.virial[0].numpy(), np.loadtxt(folder / "virial.out").sum(0).reshape(3, 3), rtol=0, atol=1e-8)
    folder = shared / "refs/nep_cpu/test_qnep"
    charged = composer.read_model(folder / "nep.txt")(atoms)
    kept = np.setdiff1d(np.arange(250), [8, 100])
    stored = np.loadtxt(folder / "force_finite_difference.out")
    np.testing.assert_allclose(charged.forces.numpy()[kept], stored[kept], rtol=0, atol=5e-7)


def test_t12_mos2_errors_of_the_published_fit(shared: Path) -> None:
    """Keys with capitals, a virial of nine numbers, forces in another column: the errors of the file that was fitted to the set."""
    folder = shared / "sets/mos2_nep89_finetune"
    data = composer.read_data(folder / "train.xyz", quiet=True)
    model = composer.read_model(folder / "nep_gen11000.txt")
    found = model(model.prepare(list(data)))
    energy = (found.energy.numpy() - [f.energy for f in data]) / 90
    forces = found.forces.numpy() - np.concatenate([f.forces for f in data])
    virials = np.array([-f.stress * f.volume for f in data])  # type: ignore[operator]
    virial = np.array([(found.virial.numpy() - virials)[:, a, b] / 90 for a, b in SIX])
    meters = [1e3 * np.sqrt(np.mean(x**2)) for x in (energy, forces, virial)]
    assert np.all(np.abs(np.array(meters) - [0.44, 60.3, 6.7]) < [0.005, 0.05, 0.05]), meters


def test_t12_lower_case_keys_and_columns_in_any_order(shared: Path) -> None:
    """`lattice=`, `properties=` and forces before positions."""
    found = composer.read_data(shared / "refs/nep_cpu/test_qnep/train.xyz", quiet=True)[0]
    atoms = xyz_in(shared / "refs/nep_cpu/test_qnep/xyz.in")
    np.testing.assert_allclose(found.positions, atoms.positions, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.cell, atoms.cell.array, rtol=0, atol=1e-6)
    assert found.symbols == tuple(atoms.get_chemical_symbols()) and found.stress is None
