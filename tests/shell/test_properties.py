"""Crystals and trust: elastic constants against published ones, error bars, scans and short dynamics."""

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms

import composer
from analysis.properties import equation_of_state, relax_crystal
from composer.model import Model
from composer.properties import evaluator
from composer.units import GPA
from terms import LennardJones, Morse


def test_stillinger_weber_silicon_has_its_published_constants(silicon: Model) -> None:
    """1.62, 0.82, 0.60 Mbar, and 1.17 for C44 of clamped atoms, with 2.315 eV: H. Balamane et al., Phys. Rev. B 46, 2250 (1992)."""
    scaled = {n: silicon.parameters[n] * (2.315 / 2.1683) for n in ("StillingerWeber.A", "StillingerWeber.angular")}
    model, atoms = silicon.with_parameters(scaled), ase.build.bulk("Si", "diamond", a=5.3)
    (phase,) = composer.properties(model, [atoms])
    np.testing.assert_allclose([phase.values[n] for n in ("C11", "C12", "C44")], [162, 82, 60], atol=0.6)
    clamped = relax_crystal(evaluator(model, ["Si", "Si"]), atoms.positions, atoms.cell[:]).clamped[3, 3] * GPA
    assert clamped == pytest.approx(117, abs=0.6)
    assert phase.values["a"] == pytest.approx(5.431, abs=5e-4) and phase.values["energy"] == pytest.approx(-2 * 2.315, abs=2e-4)
    assert phase.converged and phase.stable


def test_constants_are_curvatures_of_the_energy(silicon: Model) -> None:
    atoms = ase.build.bulk("Si", "diamond", a=5.3)
    crystal = relax_crystal(evaluator(silicon, ["Si", "Si"]), atoms.positions, atoms.cell[:])
    strains = [np.diag([1.0, 0, 0]), np.diag([1.0, -1.0, 0]), np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]])]
    c11, c12, c44 = crystal.clamped[0, 0], crystal.clamped[0, 1], crystal.clamped[3, 3]
    for strain, expected in zip(strains, (c11, 2 * (c11 - c12), c44)):
        frames = [
            Atoms("Si2", crystal.positions @ f, cell=crystal.cell @ f, pbc=True) for f in (np.eye(3) + h * strain for h in (-1e-3, 0, 1e-3))
        ]
        low, middle, high = silicon(frames).energy.tolist()
        assert (low - 2 * middle + high) / 1e-6 / crystal.volume == pytest.approx(expected, rel=1e-4)


def test_cell_and_setting_do_not_matter(silicon: Model) -> None:
    cells = [ase.build.bulk("Si", "diamond", a=5.5), ase.build.bulk("Si", "diamond", a=5.4, cubic=True)]
    one, other = (next(iter(composer.properties(silicon, [c]))) for c in cells)
    for name, value in one.values.items():
        assert other.values[name] == pytest.approx(value, rel=1e-4), name
    assert len(composer.properties(silicon, cells).phases) == 1  # the same crystal is shown once


def test_pair_potentials_obey_cauchy_and_bulk_modulus_is_the_curvature() -> None:
    model = composer.compile(Morse(cutoff=7.0).fix(length=2.8, width=1.2), ["Cu"], quiet=True)
    atoms = ase.build.bulk("Cu", "fcc", a=3.7)
    crystal = relax_crystal(evaluator(model, ["Cu"]), atoms.positions, atoms.cell[:])
    c11, c12, c44 = crystal.cubic or (0, 0, 0)
    assert c12 == pytest.approx(c44, rel=1e-3) and c11 > c12 > 0
    scales = np.cbrt(np.linspace(0.998, 1.002, 5))
    volume, energy = equation_of_state(evaluator(model, ["Cu"]), crystal.positions, crystal.cell, scales)
    curvature = 2 * np.polyfit(volume - crystal.volume, energy, 2)[0]
    assert crystal.bulk_modulus == pytest.approx(curvature * crystal.volume, rel=2e-3)
    np.testing.assert_allclose(crystal.clamped, crystal.stiffness, rtol=1e-6, atol=1e-9)  # one atom has nothing to relax


