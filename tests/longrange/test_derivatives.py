"""First and second derivatives by torch (acceptance 26 to 29)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer import longrange
from composer.errors import DataError
from composer.ops import dense
from tests.longrange.systems import F64, random_cell

X, Q, H = random_cell(5)
SUMS = {
    "ewald": {"method": "ewald", "accuracy": 1e-8},
    "mesh": {"method": "mesh", "order": 5, "mesh": (10, 10, 10), "sigma": 1.0, "cutoff": 5.0},
    "prolate": {"method": "ewald", "accuracy": 1e-8, "split": "prolate"},
    "prolate mesh": {"method": "mesh", "order": 5, "mesh": (10, 10, 10), "split": "prolate", "cutoff": 5.0, "accuracy": 1e-5},
    "slab": {"method": "ewald", "accuracy": 1e-8, "periodic": [True, True, False]},
    "wire": {"accuracy": 1e-8, "periodic": [False, True, False]},
    "dispersion": {"p": 6.0, "method": "ewald", "accuracy": 1e-6, "sigma": 1.0},
    "open": {"periodic": [False] * 3},
}


@pytest.mark.parametrize("name", SUMS)
def test_first_and_second_derivatives(name: str) -> None:
    """Acceptance 26: gradcheck and gradgradcheck by positions, charges and cell, charged and triclinic, either split."""
    sums = longrange.prepare(X, H, net="background", **SUMS[name])
    inputs = [t.clone().requires_grad_() for t in (X, Q, H)]
    assert torch.autograd.gradcheck(sums.potential, inputs, eps=1e-5, atol=1e-6, rtol=1e-5, fast_mode=True)
    assert torch.autograd.gradgradcheck(sums.potential, inputs, eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_derivatives_equal_those_of_the_oracle() -> None:
    """Acceptance 15: by autograd of the dense sum, to 1e-10."""
    found, wanted = [], []
    sums = longrange.prepare(X, H, net="background", accuracy=1e-13, method="ewald", sigma=0.9)
    for function, out in ((sums.potential, found), (dense.potential, wanted)):
        x, q, h = (t.clone().requires_grad_() for t in (X, Q, H))
        energy = (q * function(x, q, h)).sum() / 2
        first = torch.autograd.grad(energy, (x, q, h), create_graph=True)
        loss = sum((torch.sin(g) * (1 + torch.arange(g.numel(), dtype=F64).reshape(g.shape))).sum() for g in first)
        out += [*first, *torch.autograd.grad(loss, (x, q, h))]
    for a, b in zip((t.detach() for t in found), (t.detach() for t in wanted)):
        assert float((a - b).abs().max()) < 1e-10 * float(b.abs().max())


def charges(x: Tensor, theta: Tensor) -> Tensor:
    """Charges that depend on the surroundings."""
    r = (x[:, None] - x[None] + torch.eye(len(x), dtype=F64)[..., None]).norm(dim=-1)
    return torch.tanh(theta[0] * torch.exp(-r).sum(1)) - theta[1]


def test_gradient_of_a_force_loss_with_charges_of_the_surroundings() -> None:
    """Acceptance 27: the composed gradient counts dq/dR once (a peer was wrong by 4 eV/Å)."""
    sums = longrange.prepare(X, H, net="background", accuracy=1e-8, method="ewald")
    theta = torch.tensor([0.8, 0.3], dtype=F64)

    def forces(x: Tensor, theta: Tensor) -> Tensor:
        q = charges(x, theta)
        return -torch.autograd.grad((q * sums.potential(x, q, H)).sum() / 2, x, create_graph=True)[0]

    def energy(x: Tensor) -> float:
        q = charges(x, theta)
        return float((q * sums.potential(x, q, H)).sum().detach() / 2)

    x = X.clone().requires_grad_()
    found, h = forces(x, theta), 1e-5
    for atom, axis in ((0, 0), (4, 2)):
        step = torch.zeros_like(X)
        step[atom, axis] = h
        assert abs((energy(X - step) - energy(X + step)) / (2 * h) - float(found.detach()[atom, axis])) < 1e-7
    loss = lambda t: (forces(X.clone().requires_grad_(), t) ** 2).sum()  # noqa: E731
    t = theta.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(t), t)
    for n in range(2):
        step = torch.eye(2, dtype=F64)[n] * 1e-5
        assert abs(float((loss(theta + step) - loss(theta - step)).detach()) / 2e-5 / float(slope[n]) - 1) < 1e-6


def test_forward_mode_and_channels() -> None:
    """Acceptance 28: columns by channels equal columns one by one; tangents are those of reverse mode, never zero."""
    sums = longrange.prepare(X, H, net="background", accuracy=1e-8, method="ewald")
    basis = torch.eye(5, dtype=F64)
    columns = sums.potential(X, basis, H)
    for n in range(5):
        assert float((columns[:, n] - sums.potential(X, basis[n], H)).abs().max()) < 1e-12
    w = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    _, tangent = torch.func.jvp(lambda x: sums.potential(x, Q, H), (X,), (w,))
    jacobian = torch.func.jacrev(lambda x: sums.potential(x, Q, H))(X)
    assert float(tangent.abs().max()) > 0.01
    assert float((torch.einsum("nia,ia->n", jacobian, w) - tangent).abs().max()) < 1e-11
    forces = torch.func.grad(lambda x: (Q * sums.potential(x, Q, H)).sum() / 2)
    _, along = torch.func.jvp(forces, (X,), (w,))
    hessian = torch.func.jacrev(forces)(X)
    assert float((torch.einsum("iajb,jb->ia", hessian, w) - along).abs().max()) < 1e-10
    assert float((hessian - hessian.permute(2, 3, 0, 1)).abs().max()) < 1e-10
    _, at_once = torch.func.jvp(lambda x: sums.evaluate(x, Q, H).forces, (X,), (w,))
    assert float((at_once + along).abs().max()) < 1e-11


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's tracer, of any autograd.Function
def test_vmap_and_compile() -> None:
    """Acceptance 29: maps over charges, torch.compile in full graph, two sums side by side."""
    one, other = (longrange.prepare(X, H, net="background", accuracy=a, method="ewald") for a in (1e-8, 1e-3))
    many = torch.randn(3, 5, dtype=F64, generator=torch.Generator().manual_seed(1))
    mapped = torch.func.vmap(lambda q: one.potential(X, q, H))(many)
    assert torch.equal(mapped, torch.stack([one.potential(X, q, H) for q in many]))
    before = one.potential(X, Q, H)
    other.potential(X, Q, H)
    assert torch.equal(one.potential(X, Q, H), before)
    compiled = torch.compile(lambda x, q: (q * one.potential(x, q, H)).sum(), backend="aot_eager", fullgraph=True)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(compiled(x, Q), x)
    assert float((slope + 2 * one.evaluate(X, Q, H).forces).abs().max()) < 1e-12


def test_third_derivatives_are_refused() -> None:
    sums = longrange.prepare(X, H, net="background")
    x = X.clone().requires_grad_()
    (first,) = torch.autograd.grad((Q * sums.potential(x, Q, H)).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum() + (first**2).sum(), x, create_graph=True)
    with pytest.raises(DataError, match="third derivative"):
        torch.autograd.grad(second.sum(), x)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_exported_programs() -> None:
    """Acceptance 29: torch.export of potentials, and of energies and forces at once; they hold as long as the sum that they name."""
    sums = longrange.prepare(X, H, net="background", accuracy=1e-8, method="ewald")

    class Both(torch.nn.Module):
        def forward(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            found = sums.evaluate(x, q, H)
            return sums.potential(x, q, H), found.energy, found.forces

    exported = torch.export.export(Both(), (X, Q)).module()
    for one, other in zip(exported(X + 0.01, Q), Both()(X + 0.01, Q), strict=True):
        assert torch.equal(one, other)
