"""The ASE calculator: the model's numbers, one list reused while it holds, refusals and warnings."""

import warnings

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

import composer
from composer.calculator import Calculator, ExtrapolationWarning, shortest_distances
from composer.errors import AlgebraError, DataError
from composer.model import Model
from terms import Pair


@pytest.mark.parametrize("which", ["silicon", "pairs"])
def test_gives_what_the_model_gives(which: str, request: pytest.FixtureRequest, crystal: Atoms) -> None:
    model: Model = request.getfixturevalue(which)
    crystal.calc = model.calculator()
    found = model(crystal)
    assert crystal.get_potential_energy() == pytest.approx(float(found.energy[0]), rel=1e-13)
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()
    np.testing.assert_allclose(crystal.get_forces(), found.forces.numpy(), atol=1e-12)
    np.testing.assert_allclose(crystal.get_stress(voigt=False), found.stress[0].numpy(), atol=1e-13)
    np.testing.assert_allclose(crystal.get_potential_energies(), found.energies.numpy(), atol=1e-12)
    assert crystal.get_potential_energies().sum() == pytest.approx(crystal.get_potential_energy())
    assert np.abs(crystal.get_forces()).max() > 0.02


def test_forces_and_stress_are_slopes_of_the_energy(silicon: Model, crystal: Atoms) -> None:
    """Number 4 of theory/interfaces.md, section 12: all forces and all six strains."""
    crystal.calc = silicon.calculator()
    np.testing.assert_allclose(crystal.get_forces(), calculate_numerical_forces(crystal, eps=1e-4), atol=1e-5)
    np.testing.assert_allclose(crystal.get_stress(), calculate_numerical_stress(crystal, eps=1e-5), atol=1e-6)
    assert np.abs(crystal.get_stress()).max() > 1e-3
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()


def test_list_is_reused_while_it_holds_and_never_longer(silicon: Model, crystal: Atoms) -> None:
    crystal.calc = Calculator(silicon, skin=0.5)
    crystal.get_forces()
    for step in range(12):
        crystal.positions[step % 8] += [0.06, -0.03, 0.02]
        crystal.set_cell(crystal.cell[:] * 1.001, scale_atoms=True)
        found = silicon(crystal)
        np.testing.assert_allclose(crystal.get_forces(), found.forces.numpy(), atol=1e-11)
        assert crystal.get_potential_energy() == pytest.approx(float(found.energy[0]), rel=1e-13)
    assert crystal.calc.builds < 8
    few = crystal.calc.builds
    crystal.positions[0] += [2.0, 0.0, 0.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(crystal.get_forces(), silicon(crystal).forces.numpy(), atol=1e-9)
    assert crystal.calc.builds == few + 1


def test_other_atoms_need_another_list(silicon: Model, pairs: Model, crystal: Atoms, carbide: Atoms) -> None:
    calculator = pairs.calculator()
    for atoms in (crystal, carbide, ase.build.bulk("SiC", "zincblende", a=4.3), crystal):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(float(pairs(atoms).energy[0]), rel=1e-12)
    carbide.symbols[:] = ["C", "Si"]
    assert carbide.get_potential_energy() == pytest.approx(float(pairs(carbide).energy[0]), rel=1e-12)
    crystal.calc = silicon.calculator()
    crystal.get_potential_energy()
    crystal.pbc = [True, True, False]
    assert crystal.get_potential_energy() == pytest.approx(float(silicon(crystal).energy[0]), rel=1e-12)


def test_stress_of_a_molecule_is_refused(silicon: Model) -> None:
    molecule = Atoms("Si2", [[0, 0, 0], [2.3, 0, 0]])
    molecule.calc = silicon.calculator()
    assert molecule.get_potential_energy() < 0
    with pytest.raises(composer.DataError, match="no volume") as caught:
        molecule.get_stress()
    assert isinstance(caught.value, PropertyNotImplementedError)


def test_unknown_species_and_bad_skin(silicon: Model, carbide: Atoms) -> None:
    carbide.calc = silicon.calculator()
    with pytest.raises(composer.DataError, match="C"):
        carbide.get_potential_energy()
    with pytest.raises(composer.DataError, match="skin"):
        silicon.calculator(skin=-1.0)
    with pytest.raises(composer.DataError, match="grades"):
        silicon.calculator(grades="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("strange", ["Si", None, [1.0, 2.0], 3])
def test_what_is_no_structure_is_refused(silicon: Model, strange: object) -> None:
    with pytest.raises(DataError, match="ase.Atoms"):
        silicon(strange)


def test_values_of_parameters_that_do_not_fit_are_refused(silicon: Model) -> None:
    name = "StillingerWeber.sigma"
    for values, words in (({name: "a"}, "no numbers"), ({name: [1.0, 2.0]}, "2 numbers"), (torch.zeros(3), "free numbers")):
        with pytest.raises(AlgebraError, match=words):
            silicon.with_parameters(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "symbols"), [("Si", "['Si']"), ("SiGe", "['Si', 'Ge']"), ("si", "['Si']")])
def test_species_are_a_list(text: str, symbols: str) -> None:
    with pytest.raises(DataError) as caught:
        composer.compile(Pair(cutoff=5.0), species=text)
    assert f"species={symbols}" in str(caught.value)


def test_positions_that_are_not_finite_are_refused(silicon: Model, crystal: Atoms) -> None:
    crystal.calc = silicon.calculator()
    crystal.get_potential_energy()
    crystal.positions[3, 1] = np.nan
    with pytest.raises(composer.DataError, match="Atom 3"):
        crystal.get_potential_energy()


def test_warns_of_extrapolation_once_for_each_set_of_atoms(pairs: Model, carbide: Atoms) -> None:
    model = pairs.with_parameters({})
    model.domain = {"C-Si": 1.5, "C-C": 2.0}
    carbide.calc = model.calculator()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        carbide.get_potential_energy()
    carbide.positions[1] -= 0.3 * (carbide.positions[1] - carbide.positions[0])
    with pytest.warns(ExtrapolationWarning, match=r"C-Si pairs at 1\.\d+ Å") as caught:
        carbide.get_potential_energy()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        carbide.positions[1] += [0.01, 0.0, 0.0]
        carbide.get_potential_energy()
    larger = carbide.repeat((2, 1, 1))
    larger.calc = carbide.calc
    with pytest.warns(ExtrapolationWarning):
        larger.get_potential_energy()


def test_shortest_distances_of_batches(pairs: Model, carbide: Atoms) -> None:
    found = shortest_distances([pairs.prepare(carbide), pairs.prepare(carbide.repeat((1, 2, 1)))], pairs.species)
    distances = carbide.repeat(3).get_all_distances(mic=True) + 1e3 * np.eye(54)
    kinds = np.array(carbide.repeat(3).symbols)
    for name, r in found.items():
        a, b = name.split("-")
        assert r == pytest.approx(distances[np.ix_(kinds == a, kinds == b)].min())
    assert set(found) == {"C-C", "C-Si", "Si-Si"}


def test_the_calculator_travels(silicon: Model, crystal: Atoms) -> None:
    import pickle

    crystal.calc = silicon.calculator()
    energy = crystal.get_potential_energy()
    copy = pickle.loads(pickle.dumps(silicon)).calculator()
    crystal.calc = copy
    assert crystal.get_potential_energy() == energy
