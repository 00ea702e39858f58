"""What the sums of 1/r^p over all images share: the split into a sum over neighbours and a global operation (`composer.ops`)."""

from __future__ import annotations

import math

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.ops.bounds import SHARE, width
from composer.quantities import Node, erfc, exp, maximum

RHO = 0.05  # 1/Å^3, the density that accuracies refer to: about that of salts and oxides
ONSET = 0.85  # where the short-range part begins to be tapered, as a fraction of the cutoff


def split(accuracy: float, cutoff: float | None, sigma: float | None) -> tuple[float, float]:
    """Cutoff and sigma (Å) that keep an accuracy; longer cutoffs for higher ones, as large systems want it."""
    rc = min(max(8.0 + 1.6 * math.log10(1e-4 / accuracy), 5.0), 12.0) if cutoff is None else cutoff
    return rc, width(0.92 * rc, RHO, accuracy * SHARE) if sigma is None else sigma


def check_split(term: Term, accuracy: float, sigma: float | None, damping: float | None) -> None:
    """AlgebraError for an accuracy or a length that makes no sense."""
    if not 1e-13 <= accuracy <= 0.1 or (sigma is not None and not 0 < sigma < math.inf) or (damping is not None and not damping >= 0):
        raise AlgebraError(
            f"{type(term).__name__} was asked for with accuracy={accuracy}, sigma={sigma}, damping={damping}",
            "The accuracy lies between 1e-13 and 0.1, lengths above 0 Å",
            "Write accuracy=1e-5 and leave the rest out",
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
