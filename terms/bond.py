"""A pair energy that knows how crowded both of its ends are."""

from __future__ import annotations

from dataclasses import dataclass

from composer.algebra import Term
from composer.quantities import Environment, Node, Param, exp, read_at, sum_over, total
from terms import radial


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Bond(Term):
    """E_i = 1/2 sum_j sum_n c_n R_n(r_ij) (q_i + q_j), q_i = sum_j exp(-decay r_ij) (1 - (r_ij/rc)^2)^3.

    q is a field of the site that is read at the neighbour, so forces reach twice the cutoff. coefficients c (eV) per pair, decay (1/Å) per
    ordered pair; n_max, basis and inner as in Pair. Source: the bond energies of second-moment and bond-order models, e.g. D. G. Pettifor,
    Phys. Rev. Lett. 63, 2480 (1989), reduced to coordination.
    """

    cutoff: float
    n_max: int = 4
    basis: str = "chebyshev"
    inner: radial.Inner = None
    coefficients = Param(0.0, unit="eV", per="pair", shape=("n_max",), amplitude=True)
    decay = Param(0.5, unit="1/Å", per="ordered pair", positive=True)

    def check(self) -> None:
        radial.check(self)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        q = sum_over(j, exp(-self.decay[j] * j.r) * radial.smooth(j.r, self.cutoff))
        n, functions = radial.channels(self, env, j)
        strength = (sum_over(n, self.coefficients[t, n] * sum_over(j, functions * (q + read_at(q, j)), species=t)) for t in env.species)
        return 0.5 * total(strength)
