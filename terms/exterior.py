"""What is far away, as features of a site: the field of atoms beyond a radius."""

from __future__ import annotations

import math
from dataclasses import dataclass

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, NeighborAtom, Node, Param, cos, maximum, sum_over, total
from terms.longrange import Summed, tail


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ExteriorPotential(Summed, Term):
    """E_i = sum_t sum_p c_tp phi_tp, phi_tp = sum over atoms j of species t of v_p(r_ij), atoms within the cutoff fading out.

    v_p = V_LR (1 - f^2), f = 1 - [(1 - cos(pi r/rc))/2]^degree below the cutoff rc (Å) and 0 beyond, V_LR = r^-p P(p/2, r^2/(2 sigma^2)) with P the
    lower incomplete gamma function and sigma a sixth of the cutoff. f^2 has three continuous derivatives at rc; squared=False gives the published f,
    which has one. coefficients c (eV Å^p) per ordered pair (site, t); a uniform background neutralises p < 3. The features of each species are
    channels of their own. Source: P. Loche et al., J. Chem. Phys. 162, 142501 (2025); the squared cutoff is our own.
    """

    smoothness = property(lambda term: 2 if term.squared else 1)  # type: ignore[assignment]
    cutoff: float
    exponents: tuple[int, ...] = (1,)
    degree: int = 1
    squared: bool = True
    coefficients = Param(0.0, unit="eV Å^p", per="ordered pair", shape=("size",), amplitude=True)

    def check(self) -> None:
        known = (
            isinstance(self.exponents, tuple)
            and bool(self.exponents)
            and all(isinstance(p, int) and p in (1, 2, 4, 5, 6) for p in self.exponents)
        )
        super().check()
        if not known or self.degree < 1:
            raise AlgebraError(
                f"An ExteriorPotential of exponents {self.exponents} and degree {self.degree} was asked for",
                "Exponents are whole numbers from 1, 2, 4, 5, 6, the degree is 1 or more",
                "Write exponents=(1, 6), degree=1",
            )

    @property
    def size(self) -> int:
        """Number of exponents."""
        return len(self.exponents)

    @property
    def sigma(self) -> float:
        """Width (Å) of the charges whose field is kept."""
        return self.cutoff / 6

    def features(self, env: Environment) -> list[tuple[int, int, Node]]:
        """phi_tp with their species t and the place of their exponent p."""
        j = env.neighbors(self.cutoff)
        return [(t, n, self.feature(env, j, p, t)) for n, p in enumerate(self.exponents) for t in env.species]

    def feature(self, env: Environment, j: NeighborAtom, p: int, t: int) -> Node:
        """phi_tp."""
        channel = env.table("species", lambda a: float(a == t))[()]
        inside = (1 - (0.5 - 0.5 * cos(j.r * (math.pi / self.cutoff))) ** self.degree) ** (2 if self.squared else 1)
        near = (1 - tail(p, j.r, self.sigma)) * maximum(j.r, 0.3 * self.sigma) ** -p * inside
        return self.smooth(p, self.sigma, channel) - sum_over(j, near, species=t)

    def site(self, env: Environment) -> Node:
        return total(self.coefficients[t, n] * phi for t, n, phi in self.features(env))
