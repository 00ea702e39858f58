"""Operators that torch does not look into, and their derivatives: two orders by positions, cells and charges, in both modes.

A is symmetric, so all follow from four operations on a form u A v (`composer.ops.sites`): apply, pull, and both along moves.
"""

from __future__ import annotations

import itertools
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from composer.errors import DataError
from composer.opaque import last, one_by_one, or_zeros
from composer.ops import sites as forms
from composer.ops.sites import Moves, Sites, Values


class Known(ABC):
    """A form on the sites it was made for, known to the operators by a number as long as it is in use."""

    by_number: weakref.WeakValueDictionary[int, Known] = weakref.WeakValueDictionary()
    numbers = itertools.count()

    def __init__(self, sites: Sites) -> None:
        self.sites, self.number = sites, next(self.numbers)
        self.by_number[self.number] = self

    @abstractmethod
    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        """The form u A u, see `composer.ops.sites.Form`."""


def at(number: int, x: Tensor, h: Tensor) -> tuple[Known, Sites]:
    """A form and the sites that it is to be evaluated at."""
    found = Known.by_number[number]
    return found, found.sites.at(x.contiguous(), h.contiguous())


def operator(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a function an operator on any device: `torch.library.custom_op` without its layers of Python around each call."""

    def register(function: Callable[..., Any]) -> Any:
        torch.library.define(name, torch.library.infer_schema(function, mutates_args=()), tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(name, "CompositeExplicitAutograd", function)
        torch.library.register_vmap(name, one_by_one(function))
        return getattr(torch.ops.composer, name.removeprefix("composer::")).default

    return register


@operator("composer::longrange")
def _potential(x: Tensor, h: Tensor, u: Tensor, number: int) -> Tensor:
    phi = forms.apply(*at(number, x, h), u)
    if forms.readable(phi) and not bool(torch.isfinite(phi).all()):
        raise DataError(
            "A long-range sum was asked for",
            "Its value is not finite: two atoms stand on top of each other, or a charge is not finite",
            "Look for atoms at zero distance",
        )
    return phi


@operator("composer::longrange_evaluated")
def potential_and_slopes(x: Tensor, h: Tensor, u: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    found, sites = at(number, x, h)
    values = found(sites, u)[0]
    return values.phi, values.x, values.h


@operator("composer::longrange_slopes")
def _slopes(x: Tensor, h: Tensor, u: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return forms.pull(*at(number, x, h), u, v)


@operator("composer::longrange_along")
def _along(x: Tensor, h: Tensor, u: Tensor, dx: Tensor, dh: Tensor, number: int) -> Tensor:
    return forms.apply_along(*at(number, x, h), u, dx, dh)


@operator("composer::longrange_slopes_along")
def _slopes_along(x: Tensor, h: Tensor, u: Tensor, v: Tensor, dx: Tensor, dh: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return forms.pull_along(*at(number, x, h), u, v, dx, dh)


@torch.library.register_fake("composer::longrange")
def _(x: Tensor, h: Tensor, u: Tensor, number: int) -> Tensor:
    return torch.empty_like(u)


@torch.library.register_fake("composer::longrange_evaluated")
def _(x: Tensor, h: Tensor, u: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(u), torch.empty_like(x), torch.empty_like(h)


@torch.library.register_fake("composer::longrange_slopes")
def _(x: Tensor, h: Tensor, u: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(h)


@torch.library.register_fake("composer::longrange_along")
def _(x: Tensor, h: Tensor, u: Tensor, dx: Tensor, dh: Tensor, number: int) -> Tensor:
    return torch.empty_like(u)


@torch.library.register_fake("composer::longrange_slopes_along")
def _(x: Tensor, h: Tensor, u: Tensor, v: Tensor, dx: Tensor, dh: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(h)


class _Kept(torch.autograd.Function):
    """Keeps the form alive as long as a derivative may ask for it."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        *tensors, ctx.number = inputs
        ctx.form = None if torch.compiler.is_compiling() else Known.by_number[ctx.number]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)


