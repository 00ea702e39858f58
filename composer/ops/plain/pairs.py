"""What is summed over pairs of atoms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.ops.plain.layout import BLOCK, Applied, Function, Layout, in_rows
from composer.ops.plain.splits import short_pair, smooth_pair
from composer.ops.short import Pairs
from composer.ops.sites import Values
from composer.ops.splits import Split


@dataclass(frozen=True)
class Listed(Function):
    """phi_i = sum over listed j of u_j V_SR(r_ij), r_ij < cutoff (Å)."""

    layout: Layout
    split: Split
    cutoff: float
    i: Tensor  # int64 [E]
    j: Tensor  # int64 [E]
    shift: Tensor  # float64 [E, 3], x_j + shift @ cell is the neighbour of x_i

    @classmethod
    def of(cls, layout: Layout, split: Split, cutoff: float, pairs: Pairs) -> Listed:
        atoms, site = len(pairs.first) - 1, pairs.index.long()
        image = (site - atoms).clamp(min=0)
        ghost = site >= atoms
        owner = torch.cat([pairs.owner.long(), torch.zeros(1, dtype=torch.int64)])[image]
        shift = torch.cat([pairs.shift, torch.zeros(1, 3, dtype=pairs.shift.dtype)])[image] * ghost[:, None]
        i = torch.repeat_interleave(torch.arange(atoms), pairs.first.diff())
        return cls(layout, split, cutoff, layout.on(i), layout.on(torch.where(ghost, owner, site)), layout.on(shift.double()))

    def at(self, x: Tensor, h: Tensor) -> Applied:
        place, real = self.layout.home[self.i], self.layout.real
        d = (x[self.i] - x[self.j] - torch.einsum("ea,eab->eb", self.shift, h[place])).to(real)  # [E, 3]
        r2 = (d**2).sum(1)
        near = r2 < self.cutoff**2
        f, slope = (torch.where(near, t, 0.0) for t in short_pair(self.split, torch.where(near, r2, 1.0)))

        def applied(u: Tensor, slopes: bool) -> Values:
            q = u.to(real)
            phi = self.at_both(q[self.j] * f, q[self.i] * f, len(u)).double()
            if not slopes:
                return Values(phi, torch.zeros_like(x), torch.zeros_like(h))
            pull = (4 * q[self.i] * q[self.j] * slope)[:, None] * d
            outer = -self.shift[:, :, None] * pull[:, None, :]
            by_h = outer.sum(0, keepdim=True) if len(h) == 1 else self.layout.added(outer, place, len(h))
            return Values(phi, self.at_both(pull, -pull, len(u)).double(), by_h)

        return applied

    def at_both(self, first: Tensor, second: Tensor, atoms: int) -> Tensor:
        """Sums over pairs of what each brings to its first and second atom."""
        return self.layout.added(torch.cat([first, second]), torch.cat([self.i, self.j]), atoms)


@dataclass(frozen=True)
class Open(Function):
    """phi_i = sum_j u_j V_LR(r_ij), or the whole of 1/r^p for a split without width, over all pairs of open structures."""

    layout: Layout
    split: Split
    offsets: tuple[int, ...]

    def __call__(self, x: Tensor, h: Tensor, u: Tensor, slopes: bool) -> Values:
        rows = []
        for start, stop in zip(self.offsets, self.offsets[1:]):
            rows += [self.rows(x, u, some, slice(start, stop)) for some in in_rows(start, stop, max(1, BLOCK // max(stop - start, 1)))]
        phi, by_x = (torch.cat([u.new_zeros(0, *r.shape[1:]), *parts]) for r, parts in zip((u, x), zip(*rows) if rows else ((), ())))
        return Values(phi, by_x if slopes else torch.zeros_like(x), torch.zeros_like(h))

    def rows(self, x: Tensor, u: Tensor, some: slice, all_: slice) -> tuple[Tensor, Tensor]:
        d = (x[some, None] - x[None, all_]).to(self.layout.real)  # [n, N, 3]
        q, r2 = u.to(self.layout.real), (d**2).sum(-1)
        other = torch.arange(some.start, some.stop, device=x.device)[:, None] != torch.arange(all_.start, all_.stop, device=x.device)
        pair = smooth_pair if self.split.width else short_pair
        f, slope = (torch.where(other, t, 0.0) for t in pair(self.split, torch.where(other, r2, 1.0)))
        by_x = 4 * q[some, None] * torch.einsum("ij,j,ija->ia", slope, q[all_], d)
        return (f @ q[all_]).double(), by_x.double()
