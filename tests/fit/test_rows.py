"""Rows of a fit: the Jacobian against design matrices and differences, weights, missing observables."""

import dataclasses

import numpy as np
import pytest
import torch

from composer.data import Data
from composer.errors import DataError
from composer.fit import Weights
from composer.fit.coordinates import Coordinates
from composer.fit.rows import Problem
from composer.model import Model
from terms import Density, Morse, Pair, StillingerWeber, ThreeBody

LINEAR = Pair(cutoff=4.5, n_max=4) + ThreeBody(cutoff=4.0, n_max=2, l_max=2)
NONLINEAR = {
    "sum": Morse(cutoff=4.5) + Density(cutoff=4.0, positive=True),
    "product": Morse(cutoff=4.5) * (1 + Density(cutoff=4.0)),
    "bounded": StillingerWeber(),
}


def stacked(problem: Problem, u: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Matrix and right-hand side of every observable."""
    rows = list(problem.rows(u))
    kinds = dict.fromkeys(r.observable for r in rows)
    return (
        {o: np.concatenate([r.matrix for r in rows if r.observable == o]) for o in kinds},
        {o: np.concatenate([r.rhs for r in rows if r.observable == o]) for o in kinds},
    )


def test_fisher_01_rows_of_a_linear_model_are_its_design_matrix(shaken, label):
    model = Model(LINEAR, ["Si"])
    data = label(model, shaken(3, 1))
    problem = Problem(model, data.frames, Weights())
    matrix, _ = stacked(problem, problem.start())
    for k in range(model.size):  # column k is what the model gives with only parameter k equal to one
        alone = model.with_parameters(torch.eye(model.size, dtype=torch.float64)[k])
        result = alone(list(data))
        energy, forces = result.energy.numpy() / 8, result.forces.numpy().ravel()
        virial = -result.virial.numpy()[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]].ravel() / 8
        for observable, expected in (("energy", energy), ("forces", forces), ("stress", virial)):
            scale = np.abs(matrix[observable]).max()
            assert np.abs(matrix[observable][:, k] - expected).max() <= 1e-12 * scale
    assert all(np.abs(m).max() > 0 for m in matrix.values())


@pytest.mark.parametrize("name", NONLINEAR)
def test_fisher_02_rows_of_a_nonlinear_model_are_central_differences(name, shaken, label):
    model = Model(NONLINEAR[name], ["Si"])
    random = np.random.default_rng(2)
    data = label(model, shaken(2, 2))
    problem = Problem(model, data.frames, Weights(), offset=True)
    u = problem.start() + 0.05 * random.normal(size=problem.size)
    matrix, _ = stacked(problem, u)
    for k in range(problem.size):
        step = np.zeros(problem.size)
        step[k] = 1e-4 * max(abs(u[k]), 0.1)
        above, below = stacked(problem, u + step)[1], stacked(problem, u - step)[1]
        for observable in matrix:
            column = (below[observable] - above[observable]) / (2 * step[k])  # right-hand sides are reference minus model
            size = max(np.abs(matrix[observable][:, k]).max(), 1e-3 * np.abs(matrix[observable]).max())
            assert np.abs(matrix[observable][:, k] - column).max() <= 1e-6 * size, (observable, k)
    assert all(np.abs(m).max() > 0 for m in matrix.values())


def test_fisher_03_missing_observables_have_no_rows_and_change_nothing_else(shaken, label):
    model = Model(LINEAR, ["Si"])
    data = label(model, shaken(4, 3), noise=0.05)
    bare = dataclasses.replace(data[1], energy=None, stress=None)
    whole, less = (Problem(model, d, Weights(), True) for d in (list(data), [data[0], bare, data[2], data[3]]))
    full, some = whole.factors(whole.start(), lambda p: p), less.factors(less.start(), lambda p: p)
    assert set(full) - set(some) == {("energy", 1), ("stress", 1)}
    for key, factor in some.items():
        np.testing.assert_array_equal(factor.triangle, full[key].triangle)
    total = sum(f.information / whole.weights.scales[o] ** 2 for (o, _), f in full.items())
    assert np.abs(total - whole.joined(full).information).max() <= 1e-12 * np.abs(total).max()


def test_weights_shape_rows_by_force_kind_and_frame(silicon):
    frame = max(silicon, key=lambda f: np.abs(f.forces).max())
    plain, relative = Weights(forces=0.1), Weights(forces=0.1, relative=0.5)
    assert plain.shape("forces", frame) == 1.0
    expected = np.sqrt(0.1**2 + (0.5 * np.linalg.norm(frame.forces, axis=1)) ** 2) / 0.1
    np.testing.assert_allclose(np.asarray(relative.shape("forces", frame)).reshape(-1, 3)[:, 0], expected)
    kinds = Weights(energy=0.003, by_config_type={frame.config_type: {"energy": 0.03}})
    assert kinds.shape("energy", frame) == pytest.approx(10.0)
    assert Weights(by_config_type={frame.config_type: 4.0}).shape("energy", frame) == 0.25
    heavy = dataclasses.replace(frame, info={"importance": 2.0})
    assert Weights(per_frame="importance").shape("energy", heavy) == 0.5
    with pytest.raises(DataError, match="no number above zero"):
        Weights(per_frame="importance").shape("energy", dataclasses.replace(frame, info={"importance": "much"}))


@pytest.mark.parametrize("wrong", [{"energy": 0.0}, {"forces": -1.0}, {"energy": None, "forces": None, "stress": None}, {"relative": -1.0}])
def test_weights_that_make_no_sense_are_refused(wrong):
    with pytest.raises(DataError, match="Write for example Weights"):
        Weights(**wrong)


def test_coordinates_go_both_ways_and_know_their_slope():
    low, high = np.array([-np.inf, 0.0, -np.inf, -1.0]), np.array([np.inf, np.inf, 3.0, 1.0])
    frame, theta = Coordinates(low, high), np.array([-2.0, 0.3, 1.0, -1 / 3])
    z = frame.coordinate(theta)
    np.testing.assert_allclose(frame.theta(z), theta, rtol=1e-12)
    np.testing.assert_allclose(frame.slope(z), (frame.theta(z + 1e-6) - frame.theta(z - 1e-6)) / 2e-6, rtol=1e-6)
    far = frame.theta(np.array([50.0, -50.0, 50.0, 50.0]))
    assert np.all(far[1:] >= low[1:]) and np.all(far <= high)


def test_data_without_what_the_weights_name_are_refused(silicon):
    frames = Data([dataclasses.replace(f, stress=None) for f in silicon[:3]])
    with pytest.raises(DataError, match="No frame has an observable"):
        Problem(Model(LINEAR, ["Si"]), frames.frames, Weights(energy=None, forces=None, stress=0.1))
