"""Pair potentials: site scalar sum_j phi(r_ij)/2, so that each pair's energy belongs half to either atom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from composer.algebra import Term
from composer.quantities import Environment, NeighborAtom, Node, Param, dot, exp, maximum, sum_over, total
from terms import radial


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LennardJones(Term):
    """phi = 4 epsilon ((sigma/r)^12 - (sigma/r)^6), cut at `cutoff` (Å); no force below 0.1 Å.

    epsilon depth (eV), sigma distance where phi = 0 (Å), both per pair. Source: J. E. Jones, Proc. R. Soc. A 106, 463 (1924).
    """

    smoothness: ClassVar[int] = -1
    cutoff: float
    epsilon = Param(0.01, unit="eV", per="pair", positive=True, amplitude=True)
    sigma = Param(3.0, unit="Å", per="pair", positive=True)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        ratio6 = (self.sigma[j] ** 2 / maximum(dot(j.d, j.d), 0.01)) ** 3
        return sum_over(j, 2 * self.epsilon[j] * (ratio6**2 - ratio6))


def _half_sum(j: NeighborAtom, energy: Node, cutoff: float, taper: bool) -> Node:
    """sum_j phi/2, times the cutoff function if the form is to end smoothly."""
    return sum_over(j, 0.5 * energy * (radial.smooth(j.r, cutoff) if taper else 1.0))


# A published form ends at the cutoff through the cutoff function, or is cut there with taper=False.
TAPERED = property(lambda term: 2 if term.taper else -1)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Morse(Term):
    """phi = depth ((1 - exp(-width (r - length)))^2 - 1).

    depth (eV), width (1/Å), length of the minimum (Å), per pair. Source: P. M. Morse, Phys. Rev. 34, 57 (1929).
    """

    smoothness = TAPERED  # type: ignore[assignment]
    cutoff: float
    taper: bool = True
    depth = Param(0.5, unit="eV", per="pair", positive=True, amplitude=True)
    width = Param(1.5, unit="1/Å", per="pair", positive=True)
    length = Param(2.0, unit="Å", per="pair", positive=True)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        m = exp(-self.width[j] * (j.r - self.length[j]))
        return _half_sum(j, self.depth[j] * (m**2 - 2 * m), self.cutoff, self.taper)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class BornMayer(Term):
    """phi = height exp(-r/length): the overlap of closed shells.

    height (eV), length (Å), per pair. Source: M. Born, J. E. Mayer, Z. Phys. 75, 1 (1932).
    """

    smoothness = TAPERED  # type: ignore[assignment]
    cutoff: float
    taper: bool = True
    height = Param(1000.0, unit="eV", per="pair", positive=True, amplitude=True)
    length = Param(0.3, unit="Å", per="pair", positive=True)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        return _half_sum(j, self.height[j] * exp(-j.r / self.length[j]), self.cutoff, self.taper)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Buckingham(Term):
    """phi = height exp(-r/length) - dispersion/r^6, constant below `inner` (Å), where it would fall to minus infinity.

    height (eV), length (Å), dispersion (eV Å^6), per pair. Source: R. A. Buckingham, Proc. R. Soc. A 168, 264 (1938).
    """

    smoothness = TAPERED  # type: ignore[assignment]
    cutoff: float
    inner: float = 0.5
    taper: bool = True
    height = Param(1000.0, unit="eV", per="pair", positive=True, amplitude=True)
    length = Param(0.3, unit="Å", per="pair", positive=True)
    dispersion = Param(10.0, unit="eV Å^6", per="pair", positive=True, amplitude=True)

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        r = radial.above(j.r, self.inner)
        return _half_sum(j, self.height[j] * exp(-r / self.length[j]) - self.dispersion[j] * r**-6, self.cutoff, self.taper)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Pair(Term):
    """phi = sum_n c_n R_n(r), an expansion in the radial basis `basis` with n_max functions up to `cutoff` (Å).

    coefficients c (eV) per pair; `inner` (Å) is the start of the sampled range: a quarter of the cutoff by default, or a length for each
    pair, (("Mo", "Nb", 2.3), ...), others the least. `Pair("A*exp(-r/rho)", cutoff=8, A=..., rho=...)` is a PairFormula.
    """

    cutoff: float
    n_max: int = 10
    basis: str = "chebyshev"
    inner: radial.Inner = None
    coefficients = Param(0.0, unit="eV", per="pair", shape=("n_max",), amplitude=True)

    def __new__(cls, formula: str | None = None, *more: Any, **fields: Any) -> Any:
        from terms.pair_formula import PairFormula

        if isinstance(formula, str):
            return PairFormula(formula, *more, **fields)
        return super().__new__(cls, *([] if formula is None else [formula, *more]), **fields)

    def check(self) -> None:
        radial.check(self)

    def roughness(self) -> dict[str, Any]:
        """Roughness of the expansion, by parameter: [n_max, n_max]."""
        return {"coefficients": radial.roughness(self.basis, self.cutoff, self.n_max, self.inner)}

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        n, functions = radial.channels(self, env, j)
        # Sums by species of the neighbour come first: the coefficients stay outside the loop over neighbours.
        return 0.5 * total(sum_over(n, self.coefficients[t, n] * sum_over(j, functions, species=t)) for t in env.species)
