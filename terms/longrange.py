"""What the sums of 1/r^p over all images share: the split into a sum over neighbours and a global operation (`composer.ops`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.ops.bounds import SHARE, width
from composer.ops.plan import ORDERS
from composer.quantities import Node, erfc, exp, maximum, operate

RHO = 0.05  # 1/Å^3, the density that accuracies refer to: about that of salts and oxides
ONSET = 0.85  # where the short-range part begins to be tapered, as a fraction of the cutoff


def chosen(default: Any) -> Any:
    """A field that the canonical form leaves out where it is not given."""
    return field(default=default, metadata={"quiet": True})


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Summed:
    """Fields of a term with a sum over all images: an accuracy, and `method` ("auto", "ewald", "mesh"), `order` (4 to 8) and `mesh` (three numbers
    of points) to fix by hand how it is done."""

    accuracy: float = 1e-5
    method: str = chosen("auto")
    order: int | None = chosen(None)
    mesh: tuple[int, int, int] | None = chosen(None)

    def smooth(self, p: float, sigma: float, source: Node) -> Node:
        """The potential of charges of width sigma (Å), smooth everywhere: a global operation."""
        by_hand = (self.method, self.order, *(self.mesh or ()))
        return operate(("smooth", float(p), sigma, self.accuracy, *(() if by_hand == ("auto", None) else by_hand)), source)

    def check(self) -> None:
        """AlgebraError for an accuracy, a method or a mesh that makes no sense."""
        name, mesh = type(self).__name__, self.mesh
        if not 1e-13 <= self.accuracy <= 0.1:
            raise AlgebraError(
                f"{name} was asked for with accuracy={self.accuracy}", "It lies between 1e-13 and 0.1", "Write accuracy=1e-5"
            )
        whole = mesh is None or (isinstance(mesh, tuple) and len(mesh) == 3 and all(isinstance(n, int) and n > 0 for n in mesh))
        if self.method not in ("auto", "ewald", "mesh") or self.order not in (None, *ORDERS) or not whole:
            raise AlgebraError(
                f"{name} was asked for with method={self.method!r}, order={self.order}, mesh={mesh}",
                "Methods are auto, ewald and mesh, orders 4 to 8, a mesh three numbers of points",
                'Write method="mesh", order=5, mesh=(32, 32, 32), or leave them out',
            )
        if self.method == "ewald" and (mesh or self.order):
            raise AlgebraError(
                f"{name} was asked for with method='ewald', order={self.order}, mesh={mesh}",
                "A sum over waves has neither",
                'Write method="mesh"',
            )


def split(accuracy: float, cutoff: float | None, sigma: float | None) -> tuple[float, float]:
    """Cutoff and sigma (Å) that keep an accuracy; longer cutoffs for higher ones, as large systems want it."""
    rc = min(max(8.0 + 1.6 * math.log10(1e-4 / accuracy), 5.0), 12.0) if cutoff is None else cutoff
    return rc, width(0.92 * rc, RHO, accuracy * SHARE) if sigma is None else sigma


def check_lengths(term: Term, sigma: float | None, damping: float | None) -> None:
    """AlgebraError for a length that makes no sense."""
    if (sigma is not None and not 0 < sigma < math.inf) or (damping is not None and not 0 <= damping < math.inf):
        raise AlgebraError(
            f"{type(term).__name__} was asked for with sigma={sigma}, damping={damping}",
            "sigma lies above 0 Å, damping is 0 or above",
            "Leave both out",
        )


def tail(p: int, r: Node, sigma: float) -> Node:
    """Q(p/2, r^2/(2 sigma^2)), the upper incomplete gamma function: what a charge of width sigma lacks of r^-p.

    Q(1/2, x) = erfc(sqrt x), Q(1, x) = exp(-x), Q(a + 1, x) = Q(a, x) + x^a exp(-x)/Gamma(a + 1).
    """
    root = r / (math.sqrt(2) * sigma)
    x = root**2
    a, value = (0.5, erfc(root)) if p % 2 else (1.0, exp(-x))
    while a < p / 2:
        value = value + root ** round(2 * a) * exp(-x) / math.gamma(a + 1)
        a += 1
    return value


def taper(r: Node, cutoff: float) -> Node:
    """1 up to 0.85 of the cutoff, then 1 - t^3 (10 - 15 t + 6 t^2): slope and curvature are continuous."""
    t = maximum((r - ONSET * cutoff) / ((1 - ONSET) * cutoff), 0.0)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)
