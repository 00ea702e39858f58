"""The parts of 1/r^p on tensors, each with its slope: V_SR and V_LR by r^2, vhat_LR by k^2. See `composer.ops.splits`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from composer.ops.plain.integrals import Exponential, Lower, Upper
from composer.ops.splits import Split

Both = tuple[Tensor, Tensor]


def short_pair(split: Split, r2: Tensor) -> Both:
    """V_SR; a split without width leaves the whole of 1/r^p."""
    a = split.p / 2
    if split.tables is not None:
        inverse = torch.rsqrt(r2)
        f, slope = polynomial(split.tables[0], split.reach**2, r2)
        inside = r2 < split.reach**2
        return torch.where(inside, inverse - f, 0.0), torch.where(inside, -0.5 * inverse**3 - slope, 0.0)
    if not split.width:
        whole = r2**-a
        return whole, -a * whole / r2
    w = 2 * split.width**2
    x = r2 / w
    f = torch.special.erfc(x.sqrt()) * torch.rsqrt(r2) if split.p == 1 else Upper.apply(a, x) * r2**-a
    return f, -(a * f + w**-a / math.gamma(a) * torch.exp(-x)) / r2


def smooth_pair(split: Split, r2: Tensor) -> Both:
    """V_LR, finite where atoms meet."""
    if split.tables is not None:
        f, slope = polynomial(split.tables[0], split.reach**2, r2)
        inside, inverse = r2 < split.reach**2, torch.rsqrt(r2.clamp(min=split.reach**2))
        return torch.where(inside, f, inverse), torch.where(inside, slope, -0.5 * inverse**3)
    a, w = split.p / 2, 2 * split.width**2
    x = r2 / w
    bent = Lower.apply(a + 1, x)
    return w**-a * (x * bent + torch.exp(-x) / math.gamma(a + 1)), -a * w ** (-a - 1) * bent


def spectrum(split: Split, k2: Tensor) -> Both:
    """vhat_LR, for k^2 > 0."""
    if split.tables is not None:
        g, slope = polynomial(split.tables[1], split.band**2, k2)
        inside = k2 < split.band**2
        f = torch.where(inside, 4 * math.pi * g / k2, 0.0)
        return f, torch.where(inside, 4 * math.pi * slope / k2, 0.0) - f / k2
    w = split.width**2 / 2
    z = w * k2
    if split.p == 1:
        f = 4 * math.pi * torch.exp(-z) / k2
        return f, -f * (w + 1 / k2)
    n = (split.p - 1) / 2
    scale = math.pi**1.5 / math.gamma(split.p / 2) * (4 * w) ** ((3 - split.p) / 2)
    first = Exponential.apply(n, z)
    return scale * first, -scale * w * (torch.exp(-z) - (n - 1) * first) / z


def polynomial(coefficients: Sequence[float], limit: float, x: Tensor) -> Both:
    """A polynomial, lowest coefficient first, of w = 2 x/limit - 1, and its slope by x."""
    w, (value, slope) = 2 / limit * x - 1, (torch.zeros_like(x), torch.zeros_like(x))
    for c in reversed([float(c) for c in coefficients]):
        slope = slope * w + value
        value = value * w + c
    return value, slope * (2 / limit)
