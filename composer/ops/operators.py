"""Global operations by their data: ("smooth", p, sigma, accuracy), ("excluded", p, damping) and ("mean",)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.errors import BackendError
from composer.neighbors import Batch
from composer.ops import sites as forms
from composer.ops.short import Excluded
from composer.ops.sites import Form, Moves, Sites, Values
from composer.ops.smooth import Smooth
from composer.ops.splits import Gaussian


@dataclass(frozen=True)
class Mean:
    """phi_i = mean of u over the structure: independent of positions."""

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        still = (torch.zeros_like(sites.x), torch.zeros_like(sites.h))
        return Values(self.mean(sites, u), *still), None if moves is None else Values(self.mean(sites, moves.u), *still)

    def mean(self, sites: Sites, u: Tensor) -> Tensor:
        place = forms.home(sites.offsets)
        total = torch.zeros(sites.structures, dtype=u.dtype).index_add_(0, place, u)
        return (total / sites.offsets.diff().clamp(min=1))[place]


def form(operator: tuple) -> Form:
    """The map that the data of an operation name."""
    match operator:
        case ["mean"]:
            return Mean()
        case ["smooth", p, sigma, accuracy]:
            return Smooth(Gaussian(float(p), float(sigma)), float(accuracy))
        case ["excluded", p, damping]:
            return Excluded(float(p), float(damping))
    raise BackendError(
        f"The global operation {operator!r} was asked for",
        "Known are smooth, excluded and mean",
        "Use a model file of this version of composer",
    )


def words(operator: tuple, sites: Sites, s: int) -> list[str]:
    """How an operation is done for the structure s, where there is something to choose: one line or none."""
    if operator[0] != "smooth":
        return []
    _, p, sigma, accuracy = operator
    how = Smooth(Gaussian(p, sigma), accuracy).words(sites, s)
    return [f"smooth part of 1/r^{p:g}, sigma {sigma:.3g} Å, accuracy {accuracy:g}: {how}"]


class Bound:
    """Global operations on the sites of one call: each map is applied to a source once, with its slopes if they will be asked for."""

    def __init__(self, batch: Batch, x: Tensor, cells: Tensor, moves: Tensor | None, cell_moves: Tensor | None) -> None:
        self.sites = Sites(x[: batch.atoms], cells, batch.pbc, batch.offsets, batch.excluded)
        still = torch.zeros_like(self.sites.x) if moves is None else moves[: batch.atoms].contiguous()
        self.moves = still, torch.zeros_like(cells) if cell_moves is None else cell_moves
        self.kept: dict[tuple, Values] = {}

    def apply(self, operator: tuple, u: Tensor, name: str, keep: bool, tangent: bool) -> Tensor:
        """A u, or its derivative along the moves; with `keep`, the slopes of u A u are worked out on the way and kept under the name."""
        if tangent:
            return forms.apply_along(form(operator), self.sites, u, *self.moves)
        values, _ = form(operator)(self.sites, u, slopes=keep)
        if keep:
            self.kept[(operator, name)] = values
        return values.phi

    def pull(self, operator: tuple, u: Tensor, v: Tensor, name: str, tangent: bool) -> tuple[Tensor, Tensor]:
        """Slopes of u A v by positions [N, 3] and cells [S, 3, 3]; `name` is that of v."""
        if tangent:
            return forms.pull_along(form(operator), self.sites, u, v, *self.moves)
        known, factor = self.kept.get((operator, name)), forms.multiple(u, v)
        if known is not None and factor is not None:
            return factor * known.x, factor * known.h
        return forms.pull(form(operator), self.sites, u, v)
