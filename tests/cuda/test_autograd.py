"""A model on a device inside torch: kernels of CUDA text, run by the shim, against the derivatives of the CPU's autograd seam."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor
from torch.func import jvp

from composer.autograd import Outputs
from composer.errors import AlgebraError
from composer.model import Model
from composer.model.device import DeviceModel
from tests.cuda.conftest import close, crystal, model_of
from tests.cuda.shim import shim

NAMES = ("Morse", "StillingerWeber", "stages", "NEP", "Coulomb, learned")


def structures(species: tuple[str, ...]) -> list[Atoms]:
    """A crystal, a sheet with an oblique cell, a molecule."""
    sheet = crystal(species, 1)
    sheet.pbc = (True, True, False)
    molecule = Atoms([species[n % len(species)] for n in range(4)], 1.2 * np.eye(4, 3) + 0.1)
    return [crystal(species, 0), sheet, molecule]


def loss_of(out: Outputs) -> Tensor:
    """Not linear in any output, and not symmetric in the virial."""
    weights = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)
    return (
        (out.energy**2).sum() + (out.forces**2).sum() + (weights * out.virial).sin().sum() + out.energies.cos().sum() + out.forces[1].sum()
    )


def both(name: str) -> list[tuple[Model, Callable[[Tensor, Tensor, Tensor], Outputs], tuple[Tensor, Tensor, Tensor]]]:
    """The model on the CPU and on the device, each with its function and the point at which both are looked at."""
    host = model_of(name)
    found = []
    for model in (host, DeviceModel(host, "cpu", "float64", build=shim)):
        batch = model.prepare(structures(model.species), skin=0.5)
        make = torch.Generator().manual_seed(0)
        x, h = (t + 0.02 * torch.randn(t.shape, generator=make, dtype=torch.float64) for t in (batch.positions, batch.cells))
        found.append((model, lambda x, h, p, model=model, batch=batch: model.call(batch, x, h, p), (x, h, model.theta)))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_slopes_by_positions_cells_and_numbers_are_those_of_the_cpu(name: str) -> None:
    found = []
    for _, function, point in both(name):
        leaves = [t.clone().requires_grad_() for t in point]
        out = function(*leaves)
        found.append([*(t.detach() for t in out), *torch.autograd.grad(loss_of(out), leaves)])
    for ours, expected in zip(found[1], found[0], strict=True):
        close(ours, expected, 1e-11)


@pytest.mark.parametrize("name", NAMES[1:2])
def test_tangents_along_all_of_them_are_those_of_the_cpu(name: str) -> None:
    make = torch.Generator().manual_seed(1)
    (_, on_host, point), (_, on_device, _) = both(name)
    along = tuple(torch.randn(t.shape, generator=make, dtype=torch.float64) for t in point)
    for ours, expected in zip(jvp(on_device, point, along)[1], jvp(on_host, point, along)[1], strict=True):
        close(ours, expected, 1e-11)


def test_a_module_on_the_device_learns() -> None:
    model = DeviceModel(model_of("Morse"), "cpu", "float64", build=shim)
    batch = model.prepare(crystal(model.species, 0))
    module = model.as_module()
    energy = module(batch).energy
    ((energy - 1.0) ** 2).sum().backward()
    with torch.no_grad():
        for table in module.parameters():
            if table.grad is not None:
                table -= 1e-4 * table.grad / table.grad.abs().max()
    after = module(batch).energy.detach()
    assert abs(float(after) - 1.0) < abs(float(energy.detach()) - 1.0)
    close(module.model()(batch).energy, after)


def test_a_second_derivative_is_refused_there_too() -> None:
    _, function, (x, h, theta) = both("Morse")[1]
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(x, h, theta).energy.sum(), x, create_graph=True)
    with pytest.raises(AlgebraError, match="order 2"):
        slope.sum().backward()
