"""Embedding energies: a function of the density that the neighbours leave at a site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from composer.algebra import Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, Param, exp, log, sqrt, sum_over, total
from terms import radial

TINY = 1e-12  # keeps slopes finite at zero density; sqrt(rho) changes by 5e-13/sqrt(rho)


def _root(rho: Node) -> Node:
    return rho / sqrt(rho + TINY)


# Each form lists the functions of the density that the coefficients multiply.
FORMS: dict[str, Callable[[Node], list[Node]]] = {
    "sqrt": lambda rho: [_root(rho), rho],
    "polynomial": lambda rho: [rho, rho**2, rho**3],
    "universal": lambda rho: [_root(rho), _root(rho) * log(rho + TINY)],
}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Embedding(Term):
    """F(rho_i) = sum_k a_k g_k(rho_i), rho_i = sum_j exp(-decay (r_ij - length)) (1 - (r_ij/rc)^2)^3.

    form "sqrt": g = sqrt(rho), rho (Finnis and Sinclair, Phil. Mag. A 50, 45 (1984), with the linear part of analytic EAM);
    form "polynomial": g = rho, rho^2, rho^3; form "universal": g = sqrt(rho), sqrt(rho) ln(rho) (Banerjea and Smith, Phys. Rev. B 37, 6632
    (1988)). coefficients a (eV) per species of the site, decay (1/Å) per ordered pair; `length` (Å), where a neighbour counts as one, is
    half the cutoff by default. The slope of sqrt(rho) is continuous at the cutoff, its curvature is not.
    """

    smoothness: ClassVar[int] = 1
    cutoff: float
    form: str = "sqrt"
    length: float | None = None
    coefficients = Param(0.0, unit="eV", per="species", shape=("size",), amplitude=True, start="start")
    decay = Param(2.0, unit="1/Å", per="ordered pair", positive=True)

    def check(self) -> None:
        if self.form not in FORMS:
            raise AlgebraError(f"Embedding of the form {self.form!r} was asked for", f"Known are {', '.join(FORMS)}", "Use one of these")

    @property
    def size(self) -> int:
        """Number of functions of the density."""
        return {"sqrt": 2, "polynomial": 3, "universal": 2}[self.form]

    def start(self) -> list[float]:
        """Start values of the coefficients, [size]: a bound atom."""
        return [-1.0 if self.form != "polynomial" else -0.1] + [0.0] * (self.size - 1)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        length = 0.5 * self.cutoff if self.length is None else self.length
        rho = sum_over(j, exp(-self.decay[j] * (j.r - length)) * radial.smooth(j.r, self.cutoff))
        return total(self.coefficients[k] * g for k, g in enumerate(FORMS[self.form](rho)))
