"""Charges of least energy (acceptance 24 and 25)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer import longrange
from composer.errors import DataError
from composer.longrange import COULOMB
from tests.longrange.systems import F64, random_cell, salt

X, _, H = random_cell(6, seed=4)
CHI = torch.tensor([2.0, -1.0, 0.5, 3.0, -2.0, 0.1], dtype=F64)
ETA = torch.tensor([40.0, 35.0, 50.0, 42.0, 38.0, 45.0], dtype=F64)


def sums(**options) -> longrange.Sum:
    return longrange.prepare(X, H, accuracy=1e-12, method="ewald", net="background", **options)


def test_they_equal_a_dense_solve() -> None:
    """Acceptance 24: residual of the conditions of the minimum, total charge, dense solution."""
    found = longrange.equilibrate(sums(), X, CHI, ETA, total=0.7)
    matrix = COULOMB * sums().potential(X, torch.eye(6, dtype=F64), H) + torch.diag(ETA)
    bordered = torch.zeros(7, 7, dtype=F64)
    bordered[:6, :6], bordered[6, :6], bordered[:6, 6] = matrix, 1.0, 1.0
    wanted = torch.linalg.solve(bordered, torch.cat([-CHI, torch.tensor([0.7], dtype=F64)]))
    assert float((found.charges - wanted[:6]).abs().max()) < 1e-10
    slope = CHI + matrix @ found.charges
    assert float((slope - slope.mean()).abs().max()) < 1e-10 and abs(float(found.charges.sum()) - 0.7) < 1e-13
    assert 1 <= found.iterations <= 12


def test_forces_and_slopes_are_those_of_the_minimum() -> None:
    """Acceptance 24: by finite differences, of the energy and of the charges themselves."""
    s, step = sums(), 1e-4

    def both(x: Tensor, chi: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        found = longrange.equilibrate(s, x, chi, eta)
        return found.energy.sum(), (found.charges * torch.arange(6, dtype=F64)).sum()

    for which in (0, 1):
        leaves = [t.clone().requires_grad_() for t in (X, CHI, ETA)]
        slopes = torch.autograd.grad(both(*leaves)[which], leaves)
        for n, place in ((0, (2, 1)), (1, (3,)), (2, (5,))):
            ends = []
            for sign in (1, -1):
                moved = [t.clone() for t in (X, CHI, ETA)]
                moved[n][place] += sign * step
                ends.append(float(both(*moved)[which]))
            assert abs((ends[0] - ends[1]) / (2 * step) - float(slopes[n][place])) < 1e-6


def test_many_structures_and_meshes() -> None:
    """Acceptance 25: the number of products is told, a batch equals its structures, a mesh the sum over k."""
    x, q, h = salt(2)
    chi, eta = 2.0 * q + 0.1 * x[:, 0], torch.full_like(q, 30.0)
    alone = longrange.equilibrate(longrange.prepare(x, h, accuracy=1e-10, method="ewald"), x, chi, eta)
    mesh = longrange.equilibrate(longrange.prepare(x, h, accuracy=1e-11, method="mesh"), x, chi, eta)
    assert float((alone.charges - mesh.charges).abs().max()) < 1e-8
    two = longrange.prepare(torch.cat([x, x]), torch.stack([h, h]), accuracy=1e-10, method="ewald", offsets=torch.tensor([0, 64, 128]))
    both = longrange.equilibrate(two, torch.cat([x, x]), torch.cat([chi, -chi]), torch.cat([eta, eta]))
    assert float((both.charges - torch.cat([alone.charges, -alone.charges])).abs().max()) < 1e-11
    assert float(alone.charges.abs().max()) > 0.01 and alone.iterations > 3


@pytest.mark.parametrize("method", ["ewald", "mesh"])
def test_splines_and_phases_that_are_kept_change_nothing(method: str) -> None:
    """Acceptance 25: in plain torch what depends on positions is worked out once; the compiled sums keep nothing."""
    x, q, h = salt(2)
    sums = longrange.prepare(x, h, accuracy=1e-6, method=method, plain=True)
    sites = sums.sites.at(x, h[None])
    kept = sums.fixed(sites)
    for charges in (q, x[:, 0], q * x[:, 1]):
        one, other = kept(sites, charges)[0], sums(sites, charges)[0]
        assert all(float((a - b).abs().max()) <= 1e-13 * float(b.abs().max()) for a, b in zip(one, other))
    chi, eta = 2.0 * q + 0.1 * x[:, 0], torch.full_like(q, 30.0)
    found, wanted = (
        longrange.equilibrate(longrange.prepare(x, h, accuracy=1e-6, method=method, plain=p), x, chi, eta) for p in (True, False)
    )
    assert float((found.charges - wanted.charges).abs().max()) < 1e-13 and found.iterations == wanted.iterations > 3


def test_energies_without_a_minimum_are_refused() -> None:
    with pytest.raises(DataError, match="falls without end"):
        longrange.equilibrate(sums(), X, CHI, 0.01 * ETA)
