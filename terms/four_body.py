"""Three neighbours and their centre: what pairs and angles alone cannot tell apart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations_with_replacement

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, Param, Range, element, stack, sum_over, total
from terms import radial
from terms.angular import direction, gaunt, harmonics

Leg = tuple[int, int]  # degree l and radial function n of one neighbour


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FourBody(Term):
    """E_i = sum_c c_c sum_{m1 m2 m3} G A_{n1 l1 m1} A_{n2 l2 m2} A_{n3 l3 m3}, the moments of ThreeBody coupled by Gaunt coefficients G.

    Channels c: legs (l1, n1) <= (l2, n2) <= (l3, n3) with 1 <= l <= l_max, l1 + l2 + l3 even and l3 <= l1 + l2 (l = 0 would be a product
    of a density and angles). Neighbours may coincide, so dimers and trimers contribute. coefficients c (eV) per ordered pair: the site and
    the species of the first leg; the others run over all neighbours. With blind=True all legs do, and c is per species of the site. Source: A. P. Bartók et al., Phys. Rev. B 87, 184115 (2013).
    """

    cutoff: float
    n_max: int = 2
    l_max: int = 2
    basis: str = "chebyshev"
    inner: radial.Inner = None
    blind: bool = False
    coefficients = Param(0.0, unit="eV", per="ordered pair", shape=("size",), amplitude=True)

    def check(self) -> None:
        radial.check(self)
        if self.l_max < 2:
            raise AlgebraError(
                f"FourBody with l_max = {self.l_max} was asked for", "The first invariant couples l = 1, 1, 2", "Give l_max=2"
            )

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        declared = type(self).coefficients
        return {"coefficients": dataclasses.replace(declared, per="species") if self.blind else declared}

    def channels(self) -> list[tuple[Leg, Leg, Leg]]:
        """The coupled triples of legs, in order."""
        legs = [(l, n) for l in range(1, self.l_max + 1) for n in range(self.n_max)]
        triples = combinations_with_replacement(legs, 3)
        return [(p, q, s) for p, q, s in triples if (p[0] + q[0] + s[0]) % 2 == 0 and s[0] <= p[0] + q[0]]

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.channels())

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        n, functions = radial.channels(self, env, j)
        values = harmonics(direction(j), self.l_max)
        ranges = [Range(f"m{l}", 2 * l + 1) for l in range(self.l_max + 1)]
        kinds = [None] if self.blind else list(env.species)  # of the neighbours that are told apart
        moments = [[sum_over(j, functions * stack(m, v), species=t) for m, v in zip(ranges, values)] for t in kinds]
        every = [total(kind[l] for kind in moments) for l in range(self.l_max + 1)]

        def leg(source: list[Node], which: Leg, i: int) -> Node:
            return element(element(source[which[0]], n, which[1]), ranges[which[0]], i)

        c = Range("channel", self.size)
        parts = []
        for t, kind in enumerate(moments):
            coupled = [
                total(g * (leg(kind, p, a) * leg(every, q, b) * leg(every, s, d)) for a, b, d, g in gaunt(p[0], q[0], s[0]))
                for p, q, s in self.channels()
            ]
            parts.append(sum_over(c, self.coefficients[c if self.blind else (t, c)] * stack(c, coupled)))
        return total(parts)
