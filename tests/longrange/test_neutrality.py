"""Raw totals of learned charges: told, and drawn to zero where a fit is asked to (far fragments are additive then)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import composer
from composer.errors import DataError
from composer.longrange import COULOMB
from composer.model import Model
from composer.model.totals import raw_totals
from terms import Charges, Coulomb, Density, Pair

CHARGE = {"Na": 0.9, "Cl": -0.9, "O": -0.6, "H": 0.3}
MODEL = Model(Pair(cutoff=3.0, n_max=1) + Coulomb(Charges(learn="per species"), accuracy=1e-4, damping=0.0), ["Na", "Cl", "O", "H"])


def labelled(symbols: str, positions: np.ndarray) -> Atoms:
    """A molecule with the energy and forces of known charges alone."""
    atoms = Atoms(symbols, positions)
    q, d = np.array([CHARGE[s] for s in atoms.symbols]), positions[:, None] - positions[None]
    r = np.linalg.norm(d, axis=-1) + np.eye(len(q))
    pairs = COULOMB * q[:, None] * q / r * (1 - np.eye(len(q)))
    atoms.calc = SinglePointCalculator(atoms, energy=pairs.sum() / 2, forces=(pairs / r**2)[..., None].repeat(3, -1).__mul__(d).sum(1))
    return atoms


@pytest.fixture(scope="module")
def molecules() -> list[Atoms]:
    """Pairs of ions and bent molecules of three, never together."""
    random, found = np.random.default_rng(0), []
    salt, water = np.array([[0, 0, 0], [3.4, 0, 0.0]]), np.array([[0, 0, 0], [3.3, 0, 0], [-1.0, 3.2, 0.0]])
    for n in range(8):
        found.append(labelled("NaCl", salt * (1 + 0.05 * n)))
        found.append(labelled("OH2", water * (1 + 0.05 * n) + random.normal(scale=0.05, size=(3, 3))))
    return found


def apart(model: Model, a: Atoms, b: Atoms) -> float:
    """How much the energy of two molecules 300 Å apart is more than theirs alone, eV."""
    both = a + Atoms(b.symbols, b.positions + [0.0, 0.0, 300.0])
    return float(model(both).energy) - float(model(a).energy) - float(model(b).energy)


def test_far_fragments_are_additive(molecules: list[Atoms]) -> None:
    """With the raw totals drawn to zero; without, the data leave them free and two far molecules feel each other."""
    weights = composer.Weights(energy=0.001, forces=0.01, stress=None)
    start = MODEL.with_parameters({"Coulomb.Charges.charge": [0.7, -0.5, -0.3, 0.4]})
    found = [
        composer.fit(start, composer.read_data(molecules, quiet=True), weights, quiet=True, ridge=1e-12, folds=0, neutrality=q)
        for q in (None, 1e-3)
    ]
    for fitted in found:
        assert fitted.train.energy.rmse < 1e-3 and "raw total of Coulomb.Charges" in str(fitted)
    free, held = (fitted.model for fitted in found)
    assert max(abs(t) for t in raw_totals(free, molecules)["Coulomb.Charges"]) > 0.01 and abs(apart(free, *molecules[:2])) > 1e-4
    assert max(abs(t) for t in raw_totals(held, molecules)["Coulomb.Charges"]) < 1e-5 and abs(apart(held, *molecules[:2])) < 1e-5
    assert np.allclose(np.abs(held.parameters["Coulomb.Charges.charge"].numpy()), [0.9, 0.9, 0.6, 0.3], atol=5e-3)


def test_totals_are_told(molecules: list[Atoms]) -> None:
    """By the plan that `composer info` prints; charges of the surroundings have totals too, and none where charges are given."""
    assert "structure 1: raw total of Coulomb.Charges" in MODEL.plan(molecules[:2])
    deep = Model(Coulomb(Charges(Density(cutoff=4.0))), ["Na", "Cl", "O", "H"])
    deep = deep.with_parameters(deep.theta + 0.1)
    assert abs(float(raw_totals(deep, molecules[:1])["Coulomb.Charges"][0])) > 1e-3
    assert raw_totals(Model(Coulomb(Charges({"Na": 1, "Cl": -1})), ["Na", "Cl"]), molecules[:1]) == {}


@pytest.mark.parametrize("options", [{"neutrality": 0.0}, {"neutrality": 0.1, "epochs": 2}, {"neutrality": 0.1, "method": "adam"}])
def test_what_cannot_be_held_is_refused(options: dict, molecules: list[Atoms]) -> None:
    data = composer.read_data(molecules, quiet=True)
    with pytest.raises(DataError, match="neutrality"):
        composer.fit(MODEL, data, quiet=True, **options)
    with pytest.raises(DataError, match="no charges"):
        composer.fit(Model(Pair(cutoff=3.0, n_max=1), MODEL.species), data, quiet=True, folds=0, ridge=1e-12, neutrality=0.1)
