"""Densities: what a site feels of its neighbours, for products and embeddings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, Param, Range, stack, sum_over, total
from terms import radial


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Density(Term):
    """rho_i = sum_j sum_n c_n R_n(r_ij), a pair expansion that is not shared between the two atoms (no factor 1/2).

    coefficients c per ordered pair (site, neighbour), without unit; they start at 0.1/2^n, because a factor that is zero teaches nothing.
    With positive=True functions and coefficients are not negative (R_n = (1 + T_n)/2 times the cutoff function for Chebyshev), so that
    sqrt and log1p of the density exist. With blind=True all neighbours count alike, and c is per species of the site. `inner` (Å): as in Pair.
    """

    cutoff: float
    n_max: int = 2
    basis: str = "chebyshev"
    inner: radial.Inner = None
    positive: bool = False
    blind: bool = False
    coefficients = Param(0.0, per="ordered pair", shape=("n_max",), amplitude=True, start="decaying")

    def check(self) -> None:
        radial.check(self)
        if self.positive and self.basis == "bessel":
            found = "Bessel functions change sign"
            raise AlgebraError("A positive Density in the basis 'bessel' was asked for", found, 'Use basis="gaussian" or "chebyshev"')

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        return {
            "coefficients": dataclasses.replace(
                type(self).coefficients, positive=self.positive, per="species" if self.blind else "ordered pair"
            )
        }

    def roughness(self) -> dict[str, Any]:
        """Roughness of the expansion, by parameter: [n_max, n_max]."""
        return {"coefficients": radial.roughness(self.basis, self.cutoff, self.n_max, self.inner)}

    def decaying(self) -> list[float]:
        """Start values of the coefficients, [n_max]."""
        return [0.1 * 0.5**n for n in range(self.n_max)]

    @property
    def non_negative(self) -> bool:
        return self.positive

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        functions = radial.functions(self, env, j)
        if self.positive and self.basis == "chebyshev":
            functions = [0.5 * (f + functions[0]) for f in functions]
        n = Range("n", self.n_max)
        field = stack(n, functions)
        if self.blind:
            return sum_over(n, self.coefficients[n] * sum_over(j, field))
        return total(sum_over(n, self.coefficients[t, n] * sum_over(j, field, species=t)) for t in env.species)
