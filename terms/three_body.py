"""Angles between pairs of neighbours, through moments: the cost is linear in the number of neighbours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, Param, Range, element, stack, sum_over, total
from terms import radial
from terms.angular import direction, harmonics


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ThreeBody(Term):
    """E_i = sum_l sum_{a <= b} c_lab sum_{j != k} R_a(r_ij) R_b(r_ik) P_l(cos theta_jik), l = 0 .. l_max, a and b below n_max.

    Evaluated as sum_m A_alm A_blm - sum_j R_a R_b with the moments A_nlm = sum_j R_n(r_ij) Y_lm, so that a dimer gives zero. A triplet
    belongs to its centre. coefficients c (eV): per ordered pair (site, species of both neighbours) for a <= b; `mixed`: per site and
    two unlike species, for all a (of the species that comes first in the model) and b. With blind=True neighbours of all species count
    alike, and c is per species of the site: far fewer numbers for many species. `inner` (Å): as in Pair.
    Source: R. Drautz, Phys. Rev. B 99, 014104 (2019), for the moments.
    """

    cutoff: float
    n_max: int = 4
    l_max: int = 5
    basis: str = "chebyshev"
    inner: radial.Inner = None
    blind: bool = False
    coefficients = Param(0.0, unit="eV", per="ordered pair", shape=("levels", "like"), amplitude=True)
    mixed = Param(0.0, unit="eV", per="unlike triplet", shape=("levels", "unlike"), amplitude=True)

    def check(self) -> None:
        radial.check(self)
        if self.l_max < 0:
            raise AlgebraError(f"ThreeBody with l_max = {self.l_max} was asked for", "Degrees start at 0", "Give l_max=5")

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        whole = {"coefficients": type(self).coefficients, "mixed": type(self).mixed}
        return {"coefficients": dataclasses.replace(type(self).coefficients, per="species")} if self.blind else whole

    @property
    def levels(self) -> int:
        """Number of degrees l."""
        return self.l_max + 1

    @property
    def like(self) -> int:
        """Number of pairs a <= b of radial functions."""
        return self.n_max * (self.n_max + 1) // 2

    @property
    def unlike(self) -> int:
        """Number of pairs (a, b) of radial functions."""
        return self.n_max**2

    def roughness(self) -> dict[str, Any]:
        """Roughness of the expansions, by parameter: [levels * like, levels * like] and [levels * unlike, levels * unlike]."""
        matrices = [radial.angular_roughness(self.basis, self.cutoff, self.n_max, self.inner, self.levels, like) for like in (True, False)]
        return dict(zip(self.params(), matrices))

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        n, functions = radial.channels(self, env, j)
        like, unlike = Range("like", self.like), Range("unlike", self.unlike)
        pairs = [(a, b) for a in range(self.n_max) for b in range(a, self.n_max)]
        both = stack(like, [element(functions, n, a) * element(functions, n, b) for a, b in pairs])
        kinds = [None] if self.blind else list(env.species)  # of the neighbours that are told apart
        own = [sum_over(j, both, species=t) for t in kinds]  # j = k, where P_l(1) = 1
        parts = []
        for l, values in enumerate(harmonics(direction(j), self.l_max)):
            m = Range(f"m{l}", 2 * l + 1)
            moments = [sum_over(j, functions * stack(m, values), species=t) for t in kinds]  # [n, m]
            for t in range(len(kinds)):
                angles = stack(like, [_contract(n, m, moments[t], moments[t], a, b) for a, b in pairs])
                at = (l, like) if self.blind else (t, l, like)
                parts.append(sum_over(like, self.coefficients[at] * (angles - own[t])))
                for s in range(t + 1, len(kinds)):
                    every = [_contract(n, m, moments[t], moments[s], a, b) for a in range(self.n_max) for b in range(self.n_max)]
                    parts.append(sum_over(unlike, self.mixed[t, s, l, unlike] * stack(unlike, every)))
        return total(parts)


def _contract(n: Range, m: Range, left: Node, right: Node, a: int, b: int) -> Node:
    """sum_m A_am B_bm: rotation invariant."""
    return sum_over(m, element(left, n, a) * element(right, n, b))
