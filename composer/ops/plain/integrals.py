"""Incomplete gamma functions and exponential integrals on tensors, with the tangents that torch does not know."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

DEPTH = 90  # levels of the continued fraction: rounding of float64 at z = 1
TERMS = 22  # of the series up to z = 1
EULER = 0.57721566490153286061


class _Known(torch.autograd.Function):
    """f(a, x) of a number a and a tensor x, with df/dx in forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.a, x = inputs
        ctx.save_for_forward(x)


class Upper(_Known):
    """Q(a, x) = Gamma(a, x)/Gamma(a), the regularised upper incomplete gamma function."""

    @staticmethod
    def forward(a: float, x: Tensor) -> Any:
        return torch.special.gammaincc(torch.full((), a, dtype=x.dtype, device=x.device), x)

    @staticmethod
    def jvp(ctx: Any, _: None, dx: Tensor) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return -dx * x ** (ctx.a - 1) * torch.exp(-x) / math.gamma(ctx.a)


class Lower(_Known):
    """P(a, x)/x^a of the regularised lower incomplete gamma function, finite at small x; its slope is -a P(a + 1, x)/x^(a + 1)."""

    @staticmethod
    def forward(a: float, x: Tensor) -> Any:
        x = x.clamp(min=1e-10)
        return torch.special.gammainc(torch.full((), a, dtype=x.dtype, device=x.device), x) / x**a

    @staticmethod
    def jvp(ctx: Any, _: None, dx: Tensor) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return -ctx.a * dx * Lower.apply(ctx.a + 1, x)


class Exponential(_Known):
    """E_n(z) = int_1^inf t^-n exp(-z t) dt for any real n and z > 0; its slope is -E_(n-1)(z)."""

    @staticmethod
    def forward(n: float, z: Tensor) -> Any:
        return torch.where(z > 1, _fraction(n, z.clamp(min=1.0)), _series(n, z.clamp(max=1.0)))

    @staticmethod
    def jvp(ctx: Any, _: None, dz: Tensor) -> Any:  # type: ignore[override]
        (z,) = ctx.saved_tensors
        return -dz * Exponential.apply(ctx.a - 1, z)


class Entire(_Known):
    """Ein(x) = int_0^x (1 - exp(-s))/s ds = E_1(x) + ln x + gamma, for x >= 0 (the number before x is not used)."""

    @staticmethod
    def forward(_: float, x: Tensor) -> Any:
        total, term = torch.zeros_like(x), torch.ones_like(x)
        small, large = x.clamp(max=1.0), x.clamp(min=1.0)
        for k in range(1, TERMS):
            term = term * (-small / k)
            total = total - term / k
        return torch.where(x > 1, _fraction(1.0, large) + torch.log(large) + EULER, total)

    @staticmethod
    def jvp(ctx: Any, _: None, dx: Tensor) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return dx * ratio(x)


def ratio(x: Tensor) -> Tensor:
    """(1 - exp(-x))/x, the slope of Ein."""
    small = x < 1e-6
    return torch.where(small, 1 - x / 2, -torch.expm1(-x) / torch.where(small, 1.0, x))


def _fraction(n: float, z: Tensor) -> Tensor:
    """exp(-z)/(z + n - 1 n/(z + n + 2 - 2 (n + 1)/(z + n + 4 - ...))), from its far end."""
    tail = torch.zeros_like(z)
    for i in range(DEPTH, 0, -1):
        tail = i * (n - 1 + i) / (z + n + 2 * i - tail)
    return torch.exp(-z) / (z + n - tail)


def _series(n: float, z: Tensor) -> Tensor:
    """Gamma(1 - n) z^(n - 1) - sum_k (-z)^k/(k! (1 - n + k)); for a whole n > 0 the pole becomes a logarithm."""
    whole = n == math.floor(n) and n >= 1
    total, term = torch.zeros_like(z), torch.ones_like(z)
    for k in range(TERMS):
        if not (whole and k == n - 1):
            total = total - term / (1 - n + k)
        term = term * (-z / (k + 1))
    if not whole:
        return math.gamma(1 - n) * z ** (n - 1) + total
    m = int(n) - 1
    harmonic = sum(1 / k for k in range(1, m + 1)) - EULER
    return (-z) ** m / math.factorial(m) * (harmonic - torch.log(z)) + total
