"""Electrostatics: the site scalar of charges q is q_i phi_i / 2 with phi the full potential, in any periodicity.

The smooth part of phi is a global operation; the short-range part is a sum over neighbours like any other and joins the loop that the
expression has anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from composer.algebra import Expression, Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, maximum, operate, read_at, sum_over
from composer.units import COULOMB
from terms.charges import Charges, scoped
from terms.longrange import Summed, check_lengths, split, tail, taper

DAMPING = 1.0  # Å, width of learned charges


@dataclass(frozen=True, eq=False, repr=False, kw_only=True, init=False)
class Coulomb(Summed, Term):
    """E_i = k q_i phi_i / 2, phi_i = sum_j q_j / r_ij over all atoms and images, k = 14.3996 eV Å/e^2 (tin-foil boundary).

    `accuracy` is the r.m.s. force error relative to a melt of the same charges; it fixes `cutoff` and `sigma` (Å), `method`, `order` and `mesh` unless
    they are given.
    `damping` (Å) turns q_j/r into q_j erf(r/(sqrt2 damping))/r: 0 for fixed charges, 1 for learned ones by default. Slabs, wires and molecules
    are summed without images in their open directions. `excluded` leaves out pairs of atoms (nearest images) that structures name: bonded
    ones in info["excluded"] = [[0, 1], ...], or those of one molecule in arrays["mol-id"]. Source: P. P. Ewald, Ann. Phys. 369, 253 (1921).
    """

    alone = True  # a factor would break neutrality
    charges: Charges
    cutoff: float | None = None
    sigma: float | None = None
    damping: float | None = None
    excluded: bool = False

    def __init__(self, charges: Charges, *, accuracy: float = 1e-5, **known: Any) -> None:
        left_out = ("cutoff", "sigma", "damping", "order", "mesh", "name")
        fields = {
            "charges": charges,
            "accuracy": accuracy,
            "method": known.pop("method", "auto"),
            **{n: known.pop(n, None) for n in left_out},
        }
        fields["excluded"] = bool(known.pop("excluded", False))
        for field, value in {**fields, "fixed": known.pop("fixed", ())}.items():
            object.__setattr__(self, field, value)
        if known or not isinstance(charges, Charges):
            raise AlgebraError(
                f"Coulomb was asked for with charges={charges!r} {known or ''}",
                "It takes Charges, accuracy, cutoff, sigma, damping, excluded, method, order and mesh",
                'Write Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=1e-5)',
            )
        self.__post_init__()

    def check(self) -> None:
        super().check()
        check_lengths(self, self.sigma, self.damping)

    @property
    def operands(self) -> tuple[Expression, ...]:
        return (scoped(self.charges, self.name or "Coulomb"),)

    @property
    def split(self) -> tuple[float, float]:
        """Cutoff and sigma, Å."""
        return split(self.accuracy, self.cutoff, self.sigma)

    def site(self, env: Environment) -> Node:
        charges = self.operands[0]
        assert isinstance(charges, Charges)
        (cutoff, sigma), q = self.split, charges.site(env)
        damping = (DAMPING if self.charges.learned else 0.0) if self.damping is None else self.damping
        j = env.neighbors(cutoff)
        short = tail(1, j.r, sigma) - (tail(1, j.r, damping) if damping else 0.0)
        pair = short / maximum(j.r, 1e-3) * taper(j.r, cutoff)
        smooth = self.smooth(1, sigma, q)
        far = 0.5 * COULOMB * q * (smooth - operate(("excluded", 1.0, damping), q) if self.excluded else smooth)
        if charges.values and not charges.neutral:  # known numbers: a plain pair term
            both = env.table("pair", lambda a, b: charges.number(env.symbols[a]) * charges.number(env.symbols[b]))
            return 0.5 * COULOMB * sum_over(j, both[j] * pair) + far
        return 0.5 * COULOMB * (q * sum_over(j, read_at(q, j) * pair)) + far
