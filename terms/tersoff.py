"""The bond-order potential of Tersoff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, NeighborAtom, Node, Param, dot, exp, minimum, power, sum_over
from terms import radial
from terms.angular import direction


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Tersoff(Term):
    """E_i = 1/2 sum_j fc(r_ij) (A exp(-lambda1 r_ij) - b_ij B exp(-lambda2 r_ij)), b_ij = (1 + zeta_ij^n)^(-1/2n).

    zeta_ij = sum_{k != j} fc(r_ik) beta (1 + c^2/d^2 - c^2/(d^2 + (cosine - cos)^2)) exp((lambda3 (r_ij - r_ik))^m).
    fc falls from `inner` (R - D) to `cutoff` (R + D), Å; `pairs` names other lengths: (("C", "C", 1.8, 2.1), ...). A (eV), lambda1 (1/Å)
    per pair; B (eV), lambda2 (1/Å), n per ordered pair; beta, c, d, cosine, lambda3 (1/Å) per ordered triplet (site, j, k), where beta is
    beta gamma of LAMMPS; m = 3 or 1, or 0 for a model without the last factor. Silicon (C) by default.
    Source: J. Tersoff, Phys. Rev. B 37, 6991 (1988); 38, 9902 (1988); 39, 5566 (1989).
    """

    smoothness: ClassVar[int] = 1
    inner: float = 2.7
    cutoff: float = 3.0
    pairs: tuple[tuple[str, str, float, float], ...] = ()
    m: int = 0
    A = Param(1830.8, unit="eV", per="pair", positive=True, amplitude=True)
    lambda1 = Param(2.4799, unit="1/Å", per="pair", positive=True)
    B = Param(471.18, unit="eV", per="ordered pair", positive=True, amplitude=True)
    lambda2 = Param(1.7322, unit="1/Å", per="ordered pair", positive=True)
    n = Param(0.78734, per="ordered pair", positive=True)
    beta = Param(1.1e-6, per="ordered triplet", positive=True)
    c = Param(1.0039e5, per="ordered triplet", positive=True)
    d = Param(16.217, per="ordered triplet", positive=True)
    cosine = Param(-0.59825, per="ordered triplet", bounds=(-1.0, 1.0))
    lambda3 = Param(0.0, unit="1/Å", per="ordered triplet")

    def check(self) -> None:
        radial.order_pairs(self, 2)
        if not 0 < self.inner < self.cutoff or self.m not in (0, 1, 3):
            found = f"inner = {self.inner}, cutoff = {self.cutoff}, m = {self.m}"
            raise AlgebraError("Tersoff was asked for", found, "Give 0 < inner < cutoff in Å, and m = 0, 1 or 3")

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        return {n: p for n, p in super().params().items() if n != "lambda3" or self.m}

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        k = env.neighbors(self.cutoff, other_than=j)
        c2, d2 = self.c[j, k] ** 2, self.d[j, k] ** 2
        bend = (self.cosine[j, k] - dot(direction(j), direction(k))) ** 2
        angle = self.beta[j, k] * (1 + c2 / d2 * bend / (d2 + bend))  # c2/d2 - c2/(d2 + bend) would lose half of the digits
        if self.m:
            angle = angle * exp(minimum((self.lambda3[j, k] * (j.r - k.r)) ** self.m, 69.0))
        zeta = sum_over(k, self.switch(env, k) * angle)
        n = self.n[j]
        bond = power(1 + power(zeta + 1e-30, n), -0.5 / n)  # the small number keeps the slope finite where there is no third atom
        repulsion, attraction = self.A[j] * exp(-self.lambda1[j] * j.r), self.B[j] * exp(-self.lambda2[j] * j.r)
        return sum_over(j, 0.5 * self.switch(env, j) * (repulsion - bond * attraction))

    def switch(self, env: Environment, j: NeighborAtom) -> Node:
        """The cutoff function of the pair."""
        return radial.tersoff(j.r, *radial.lengths(env, j, self.pairs, self.inner, self.cutoff))
