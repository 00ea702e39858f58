"""A function in plain torch as a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from composer.opaque import apart
from composer.ops.plain.layout import Function
from composer.ops.sites import Form, Moves, Sites, Values


@dataclass(frozen=True)
class Plain:
    """A form in plain torch: derivatives along moves are tangents that torch works out."""

    function: Function

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        x, h, q = (t.detach() for t in (sites.x, sites.h, u))
        with torch.no_grad():
            if moves is None:
                return self.function(x, h, q, slopes), None
            values, along = apart(lambda: torch.func.jvp(self._values(slopes), (x, h, q), tuple(moves)), u.device)
        return Values(*values), Values(*along)

    def fixed(self, sites: Sites) -> Form:
        """The same for many charges on these sites as they stand: splines, phases and pairs are worked out once."""
        with torch.no_grad():
            applied = self.function.at(sites.x.detach(), sites.h.detach())
        return lambda sites, u, moves=None, slopes=True: (applied(u, slopes), None)

    def _values(self, slopes: bool) -> Callable[[Tensor, Tensor, Tensor], Values]:
        return lambda x, h, u: self.function(x, h, u, slopes)
