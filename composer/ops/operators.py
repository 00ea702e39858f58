"""Global operations by their data: ("smooth", p, sigma, accuracy), with (method, order, *mesh) behind where these are fixed by hand,
("excluded", p, damping) and ("mean",)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

Read = Callable[[str], Tensor]  # the site array [N] of a name


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
        case ["smooth", p, sigma, accuracy, method, order, *mesh]:
            return Smooth(Gaussian(float(p), float(sigma)), float(accuracy), method, order, (mesh[0], mesh[1], mesh[2]) if mesh else None)
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
    smooth, (p, sigma, accuracy) = form(operator), operator[1:4]
    assert isinstance(smooth, Smooth)
    how = smooth.words(sites, s)
    return [f"smooth part of 1/r^{p:g}, sigma {sigma:.3g} Å, accuracy {accuracy:g}: {how}"]


def sites_of(batch: Batch, x: Tensor, cells: Tensor) -> Sites:
    """The atoms of a batch, at positions [sites, 3] and in cells [S, 3, 3]."""
    return Sites(x[: batch.atoms], cells, batch.pbc, batch.offsets, batch.excluded)


class Bound:
    """Global operations on the sites of one call: each map is applied to a source once, with its slopes if they will be asked for.

    Arguments: sites; moves of positions [N, 3] and cells [S, 3, 3], None where they stand still; forms, from the data of an operation to its map.
    """

    def __init__(self, sites: Sites, moves: tuple[Tensor, Tensor] | None, forms: Callable[[tuple], Form] = form) -> None:
        self.sites, self.moves, self.forms = sites, moves, forms
        self.kept: dict[tuple, Values] = {}

    def operate(
        self, operations: Iterable[Sequence], pulls: Iterable[Sequence], read: Read, write: Callable[[str, Tensor], object]
    ) -> None:
        """Do `operations` on site arrays [N] by name; slopes that one of `pulls` will need are worked out on the way and kept."""
        pulled = {(tuple(operator), other) for operator, _, _, other, tangent, _ in pulls if not tangent}
        for data, source, target, _, tangent, _ in operations:
            operator = tuple(data)
            write(target, self.apply(operator, read(source), source, (operator, source) in pulled, tangent))

    def pull(self, pulls: Iterable[Sequence], read: Read) -> tuple[Tensor, Tensor]:
        """Slopes of all `pulls` by positions [N, 3] and cells [S, 3, 3]."""
        by_x, by_h = torch.zeros_like(self.sites.x), torch.zeros_like(self.sites.h)
        for operator, source, _, other, tangent, factor in pulls:
            u = read(source)
            gx, gh = self.slopes(tuple(operator), u, u if other == source else read(other), other, tangent)
            by_x, by_h = by_x + factor * gx, by_h + factor * gh
        return by_x, by_h

    def apply(self, operator: tuple, u: Tensor, name: str, keep: bool, tangent: bool) -> Tensor:
        """A u, or its derivative along the moves; with `keep`, the slopes of u A u are kept under the name."""
        if tangent:
            return torch.zeros_like(u) if self.moves is None else forms.apply_along(self.forms(operator), self.sites, u, *self.moves)
        values, _ = self.forms(operator)(self.sites, u, slopes=keep)
        if keep:
            self.kept[(operator, name)] = values
        return values.phi

    def slopes(self, operator: tuple, u: Tensor, v: Tensor, name: str, tangent: bool) -> tuple[Tensor, Tensor]:
        """Slopes of u A v by positions [N, 3] and cells [S, 3, 3]; `name` is that of v."""
        if tangent:
            if self.moves is None:
                return torch.zeros_like(self.sites.x), torch.zeros_like(self.sites.h)
            return forms.pull_along(self.forms(operator), self.sites, u, v, *self.moves)
        known, factor = self.kept.get((operator, name)), forms.multiple(u, v)
        if known is not None and factor is not None:
            return factor * known.x, factor * known.h
        return forms.pull(self.forms(operator), self.sites, u, v)
