"""Central differences of what a model says: forces, stress, parameter gradients and Jacobians (acceptance 5, 8, 9)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from composer.autograd import call
from composer.neighbors import update
from tests.laws.subjects import TOLERANCE, Subject, assert_close, assert_columns, random

STEP = 1e-4


def assert_slope(slope: Tensor, ahead: Tensor, behind: Tensor, step: float) -> None:
    """A slope equals a central difference, within its truncation and its rounding."""
    wanted = (ahead - behind) / (2 * step)
    rounding = 1e-14 * max(float(ahead.abs().max()), 1.0) / step
    largest = float(wanted.abs().max())
    assert largest > 1e-6, "the slope is zero"
    assert float((slope - wanted).abs().max()) <= TOLERANCE["difference"] * largest + rounding


def smooth_step(subject: Subject) -> float:
    """A step short enough for terms that end with a jump of their slope or curvature."""
    return STEP * (1.0 if min(t.smoothness for t in subject.expression.terms()) >= 2 else 0.1)


def test_forces_are_minus_the_slopes_of_the_energy(subject: Subject) -> None:
    x, step = subject.batch.positions, smooth_step(subject)
    forces = subject.model(subject.batch).forces
    home = torch.repeat_interleave(torch.arange(subject.batch.structures), subject.batch.offsets.diff())
    for seed in range(3):
        w = random(*x.shape, seed=seed)
        slope = torch.zeros(subject.batch.structures, dtype=torch.float64).index_add(0, home, -(w * forces).sum(1))
        assert_slope(slope, subject.energy(x + step * w), subject.energy(x - step * w), step)


def test_stress_is_the_slope_by_strain(subject: Subject) -> None:
    """With a strain that is not symmetric: E does not change with the turn that is in it."""
    batch, step = subject.batch, smooth_step(subject)
    found, home = subject.model(batch), torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    assert_close(found.virial, found.virial.transpose(1, 2), "symmetry")
    g, one = random(batch.structures, 3, 3, seed=1) / 3, torch.eye(3, dtype=torch.float64)

    def strained(by: float) -> Tensor:
        f = one + by * g
        return subject.energy(torch.einsum("na,nab->nb", batch.positions, f[home]), batch.cells @ f)

    assert_slope(-(found.virial * g).sum((1, 2)), strained(step), strained(-step), step)
    whole = batch.pbc.all(1)
    stress = -found.virial[whole] / torch.linalg.det(batch.cells[whole]).abs()[:, None, None]
    assert_close(stress, subject.expected.stress[whole], "reference")
    periodic = dataclasses.replace(found, batch=dataclasses.replace(batch, pbc=torch.ones_like(batch.pbc)))
    assert_close(periodic.stress[whole], stress, "identity")


def test_jacobian_is_the_slope_by_each_parameter(subject: Subject) -> None:
    """Along a random direction of all free numbers; each column by itself against forward mode below."""
    model, batch = subject.model, subject.batch
    jacobian = model.jacobian(batch)
    v = random(model.size, seed=2) * model.theta.abs()
    step = 1e-5
    ahead, behind = (model.with_parameters(model.theta + s * step * v)(batch) for s in (1, -1))
    assert_slope(jacobian.energy @ v, ahead.energy, behind.energy, step)
    assert_slope(model.site_jacobian(batch) @ v, ahead.energies, behind.energies, step)
    if model.size > len(model.species):  # beyond E0
        assert_slope(jacobian.forces @ v, ahead.forces, behind.forces, step)
        assert_slope(jacobian.virial @ v, ahead.virial, behind.virial, step)


def test_columns_equal_forward_mode(subject: Subject) -> None:
    """Acceptance 9: three kernels (columns, tangent, gradient) say the same, and it is not zero."""
    model, batch = subject.model, subject.batch
    jacobian = model.jacobian(batch)
    forward = torch.func.jacfwd(lambda theta: call(model, batch, batch.positions, batch.cells, theta))(model.theta)
    beyond = 1e-8 if model.size > len(model.species) else 0.0
    assert_columns(jacobian.energy, forward.energy, model.theta)
    assert_columns(jacobian.forces, forward.forces, model.theta, beyond)
    assert_columns(jacobian.virial, forward.virial, model.theta, beyond)
    weights = random(*batch.positions.shape, seed=3)
    backward = torch.func.grad(lambda theta: (weights * call(model, batch, batch.positions, batch.cells, theta).forces).sum())(model.theta)
    assert_columns(backward[None], torch.einsum("na,nap->p", weights, jacobian.forces)[None], model.theta, beyond)


def test_jacobian_of_weighted_site_energies(subject: Subject) -> None:
    """Columns of sum_i s_i e_i, from which the search ranks products."""
    model, batch = subject.model, subject.batch
    seeds = 1 + 0.3 * random(batch.atoms, seed=5)
    jacobian = model.jacobian(batch, seeds)
    energies = torch.func.jacfwd(lambda theta: call(model, batch, batch.positions, batch.cells, theta).energies)(model.theta)
    home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    wanted = torch.zeros(batch.structures, model.size, dtype=torch.float64).index_add(0, home, seeds[:, None] * energies)
    assert_close(jacobian.energy, wanted, "gradient")


def test_hessians_are_symmetric(subject: Subject) -> None:
    """Acceptance 7: w1 . H w2 = w2 . H w1, forward and in reverse."""
    batch, model = subject.batch, subject.model
    w1, w2 = random(batch.atoms, 3, seed=7), random(batch.atoms, 3, seed=8)

    def forces(x: Tensor) -> Tensor:
        return call(model, batch, x, batch.cells).forces

    (_, along), (_, pull) = torch.func.jvp(forces, (batch.positions,), (w1,)), torch.func.vjp(forces, batch.positions)
    assert_close(along, pull(w1)[0], "gradient")
    step = smooth_step(subject) * 0.1
    ahead, behind = (model(update(batch, batch.positions + s * step * w1)).forces for s in (1, -1))
    if min(t.smoothness for t in subject.expression.terms()) >= 1:
        assert_slope(along, ahead, behind, step)
    assert abs(float((w2 * along).sum() - (w1 * pull(w2)[0]).sum())) < 1e-10 * float(along.abs().max())
