"""What is summed over listed pairs: the short-range part of 1/r^p within a cutoff, and pairs that do not count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from composer.errors import DataError
from composer.neighbors import Batch, build_batch
from composer.ops import sites as forms
from composer.ops.native import Call
from composer.ops.sites import Form, Moves, Sites, Values
from composer.ops.splits import Gaussian, Split


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


def excluded(sites: Sites) -> Pairs:
    """The nearest images of the pairs that do not interact."""
    if sites.excluded is None:
        raise DataError(
            "A long-range sum without bonded pairs was asked for",
            "The structures name none",
            'Give them info["excluded"] = [[0, 1], ...] or arrays["mol-id"], or write excluded=False',
        )
    i, j = sites.excluded[torch.argsort(sites.excluded[:, 0], stable=True)].T
    home = forms.home(sites.offsets)
    inverse = torch.linalg.pinv(sites.h * sites.pbc[:, :, None])[home[i]]  # [E, 3, 3]
    shift = -torch.einsum("ea,eab->eb", sites.x[j] - sites.x[i], inverse).round().int() * sites.pbc[home[i]].int()  # [E, 3]
    first = torch.zeros(len(sites.x) + 1, dtype=torch.int64).index_add_(0, i + 1, torch.ones_like(i)).cumsum(0)
    return Pairs(first, torch.arange(len(home), len(home) + len(i), dtype=torch.int32), j.int(), shift.contiguous(), first[sites.offsets])


@dataclass(frozen=True)
class Short:
    """phi_i = sum over listed j of u_j V_SR(r_ij), r_ij < cutoff (Å)."""

    split: Split
    cutoff: float
    pairs: Pairs

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        call = Call(self.split, sites, u, moves, slopes, self.cutoff)
        p = self.pairs
        call.point(first=p.first, index=p.index, owner=p.owner, shift=p.shift, ghost_offsets=p.ghost_offsets)
        return call.run("short_range")


@dataclass(frozen=True)
class Excluded:
    """What pairs of `sites.excluded` feel of each other: 1/r^p, less its short-range part of width `damping` (Å) unless that is 0."""

    p: float
    damping: float = 0.0

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        pairs = excluded(sites)
        parts: list[tuple[float, Form]] = [(1.0, Short(Gaussian(self.p, 0.0), math.inf, pairs))]
        if self.damping:
            parts.append((-1.0, Short(Gaussian(self.p, self.damping), math.inf, pairs)))
        return Together(tuple(parts))(sites, u, moves, slopes)


@dataclass(frozen=True)
class AllPairs:
    """phi_i = sum_j u_j / r_ij^p over all pairs of open structures."""

    p: float

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        return Call(Gaussian(self.p, 0.0), sites, u, moves, slopes).run("direct")


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
