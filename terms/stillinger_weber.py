"""The potential of Stillinger and Weber: pairs and angles."""

from __future__ import annotations

from dataclasses import dataclass

from composer.algebra import Term
from composer.quantities import Environment, NeighborAtom, Node, Param, dot, exp, sum_over, sum_over_pairs, where_less
from terms import radial
from terms.angular import direction


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StillingerWeber(Term):
    """E_i = 1/2 sum_j A (B (sigma/r)^p - (sigma/r)^q) exp(sigma/(r - rc)) + sum_{j<k} lambda (cos - cos0)^2 h(r_ij) h(r_ik).

    h(r) = exp(gamma sigma/(r - rc)). A (eV) is the published epsilon A, `angular` (eV) the published epsilon lambda: epsilon alone would
    be a flat direction. sigma (Å), B, gamma per pair; angular and cosine per triplet. `cutoff` (Å) is a sigma of the largest pair,
    `pairs` names others: (("C", "Si", 3.2), ...). Source: F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985), silicon by default.
    """

    cutoff: float = 3.77118
    pairs: tuple[tuple[str, str, float], ...] = ()
    p: int = 4
    q: int = 0
    A = Param(15.285553, unit="eV", per="pair", positive=True, amplitude=True)
    B = Param(0.6022245584, per="pair", positive=True)
    sigma = Param(2.0951, unit="Å", per="pair", positive=True)
    gamma = Param(1.2, per="pair", positive=True)
    angular = Param(45.5343, unit="eV", per="triplet", positive=True, amplitude=True)
    cosine = Param(-1 / 3, per="triplet", bounds=(-1.0, 1.0))

    def check(self) -> None:
        radial.order_pairs(self, 1)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        k = env.neighbors(self.cutoff, other_than=j)
        ratio = self.sigma[j] / radial.above(j.r, 0.1)
        pair = self.A[j] * (self.B[j] * ratio**self.p - ratio**self.q) * self.decay(env, j, self.sigma[j])
        bend = (dot(direction(j), direction(k)) - self.cosine[j, k]) ** 2
        reach = self.decay(env, j, self.gamma[j] * self.sigma[j]) * self.decay(env, k, self.gamma[k] * self.sigma[k])
        return 0.5 * sum_over(j, pair) + sum_over_pairs(j, k, self.angular[j, k] * bend * reach)

    def decay(self, env: Environment, j: NeighborAtom, length: Node) -> Node:
        """exp(length/(r - rc)), zero with all derivatives at the cutoff of the pair."""
        if not self.pairs:
            return exp(length / (j.r - self.cutoff))
        (reach,) = radial.lengths(env, j, self.pairs, self.cutoff)
        gap = where_less(j.r, reach, j.r - reach, -1.0)
        return where_less(j.r, reach, exp(length / gap), 0.0)
