"""A model on a device, by torch's rules of devices: nothing joins tensors of two devices, and a call waits for nothing. The device is pretended."""

from __future__ import annotations

import pytest
import torch

import composer
from composer import longrange
from composer.fit.adam import Adam
from composer.fit.training import Recipe
from composer.model import Model
from composer.model.device import DeviceModel
from terms import NEP, Morse
from tests.cuda.conftest import close, crystal, model_of
from tests.cuda.pretend import THERE, device
from tests.cuda.shim import shim
from tests.cuda.test_fit import data_of


@pytest.mark.parametrize("name", ["Morse", "stages", "Coulomb", "NEP with the far field"])
def test_a_call_waits_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    structures = [crystal(model.species, 0), crystal(model.species, 1)]
    expected = model(structures)
    with device(monkeypatch) as waits:
        placed = DeviceModel(model, THERE, "float64", build=shim)
        batch = placed.prepare(structures, skin=0.5)
        evaluation = placed.evaluation(batch)
        assert waits  # making a list waits, and so does the choice of meshes
        waits.clear()
        evaluation.run()
        batch.look()
        found = evaluation.energy, evaluation.forces, evaluation.virial
        stress = placed(batch).stress
        assert not waits, waits
        assert all(t.device == THERE for t in (*found, stress))
        for ours, wanted in zip((*found, stress), (expected.energy, expected.forces, expected.virial, expected.stress), strict=True):
            close(ours.cpu(), wanted)


@pytest.mark.parametrize("name", ["Morse", "stages"])
def test_derivatives_stay_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    structures = [crystal(model.species, 0), crystal(model.species, 1)]
    expected = model.jacobian(structures)
    with device(monkeypatch) as waits:
        placed = DeviceModel(model, THERE, "float64", build=shim)
        batch = placed.prepare(structures)
        close(placed.jacobian(batch).energy.cpu(), expected.energy)
        x, h = batch.positions.clone().requires_grad_(), batch.cells.clone().requires_grad_()
        theta = placed.theta.to(THERE).requires_grad_()
        placed.call(batch, x, h, theta)
        waits.clear()
        out = placed.call(batch, x, h, theta)
        assert not waits, waits
        (out.energy.sum() + 0.0 * out.forces.sum() + 0.0 * out.virial.sum()).backward()  # zeros that torch makes itself would be here
        close(theta.grad.cpu(), expected.energy.sum(0))
        close(placed.along(batch, torch.ones(placed.size)).energy.cpu(), expected.energy.sum(1))


def test_fits_and_fisher_information_join_no_tensors_of_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, network = (
        Model(Morse(cutoff=4.5), ("Si",)),
        Model(NEP(cutoff=(4, 3.5), n_max=(0, 0), basis=(2, 2), l_max=(1, 0, 0), neurons=2), ("Si",)),
    )
    data = data_of(pair.with_parameters(1.1 * pair.theta + 0.05), 6)
    with device(monkeypatch):
        fitted = composer.fit(DeviceModel(pair, THERE, "float64", build=shim), data, quiet=True)
        assert isinstance(fitted.model, DeviceModel) and fitted.model.device == THERE
        assert composer.fisher(fitted.model, data).condition > 0
        trained = Adam(
            DeviceModel(network, THERE, "float32", build=shim), data.frames[:4], data.frames[4:], Recipe(epochs=1, batch=2)
        ).run()
        assert isinstance(trained.model, DeviceModel)


@pytest.mark.parametrize("method, periodic", [("mesh", 3), ("ewald", 3), ("auto", 2), ("auto", 1), ("auto", 0)])
def test_a_long_range_sum_waits_for_nothing(method: str, periodic: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make = torch.Generator().manual_seed(0)
    x, h = 10 * torch.rand(64, 3, generator=make, dtype=torch.float64), 10 * torch.eye(3, dtype=torch.float64)
    q = torch.tensor([1.0, -1.0] * 32, dtype=torch.float64)
    options = {"accuracy": 1e-4, "method": method, "periodic": [n < periodic for n in range(3)]}
    expected = longrange.prepare(x, h, **options).evaluate(x, q, h)
    with device(monkeypatch) as waits:
        there, charges, cells = x.to(THERE), q.to(THERE), h[None].to(THERE)
        sums = longrange.prepare(there, cells, **options)
        waits.clear()
        values, _ = sums(sums.sites.at(there, cells), charges)  # what the operator of `evaluate` calls
        assert not waits, waits
        close(-0.5 * values.x.cpu(), expected.forces, 1e-9)
