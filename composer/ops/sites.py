"""What a global operation is given, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Moves(NamedTuple):
    """A direction: of positions [N, 3] and cells [S, 3, 3], Å, and of charges [N]."""

    x: Tensor
    h: Tensor
    u: Tensor


@dataclass(frozen=True)
class Sites:
    """Atoms of S structures: positions, cells, which directions are periodic, and where structures begin."""

    x: Tensor  # float64 [N, 3], Å
    h: Tensor  # float64 [S, 3, 3], rows are vectors, Å
    pbc: Tensor  # bool [S, 3]
    offsets: Tensor  # int64 [S + 1]
    excluded: Tensor | None = None  # int64 [E, 2], pairs of atoms of one structure that do not interact

    @property
    def structures(self) -> int:
        return len(self.offsets) - 1

    def atoms_of(self, chosen: Sequence[int]) -> Tensor:
        """Numbers of the atoms of some structures."""
        offsets = self.offsets.tolist()
        return torch.cat([torch.arange(offsets[s], offsets[s + 1]) for s in chosen])

    def part(self, chosen: Sequence[int]) -> Sites:
        """Some of the structures."""
        if len(chosen) == self.structures:
            return self
        atoms = self.atoms_of(chosen)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), self.offsets.diff()[chosen].cumsum(0)])
        return Sites(self.x[atoms], self.h[chosen], self.pbc[chosen], offsets, self._excluded(atoms))

    def at(self, x: Tensor, h: Tensor) -> Sites:
        """The same atoms elsewhere."""
        return Sites(x, h, self.pbc, self.offsets, self.excluded)

    def _excluded(self, atoms: Tensor) -> Tensor | None:
        if self.excluded is None:
            return None
        place = torch.full((len(self.x),), -1)
        place[atoms] = torch.arange(len(atoms))
        pairs = place[self.excluded]
        return pairs[(pairs >= 0).all(1)]


class Values(NamedTuple):
    """phi = A u and the slopes of the form u A u, by positions at fixed cells and by cells at fixed positions."""

    phi: Tensor  # [N]
    x: Tensor  # [N, 3]
    h: Tensor  # [S, 3, 3]


def zeros(sites: Sites) -> Values:
    """Values to add to."""
    return Values(sites.x.new_zeros(len(sites.x)), torch.zeros_like(sites.x), torch.zeros_like(sites.h))


class Form(Protocol):
    """A symmetric linear map A of charges that depends on positions and cells."""

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        """Values and, if `moves` are given, their derivatives along them; slopes are zero unless asked for."""
        ...


def by_groups(
    parts: Sequence[tuple[Sequence[int], Form]], sites: Sites, u: Tensor, moves: Moves | None, slopes: bool
) -> tuple[Values, Values | None]:
    """Groups of structures, each with a form of its own; together they are all structures."""
    if len(parts) == 1:
        return parts[0][1](sites, u, moves, slopes)
    totals = (zeros(sites), None if moves is None else zeros(sites))
    for members, form in parts:
        atoms = sites.atoms_of(members)
        moved = None if moves is None else Moves(moves.x[atoms], moves.h[members], moves.u[atoms])
        for total, new in zip(totals, form(sites.part(members), u[atoms], moved, slopes), strict=True):
            if total is not None and new is not None:
                total.phi[atoms], total.x[atoms], total.h[members] = new
    return totals


def apply(form: Form, sites: Sites, u: Tensor) -> Tensor:
    """phi = A u, [N]."""
    if readable(u) and not u.any():
        return torch.zeros_like(u)
    return form(sites, u, slopes=False)[0].phi


def pull(form: Form, sites: Sites, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of u A v by positions [N, 3] and cells [S, 3, 3]: a quarter of what u + v and u - v give."""
    if readable(u) and not (u.any() and v.any()):
        return torch.zeros_like(sites.x), torch.zeros_like(sites.h)
    factor = multiple(u, v)
    if factor is not None:
        out = form(sites, v)[0]
        return factor * out.x, factor * out.h
    balance = _balance(u, v)
    one, other = form(sites, u * balance + v / balance)[0], form(sites, u * balance - v / balance)[0]
    return (one.x - other.x) / 4, (one.h - other.h) / 4


def apply_along(form: Form, sites: Sites, u: Tensor, x: Tensor, h: Tensor) -> Tensor:
    """The derivative of A along moves of positions and cells, times u, [N]."""
    along = form(sites, u, Moves(x, h, torch.zeros_like(u)), slopes=False)[1]
    assert along is not None
    return along.phi


def pull_along(form: Form, sites: Sites, u: Tensor, v: Tensor, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of `pull` along moves of positions and cells."""
    still, factor = torch.zeros_like(u), multiple(u, v)
    if factor is not None:
        out = form(sites, v, Moves(x, h, still))[1]
        assert out is not None
        return factor * out.x, factor * out.h
    balance = _balance(u, v)
    one = form(sites, u * balance + v / balance, Moves(x, h, still))[1]
    other = form(sites, u * balance - v / balance, Moves(x, h, still))[1]
    assert one is not None and other is not None
    return (one.x - other.x) / 4, (one.h - other.h) / 4


def readable(t: Tensor) -> bool:
    """Whether the host may look at numbers without waiting for a device."""
    return t.device.type == "cpu"


def multiple(u: Tensor, v: Tensor) -> float | None:
    """The number f with u = f v to the last bit, if there is one that can be had."""
    if u is v or not readable(u):
        return 1.0 if u is v else None
    square = float(v @ v)
    factor = float(u @ v) / square if square else 0.0
    for rounded in (factor, round(factor * 2) / 2):
        if torch.equal(u, rounded * v):
            return rounded
    return None


def _balance(u: Tensor, v: Tensor) -> Tensor:
    """sqrt(|v| / |u|), so that neither drowns in the other."""
    a, b = u.norm(), v.norm()
    return torch.where((a > 0) & (b > 0), (b / a).sqrt(), 1.0)


def home(offsets: Tensor) -> Tensor:
    """The structure of each atom, int64 [N]."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
