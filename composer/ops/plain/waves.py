"""The sum over k, and the particle mesh that takes its place in large structures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.ops.plain.layout import BLOCK, Applied, Cells, Function, Layout
from composer.ops.plain.splits import spectrum
from composer.ops.sites import Values
from composer.ops.splits import Split

ROOM = 1.1  # the box of waves is so much larger than it has to be: cells may shrink


@dataclass(frozen=True)
class Waves(Function):
    """phi_i = (1/V) sum over 0 < |k| < cutoff (1/Å) of vhat_LR(k) Re[exp(-i k r_i) S(k)], without i itself, with the background."""

    layout: Layout
    split: Split
    cutoff: float
    m: Tensor  # float64 [K, 3], half of the whole-number waves: k = 2 pi m @ inverse^T

    @classmethod
    def of(cls, layout: Layout, split: Split, cutoff: float, most: tuple[int, ...]) -> Waves:
        axes = [torch.arange(-n, n + 1, dtype=torch.float64) for n in most]
        m = torch.cartesian_prod(*axes)
        return cls(layout, split, cutoff, layout.on(m[len(m) // 2 + 1 :].clone()))

    def at(self, x: Tensor, h: Tensor) -> Applied:
        layout, cells = self.layout, Cells.of(h)
        s = cells.fractional(x, layout.home)
        blocks = self.m.split(max(1, BLOCK // max(len(x), 1)))
        known = [self.waves(m, s, cells) for m in blocks] if len(blocks) == 1 else None  # else they would fill the memory

        def applied(u: Tensor, slopes: bool) -> Values:
            total = zero(layout, self.split, cells, u)
            phi, by_s, energy = total[layout.home] - self.split.own * u, torch.zeros_like(x), total * layout.by_structure(u)
            by_metric = torch.zeros_like(h)
            for m, waves in zip(blocks, known or (self.waves(m, s, cells) for m in blocks)):
                found = self.brought(m, waves, u)
                phi, by_s, energy, by_metric = (a + b for a, b in zip((phi, by_s, energy, by_metric), found))
            if not slopes:
                return Values(phi, torch.zeros_like(x), torch.zeros_like(h))
            return Values(phi, *cells.slopes(layout, s, by_s, by_metric, -energy))

        return applied

    def waves(self, m: Tensor, s: Tensor, cells: Cells) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights of some of the waves and their slopes by k^2 [S, K], cos and sin of their phases at the atoms [N, K]."""
        k2 = torch.einsum("kc,scd,kd->sk", m, cells.metric, m)
        kept = k2 < self.cutoff**2
        weight, slope = (torch.where(kept, 2 * t / cells.volume[:, None], 0.0) for t in spectrum(self.split, torch.where(kept, k2, 1.0)))
        turns = s @ m.T
        phase = (2 * math.pi * (turns - torch.round(turns.detach()))).to(self.layout.real)
        return weight, slope, torch.cos(phase), torch.sin(phase)

    def brought(self, m: Tensor, waves: tuple[Tensor, Tensor, Tensor, Tensor], u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What some of the waves bring: phi [N], slopes by s [N, 3], energies [S], slopes by metrics [S, 3, 3]."""
        (weight, slope, c, d), layout, q = waves, self.layout, u.to(self.layout.real)
        re, im = (layout.by_structure(q[:, None] * t).double() for t in (c, d))  # [S, K]
        square = re**2 + im**2
        wr, wi = ((weight * t).to(layout.real)[layout.home] for t in (re, im))
        by_s = (4 * math.pi) * u[:, None] * ((wi * c - wr * d).double() @ m)
        by_metric = torch.einsum("sk,kc,kd->scd", slope * square, m, m)
        return (wr * c + wi * d).sum(1).double(), by_s, (weight * square).sum(1), by_metric


def zero(layout: Layout, split: Split, cells: Cells, u: Tensor) -> Tensor:
    """What k = 0 brings to phi in each structure [S]."""
    return split.background * layout.by_structure(u) / cells.volume
