"""Charges of least energy: the minimum of a quadratic form on planes of fixed total charge, by conjugate gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.errors import DataError
from composer.ops import sites as forms
from composer.ops.sites import Form, Sites


@dataclass(frozen=True)
class Solved:
    """Charges [N], the multiplier of each structure [S], and how many products with the form it took."""

    charges: Tensor
    level: Tensor
    iterations: int


def solve(form: Form, sites: Sites, right: Tensor, hardness: Tensor, total: Tensor, tolerance: float, limit: int) -> Solved:
    """Solve (A + diag(hardness)) q - level = right under sum q = total in each structure.

    Conjugate gradients with the hardness as preconditioner, projected onto the plane of fixed charge; all structures at once.
    Arguments: form A in energy/charge^2; right [N] and hardness [N] in energy/charge and energy/charge^2; total [S]; tolerance of the
    residual relative to `right`; limit, most iterations.
    Errors: DataError when the form has a negative direction, or when the limit is reached.
    """
    place, count = forms.home(sites.offsets).to(right.device), sites.structures
    scale = 1 / hardness.clamp(min=0.1 * float(hardness.abs().mean()) + 1e-12)

    def added(t: Tensor) -> Tensor:
        return t.new_zeros(count).index_add_(0, place, t)

    def split(t: Tensor) -> tuple[Tensor, Tensor]:
        """What is left of t in the plane of fixed charge, and its level [S]; products are taken with the former, or rounding wins."""
        level = added(scale * t) / added(scale)
        return t - level[place], level

    def times(q: Tensor) -> Tensor:
        return forms.apply(form, sites, q) + hardness * q

    q = (total / sites.offsets.diff().to(total.device))[place]
    residual, level = split(right - times(q))
    direction, product = scale * residual, added(scale * residual**2)
    stop, done = tolerance**2 * added(scale * right**2).clamp(min=1e-300), 0
    while bool((product > stop).any()):
        if done == limit:
            raise DataError(
                "Charges of least energy were asked for", f"They are not found after {limit} iterations", "Raise the hardness or the limit"
            )
        curved, going = times(direction), product > stop
        curvature = added(direction * curved)
        if bool((curvature[going] <= 0).any()):
            raise DataError(
                "Charges of least energy were asked for",
                f"Structure {int((going & (curvature <= 0)).int().argmax())} has none: its energy falls without end along some charges",
                "Raise the hardness of its species or damp the interaction",
            )
        step = torch.where(going, product / curvature.clamp(min=1e-300), 0.0)
        q = q + step[place] * direction
        residual, shift = split(residual - step[place] * curved)
        new, level, done = added(scale * residual**2), level + shift, done + 1
        ratio = torch.where(going, new / product.clamp(min=1e-300), 0.0)
        direction, product = scale * residual + ratio[place] * direction, new
    return Solved(q, -level, done)
