"""Structures that are periodic in two directions: sums in tall cells, less the images above and below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.ops.plain.layout import Function, Layout
from composer.ops.sites import Values


@dataclass(frozen=True)
class Slab(Function):
    """See `composer.ops.smooth.Smooth.slabs`; `tall` sums in the cells whose open vector is `height` (Å) along the normal."""

    layout: Layout
    tall: Function
    open: Tensor  # int64 [S], the open axis
    height: Tensor  # float64 [S]
    lines: tuple[tuple[slice, Tensor, Tensor], ...]  # atoms, nodes k (1/Å) and weights of each structure; none for p = 1

    def __call__(self, x: Tensor, h: Tensor, u: Tensor, slopes: bool) -> Values:
        layout, number = self.layout, torch.arange(len(h), device=h.device)
        a, b = h[number, (self.open + 1) % 3], h[number, (self.open + 2) % 3]
        product = torch.linalg.cross(a, b)
        area = product.norm(dim=1)
        n = product / area[:, None]
        is_open = (torch.arange(3, device=h.device) == self.open[:, None])[:, :, None]  # [S, 3, 1]
        phi, by_x, by_h = self.tall(x, torch.where(is_open, (self.height[:, None] * n)[:, None], h), u, slopes)
        z = (x * n[layout.home]).sum(1)
        part, by_z, form = self.closed(z, area, u) if not self.lines else self.quadrature(z, area, u)
        if not slopes:
            return Values(phi + part, by_x, by_h)
        # slopes by the normal are carried to the vectors of the plane: n = a x b/area, and the form goes as 1/area
        by_n = layout.by_structure(by_z[:, None] * x) + self.height[:, None] * by_h[number, self.open]
        across = (by_n - ((by_n * n).sum(1) + form)[:, None] * n) / area[:, None]
        kept = torch.where(is_open, 0.0, by_h)
        given = [(self.open + 1) % 3, (self.open + 2) % 3], [torch.linalg.cross(b, across), torch.linalg.cross(across, a)]
        for axis, slope in zip(*given):
            kept = kept + torch.where((torch.arange(3, device=h.device) == axis[:, None])[:, :, None], slope[:, None], 0.0)
        return Values(phi + part, by_x + by_z[:, None] * n[layout.home], kept)

    def closed(self, z: Tensor, area: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-(2 pi/(area height)) sum_j u_j ((z_i - z_j)^2 + height^2/6), its slopes 2 u_i d/dz_i, and the form u A u."""
        layout = self.layout
        middle = layout.by_structure(z) / layout.by_structure(torch.ones_like(z))
        d = z - middle.detach()[layout.home]
        q, m, mm = (layout.by_structure(u * d**k) for k in range(3))
        scale, sixth = -2 * math.pi / (area * self.height), self.height**2 / 6
        at = [t[layout.home] for t in (scale, q, m, mm, sixth)]
        phi = at[0] * (d**2 * at[1] - 2 * d * at[2] + at[3] + at[4] * at[1])
        return phi, 4 * at[0] * u * (at[1] * d - at[2]), scale * (2 * (q * mm - m**2) + sixth * q**2)

    def quadrature(self, z: Tensor, area: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of sum_j u_j sum over nodes of weight cos(k (z_i - z_j))/area."""
        parts = []
        for s, (atoms, k, weight) in enumerate(self.lines):
            phase = (z[atoms] - z[atoms].detach().mean())[:, None] * k
            c, d, w = torch.cos(phase), torch.sin(phase), weight / area[s]
            re, im = u[atoms] @ c, u[atoms] @ d
            slope = 2 * u[atoms] * ((c * im - d * re) @ (k * w))
            parts.append(((c @ (w * re) + d @ (w * im)), slope, (w * (re**2 + im**2)).sum()[None]))
        phi, by_z, form = (torch.cat(t) for t in zip(*parts))
        return phi, by_z, form
