"""Fits and Fisher information of models on a device: kernels of CUDA text, run by the shim, against the same fits on the CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import composer
from analysis import factorize
from composer.data import Data, Frame
from composer.fit.adam import Adam
from composer.fit.first_order import loss_and_gradient
from composer.fit.newton import Newton
from composer.fit.rows import Problem, reduced
from composer.fit.training import Recipe
from composer.model import Model
from composer.model.device import DeviceModel
from terms import NEP, Morse, Pair
from tests.cuda.conftest import close, crystal
from tests.cuda.shim import shim

WEIGHTS = composer.Weights(0.01, 0.1, 0.05, relative=0.2)


def data_of(model: Model, count: int) -> Data:
    """Crystals labelled by a model of numbers of its own; some labels are missing, and what is there has noise."""
    random, frames = np.random.default_rng(0), []
    for n in range(count):
        atoms = crystal(model.species, n)
        found = model(atoms)
        forces = found.forces.numpy() + 0.02 * random.normal(size=(8, 3))
        stress = found.stress[0].numpy() if n % 3 else None
        frames.append(
            Frame(tuple(atoms.symbols), atoms.positions, atoms.cell[:], atoms.pbc, float(found.energy[0]), forces, stress, index=n)
        )
    return Data([replace(frames[0], forces=None), *frames[1:]], model.species)


def there(model: Model) -> DeviceModel:
    return DeviceModel(model, "cpu", "float64", build=shim)


@pytest.fixture(scope="module")
def pairs() -> tuple[Model, Data]:
    """Linear and nonlinear numbers of two species, and data."""
    model = Model(Pair(cutoff=4.0, n_max=3) + Morse(cutoff=4.0), ("Si", "C"))
    wanted = model.with_parameters(model.theta + 0.1 * torch.randn(model.size, generator=torch.Generator().manual_seed(0)).abs())
    return model, data_of(wanted, 8)


@pytest.fixture(scope="module")
def network() -> tuple[Model, Data]:
    model = Model(NEP(cutoff=(4, 3.5), n_max=(1, 1), basis=(3, 3), l_max=(2, 0, 0), neurons=3), ("Si",))
    make = torch.Generator().manual_seed(0)
    model = model.with_parameters(0.5 * torch.randn(model.size, generator=make, dtype=torch.float64))
    return model, data_of(model.with_parameters(1.1 * model.theta), 8)


def test_a_qr_of_tensors_is_the_factor_of_their_rows() -> None:
    make = torch.Generator().manual_seed(0)
    for rows in (3, 50):
        matrix, rhs = torch.randn(rows, 6, generator=make, dtype=torch.float64), torch.randn(rows, generator=make, dtype=torch.float64)
        ours, expected = reduced(matrix, rhs), factorize(matrix.numpy(), rhs.numpy())
        np.testing.assert_allclose(ours.information, expected.information, atol=1e-12)
        for step in (np.zeros(6), np.ones(6)):
            np.testing.assert_allclose(ours.chi2(step), expected.chi2(step), rtol=1e-12)
        assert ours.rows == expected.rows


@pytest.mark.parametrize("method", ["linear", "varpro"])
def test_least_squares_find_the_numbers_of_the_cpu(method: str) -> None:
    model = Model(Pair(cutoff=4.0, n_max=3), ("Si", "C")) if method == "linear" else Model(Morse(cutoff=4.5), ("Si",))
    data = data_of(model.with_parameters(1.1 * model.theta + 0.05), 8)
    ours, expected = (composer.fit(m, data, WEIGHTS, method=method, folds=2, quiet=True) for m in (there(model), model))
    assert isinstance(ours.model, DeviceModel)
    close(ours.model.theta, expected.model.theta, 1e-8)
    assert ours.cv is not None and expected.cv is not None
    np.testing.assert_allclose(ours.cv.error("forces"), expected.cv.error("forces"), atol=1e-8)
    assert ours.model.domain == pytest.approx(expected.model.domain, abs=1e-12)


def test_the_loss_of_fits_by_gradients_and_its_slope_are_those_of_the_cpu(pairs: tuple[Model, Data]) -> None:
    model, data = pairs
    found = []
    for m in (there(model), model):
        problem = Problem(m, data.frames, WEIGHTS, offset=True)
        found.append(loss_and_gradient(problem, problem.start() + 0.01))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-11)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-10 * np.abs(found[1][1]).max())


@pytest.mark.parametrize("method", [Adam, Newton])
def test_epochs_are_those_of_the_cpu(network: tuple[Model, Data], method: type[Adam] | type[Newton]) -> None:
    model, data = network
    recipe = Recipe(epochs=3, batch=3, virial=1.0)
    ours, expected = (method(m, data.frames[:6], data.frames[6:], recipe).run() for m in (there(model), model))
    assert isinstance(ours.model, DeviceModel)
    close(ours.model.theta, expected.model.theta, 1e-8)
    for mine, other in zip(ours.history, expected.history, strict=True):
        assert mine.loss == pytest.approx(other.loss, rel=1e-8) and mine.validation == pytest.approx(other.validation, rel=1e-8)


def test_a_fit_by_epochs_ends_with_a_model_on_the_device_that_a_file_holds(network: tuple[Model, Data], tmp_path) -> None:
    model, data = network
    fitted = composer.fit(there(model), data, epochs=2, method="adam", quiet=True)
    assert isinstance(fitted.model, DeviceModel) and fitted.model.domain
    read = composer.read_model(fitted.model.save(tmp_path / "model.json"))
    close(read(data.frames[0]).forces, fitted.model(data.frames[0]).forces, 1e-11)


def test_the_fisher_report_is_that_of_the_cpu(pairs: tuple[Model, Data]) -> None:
    model, data = pairs
    ours, expected = (composer.fisher(m, data) for m in (there(model), model))
    close(torch.from_numpy(ours.information), torch.from_numpy(expected.information), 1e-10)
    assert ours.n_eff == pytest.approx(expected.n_eff, rel=1e-6) and ours.gauge_dimension == expected.gauge_dimension
    close(torch.from_numpy(ours.error_bars(data.frames[:2]).forces), torch.from_numpy(expected.error_bars(data.frames[:2]).forces), 1e-6)
    np.testing.assert_allclose(ours.grades(data.frames[0]), expected.grades(data.frames[0]), rtol=1e-8)
