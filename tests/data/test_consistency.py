"""Energies and forces of one set must belong to one energy surface; ASE's Lennard-Jones potential gives sets that do."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from composer.data import read_data
from composer.data.consistency import force_note, force_scale
from composer.units import convert


def shaken(count: int = 12, forces: float = 1.0, energy: float = 1.0, strain: float = 0.0) -> list[Atoms]:
    random, out = np.random.default_rng(0), []
    for number in range(count):
        atoms = bulk("Ar", cubic=True, a=5.2) * (2, 1, 1)
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) + strain * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.rattle(0.03, seed=number)
        atoms.positions += atoms.cell[0] * (number % 2)  # a neighbour one cell away is the same neighbour
        atoms.calc = LennardJones(epsilon=0.0104, sigma=3.4, rc=5.0, smooth=True)
        results = {"energy": energy * atoms.get_potential_energy(), "forces": forces * atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


def read(frames: list[Atoms]):
    return read_data(frames, quiet=True)


@pytest.mark.parametrize("strain", [0.0, 0.005])
def test_right_forces_have_the_scale_one(strain: float) -> None:
    scale, pairs = force_scale(read(shaken(strain=strain)))  # type: ignore[misc]
    assert abs(scale - 1) < 0.05 and pairs > 20
    assert force_note(read(shaken(strain=strain))) is None


@pytest.mark.parametrize("unit", ["Ha/bohr", "Ry/bohr"])
def test_forces_in_another_unit_are_noticed(unit: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = shaken(forces=convert(1.0, "eV/Å", unit))
    data = read_data(wrong)
    assert f"units={{'forces': '{unit}'}}" in capsys.readouterr().out
    mended = read_data(wrong, units={"forces": unit}, quiet=True)
    assert force_note(mended) is None and force_note(data) is not None


def test_energies_in_another_unit_and_wrong_signs_are_noticed() -> None:
    assert "units={'energy': 'Ha'}" in str(force_note(read(shaken(energy=convert(1.0, "eV", "Ha")))))
    assert "wrong sign" in str(force_note(read(shaken(forces=-1.0))))


def rattled(size: float, scan: float, energy: float = 1.0, forces: float = 1.0) -> list[Atoms]:
    """Copper by effective medium theory, every frame shaken by itself: the trapezoid rule overrates the work of its forces."""
    out = []
    for number in range(16):
        atoms = bulk("Cu", cubic=True, a=3.6 + scan * (number - 5))
        atoms.rattle(size, seed=number)
        atoms.calc = EMT()
        results = {"energy": energy * atoms.get_potential_energy(), "forces": forces * atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        out.append(atoms)
    return out


@pytest.mark.parametrize("scan", [0.0, 0.03])
@pytest.mark.parametrize("size", [0.05, 0.1, 0.15])
def test_frames_shaken_by_themselves_raise_no_alarm_and_wrong_units_do(size: float, scan: float) -> None:
    found = force_scale(read(rattled(size, scan)))
    assert found is not None and 0.6 < found[0] < 1.1 and force_note(read(rattled(size, scan))) is None
    for quantity, unit in (("forces", "Ha/bohr"), ("forces", "kcal/mol/Å"), ("energy", "Ha"), ("energy", "kcal/mol")):
        wrong = {quantity: convert(1.0, "eV/Å" if quantity == "forces" else "eV", unit)}
        assert f"units={{'{quantity}': '{unit}'}}" in str(force_note(read(rattled(size, scan, **wrong)))), wrong
    assert "wrong sign" in str(force_note(read(rattled(size, scan, forces=-1.0))))


def test_what_cannot_be_judged_is_not_judged() -> None:
    assert force_scale(read(shaken(3))) is None
    frames = shaken()
    for atoms in frames:
        atoms.calc.results["forces"] = np.random.default_rng(1).normal(size=(len(atoms), 3))
    assert force_note(read(frames)) is None


def test_forces_that_are_all_zero_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    read_data(shaken(forces=0.0))
    assert "all forces are zero" in capsys.readouterr().out


def test_frames_without_an_observable_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    frames = shaken(6)
    del frames[4].calc.results["forces"]
    read_data(frames)
    assert "5 of 6 frames" in (out := capsys.readouterr().out) and "none in frame 4" in out
