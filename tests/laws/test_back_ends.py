"""C++ equals the reference, which shares nothing with it: values, forces, strain, and second derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from composer.autograd import call
from composer.codegen import reference
from composer.ops import dense
from tests.laws.subjects import Subject, assert_close, assert_columns, random


def test_energies_forces_and_virial_equal_the_reference(subject: Subject) -> None:
    found, wanted = subject.model(subject.batch), subject.expected
    assert_close(found.energies, wanted.energies, "reference")
    assert_close(found.forces, wanted.forces, "reference")
    assert_close(found.virial, wanted.virial, "reference")


def test_half_lists_give_the_same(subject: Subject) -> None:
    batch = subject.model.prepare(subject.structures, skin=0.1)
    assert batch.half == (subject.model.halved is not None)
    found, wanted = subject.model(batch), subject.expected
    assert_close(found.energies, wanted.energies, "reference")
    assert_close(found.forces, wanted.forces, "reference")
    assert_close(found.virial, wanted.virial, "reference")


def test_gradient_of_a_loss_on_all_outputs_equals_double_backward(subject: Subject) -> None:
    """Acceptance 6, 7 and 8: parameters, positions and strain of c_E E + c_F F + c_W W + c_e e."""
    batch, theta = subject.batch, subject.model.theta.clone().requires_grad_()
    x, h = batch.positions.clone().requires_grad_(), batch.cells.clone().requires_grad_()
    slopes = torch.autograd.grad(_loss(*call(subject.model, batch, x, h, theta)), [theta, x, h])
    wanted = _expected(subject)
    assert_columns(slopes[0][None], wanted[0][None], subject.model.theta)
    assert_close(slopes[1], wanted[1], "gradient")
    assert_close(_by_strain(subject, slopes[1], slopes[2]), wanted[2], "gradient")


def _loss(energy: Tensor, forces: Tensor, virial: Tensor, energies: Tensor) -> Tensor:
    weights = [random(*t.shape, seed=n) for n, t in enumerate((energy, forces, virial, energies))]
    return sum((w * t).sum() for w, t in zip(weights, (energy, forces, virial, energies)))  # type: ignore[return-value]


def _expected(subject: Subject) -> tuple[Tensor, ...]:
    """The same loss and its slopes by parameters, positions and strain, with torch alone."""
    model, batch = subject.model, subject.batch
    flat, x = model.flat.clone().requires_grad_(), batch.positions.clone().requires_grad_()
    strain = torch.zeros(batch.structures, 3, 3, dtype=torch.float64, requires_grad=True)
    energies = reference.site_values(model.node, batch, len(model.species), subject.tables_of(flat), {}, x, strain, dense.operate)
    by_x, by_strain = torch.autograd.grad(energies.sum(), [x, strain], create_graph=True)
    home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    energy = torch.zeros(batch.structures, dtype=torch.float64).index_add(0, home, energies)
    deformation = torch.eye(3, dtype=torch.float64) + strain  # what both slopes refer to: d = d0 (1 + strain)
    forces = -torch.einsum("na,nba->nb", by_x, torch.linalg.inv(deformation)[home])
    virial = -torch.einsum("sca,scb->sab", deformation, by_strain)
    slopes = torch.autograd.grad(_loss(energy, forces, virial, energies), [flat, x, strain])
    return slopes[0][model.free], slopes[1], slopes[2]


def _by_strain(subject: Subject, by_x: Tensor, by_h: Tensor) -> Tensor:
    batch = subject.batch
    return _structures(subject, batch.positions[:, :, None] * by_x[:, None, :]) + torch.einsum("sca,scb->sab", batch.cells, by_h)


def _structures(subject: Subject, atoms: Tensor) -> Tensor:
    home = torch.repeat_interleave(torch.arange(subject.batch.structures), subject.batch.offsets.diff())
    return torch.zeros(subject.batch.structures, 3, 3, dtype=torch.float64).index_add(0, home, atoms)
