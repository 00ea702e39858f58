"""The particle mesh: charges are spread by B-splines, transformed, weighed, transformed back and gathered."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.ops.plain.layout import Applied, Cells, Function, Layout
from composer.ops.plain.splits import spectrum
from composer.ops.plain.waves import zero
from composer.ops.sites import Values
from composer.ops.splits import Split

Splines = list[tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Mesh(Function):
    """phi of the smooth part on meshes of `size` points, one for each structure; splines of an order and 1/U^2, U of whole numbers alone."""

    layout: Layout
    split: Split
    order: int
    size: tuple[int, int, int]
    m: tuple[Tensor, Tensor, Tensor]  # float64, waves of each axis, the last one halved
    window: Tensor  # [n0, n1, n2/2 + 1], 1/U^2; 0 at k = 0 and on the edge of the mesh

    @classmethod
    def of(cls, layout: Layout, split: Split, order: int, size: tuple[int, int, int]) -> Mesh:
        m = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in size[:2]]
        m.append(torch.arange(size[2] // 2 + 1, dtype=torch.float64))
        sides = [torch.where(2 * t.abs() == n, 0.0, torch.sinc(t / n) ** (-2 * order)) for t, n in zip(m, size)]
        window = sides[0][:, None, None] * sides[1][:, None] * sides[2]
        window[0, 0, 0] = 0.0
        return cls(layout, split, order, size, (layout.on(m[0]), layout.on(m[1]), layout.on(m[2])), layout.on(window))

    def at(self, x: Tensor, h: Tensor) -> Applied:
        layout, cells = self.layout, Cells.of(h)
        s = cells.fractional(x, layout.home)
        splines, (influence, slope) = self.splines(s), self.influence(cells)

        def applied(u: Tensor, slopes: bool) -> Values:
            total = zero(layout, self.split, cells, u)
            waves = torch.fft.rfftn(self.spread(splines, u), dim=(1, 2, 3))
            potential = torch.fft.irfftn(waves * influence.to(layout.real), s=self.size, dim=(1, 2, 3), norm="forward")
            v, by_s = self.gather(splines, potential)
            phi = v.double() + total[layout.home] - self.split.own * u
            if not slopes:
                return Values(phi, torch.zeros_like(x), torch.zeros_like(h))
            energy, by_metric = self.moments(waves, influence, slope)
            energy = energy + total * layout.by_structure(u)
            return Values(phi, *cells.slopes(layout, s, 2 * u[:, None] * by_s.double(), by_metric, -energy))

        return applied

    def splines(self, s: Tensor) -> Splines:
        """Along each axis: the points that an atom touches [N, P], the weights there [N, P] and their slopes by s."""
        out = []
        for c, n in enumerate(self.size):
            place = (s[:, c] - torch.floor(s[:, c].detach())) * n
            whole = torch.floor(place.detach())
            weights, slopes = spline(self.order, (place - whole).to(self.layout.real))
            points = whole.long()[:, None] + torch.arange(1 - self.order, 1, device=s.device)
            out.append((points % n, weights, n * slopes))
        return out

    def lines(self, splines: Splines, i: int) -> Tensor:
        """Numbers of the points that atoms touch in their i-th plane, [N, P, P]."""
        (a, _, _), (b, _, _), (c, _, _) = splines
        _, n1, n2 = self.size
        plane = self.layout.home * self.size[0] + a[:, i]
        return ((plane[:, None] * n1 + b) * n2)[:, :, None] + c[:, None, :]

    def spread(self, splines: Splines, u: Tensor) -> Tensor:
        """Charges on the meshes [S, n0, n1, n2]."""
        (_, a, _), (_, b, _), (_, c, _) = splines
        mesh = torch.zeros(self.layout.structures * math.prod(self.size), dtype=self.layout.real, device=u.device)
        for i in range(self.order):
            values = (u.to(self.layout.real) * a[:, i])[:, None, None] * b[:, :, None] * c[:, None, :]
            self.layout.add(mesh, values.reshape(-1), self.lines(splines, i).reshape(-1))
        return mesh.reshape(-1, *self.size)

    def influence(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """vhat_LR(k)/(V U^2) and its slope by k^2, [S, n0, n1, n2/2 + 1]."""
        g, (a, b, c) = cells.metric[:, :, :, None, None, None], self.m
        a, b = a[:, None, None], b[:, None]
        k2 = g[:, 0, 0] * a**2 + g[:, 1, 1] * b**2 + g[:, 2, 2] * c**2 + 2 * (g[:, 0, 1] * a * b + g[:, 0, 2] * a * c + g[:, 1, 2] * b * c)
        kept = self.window > 0
        scale = self.window / cells.volume[:, None, None, None]
        f, slope = spectrum(self.split, torch.where(kept, k2, 1.0))
        return scale * f, scale * slope

    def gather(self, splines: Splines, potential: Tensor) -> tuple[Tensor, Tensor]:
        """The potential at the atoms [N] and its slopes by s [N, 3]."""
        (_, a, a1), (_, b, b1), (_, c, c1) = splines
        flat, out = potential.reshape(-1), []
        for i in range(self.order):
            near = flat[self.lines(splines, i)]  # [N, P, P]
            here, along = torch.einsum("njk,nk->nj", near, c), torch.einsum("njk,nk->nj", near, c1)
            row = (here * b).sum(1)
            out.append(torch.stack([a[:, i] * row, a1[:, i] * row, a[:, i] * (here * b1).sum(1), a[:, i] * (along * b).sum(1)], 1))
        total = torch.stack(out).sum(0)
        return total[:, 0], total[:, 1:]

    def moments(self, waves: Tensor, influence: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The form u A u of the mesh [S], and its slopes by metrics [S, 3, 3]."""
        a, b, c = self.m
        square = (torch.view_as_real(waves).double() ** 2).sum(-1) * torch.where(c > 0, 2.0, 1.0)  # of both halves
        powers = [torch.stack([torch.ones_like(t), t, t**2]) for t in (c, b, a)]
        sums = torch.einsum("sijk,ck,bj,ai->sabc", slope * square, *powers)  # of m0^a m1^b m2^c
        axes = torch.eye(3, dtype=torch.int64)
        rows = [torch.stack([sums[:, x, y, z] for x, y, z in (axes[p] + axes).tolist()], 1) for p in range(3)]
        return (influence * square).sum((1, 2, 3)), torch.stack(rows, 1)


def spline(order: int, w: Tensor) -> tuple[Tensor, Tensor]:
    """Values [N, P] and slopes of the cardinal B-spline at the P points below and at an atom, w [N] beyond the last of them."""
    m = [1 - w, w]
    for k in range(3, order):
        m = _raised(m, w, k)
    slopes = [-m[0], *(m[j - 1] - m[j] for j in range(1, order - 1)), m[-1]]
    return torch.stack(_raised(m, w, order), 1), torch.stack(slopes, 1)


def _raised(m: list[Tensor], w: Tensor, k: int) -> list[Tensor]:
    """From the spline of order k - 1 to that of order k."""
    inner = [((w + j) * m[k - 2 - j] + (k - j - w) * m[k - 1 - j]) / (k - 1) for j in range(k - 2, 0, -1)]
    return [(1 - w) * m[0] / (k - 1), *inner, w * m[-1] / (k - 1)]
