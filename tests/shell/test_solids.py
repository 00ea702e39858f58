"""Vacancy, surfaces and phonons against direct sums: a full matrix of second derivatives, published numbers of a potential."""

from __future__ import annotations

import json
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from composer.cli import app
from composer.errors import DataError
from composer.model import Model
from composer.solids import TERAHERTZ, cuts, phonons, solid, surface_energy
from terms import StillingerWeber


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(StillingerWeber(), ["Si"])


def test_phonons_are_the_modes_of_the_supercell(model: Model) -> None:
    """The eigenvalues of the dense matrix of the supercell, from differences of all its atoms."""
    crystal = ase.build.bulk("Si", "diamond", a=5.43)
    big = crystal.repeat((2, 2, 2))
    matrix, h = np.empty((48, 48)), 0.01
    for n in range(48):
        ends = []
        for sign in (1, -1):
            moved = big.copy()
            moved.positions[n // 3, n % 3] += sign * h
            ends.append(model(moved).forces.numpy().ravel())
        matrix[n] = -(ends[0] - ends[1]) / (2 * h) / 28.085
    squares = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    dense = np.sort(np.sign(squares) * np.sqrt(np.abs(squares)) * TERAHERTZ)
    found = np.sort(phonons(crystal, model.calculator, width=6.0).ravel())
    np.testing.assert_allclose(found, dense, atol=2e-3)
    assert dense[-1] > 10.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # phonopy renames its own attributes
def test_phonons_are_those_of_phonopy(model: Model) -> None:
    phonopy = pytest.importorskip("phonopy")
    from phonopy.structure.atoms import PhonopyAtoms

    crystal = ase.build.bulk("Si", "diamond", a=5.43)
    cell = PhonopyAtoms(symbols=list(crystal.symbols), cell=crystal.cell.array, scaled_positions=crystal.get_scaled_positions())
    theirs = phonopy.Phonopy(cell, supercell_matrix=np.diag([2, 2, 2]), log_level=0)
    theirs.generate_displacements(distance=0.01)
    moved = [Atoms(s.symbols, positions=s.positions, cell=s.cell, pbc=True) for s in theirs.supercells_with_displacements]
    theirs.forces = [model(atoms).forces.numpy() for atoms in moved]
    theirs.produce_force_constants()
    found = phonons(crystal, model.calculator, width=6.0)
    for place, ours in zip(np.ndindex(2, 2, 2), found, strict=True):
        expected = theirs.get_frequencies(np.array(place) / 2)
        np.testing.assert_allclose(np.sort(ours), np.sort(expected), atol=5e-3)  # THz, differences of 0.01 Å
    assert found.max() > 10.0


def test_a_vacancy_breaks_four_bonds_and_gives_two_back(model: Model) -> None:
    """In this potential the neighbours of an ideal vacancy feel no force: its energy is that of two bonds of 2.1683 eV."""
    found = solid(model, ase.build.bulk("Si", "diamond", a=5.43, cubic=True))
    assert found.values["vacancy"] == pytest.approx(2 * 2.1683, abs=2e-3)
    assert found.values["phonon highest"] == pytest.approx(17.8, abs=0.4)  # optical mode at the zone centre of this potential
    assert found.values["phonon lowest"] > -0.05
    assert found.deviations == {}
    assert "J/m^2" in str(found)


def test_broken_bonds_of_the_unrelaxed_face(model: Model) -> None:
    """(111) of diamond breaks one bond of 2.1683 eV for each sqrt(3)/4 a^2."""
    crystal = ase.build.bulk("Si", "diamond", a=5.4309, cubic=True)
    expected = 0.5 * 2.1683 / (np.sqrt(3) / 4 * 5.4309**2) * 16.0218
    found = surface_energy(crystal, (1, 1, 1), model.calculator)
    assert {len(s) for s in cuts(crystal, (1, 1, 1))} == {32}
    assert found <= expected * 1.001 and found == pytest.approx(expected, rel=0.05)


def test_error_bars_follow_the_covariance() -> None:
    model = Model(StillingerWeber(), ["Si"])
    names = model.parameter_names
    root = np.zeros((len(names), 1))
    root[next(n for n, name in enumerate(names) if name.startswith("StillingerWeber.A"))] = 0.01 * 15.285553
    model.covariance_root = root
    found = solid(model, ase.build.bulk("Si", "diamond", a=5.43), most_draws=4)
    assert 0.0 < found.deviations["vacancy"] < 0.2 * found.values["vacancy"]
    with pytest.raises(DataError, match="Give a crystal"):
        solid(model, ase.build.molecule("Si2H6"))


def test_evaluate_with_properties(model: Model, tmp_path: Path) -> None:
    crystal = ase.build.bulk("Si", "diamond", a=5.431)
    found = model(crystal)
    crystal.calc = SinglePointCalculator(crystal, energy=float(found.energy), forces=found.forces.numpy())
    ase.io.write(tmp_path / "si.xyz", crystal)
    model.save(tmp_path / "si.composer")
    said = CliRunner().invoke(app, ["evaluate", str(tmp_path / "si.composer"), str(tmp_path / "si.xyz"), "--properties", "--json"])
    assert said.exit_code == 0, said.output
    payload = json.loads(said.stdout)
    assert payload["properties"][0]["values"]["C11"] == pytest.approx(151.4, abs=1.0)  # of this potential, e.g. Balamane et al., table IV
    (values,) = payload["solids"].values()
    assert {"vacancy", "surface 111", "phonon highest"} <= set(values["values"])
