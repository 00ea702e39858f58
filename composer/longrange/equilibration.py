"""Charges of least energy as functions that torch differentiates."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from composer.longrange.derivatives import PotentialBothWays, at
from composer.longrange.sums import Sum
from composer.ops import sites as forms
from composer.ops.equilibrate import Solved, solve
from composer.ops.sites import Moves, Sites, Values
from composer.units import COULOMB

F64 = torch.float64


class Equilibrated(NamedTuple):
    """Charges of least energy."""

    charges: Tensor  # e [N]
    energy: Tensor  # eV [S]
    iterations: int  # products with the Coulomb matrix


def equilibrate(
    sums: Sum,
    positions: Tensor,
    electronegativity: Tensor,
    hardness: Tensor,
    cell: Tensor | None = None,
    total: Tensor | float = 0.0,
    tolerance: float = 1e-12,
) -> Equilibrated:
    """The minimum of E(q) = sum_i chi_i q_i + eta_i q_i^2 / 2 + k q_i phi_i / 2 under sum q = total, k = 14.3996 eV Å/e^2.

    Arguments: sums, from `prepare`; positions [N, 3] (Å); electronegativity chi (eV/e) and hardness eta (eV/e^2), [N]; cell; total charge
    of each structure (e); tolerance of the residual.
    Returns: charges and energy, with first derivatives of both by all tensors (at the minimum forces need no derivative of q); iterations.
    Errors: DataError where the energy has no minimum. Source: A. K. Rappe and W. A. Goddard, J. Phys. Chem. 95, 3358 (1991).
    """
    x, h, chi = sums.given(positions, electronegativity, cell, check=False)
    wanted = torch.as_tensor(total, dtype=F64, device=x.device).expand(sums.sites.structures)
    q, _, iterations = _Equilibrated.apply(x, h, chi, hardness.to(F64), wanted, sums, COULOMB, tolerance)
    phi = PotentialBothWays.apply(x, h, q, sums.number)
    site = chi * q + hardness.to(F64) * q**2 / 2 + COULOMB * q * phi / 2
    return Equilibrated(q, site.new_zeros(sums.sites.structures).index_add(0, sums.home, site), iterations)


class _Equilibrated(torch.autograd.Function):
    """q of least energy; its derivatives by one more solve with the same matrix: (A + eta) y = dL/dq, sum y = 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, chi: Tensor, eta: Tensor, total: Tensor, sums: Sum, scale: float, tolerance: float) -> Any:
        found = _solve(sums, x, h, -chi, eta, total, scale, tolerance)
        ctx.sums, ctx.scale, ctx.tolerance = sums, scale, tolerance
        ctx.save_for_backward(x, h, eta, found.charges)
        ctx.mark_non_differentiable(found.level)
        return found.charges, found.level, found.iterations

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        x, h, eta, q = ctx.saved_tensors
        y = _solve(ctx.sums, x, h, g, eta, g.new_zeros(ctx.sums.sites.structures), ctx.scale, ctx.tolerance)
        gx, gh = forms.pull(ctx.sums, at(ctx.sums.number, x, h)[1], y.charges, q)
        return -ctx.scale * gx, -ctx.scale * gh, -y.charges, -y.charges * q, -y.level, None, None, None


def _solve(sums: Sum, x: Tensor, h: Tensor, right: Tensor, eta: Tensor, total: Tensor, scale: float, tolerance: float) -> Solved:
    sites = at(sums.number, x, h)[1]
    matrix = sums.fixed(sites)

    def form(sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        values, along = matrix(sites, u, moves, slopes)
        return Values(*(scale * t for t in values)), along

    return solve(form, sites, right, eta, total, tolerance, 20 * len(right) + 100)
