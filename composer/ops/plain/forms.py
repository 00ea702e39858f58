"""From a form, whose kernels are compiled, to the same in plain torch for given structures on a device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from composer.ops.operators import Mean, form
from composer.ops.plain.form import Plain
from composer.ops.plain.layout import Applied, Function, Layout
from composer.ops.plain.mesh import Mesh
from composer.ops.plain.pairs import Listed, Open
from composer.ops.plain.slab import Slab
from composer.ops.plain.waves import ROOM, Waves
from composer.ops.plain.wire import Wire
from composer.ops.plan import Plan
from composer.ops.short import AllPairs, Excluded, Short, Together, excluded
from composer.ops.sites import Form, Sites, Values
from composer.ops.smooth import Smooth
from composer.ops.splits import Gaussian

SINGLE = 1e-5  # the finest accuracy for which numbers of four bytes will do: their rounding costs 2e-6


def plain(
    parts: Sequence[tuple[Sequence[int], Form]],
    sites: Sites,
    device: torch.device,
    real: torch.dtype = torch.float64,
    ordered: bool = False,
) -> Plain:
    """Groups of structures with a form each, as of `composer.ops.sites.by_groups`, for these structures at much the same cells on a device.

    Arguments: sites on the host; `real` float64 or float32, see `Layout`; `ordered`, the same bits in every call.
    """
    return Plain(parted([(m, partial(function, form)) for m, form in parts], sites, Layout.of(sites, device, real, ordered)))


def precision(single: bool, accuracy: float) -> torch.dtype:
    """The type of sums of an accuracy: what float32 can keep may be float32."""
    return torch.float32 if single and accuracy >= SINGLE else torch.float64


def operation(operator: tuple, sites: Sites, device: torch.device, single: bool, ordered: bool) -> Plain:
    """A global operation by its data, see `composer.ops.operators`, in plain torch; arguments as of `plain`."""
    real = precision(single, operator[3] if operator[0] == "smooth" else 1.0)
    return plain([(range(sites.structures), form(operator))], sites, device, real, ordered)


def function(form: Form, sites: Sites, layout: Layout) -> Function:
    """The function of a form."""
    match form:
        case Mean():
            return Average(layout)
        case Short(split, cutoff, pairs):
            return Listed.of(layout, split, cutoff, pairs)
        case Excluded(p, damping):
            near = excluded(sites)
            whole = Listed.of(layout, Gaussian(p, 0.0), math.inf, near)
            return whole if not damping else Weighted(((1.0, whole), (-1.0, Listed.of(layout, Gaussian(p, damping), math.inf, near))))
        case AllPairs(p):
            return Open(layout, Gaussian(p, 0.0), tuple(sites.offsets.tolist()))
        case Together(parts):
            return Weighted(tuple((w, function(part, sites, layout)) for w, part in parts))
        case Smooth():
            return smooth(form, sites, layout)
    raise TypeError(f"{form!r} has no plain form")


def smooth(form: Smooth, sites: Sites, layout: Layout) -> Function:
    """The smooth part: structures of one plan share one function."""
    return parted([(m, partial(_smooth, form, chosen)) for chosen, m in form.groups(sites)], sites, layout)


def _smooth(form: Smooth, chosen: str | Plan, sites: Sites, layout: Layout) -> Function:
    if chosen == "open":
        return Open(layout, form.split, tuple(sites.offsets.tolist()))
    if chosen == "wire":
        return Wire.of(layout, form.gaussian(), sites)
    if isinstance(chosen, str):
        return _slab(form, sites, layout)
    if chosen.method == "mesh":
        return Mesh.of(layout, form.split, chosen.order, chosen.mesh)
    most = (ROOM * chosen.cutoff / (2 * math.pi) * sites.h.norm(dim=2)).floor().int().amax(0)
    return Waves.of(layout, form.split, chosen.cutoff, tuple(most.tolist()))


def _slab(form: Smooth, sites: Sites, layout: Layout) -> Function:
    open_, heights, lines = form.tall(sites)
    cells = sites.h.clone()
    for s, axis in enumerate(open_.tolist()):
        normal = torch.linalg.cross(cells[s, (axis + 1) % 3], cells[s, (axis + 2) % 3])
        cells[s, axis] = heights[s] * normal / normal.norm()
    tall = smooth(form, Sites(sites.x, cells, sites.pbc | True, sites.offsets), layout)
    ends = sites.offsets.tolist()
    known = [(slice(a, b), layout.on(k), layout.on(w)) for a, b, (k, w) in zip(ends, ends[1:], lines) if len(k)]
    return Slab(layout, tall, layout.on(open_), layout.on(heights), tuple(known))


def parted(groups: Sequence[tuple[Sequence[int], Callable[[Sites, Layout], Function]]], sites: Sites, layout: Layout) -> Function:
    """Groups of structures, each with a function of its own; together they are all structures."""
    if len(groups) == 1:
        return groups[0][1](sites, layout)
    parts = []
    for members, make in groups:
        some = sites.part(members)
        place = Layout.of(some, layout.device, layout.real, layout.ordered)
        parts.append((layout.on(sites.atoms_of(members)), layout.on(torch.tensor(members)), make(some, place)))
    return Parted(tuple(parts))


@dataclass(frozen=True)
class Parted(Function):
    """Functions of some of the structures each: their atoms, their numbers, the function."""

    parts: tuple[tuple[Tensor, Tensor, Function], ...]

    def at(self, x: Tensor, h: Tensor) -> Applied:
        parts = [(atoms, members, function.at(x[atoms], h[members])) for atoms, members, function in self.parts]

        def applied(u: Tensor, slopes: bool) -> Values:
            total = Values(torch.zeros_like(u), torch.zeros_like(x), torch.zeros_like(h))
            for atoms, members, part in parts:
                new = part(u[atoms], slopes)
                total = Values(*(t.index_copy(0, place, n) for t, place, n in zip(total, (atoms, atoms, members), new)))
            return total

        return applied


@dataclass(frozen=True)
class Weighted(Function):
    """A weighted sum of functions."""

    parts: tuple[tuple[float, Function], ...]

    def at(self, x: Tensor, h: Tensor) -> Applied:
        parts = [(w, function.at(x, h)) for w, function in self.parts]

        def applied(u: Tensor, slopes: bool) -> Values:
            found = [Values(*(w * t for t in part(u, slopes))) for w, part in parts]
            return Values(*(torch.stack(parts).sum(0) for parts in zip(*found)))

        return applied


@dataclass(frozen=True)
class Average(Function):
    """The mean of u over each structure."""

    layout: Layout

    def __call__(self, x: Tensor, h: Tensor, u: Tensor, slopes: bool) -> Values:
        total, count = (self.layout.by_structure(t) for t in (u, torch.ones_like(u)))
        return Values((total / count.clamp(min=1))[self.layout.home], torch.zeros_like(x), torch.zeros_like(h))
