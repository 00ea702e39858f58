"""Covariances of networks by the last layer and by all numbers, and extrapolation grades."""

from __future__ import annotations

import pickle

import ase.build
import numpy as np
import pytest
import torch

import composer
from composer.data import Data
from composer.errors import DataError
from composer.fisher import FisherReport, fisher
from composer.fisher.grades import sites
from composer.fit.training import Recipe, train
from composer.model import Model
from terms import StillingerWeber

RIDGE = 1e-6


@pytest.fixture(scope="module")
def fitted(model: Model, frames: list) -> Model:
    return train(model, frames[:8], (), Recipe(epochs=4, batch=4, ridge=RIDGE), method="newton").model


@pytest.fixture(scope="module")
def last(fitted: Model, frames: list) -> FisherReport:
    return fisher(fitted, Data(frames[:8]), parameters="last layer")


def test_the_last_layer_is_what_enters_linearly(last: FisherReport, fitted: Model, frames: list) -> None:
    """E0 and the output weights; their Jacobian is that of the whole model, and the energy is linear in them."""
    names = last.model.parameter_names
    assert len(names) == 1 + 6 and names[0].startswith("E0") and all("output" in n for n in names[1:])
    inside = np.isin(fitted.parameter_names, names)
    part, full = last.model.jacobian(frames[:2]), fitted.jacobian(frames[:2])
    torch.testing.assert_close(part.forces, full.forces[..., inside], rtol=1e-9, atol=1e-12)
    theta = last.model.theta
    doubled = last.model.with_parameters(2 * theta)(frames[:1])
    torch.testing.assert_close(doubled.forces, 2 * last.model(frames[:1]).forces, rtol=1e-9, atol=1e-12)


def test_the_last_layer_travels(last: FisherReport) -> None:
    there = pickle.loads(pickle.dumps(last.model))
    assert there.parameter_names == last.model.parameter_names and torch.equal(there.theta, last.model.theta)


@pytest.mark.parametrize("parameters", ["last layer", "all"])
def test_error_bars_grow_away_from_the_data(fitted: Model, frames: list, parameters: str) -> None:
    """Deviations of forces in strongly disordered silicon exceed those near the data."""
    report = fisher(fitted, Data(frames[:8]), parameters=parameters)
    root = report.covariance_root
    assert root.shape[0] == report.model.size and np.isfinite(root).all()

    def deviation(structure: object) -> float:
        forces = report.model.jacobian([structure]).forces.numpy()
        return float(np.median(np.linalg.norm(forces @ root, axis=-1)))

    assert deviation(_disordered()) > 1.5 * deviation(frames[9]) > 0


def test_grades(last: FisherReport, frames: list) -> None:
    """At most 1 on the training atoms, near 1 on their like, above 1 far away; the definition by dense algebra."""
    rows = np.concatenate([sites(last.model, [f]) for f in frames[:8]])
    inverse = np.linalg.inv(rows.T @ rows)
    dense = np.sqrt(np.einsum("np,pq,nq->n", rows, inverse, rows))
    found = np.concatenate([last.grades([f]) for f in frames[:8]])
    np.testing.assert_allclose(found, dense / dense.max(), rtol=1e-4)
    assert found.max() == pytest.approx(1.0) and last.grades(_disordered()).max() > 3


def test_the_calculator_tells_grades(last: FisherReport, frames: list) -> None:
    atoms = _disordered()
    atoms.calc = last.model.calculator(grades=last.grades)
    atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.calc.results["grades"], last.grades(atoms), rtol=1e-6)
    atoms.rattle(0.05, seed=3)
    atoms.get_forces()
    np.testing.assert_allclose(atoms.calc.results["grades"], last.grades(atoms), rtol=1e-6)


def test_unknown_parameters_are_refused(fitted: Model, frames: list) -> None:
    with pytest.raises(DataError, match="last layer"):
        composer.fisher(fitted, Data(frames), parameters="first layer")
    with pytest.raises(DataError, match="Nothing in StillingerWeber.* enters linearly"):
        composer.fisher(Model(StillingerWeber(), ["Si"]), Data(frames), parameters="last layer")


def _disordered() -> ase.Atoms:
    atoms = ase.build.bulk("Si", "diamond", a=5.2, cubic=True)
    atoms.rattle(0.5, seed=1)
    return atoms