def test_relaxed_atoms_soften_the_crystal(silicon: Model) -> None:
    """C44 of relaxed atoms is that of energies minimised over the atoms by another optimiser."""
    from ase.optimize import BFGS

    atoms = ase.build.bulk("Si", "diamond", a=5.3)
    crystal = relax_crystal(evaluator(silicon, ["Si", "Si"]), atoms.positions, atoms.cell[:])
    energies = []
    for h in (-2e-3, 0.0, 2e-3):
        f = np.eye(3) + h * np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]])
        sheared = Atoms("Si2", crystal.positions @ f, cell=crystal.cell @ f, pbc=True, calculator=silicon.calculator())
        BFGS(sheared, logfile=None).run(fmax=1e-7, steps=200)
        energies.append(sheared.get_potential_energy())
    low, middle, high = energies
    assert crystal.stiffness[3, 3] == pytest.approx((low - 2 * middle + high) / 4e-6 / crystal.volume, rel=1e-3)
    assert crystal.stiffness[3, 3] < 0.6 * crystal.clamped[3, 3]


def test_error_bars_follow_the_covariance(silicon: Model) -> None:
    root = torch.zeros(silicon.size, 1, dtype=torch.float64)
    root[silicon.parameter_names.index("E0[Si]")] = 0.01
    (phase,) = composer.properties(silicon, [ase.build.bulk("Si")], covariance_root=root)
    assert phase.deviations["energy"] == pytest.approx(0.01, rel=0.5)
    assert phase.deviations["C11"] < 0.01 and phase.deviations["volume"] < 1e-3
    assert "±" in phase.value("energy")


def test_phases_of_data_beside_the_data(silicon: Model) -> None:
    data = composer.read_data("silicon.xyz.xz", quiet=True)
    found = composer.properties(silicon, data)
    assert {"eos_diamond", "eos_beta_tin", "eos_fcc"} <= {p.name for p in found}
    assert next(iter(found)).name == "eos_diamond" and found["eos_diamond"].above == 0.0
    assert found["eos_fcc"].reference_above == pytest.approx(0.53, abs=0.05)
    text = str(found)
    assert "C44 (GPa)" in text and "eos_beta_tin" in text
    assert {"phase", "values", "deviations"} <= found.rows()[0].keys()


def test_no_crystal_is_an_error(silicon: Model) -> None:
    with pytest.raises(composer.DataError, match="no|No"):
        composer.properties(silicon, [Atoms("Si")])


def test_repulsion_is_found_and_its_lack_named(silicon: Model) -> None:
    crystal = ase.build.bulk("Si")
    assert composer.repulsive(silicon, crystals=[crystal])
    upside_down = composer.compile(Morse(cutoff=5.0).fix(depth=-1.0), ["C", "Si"], quiet=True)
    verdict = composer.repulsive(upside_down)
    assert not verdict and "dimer C-C" in verdict.reason
    soft = composer.compile(LennardJones(cutoff=5.0).fix(sigma=1.2, epsilon=1.0), ["Si"], quiet=True)
    assert "dimer" in composer.repulsive(soft).reason
    assert not composer.repulsive(silicon.with_parameters({"StillingerWeber.B": 0.0}), crystals=[crystal])


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_silicon_survives_dynamics(silicon: Model, crystal: Atoms, ensemble: str) -> None:
    verdict = composer.survives(silicon, crystal, temperature=300.0, ps=0.1, ensemble=ensemble)  # type: ignore[arg-type]
    assert verdict, verdict.reason


def test_bad_dynamics_is_named(silicon: Model, crystal: Atoms) -> None:
    falling = composer.compile(Morse(cutoff=5.0).fix(depth=-2.0), ["Si"], quiet=True)
    verdict = composer.survives(falling, crystal, ps=0.5)
    assert not verdict and "ps" in verdict.reason
    coarse = composer.survives(silicon, crystal, temperature=1000.0, ps=1.0, timestep=12.0)
    assert not coarse and "drifted" in coarse.reason or "temperature" in coarse.reason
    with pytest.raises(composer.DataError, match="nve"):
        composer.survives(silicon, crystal, ensemble="npt")  # type: ignore[arg-type]
