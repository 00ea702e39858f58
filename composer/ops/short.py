"""What is summed over listed pairs: the short-range part of 1/r^p within a cutoff, and pairs that do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from composer.neighbors import Batch, build_batch
from composer.ops.native import Call, Split
from composer.ops.sites import Form, Moves, Sites, Values


@dataclass(frozen=True)
class Pairs:
    """Pairs of sites, each once: atom i and the sites index[first[i]:first[i+1]]; sites from N on are images owner + shift @ cell."""

    first: Tensor  # int64 [N + 1]
    index: Tensor  # int32 [E]
    owner: Tensor  # int32 [G]
    shift: Tensor  # int32 [G, 3]
    ghost_offsets: Tensor  # int64 [S + 1]


def neighbors(sites: Sites, cutoff: float, skin: float = 0.0) -> Pairs:
    """All pairs within cutoff + skin (Å)."""
    ranges = zip(sites.offsets.tolist(), sites.offsets.tolist()[1:], strict=False)
    x, h, pbc = sites.x.numpy(), sites.h.numpy(), sites.pbc.numpy()
    return of_batch(build_batch([(np.zeros(b - a), x[a:b], h[s], pbc[s]) for s, (a, b) in enumerate(ranges)], cutoff, skin, half=True))


def of_batch(batch: Batch) -> Pairs:
    return Pairs(batch.first, batch.index, batch.ghost_owner, batch.ghost_shift, batch.ghost_offsets)


def chosen(sites: Sites, pairs: Sequence[tuple[int, int]]) -> Pairs:
    """The nearest images of given pairs of atoms of one structure."""
    i, j = (torch.tensor([p[n] for p in pairs], dtype=torch.int64) for n in (0, 1))
    d = sites.x[j] - sites.x[i]
    inverse = torch.linalg.pinv(sites.h[0] * sites.pbc[0, :, None])
    shift = -((d @ inverse).round()).to(torch.int32) * sites.pbc[0].int()  # [E, 3]
    order = torch.argsort(i, stable=True)
    first = torch.zeros(len(sites.x) + 1, dtype=torch.int64).index_add_(0, i + 1, torch.ones_like(i)).cumsum(0)
    count = len(sites.x)
    ghosts = torch.tensor([0, len(pairs)])
    return Pairs(first, torch.arange(count, count + len(pairs), dtype=torch.int32), j[order].int(), shift[order].contiguous(), ghosts)


@dataclass(frozen=True)
class Short:
    """phi_i = sum over listed j of u_j V_SR(r_ij), r_ij < cutoff (Å); sigma = 0 (Å) stands for the whole of 1/r^p."""

    p: float
    sigma: float
    cutoff: float
    pairs: Pairs

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        call = Call(Split(self.p, self.sigma, self.cutoff), sites, u, moves, slopes)
        p = self.pairs
        call.more = {"first": p.first, "index": p.index, "owner": p.owner, "shift": p.shift, "ghost_offsets": p.ghost_offsets}
        return call.run("short_range")


@dataclass(frozen=True)
class AllPairs:
    """phi_i = sum_j u_j / r_ij^p over all pairs of open structures."""

    p: float

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        return Call(Split(self.p, 0.0, 0.0), sites, u, moves, slopes).run("direct")


@dataclass(frozen=True)
class Together:
    """A weighted sum of forms."""

    parts: tuple[tuple[float, Form], ...]

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        values, along = zip(*(_scaled(w, form(sites, u, moves, slopes)) for w, form in self.parts), strict=True)
        return _total(values), None if moves is None else _total(along)


def _scaled(w: float, found: tuple[Values, Values | None]) -> tuple[Values, Values | None]:
    if w == 1.0:
        return found
    return Values(*(w * t for t in found[0])), None if found[1] is None else Values(*(w * t for t in found[1]))


def _total(parts: Sequence[Values]) -> Values:
    first = parts[0]
    for other in parts[1:]:
        for mine, theirs in zip(first, other):
            mine += theirs
    return first
