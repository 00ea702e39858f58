"""Dispersion without a cutoff."""

from __future__ import annotations

from dataclasses import dataclass

from composer.algebra import Expression, Term
from composer.quantities import Environment, Node, Param, maximum, read_at, sqrt, sum_over
from terms.charges import scoped
from terms.longrange import Summed, check_lengths, split, tail, taper


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Dispersion(Summed, Term):
    """E_i = -sum_j sqrt(C_i C_j) / (2 r_ij^6) over all atoms and images, finite at short distance.

    c6 C (eV Å^6) per species; with `scale`, a scalar s of the surroundings, C_i (1 + s_i)^2 in its place; r^-6 is replaced by r^-6 P(3, r^2/(2 damping^2)), P the lower incomplete gamma function: a constant below about
    one `damping` (Å). In any periodicity. Source: D. E. Williams, Acta Cryst. A 27, 452 (1971).
    """

    cutoff: float | None = None
    sigma: float | None = None
    damping: float = 1.2
    scale: Expression | None = None
    c6 = Param(10.0, unit="eV Å^6", per="species", positive=True, amplitude=True)

    def check(self) -> None:
        super().check()
        check_lengths(self, self.sigma, self.damping)

    @property
    def operands(self) -> tuple[Expression, ...]:
        return () if self.scale is None else (scoped(self.scale, self.name or "Dispersion"),)

    def site(self, env: Environment) -> Node:
        cutoff, sigma = split(self.accuracy, self.cutoff, self.sigma)
        j, root = env.neighbors(cutoff), sqrt(self.c6.node)
        for inner in self.operands:
            root = root * (1 + inner.site(env))
        short = tail(6, j.r, sigma) - (tail(6, j.r, self.damping) if self.damping else 0.0)
        near = sum_over(j, read_at(root, j) * (short * maximum(j.r, 0.05) ** -6 * taper(j.r, cutoff)))
        return -0.5 * root * (near + self.smooth(6, sigma, root))
