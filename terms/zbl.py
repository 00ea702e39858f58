"""The universal repulsion of two screened nuclei."""

from __future__ import annotations

import math
from dataclasses import dataclass

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, exp, maximum, sum_over, where_less
from terms import radial

SCREENING = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229), (0.18175, 3.19980))  # weights, decays in units of 1/a
COULOMB = 14.399645  # e^2 / (4 pi epsilon_0), eV Å


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ZBL(Term):
    """phi = Z_i Z_j e^2/r sum_n c_n exp(-d_n r/a) + S(r), a = 0.4685 Å/(Z_i^0.23 + Z_j^0.23): no learnable number.

    S is a constant below `inner` and a quartic up to `outer` (Å) that brings energy, force and curvature to zero there. By default
    outer = 0.9 times the sum of the covalent radii and inner = outer/2. Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping
    and Range of Ions in Matter (1985); the switching is that of LAMMPS `pair_style zbl`.
    """

    inner: float | None = None
    outer: float | None = None

    def check(self) -> None:
        inner = 0.0 if self.inner is None else self.inner
        if inner < 0 or not inner < (math.inf if self.outer is None else self.outer) or self.outer == math.inf:
            found = f"inner = {self.inner}, outer = {self.outer}"
            raise AlgebraError("ZBL was asked for", found, "Give 0 <= inner < outer in Å, or leave both out")

    def range(self, z: int, other: int) -> tuple[float, float]:
        """Distances (Å) between which two nuclei are switched off."""
        from ase.data import covalent_radii

        outer = 0.9 * float(covalent_radii[z] + covalent_radii[other]) if self.outer is None else self.outer
        return min(0.5 * outer if self.inner is None else self.inner, 0.9 * outer), outer

    def site(self, env: Environment) -> Node:
        z = env.numbers
        pairs = [(z[a], z[b]) for a in env.species for b in env.species]
        j = env.neighbors(max(self.range(*pair)[1] for pair in pairs))
        r = radial.above(j.r, 0.01)
        switch = [env.table("pair", lambda a, b, n=n: _switch(z[a], z[b], *self.range(z[a], z[b]))[n])[j] for n in range(3)]
        inner, outer = (env.table("pair", lambda a, b, n=n: self.range(z[a], z[b])[n])[j] for n in range(2))
        charges = env.table("pair", lambda a, b: COULOMB * z[a] * z[b])[j]
        decay = env.table("pair", lambda a, b: 1 / _length(z[a], z[b]))[j]
        screened = sum(c * exp(-d * decay * r) for c, d in SCREENING)
        t = maximum(r - inner, 0.0)
        return sum_over(j, 0.5 * where_less(r, outer, charges / r * screened + switch[0] + t**3 * (switch[1] + switch[2] * t), 0.0))


def _length(z: int, other: int) -> float:
    return 0.46850 / (z**0.23 + other**0.23)


def _switch(z: int, other: int, inner: float, outer: float) -> tuple[float, float, float]:
    """Constant, cubic and quartic coefficient of S (eV, eV/Å^3, eV/Å^4), from energy, slope and curvature at `outer`."""
    a, e, slope, curvature = _length(z, other), 0.0, 0.0, 0.0
    for c, d in SCREENING:
        k = d / a
        f = COULOMB * z * other * c * math.exp(-k * outer) / outer
        e, slope, curvature = e + f, slope - f * (k + 1 / outer), curvature + f * (k * k + 2 * k / outer + 2 / outer**2)
    width = outer - inner
    cubic = (-3 * slope + width * curvature) / width**2
    quartic = (2 * slope - width * curvature) / width**3
    return -e + width * slope / 2 - width**2 * curvature / 12, cubic / 3, quartic / 4
