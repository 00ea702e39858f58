"""The universal repulsion of two screened nuclei."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, NeighborAtom, Node, exp, maximum, sum_over, where_less
from composer.units import COULOMB_OF_ENGINES
from terms import radial
from terms.covalent_radii import RADII

SCREENING = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229), (0.18175, 3.19980))  # weights, decays in units of 1/a
LENGTH = {"quartic": 0.46850, "cosine": 1 / 2.134563}  # Å, as the source of either form rounds it


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ZBL(Term):
    """phi = Z_i Z_j e^2/r sum_n c_n exp(-d_n r/a), a = 0.4685 Å/(Z_i^0.23 + Z_j^0.23), half to either atom: no learnable number.

    switch "quartic": + S(r), a constant below `inner` and a quartic up to `outer` (Å) that brings energy, force and curvature to zero
    there; by default outer = 0.9 times the sum of the covalent radii and inner = outer/2; outer=(("Mo", "Nb", 2.3), ...) for pairs. switch "cosine": times 1 below inner and
    (1 + cos(pi (r - inner)/(outer - inner)))/2 up to outer; with `factor`, inner = 0 and outer is at most factor times the sum of the
    radii; `pairs` holds for each pair of elements symbols, inner, outer and four pairs (c, d) of its own.
    Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter (1985); LAMMPS `pair_style zbl`
    (quartic); Z. Fan et al., J. Chem. Phys. 157, 114801 (2022) (cosine).
    """

    smoothness = property(lambda term: 2 if term.switch == "quartic" else 1)  # type: ignore[assignment]
    inner: float | None = None
    outer: radial.Inner = None
    switch: str = field(default="quartic", metadata={"quiet": True})
    factor: float | None = field(default=None, metadata={"quiet": True})
    pairs: tuple[tuple, ...] = field(default=(), metadata={"quiet": True})

    def check(self) -> None:
        inner = 0.0 if self.inner is None else self.inner
        radial.check_lengths(self, "outer")
        least = math.inf if self.outer is None else radial.least(self.outer, math.inf)
        if inner < 0 or not inner < least or self.outer == math.inf:
            found = f"inner = {self.inner}, outer = {self.outer}"
            raise AlgebraError("ZBL was asked for", found, "Give 0 <= inner < outer in Å, or leave both out")
        if self.switch not in LENGTH or (self.switch == "quartic" and (self.factor is not None or self.pairs)):
            found = f"switch = {self.switch!r}, factor = {self.factor}, {len(self.pairs)} pairs"
            raise AlgebraError("ZBL was asked for", found, 'Give switch="quartic" alone, or switch="cosine" with factor or pairs')
        if self.switch == "cosine" and self.outer is None and not self.pairs:
            raise AlgebraError('ZBL(switch="cosine") was asked for', "Its outer distance is missing", "Give e.g. inner=1.0, outer=2.0")
        if not all(len(p) == 12 and 0 <= p[2] < p[3] for p in self.pairs):
            raise AlgebraError(
                "ZBL was asked for with pairs", "An entry is not two symbols and ten numbers", "Give symbols, inner, outer, c, d, ..."
            )
        rows = sorted((*sorted(map(str, p[:2])), *map(float, p[2:])) for p in self.pairs)
        object.__setattr__(self, "pairs", tuple(rows))

    def range(self, z: int, other: int) -> tuple[float, float]:
        """Distances (Å) between which two nuclei are switched off."""
        from ase.data import chemical_symbols, covalent_radii

        if self.pairs:
            low, high, *_ = self._pair(chemical_symbols[z], chemical_symbols[other])
            return low, high
        outer = self.outer
        if isinstance(outer, tuple):
            known = {frozenset(p[:2]): p[2] for p in outer}
            outer = known.get(frozenset((chemical_symbols[z], chemical_symbols[other])), radial.least(outer, math.inf))
        if self.factor is not None:
            return 0.0, min(self.factor * (RADII[z - 1] + RADII[other - 1]), outer or math.inf)
        outer = 0.9 * float(covalent_radii[z] + covalent_radii[other]) if outer is None else outer
        if self.switch == "cosine":
            return 0.5 * outer if self.inner is None else self.inner, outer
        return min(0.5 * outer if self.inner is None else self.inner, 0.9 * outer), outer

    def _pair(self, a: str, b: str) -> tuple[float, ...]:
        found = [p[2:] for p in self.pairs if p[:2] == tuple(sorted((a, b)))]
        if not found:
            raise AlgebraError(f"ZBL of the pair {a}-{b} was asked for", "`pairs` does not hold it", f"Add an entry for {a}-{b}")
        return found[0]

    def screening(self, env: Environment, j: NeighborAtom) -> list[tuple[Node | float, Node | float]]:
        """Weights and decays of the pair (site, j)."""
        if not self.pairs:
            return [(c, d) for c, d in SCREENING]
        columns = [env.table("pair", lambda a, b, n=n: self._pair(env.symbols[a], env.symbols[b])[n])[j] for n in range(2, 10)]
        return list(zip(columns[::2], columns[1::2]))

    def site(self, env: Environment) -> Node:
        z = env.numbers
        pairs = [(z[a], z[b]) for a in env.species for b in env.species]
        j = env.neighbors(max(self.range(*pair)[1] for pair in pairs))
        r = radial.above(j.r, 0.01)
        inner, outer = (env.table("pair", lambda a, b, n=n: self.range(z[a], z[b])[n])[j] for n in range(2))
        charges = env.table("pair", lambda a, b: COULOMB_OF_ENGINES * z[a] * z[b])[j]
        decay = env.table("pair", lambda a, b: 1 / self.length(z[a], z[b]))[j]
        screened = sum(c * exp(-d * (decay * r)) for c, d in self.screening(env, j))
        if self.switch == "cosine":
            return sum_over(j, 0.5 * charges / r * screened * radial.tersoff(r, inner, outer))
        switch = [env.table("pair", lambda a, b, n=n: self._switch(z[a], z[b])[n])[j] for n in range(3)]
        t = maximum(r - inner, 0.0)
        return sum_over(j, 0.5 * where_less(r, outer, charges / r * screened + switch[0] + t**3 * (switch[1] + switch[2] * t), 0.0))

    def length(self, z: int, other: int) -> float:
        """The screening length a (Å)."""
        return LENGTH[self.switch] / (z**0.23 + other**0.23)

    def _switch(self, z: int, other: int) -> tuple[float, float, float]:
        """Constant, cubic and quartic coefficient of S (eV, eV/Å^3, eV/Å^4), from energy, slope and curvature at `outer`."""
        inner, outer = self.range(z, other)
        a, e, slope, curvature = self.length(z, other), 0.0, 0.0, 0.0
        for c, d in SCREENING:
            k = d / a
            f = COULOMB_OF_ENGINES * z * other * c * math.exp(-k * outer) / outer
            e, slope, curvature = e + f, slope - f * (k + 1 / outer), curvature + f * (k * k + 2 * k / outer + 2 / outer**2)
        width = outer - inner
        cubic = (-3 * slope + width * curvature) / width**2
        quartic = (2 * slope - width * curvature) / width**3
        return -e + width * slope / 2 - width**2 * curvature / 12, cubic / 3, quartic / 4
