"""Which atoms belong to which structure, on a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from composer.ops.sites import Sites, Values, home

BLOCK = 2**22  # most entries of a matrix
Applied = Callable[[Tensor, bool], Values]  # of charges u [N], and whether slopes are wanted


class Function:
    """Values of positions x [N, 3], cells h [S, 3, 3], charges u [N] and whether slopes are wanted; each kind states one of the two."""

    def __call__(self, x: Tensor, h: Tensor, u: Tensor, slopes: bool) -> Values:
        return self.at(x, h)(u, slopes)

    def at(self, x: Tensor, h: Tensor) -> Applied:
        """The same for many charges at fixed positions and cells: what depends on these alone is worked out once."""
        return partial(self, x, h)


@dataclass(frozen=True)
class Layout:
    """Atoms of S structures. `real` is the type of pairs, waves and meshes; positions, cells and charges are float64.

    `ordered`: sums over atoms in an order of their own, so that a GPU gives the same bits in every call (slower).
    """

    home: Tensor  # int64 [N], the structure of an atom
    structures: int
    real: torch.dtype
    ordered: bool = False

    @classmethod
    def of(cls, sites: Sites, device: torch.device, real: torch.dtype, ordered: bool = False) -> Layout:
        return cls(home(sites.offsets).to(device), sites.structures, real, ordered)

    @property
    def device(self) -> torch.device:
        return self.home.device

    def on(self, tensor: Tensor) -> Tensor:
        """A tensor of the host, on the device."""
        return tensor.to(self.device)

    def added(self, values: Tensor, index: Tensor, count: int) -> Tensor:
        """Sums of values [n, ...] by their index, [count, ...]."""
        return self.add(torch.zeros(count, *values.shape[1:], dtype=values.dtype, device=values.device), values, index)

    def add(self, total: Tensor, values: Tensor, index: Tensor) -> Tensor:
        """Values [n, ...] are added to a total at their index, in place."""
        return total.index_put_((index,), values, accumulate=True) if self.ordered else total.index_add_(0, index, values)

    def by_structure(self, values: Tensor) -> Tensor:
        """Sums over the atoms [N, ...] of each structure [S, ...]."""
        return values.sum(0, keepdim=True) if self.structures == 1 else self.added(values, self.home, self.structures)


def in_rows(start: int, stop: int, step: int) -> list[slice]:
    """Atoms from start to stop, so many at a time."""
    return [slice(a, min(a + step, stop)) for a in range(start, stop, step)]


@dataclass(frozen=True)
class Cells:
    """Cells h [S, 3, 3] with what follows from them."""

    inverse: Tensor  # [S, 3, 3]; fractional positions are x @ inverse, waves are 2 pi m @ inverse^T
    volume: Tensor  # [S]

    @classmethod
    def of(cls, h: Tensor) -> Cells:
        normals = torch.linalg.cross(h.roll(-1, 1), h.roll(-2, 1))  # [S, 3, 3]
        determinant = (h[:, 0] * normals[:, 0]).sum(-1)
        return cls(normals.transpose(1, 2) / determinant[:, None, None], determinant.abs())

    def fractional(self, x: Tensor, home: Tensor) -> Tensor:
        """[N, 3]."""
        return torch.einsum("nb,nbc->nc", x, self.inverse[home])

    @property
    def metric(self) -> Tensor:
        """k^2 = m metric m, [S, 3, 3]."""
        return 4 * math.pi**2 * self.inverse.transpose(1, 2) @ self.inverse

    def slopes(self, layout: Layout, s: Tensor, by_s: Tensor, by_metric: Tensor, by_volume: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes by positions at fixed cells [N, 3], and by cells at fixed positions [S, 3, 3].

        Arguments: fractional positions s [N, 3] and the slopes by them; by the metric [S, 3, 3], symmetric; by the logarithm of the volume [S].
        """
        gx = torch.einsum("nc,nac->na", by_s, self.inverse[layout.home])
        waves = -2 * self.metric @ by_metric - layout.by_structure(s[:, :, None] * by_s[:, None, :])  # by h, times h^T
        identity = torch.eye(3, dtype=waves.dtype, device=waves.device)
        return gx, (waves + by_volume[:, None, None] * identity) @ self.inverse.transpose(1, 2)
