"""Structures that are periodic in one direction: the sum over images is taken along the wire, all pairs across it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from composer.ops.plain.integrals import EULER, Entire, Lower, ratio
from composer.ops.plain.layout import BLOCK, Function, Layout, in_rows
from composer.ops.sites import Sites, Values
from composer.ops.splits import Gaussian

DEEP = 36.0  # waves and widths are given up at exp(-DEEP)
NODES = 64
ROOM = 1.2  # by which a period may shrink


@dataclass(frozen=True)
class Wire(Function):
    """phi_i = sum_j u_j G(rho_ij, z_ij) without i itself, G the smooth part of 1/r^p summed over images along the period c, k_m = 2 pi m/c:

    G = (1/c) [g_0(rho) + 2 sum_m cos(k_m z) int_t0^inf w(t) exp(-rho^2/4t - k_m^2 t) dt],  t0 = sigma^2/2,
    w = sqrt(4 pi t) t^(-p/2 - 1)/(2^p Gamma(p/2)); g_0 is the same integral at k = 0, and for p = 1 gamma - ln(2 sigma^2) - Ein(rho^2/2 sigma^2), so
    that a net charge has its zero of potential at 1 Å. By Ewald's integral and Poisson's sum along the wire.
    """

    layout: Layout
    split: Gaussian
    offsets: tuple[int, ...]
    axis: Tensor  # int64 [S], the periodic one
    quadratures: tuple[tuple[Tensor, Tensor, Tensor], ...]  # of each structure: nodes t (Å^2) and weights [T], wave numbers m [M]

    @classmethod
    def of(cls, layout: Layout, split: Gaussian, sites: Sites) -> Wire:
        axis = sites.pbc.int().argmax(1)
        periods = sites.h[torch.arange(sites.structures), axis].norm(dim=1).tolist()
        quadratures = [tuple(layout.on(torch.from_numpy(a)) for a in _quadrature(split, c)) for c in periods]
        return cls(layout, split, tuple(sites.offsets.tolist()), layout.on(axis), tuple(quadratures))  # type: ignore[arg-type]

    def __call__(self, x: Tensor, h: Tensor, u: Tensor, slopes: bool) -> Values:
        number = torch.arange(len(h), device=h.device)
        along = h[number, self.axis]
        period = along.norm(dim=1)
        direction = along / period[:, None]
        parts = []
        for s, (start, stop) in enumerate(zip(self.offsets, self.offsets[1:])):
            for some in in_rows(start, stop, max(1, BLOCK // (NODES * max(stop - start, 1)))):
                parts.append(self.rows(x, u, some, slice(start, stop), direction[s], period[s], s))
        phi, by_x, by_c = (torch.cat([t.new_zeros(0, *t.shape[1:]), *p]) for t, p in zip((u, x, x), zip(*parts) if parts else ((), (), ())))
        phi = phi - self.split.own * u
        if not slopes:
            return Values(phi, torch.zeros_like(x), torch.zeros_like(h))
        chosen = (torch.arange(3, device=h.device) == self.axis[:, None])[:, :, None]
        return Values(phi, by_x, torch.where(chosen, self.layout.by_structure(by_c)[:, None], 0.0))

    def rows(self, x: Tensor, u: Tensor, some: slice, all_: slice, e: Tensor, c: Tensor, s: int) -> tuple[Tensor, Tensor, Tensor]:
        """phi [n], slopes by positions [n, 3], and what each of some atoms brings to the slope by the period [n, 3]."""
        d = x[some, None] - x[None, all_]  # [n, N, 3]
        z = d @ e
        across = (d**2).sum(-1) - z**2
        g, g_rho, g_z, g_c = self.kernel(across, z, c, s)
        pairs = u[some, None] * u[all_]
        by_d = (2 * pairs * g_rho)[..., None] * (d - z[..., None] * e) + (pairs * g_z)[..., None] * e
        turned = torch.einsum("ij,ija->ia", pairs * (g_z - 2 * z * g_rho), d)  # by the direction
        by_c = (turned - (turned @ e)[:, None] * e) / c + (pairs * g_c).sum(1)[:, None] * e
        return g @ u[all_], 2 * by_d.sum(1), by_c

    def kernel(self, across: Tensor, z: Tensor, c: Tensor, s: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """G of rho^2 and z, and its slopes by rho^2, z and c."""
        t, weight, m = self.quadratures[s]
        k = 2 * math.pi * m / c
        spread = torch.exp(-(k**2) * t[:, None])  # [T, M]
        wide = weight * torch.exp(-across[..., None] / (4 * t))  # [n, N, T]
        phase = z[..., None] * k
        cos, sin = torch.cos(phase), torch.sin(phase)  # [n, N, M]
        level, bent = self.level(across)
        waves = wide @ spread
        total = level + 2 * (waves * cos).sum(-1)
        by_rho = bent + 2 * (((wide / (-4 * t)) @ spread) * cos).sum(-1)
        by_k = -z[..., None] * sin * waves - 2 * k * cos * ((wide * t) @ spread)
        by_c = -total / c - 2 * (by_k * k).sum(-1) / c
        return total / c, by_rho / c, -2 * (waves * sin * k).sum(-1) / c, by_c / c

    def level(self, across: Tensor) -> tuple[Tensor, Tensor]:
        """g_0 and its slope by rho^2."""
        p, w = self.split.p, 2 * self.split.width**2
        x = across.clamp(min=0.0) / w
        if p == 1:
            return EULER - math.log(w) - Entire.apply(1.0, x), -ratio(x) / w
        a = (p - 1) / 2
        scale = math.sqrt(math.pi) * math.gamma(a) / math.gamma(p / 2) * w**-a
        return scale * Lower.apply(a, x), -a * scale * Lower.apply(a + 1, x) / w


@lru_cache(maxsize=256)
def _quadrature(split: Gaussian, period: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes t and weights w(t) dt from t0 to where the slowest wave has died, by Gauss in log t; numbers m of the waves that live at t0."""
    t0, slowest = split.width**2 / 2, 2 * math.pi / (ROOM * period)
    most = max(1, math.ceil(ROOM * period / (2 * math.pi) * math.sqrt(DEEP / t0)))
    y, weight = np.polynomial.legendre.leggauss(NODES)
    half = math.log(max(DEEP / slowest**2 / t0, math.e)) / 2
    t = t0 * np.exp(half * (y + 1))
    w = math.sqrt(4 * math.pi) / (2**split.p * math.gamma(split.p / 2)) * t ** (-(split.p + 1) / 2)
    return t, weight * half * t * w, np.arange(1.0, most + 1)