class Potential(_Kept):
    """phi = A u; A is symmetric: the adjoint of u is A applied to that of phi. All that torch.compile can follow."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, number: int) -> Any:
        return _potential(x, h, u, number)

    @staticmethod
    def backward(ctx: Any, s: Tensor) -> Any:
        x, h, u = ctx.saved_tensors
        by_place, by_u = any(ctx.needs_input_grad[:2]), ctx.needs_input_grad[2]
        slopes, apply = (_slopes, _potential) if torch.compiler.is_compiling() else (_Slopes.apply, PotentialBothWays.apply)
        gx, gh = slopes(x, h, s, u, ctx.number) if by_place else (None, None)
        return gx, gh, apply(x, h, s, ctx.number) if by_u else None, None


class PotentialBothWays(Potential):
    """phi = A u with reverse and forward mode."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dh: Tensor | None, du: Tensor | None, _: None) -> Any:  # type: ignore[override]
        x, h, u = ctx.saved_tensors
        out = torch.zeros_like(u) if du is None else PotentialBothWays.apply(x, h, du, ctx.number)
        if dx is None and dh is None:
            return out
        return out + _Along.apply(x, h, u, or_zeros(dx, x), or_zeros(dh, h), ctx.number)


class _Slopes(_Kept):
    """Slopes of u A v by positions and cells."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, v: Tensor, number: int) -> Any:
        return _slopes(x, h, u, v, number)

    @staticmethod
    def backward(ctx: Any, wx: Tensor, wh: Tensor) -> Any:
        x, h, u, v = ctx.saved_tensors
        _, _, by_u, by_v, _ = ctx.needs_input_grad
        gx, gh = _SlopesAlong.apply(x, h, u, v, wx, wh, ctx.number) if any(ctx.needs_input_grad[:2]) else (None, None)
        gu = _Along.apply(x, h, v, wx, wh, ctx.number) if by_u else None
        return gx, gh, gu, _Along.apply(x, h, u, wx, wh, ctx.number) if by_v else None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dh: Tensor | None, du: Tensor | None, dv: Tensor | None, _: None) -> Any:  # type: ignore[override]
        x, h, u, v = ctx.saved_tensors
        gx, gh = torch.zeros_like(x), torch.zeros_like(h)
        for one, other in ((du, v), (u, dv)):
            if one is not None and other is not None:
                px, ph = _Slopes.apply(x, h, one, other, ctx.number)
                gx, gh = gx + px, gh + ph
        if dx is None and dh is None:
            return gx, gh
        px, ph = _SlopesAlong.apply(x, h, u, v, or_zeros(dx, x), or_zeros(dh, h), ctx.number)
        return gx + px, gh + ph


class PotentialAndSlopes(_Kept):
    """phi = A u and the slopes of u A u, at once. All that torch.compile can follow."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, number: int) -> Any:
        return potential_and_slopes(x, h, u, number)

    @staticmethod
    def backward(ctx: Any, s: Tensor, wx: Tensor, wh: Tensor) -> Any:
        (x, h, u), number = ctx.saved_tensors, ctx.number
        gx = gh = gu = None
        if any(ctx.needs_input_grad[:2]):
            (ax, ah), (bx, bh) = _Slopes.apply(x, h, s, u, number), _SlopesAlong.apply(x, h, u, u, wx, wh, number)
            gx, gh = ax + bx, ah + bh
        if ctx.needs_input_grad[2]:
            gu = Potential.apply(x, h, s, number) + 2 * _Along.apply(x, h, u, wx, wh, number)
        return gx, gh, gu, None


class PotentialAndSlopesBothWays(PotentialAndSlopes):
    """The same with forward mode."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dh: Tensor | None, du: Tensor | None, _: None) -> Any:  # type: ignore[override]
        (x, h, u), number = ctx.saved_tensors, ctx.number
        du, moved = or_zeros(du, u), (or_zeros(dx, x), or_zeros(dh, h))
        phi = PotentialBothWays.apply(x, h, du, number) + _Along.apply(x, h, u, *moved, number)
        by_u, by_place = _Slopes.apply(x, h, u, du, number), _SlopesAlong.apply(x, h, u, u, *moved, number)
        return phi, *(2 * a + b for a, b in zip(by_u, by_place, strict=True))


def _refusal() -> DataError:
    return DataError(
        "A third derivative of a long-range sum was asked for",
        "First and second derivatives by positions, cells and charges are provided",
        "Differentiate less often",
    )


_Last = last(_refusal)


class _Along(_Last):
    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, dx: Tensor, dh: Tensor, number: int) -> Any:
        return _along(x, h, u, dx, dh, number)


class _SlopesAlong(_Last):
    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, v: Tensor, dx: Tensor, dh: Tensor, number: int) -> Any:
        return _slopes_along(x, h, u, v, dx, dh, number)
