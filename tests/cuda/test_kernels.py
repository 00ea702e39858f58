"""CUDA text, run by the shim, with long-range sums in plain torch, against the C++ kernels: every expression of the catalogue."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from composer.autograd import call
from composer.codegen.cuda import CudaStage, unit
from composer.errors import BackendError
from composer.model import compile
from composer.model.device import DeviceModel
from composer.model.structures import whole
from terms import Charges, Coulomb
from tests.catalogue import CATALOGUE
from tests.cuda.conftest import close, crystal, model_of
from tests.cuda.shim import shim

FAR = (
    "Coulomb, learned",
    "ExteriorPotential",
    "charges from a network",
    "Coulomb",
    "Dispersion",
    "Coulomb, of the surroundings",
    "NEP with the far field",
)
COLUMNS = ("Morse", "StillingerWeber", "stages", "NEP5, radial", "ZBL", "Coulomb, learned")


@pytest.mark.parametrize("name", CATALOGUE)
def test_energies_forces_and_virial_are_those_of_the_cpp_kernels(name: str) -> None:
    model = model_of(name)
    structures = [crystal(model.species, 0), crystal(model.species, 1)]
    expected, found = model(structures), DeviceModel(model, "cpu", "float64", build=shim)(structures)
    close(found.energy, expected.energy)
    close(found.energies, expected.energies)
    close(found.forces, expected.forces)
    close(found.stress, expected.stress)


@pytest.mark.parametrize("name", [*[n for n in CATALOGUE if n not in FAR][::3], *FAR[:3]])
def test_the_gradient_of_a_loss_is_that_of_the_cpp_kernels(name: str) -> None:
    model = model_of(name)
    batch = whole(model.prepare([crystal(model.species, 0), crystal(model.species, 1)]))
    make = torch.Generator().manual_seed(1)
    by_energy, by_forces, by_virial = (torch.randn(s, generator=make, dtype=torch.float64) for s in ((2,), (16, 3), (2, 3, 3)))
    by_virial = by_virial + by_virial.transpose(1, 2)
    theta = model.theta.clone().requires_grad_()
    out = call(model, batch, batch.positions, batch.cells, theta)
    ((out.energy * by_energy).sum() + (out.forces * by_forces).sum() + (out.virial * by_virial).sum()).backward()
    on_device = DeviceModel(model, "cpu", "float64", build=shim)
    placed = on_device.prepare([crystal(model.species, 0), crystal(model.species, 1)])
    close(on_device.gradient(placed, by_energy, by_forces, by_virial), theta.grad)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_jacobian_is_that_of_the_cpp_kernels(name: str) -> None:
    model = model_of(name)
    structures = [crystal(model.species, 0), crystal(model.species, 1)]
    expected, found = model.jacobian(structures), DeviceModel(model, "cpu", "float64", build=shim).jacobian(structures)
    close(found.energy, expected.energy)
    assert torch.allclose(found.forces, expected.forces, rtol=0, atol=1e-12 * float(expected.forces.abs().max()))
    assert torch.allclose(found.virial, expected.virial, rtol=0, atol=1e-12 * float(expected.virial.abs().max()))


@pytest.mark.parametrize("name", ["Embedding, sqrt", "stages", "Coulomb, of the surroundings"])
def test_deterministic_forces_are_those_of_the_cpp_kernels_to_the_width_of_an_integer(name: str) -> None:
    model = model_of(name)
    structure = crystal(model.species, 0)
    found = DeviceModel(model, "cpu", "float64", deterministic=True, build=shim)(structure)
    assert float((found.forces - model(structure).forces).abs().max()) <= 100 * 2.0**-40
    assert bool((found.forces.sum(0).abs() <= 1e-10).all())


@pytest.mark.parametrize("name", ["LennardJones", "Embedding, sqrt", "StillingerWeber", "NEP", "Coulomb"])
def test_numbers_of_four_bytes_keep_five_digits_of_the_forces_and_eight_of_the_energy(name: str) -> None:
    model = model_of(name)
    model = model.with_parameters({"E0": -1000.0})
    structure = crystal(model.species, 0)
    expected, found = model(structure), DeviceModel(model, "cpu", "float32", build=shim)(structure)
    close(found.forces, expected.forces, 2e-5)
    assert float((found.energy - expected.energy).abs().max()) <= 1e-8 * 8000


@pytest.mark.parametrize("name", ["StillingerWeber", "StillingerWeber, two species"])
def test_pairs_a_rounding_away_from_the_cutoff_leave_forces_finite_in_four_bytes(name: str) -> None:
    expression, species = CATALOGUE[name]
    model = compile(expression, species, quiet=True)
    cutoffs = {*(c for *_, c in getattr(expression, "pairs", ())), model.cutoff}
    chains = [
        Atoms([species[0], species[-1], species[0]], [[0.0, 0, 0], [r, 0, 0], [r, 2.5, 0]])
        for cutoff in cutoffs
        for r in cutoff * (1 + np.arange(-40, 41) * 2.0**-25)
    ]
    expected, found = model(chains), DeviceModel(model, "cpu", "float32", build=shim)(chains)
    assert bool(torch.isfinite(found.energy).all())
    close(found.forces, expected.forces, 1e-5)


def test_a_pair_potential_adds_nothing_to_other_sites_and_streams() -> None:
    model = model_of("LennardJones")
    kernel = DeviceModel(model, "cpu", "float64", build=shim).kernel("forces")
    assert "Stream<" in kernel.source and ", true> near;" in kernel.source
    assert kernel.rows == 0


def test_an_evaluation_follows_positions_that_are_written_in_place() -> None:
    model = model_of("Morse")
    first, second = crystal(model.species, 0), crystal(model.species, 0)
    second.positions += 0.05
    second.positions[0] += 0.2
    on_device = DeviceModel(model, "cpu", "float64", build=shim)
    batch = on_device.prepare(first, skin=1.0)
    evaluation = on_device.evaluation(batch)
    evaluation.run()
    close(evaluation.forces, model(first).forces)
    batch.positions.copy_(torch.from_numpy(second.positions))
    evaluation.run()
    close(evaluation.forces, model(second).forces)
    close(evaluation.virial, model(second).virial)


def test_dynamics_with_ase_make_few_lists_and_conserve_the_energy() -> None:
    model = model_of("StillingerWeber")
    atoms = crystal(model.species, 0)
    atoms.calc = DeviceModel(model, "cpu", "float64", build=shim).calculator(skin=1.0)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    first = atoms.get_total_energy()
    VelocityVerlet(atoms, 1.0 * units.fs).run(30)
    assert abs(atoms.get_total_energy() - first) < 1e-3 * len(atoms)
    assert atoms.calc.builds < 4
    expected = model(atoms)
    close(torch.from_numpy(atoms.get_forces()), expected.forces)
    assert np.allclose(atoms.get_stress(voigt=False), expected.stress[0].numpy(), rtol=0, atol=1e-12)


def test_nothing_of_a_user_reaches_the_text() -> None:
    model = model_of("Morse")
    stage = CudaStage("forces_0", model.program("forces").stages[0], model.layout, model.program("forces").site_arrays())
    text = unit(stage.code(), [0, 1, 1, 2])
    assert "Morse" not in text and "std::" not in text


def test_pairs_that_charges_leave_out_are_left_out() -> None:
    water = ase.build.molecule("H2O")
    water.info["excluded"] = [[0, 1], [0, 2], [1, 2]]
    model = compile(Coulomb(Charges({"O": -0.8476, "H": 0.4238}), cutoff=4.0, excluded=True), ["O", "H"], quiet=True)
    boxed = water.copy()
    boxed.set_cell([6.0, 6.0, 6.0])
    boxed.pbc = True
    expected, found = model([water, boxed]), DeviceModel(model, "cpu", "float64", build=shim)([water, boxed])
    assert abs(float(found.energy[0])) < 1e-10 < abs(float(found.energy[1]))
    close(found.energy, expected.energy)
    close(found.forces, expected.forces)


def test_a_kind_of_number_that_is_not_known_is_refused() -> None:
    with pytest.raises(BackendError, match="float16"):
        DeviceModel(model_of("Morse"), "cpu", dtype="float16", build=shim)
