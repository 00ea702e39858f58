"""The oracle: Ewald sums written as they stand in a book, dense, in torch float64, differentiated by torch.autograd alone.

For 1/r^p with x = r^2/(2 sigma^2), z = sigma^2 k^2/2 and P the regularised lower incomplete gamma function,

    V_LR(r)    = (2 sigma^2)^(-p/2) P(p/2, x) / x^(p/2),   V_SR(r) = r^(-p) - V_LR(r)
    vhat_LR(k) = pi^(3/2)/Gamma(p/2) (2 sigma^2)^((3-p)/2) int_1^inf t^((1-p)/2) exp(-z t) dt

Energies are q_i phi_i / 2 with phi the full potential, in charge^2/Å^p. Tin-foil boundary. Source: theory page of the project, after
P. P. Ewald, Ann. Phys. 369, 253 (1921), and for any p, D. E. Williams, Acta Cryst. A 27, 452 (1971).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

F64 = torch.float64
TAIL = 9.0  # sums end where exp(-TAIL^2/2), relative to their first term, is below 3e-18


def smooth_pair(r: Tensor, p: float, sigma: float) -> Tensor:
    """V_LR(r), in Å^-p, for r > 0 (Å)."""
    if p == 1:
        return torch.special.erf(r / (math.sqrt(2) * sigma)) / r
    x = r**2 / (2 * sigma**2)
    return (2 * sigma**2) ** (-p / 2) * torch.special.gammainc(torch.tensor(p / 2, dtype=F64), x) / x ** (p / 2)


def short_pair(r: Tensor, p: float, sigma: float) -> Tensor:
    """V_SR(r), in Å^-p, for r > 0 (Å); by the upper function, so that nothing cancels."""
    if p == 1:
        return torch.special.erfc(r / (math.sqrt(2) * sigma)) / r
    return torch.special.gammaincc(torch.tensor(p / 2, dtype=F64), r**2 / (2 * sigma**2)) / r**p


def own(p: float, sigma: float) -> float:
    """V_LR(0), Å^-p."""
    return 1 / (math.gamma(p / 2 + 1) * (2 * sigma**2) ** (p / 2))


def spectrum(k2: Tensor, p: float, sigma: float) -> Tensor:
    """vhat_LR as a function of k^2 > 0 (1/Å^2), Å^(3-p)."""
    if p == 1:
        return 4 * math.pi * torch.exp(-(sigma**2) * k2 / 2) / k2
    tau = torch.linspace(-4.5, 3.0, 901, dtype=F64)  # int_1^inf t^(a-1) exp(-z t) dt with log t = exp(pi/2 sinh tau)
    step = (math.pi / 2) * (tau[1] - tau[0])
    y = torch.exp(math.pi / 2 * torch.sinh(tau))
    keep = y < 300
    tau, y = tau[keep], y[keep]
    z = (sigma**2 * k2 / 2)[..., None]
    value = (torch.exp((3 - p) / 2 * y - z * torch.exp(y)) * y * torch.cosh(tau) * step).sum(-1)
    return math.pi**1.5 / math.gamma(p / 2) * (2 * sigma**2) ** ((3 - p) / 2) * value


def background(p: float, sigma: float) -> float:
    """The k = 0 coefficient of Q/V in phi: vhat_LR(0) for p > 3, minus the neutralising background for p < 3, Å^(3-p)."""
    scale = math.pi**1.5 * (2 * sigma**2) ** ((3 - p) / 2) / math.gamma(p / 2)
    return 0.0 if p == 3 else scale * 2 / (p - 3)


def balanced(cell: Tensor, atoms: int) -> float:
    """A sigma (Å) for which both sums cost about the same."""
    return float((torch.linalg.det(cell).abs() ** 2 / atoms) ** (1 / 6)) / math.sqrt(2 * math.pi)


def potential(x: Tensor, q: Tensor, cell: Tensor, p: float = 1.0, sigma: float | None = None) -> Tensor:
    """phi [N] of charges q [N] at x [N, 3] (Å) in a cell [3, 3] (Å) periodic in three directions, converged to rounding."""
    sigma = balanced(cell.detach(), len(q)) if sigma is None else sigma
    return short(x, q, cell, p, sigma) + smooth(x, q, cell, p, sigma)


def smooth(x: Tensor, q: Tensor, cell: Tensor, p: float, sigma: float, reach: float = TAIL) -> Tensor:
    """The smooth part of phi [N]: sum over k, self term and background."""
    volume = torch.linalg.det(cell).abs()
    k = lattice(2 * math.pi * torch.linalg.inv(cell.detach()).T, reach / sigma) @ (2 * math.pi * torch.linalg.inv(cell).T)  # [K, 3]
    phase = x @ k.T  # [N, K]
    weight = spectrum((k**2).sum(-1), p, sigma) / volume
    real, imaginary = q @ torch.cos(phase), q @ torch.sin(phase)  # [K]
    phi = torch.cos(phase) @ (weight * real) + torch.sin(phase) @ (weight * imaginary)
    return phi - q * own(p, sigma) + background(p, sigma) * q.sum() / volume


def short(x: Tensor, q: Tensor, cell: Tensor, p: float, sigma: float, cutoff: float | None = None) -> Tensor:
    """The short-range part of phi [N]: all images within the cutoff (Å), to rounding by default."""
    cutoff = TAIL * sigma if cutoff is None else cutoff
    fractional = (x.detach() @ torch.linalg.inv(cell.detach())).floor()
    x = x - fractional @ cell  # into the cell, so that few shifts do
    corners = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)), dtype=F64) @ cell.detach()
    shifts = lattice(cell.detach(), cutoff + float(corners.norm(dim=1).max())) @ cell  # [S, 3], zero excluded
    phi = torch.zeros_like(q)
    for shift in [torch.zeros(3, dtype=F64), *shifts]:
        d = x[None, :] + shift - x[:, None]  # [N, N, 3]
        r2 = (d**2).sum(-1)
        near = (r2 < cutoff**2) & (r2 > 0)
        if bool(near.any()):
            r = torch.where(near, r2, 1.0).sqrt()
            phi = phi + torch.where(near, short_pair(r, p, sigma), 0.0) @ q
    return phi


def direct(x: Tensor, q: Tensor, p: float = 1.0) -> Tensor:
    """phi [N] of charges in open space."""
    d = x[None, :] - x[:, None]
    other = ~torch.eye(len(q), dtype=torch.bool)
    r = torch.where(other, (d**2).sum(-1), 1.0).sqrt()
    return torch.where(other, r**-p, 0.0) @ q


def wire(x: Tensor, q: Tensor, cell: Tensor, axis: int, p: float = 1.0) -> Tensor:
    """phi [N] of charges (neutral for p = 1) periodic along one vector: images one by one up to n of them, extrapolated in y = (n + 1/2)^-2."""
    d = x[None, :] - x[:, None]
    other = ~torch.eye(len(q), dtype=torch.bool)
    phi = torch.where(other, torch.where(other, (d**2).sum(-1), 1.0).sqrt() ** -p, 0.0) @ q
    ends, total = [20 * 2**k for k in range(6)], torch.zeros_like(q)
    for n in range(1, ends[-1] + 1):
        for shift in (n * cell[axis], -n * cell[axis]):
            phi = phi + ((d + shift) ** 2).sum(-1) ** (-p / 2) @ q
        if n in ends:
            y = (n + 0.5) ** -2
            total = total + phi * math.prod(z / (z - y) for m in ends if m != n for z in [(m + 0.5) ** -2])
    return total


def lattice(rows: Tensor, radius: float) -> Tensor:
    """Integer triples m [K, 3] with 0 < |m @ rows| < radius; rows [3, 3] of any lattice."""
    most = (radius * torch.linalg.inv(rows).norm(dim=0)).floor().int().tolist()
    axes = [torch.arange(-m, m + 1, dtype=F64) for m in most]
    m = torch.cartesian_prod(*axes)
    length = (m @ rows).norm(dim=1)
    return m[(length < radius) & (m != 0).any(1)]


def slab(x: Tensor, q: Tensor, cell: Tensor, open_: int, sigma: float, reach: float = TAIL) -> Tensor:
    """The smooth part of phi [N] for p = 1 in a structure periodic in two directions, by the sum of Parry.

    phi_i = sum_j q_j {(pi/A) sum_k cos(k rho_ij)/k [exp(k z) erfc(k/2 alpha + alpha z) + exp(-k z) erfc(k/2 alpha - alpha z)]
    - (2 sqrt(pi)/A) [exp(-alpha^2 z^2)/alpha + sqrt(pi) z erf(alpha z)]} - 2 alpha/sqrt(pi) q_i. Source: D. E. Parry, Surf. Sci. 49, 433 (1975).
    """
    alpha = 1 / (math.sqrt(2) * sigma)
    a, b = cell[(open_ + 1) % 3], cell[(open_ + 2) % 3]
    normal = torch.linalg.cross(a, b)
    area = normal.norm()
    n = normal / area
    rows = torch.stack([torch.linalg.cross(b, n), torch.linalg.cross(n, a)]) * 2 * math.pi / area  # reciprocal vectors
    most = [
        int(reach / sigma / float(torch.det(torch.stack([r, s, n])).abs().detach() / s.norm().detach())) for r, s in (rows, rows.flip(0))
    ]
    m = torch.cartesian_prod(*(torch.arange(-c, c + 1, dtype=F64) for c in most))
    m = m[(m != 0).any(1)]
    m = m[(m @ rows.detach()).norm(dim=1) < reach / sigma]
    k = m @ rows  # [K, 3]
    d = x[:, None] - x[None, :]  # [N, N, 3]
    z = (d @ n)[..., None]
    length = k.norm(dim=1)
    up, down = length / (2 * alpha) + alpha * z, length / (2 * alpha) - alpha * z
    term = torch.exp(length * z) * torch.special.erfc(up) + torch.exp(-length * z) * torch.special.erfc(down)
    waves = (torch.cos(d @ k.T) / length * term).sum(-1) * math.pi / area
    z = z[..., 0]
    level = (
        -2 * math.sqrt(math.pi) / area * (torch.exp(-((alpha * z) ** 2)) / alpha + math.sqrt(math.pi) * z * torch.special.erf(alpha * z))
    )
    return (waves + level) @ q - 2 * alpha / math.sqrt(math.pi) * q


def slab_waves(x: Tensor, q: Tensor, cell: Tensor, open_: int, p: float, sigma: float, reach: float = TAIL) -> Tensor:
    """The smooth part of phi [N] for p > 3 in a structure periodic in two directions: the integral over the third component of k, by Gauss."""
    a, b = cell[(open_ + 1) % 3], cell[(open_ + 2) % 3]
    normal = torch.linalg.cross(a, b)
    area = normal.norm()
    n = normal / area
    rows = torch.stack([torch.linalg.cross(b, n), torch.linalg.cross(n, a)]) * 2 * math.pi / area
    most = [int(reach / sigma * float(v.norm().detach()) / (2 * math.pi)) + 1 for v in (a, b)]
    flat = torch.cartesian_prod(*(torch.arange(-c, c + 1, dtype=F64) for c in most)) @ rows  # [K, 3]
    flat = flat[flat.detach().norm(dim=1) < reach / sigma]
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(140))
    top = reach / sigma
    z = top * (nodes + 1) / 2  # [Z], half of the line
    weight = spectrum((flat**2).sum(-1)[:, None] + z**2, p, sigma) * weights * top / (2 * math.pi) / area  # [K, Z]
    along, across = x @ flat.T, (x @ n)[:, None] * z  # [N, K], [N, Z]
    d, h = along[:, None] - along[None], across[:, None] - across[None]
    kernel = torch.einsum("ijk,kz,ijz->ij", torch.cos(d), weight, torch.cos(h))
    return kernel @ q - own(p, sigma) * q


def _tall(x: Tensor, cell: Tensor, axis: int, reach: float) -> Tensor:
    """The cell of a wire, so wide in its open directions that images there are out of reach (Å)."""
    wide = reach + float((x.detach().amax(0) - x.detach().amin(0)).norm())
    across = torch.linalg.svd(cell.detach()[axis : axis + 1])[2][1:]
    return torch.cat([cell[axis : axis + 1], wide * across])


def operate(operator: tuple, u: Tensor, x: Tensor, cells: Tensor, pbc: Tensor, offsets: Tensor) -> Tensor:
    """The oracle of the global operations of `composer.ops.operators`, structure by structure."""
    parts = []
    for s, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        parts.append(_operate(operator, u[start:stop], x[start:stop], cells[s], pbc[s].tolist()))
    return torch.cat(parts)


def _operate(operator: tuple, u: Tensor, x: Tensor, cell: Tensor, pbc: list[bool]) -> Tensor:
    if operator[0] == "mean":
        return u.mean().expand(len(u))
    _, p, sigma, _ = operator
    if all(pbc):
        return smooth(x, u, cell, p, sigma)
    if sum(pbc) == 1:
        return wire(x, u, cell, pbc.index(True), p) - short(x, u, _tall(x, cell, pbc.index(True), TAIL * sigma), p, sigma)
    if any(pbc):
        return slab(x, u, cell, pbc.index(False), sigma) if p == 1 else slab_waves(x, u, cell, pbc.index(False), p, sigma)
    d = x[None, :] - x[:, None]
    other = ~torch.eye(len(u), dtype=torch.bool)
    r = torch.where(other, (d**2).sum(-1).clamp(min=1e-24), 1.0).sqrt()
    return torch.where(other, smooth_pair(r, p, sigma), 0.0) @ u
