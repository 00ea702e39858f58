"""Long-range terms: the site scalar of charges q is q_i phi_i / 2 with phi the full potential, in any periodicity.

The smooth part of phi is a global operation (`composer.ops`); the short-range part is a sum over neighbours like any other and joins
the loop that the expression has anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from composer.algebra import Expression, Function, Product, Sum, Term
from composer.errors import AlgebraError
from composer.ops.bounds import SHARE, width
from composer.quantities import Environment, Node, Param, erfc, exp, maximum, operate, read_at, sqrt, sum_over
from composer.units import COULOMB
from terms.pauling import electronegativity

RHO = 0.05  # 1/Å^3, the density that accuracies refer to: about that of salts and oxides
ONSET = 0.85  # where the short-range part begins to be tapered, as a fraction of the cutoff
DAMPING = 1.0  # Å, width of learned charges


def scoped(expression: Expression, scope: str) -> Expression:
    """The same expression with parameters of its own: its terms are named after `scope`."""
    match expression:
        case Term():
            return expression.named(f"{scope}.{expression.name or type(expression).__name__}")
        case Sum():
            return Sum.of([(f, scoped(p, scope)) for f, p in expression.parts])
        case Product():
            return Product.of([b for base, n in expression.factors for b in [scoped(base, scope)] * n])
        case Function():
            return Function(expression.function, scoped(expression.argument, scope))
    return expression


@dataclass(frozen=True, eq=False, repr=False, kw_only=True, init=False)
class Charges(Term):
    """q_i (e): `Charges({"Na": 1, "Cl": -1})` fixed, `Charges(learn="per species")` learned, `Charges(Density(cutoff=5))` of the surroundings.

    charge (e) per species, learned. neutral=True takes off the mean of each structure (for charges learned per species by default): exact, but
    what two distant fragments of unlike composition share; with neutral=False a net charge meets a uniform background.
    """

    values: tuple[tuple[str, float], ...] = ()
    learn: str = ""
    source: Expression | None = None
    neutral: bool = False

    charge = Param(0.0, unit="e", per="species", start="guess")

    def __init__(self, given: Any = None, *, values: Any = (), learn: str = "", source: Any = None, neutral: bool | None = None, **known: Any):
        if isinstance(given, Expression):
            source = given
        elif given is not None:
            values = tuple(given.items()) if isinstance(given, dict) else given
        numbers = tuple(sorted((str(s), float(q)) for s, q in values))
        fields = {"values": numbers, "learn": learn, "source": source, "neutral": bool(learn) if neutral is None else bool(neutral)}
        for field, value in {**fields, "name": known.pop("name", None), "fixed": known.pop("fixed", ())}.items():
            object.__setattr__(self, field, value)
        if known:
            raise AlgebraError(f"Charges were asked for with {', '.join(known)}", "Known are values, learn, source, neutral", "Leave it out")
        self.__post_init__()

    def check(self) -> None:
        ways = bool(self.values) + bool(self.learn) + (self.source is not None)
        if ways != 1 or self.learn not in ("", "per species") or not all(math.isfinite(q) for _, q in self.values):
            raise AlgebraError(
                f"Charges were asked for with values={dict(self.values)}, learn={self.learn!r}, source={self.source}",
                "Exactly one of three ways is needed",
                'Write Charges({"Na": 1, "Cl": -1}), Charges(learn="per species") or Charges(Density(cutoff=5))',
            )

    @property
    def learned(self) -> bool:
        return not self.values

    @property
    def operands(self) -> tuple[Expression, ...]:
        return () if self.source is None else (scoped(self.source, self.name or "Charges"),)

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        return {"charge": type(self).charge} if self.learn else {}

    def guess(self, symbols: tuple[str, ...]) -> list[float]:
        """Start values [species], e: half the difference of electronegativities."""
        chi = [electronegativity(s) for s in symbols]
        return [0.5 * (sum(chi) / len(chi) - c) for c in chi]

    def number(self, symbol: str) -> float:
        if symbol not in dict(self.values):
            raise AlgebraError(f"The charge of {symbol} was asked for", f"Known are {dict(self.values)}", f'Add "{symbol}": ... to Charges')
        return dict(self.values)[symbol]

    def site(self, env: Environment) -> Node:
        if self.values:
            raw = env.table("species", lambda a: self.number(env.symbols[a]))[()]
        else:
            raw = self.charge.node if self.learn else self.operands[0].site(env)
        return raw - operate(("mean",), raw) if self.neutral else raw


@dataclass(frozen=True, eq=False, repr=False, kw_only=True, init=False)
class Coulomb(Term):
    """E_i = k q_i phi_i / 2, phi_i = sum_j q_j / r_ij over all atoms and images, k = 14.3996 eV Å/e^2 (tin-foil boundary).

    `accuracy` is the r.m.s. force error relative to a melt of the same charges; it fixes `cutoff` and `sigma` (Å) unless they are given.
    `damping` (Å) turns q_j/r into q_j erf(r/(sqrt2 damping))/r: 0 for fixed charges, 1 for learned ones by default. Slabs and molecules are
    summed without images in their open directions. Source: P. P. Ewald, Ann. Phys. 369, 253 (1921).
    """

    charges: Charges
    accuracy: float = 1e-5
    cutoff: float | None = None
    sigma: float | None = None
    damping: float | None = None

    def __init__(self, charges: Charges, *, accuracy: float = 1e-5, **known: Any) -> None:
        fields = {"charges": charges, "accuracy": accuracy, **{n: known.pop(n, None) for n in ("cutoff", "sigma", "damping", "name")}}
        for field, value in {**fields, "fixed": known.pop("fixed", ())}.items():
            object.__setattr__(self, field, value)
        if known or not isinstance(charges, Charges):
            raise AlgebraError(
                f"Coulomb was asked for with charges={charges!r} {known or ''}",
                "It takes Charges, accuracy, cutoff, sigma and damping",
                'Write Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=1e-5)',
            )
        self.__post_init__()

    def check(self) -> None:
        check_split(self, self.accuracy, self.sigma, self.damping)

    @property
    def operands(self) -> tuple[Expression, ...]:
        return (scoped(self.charges, self.name or "Coulomb"),)

    @property
    def split(self) -> tuple[float, float]:
        """Cutoff and sigma, Å."""
        return split(self.accuracy, self.cutoff, self.sigma)

    def site(self, env: Environment) -> Node:
        charges = self.operands[0]
        assert isinstance(charges, Charges)
        (cutoff, sigma), q = self.split, charges.site(env)
        damping = (DAMPING if self.charges.learned else 0.0) if self.damping is None else self.damping
        j = env.neighbors(cutoff)
        short = tail(1, j.r, sigma) - (tail(1, j.r, damping) if damping else 0.0)
        pair = short / maximum(j.r, 1e-3) * taper(j.r, cutoff)
        far = q * operate(("smooth", 1.0, sigma, self.accuracy), q)
        if charges.values and not charges.neutral:  # known numbers: a plain pair term
            both = env.table("pair", lambda a, b: charges.number(env.symbols[a]) * charges.number(env.symbols[b]))
            return 0.5 * COULOMB * (sum_over(j, both[j] * pair) + far)
        return 0.5 * COULOMB * (q * sum_over(j, read_at(q, j) * pair) + far)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Dispersion(Term):
    """E_i = -sum_j sqrt(C_i C_j) / (2 r_ij^6) over all atoms and images, finite at short distance.

    c6 C (eV Å^6) per species; r^-6 is replaced by r^-6 P(3, r^2/(2 damping^2)), P the lower incomplete gamma function: a constant below about
    one `damping` (Å). Periodic in three directions or in none. Source: D. E. Williams, Acta Cryst. A 27, 452 (1971).
    """

    accuracy: float = 1e-5
    cutoff: float | None = None
    sigma: float | None = None
    damping: float = 1.2
    c6 = Param(10.0, unit="eV Å^6", per="species", positive=True, amplitude=True)

    def check(self) -> None:
        check_split(self, self.accuracy, self.sigma, self.damping)

    def site(self, env: Environment) -> Node:
        cutoff, sigma = split(self.accuracy, self.cutoff, self.sigma)
        j, root = env.neighbors(cutoff), sqrt(self.c6.node)
        short = tail(6, j.r, sigma) - (tail(6, j.r, self.damping) if self.damping else 0.0)
        near = sum_over(j, read_at(root, j) * (short * maximum(j.r, 0.05) ** -6 * taper(j.r, cutoff)))
        return -0.5 * root * (near + operate(("smooth", 6.0, sigma, self.accuracy), root))


def split(accuracy: float, cutoff: float | None, sigma: float | None) -> tuple[float, float]:
    """Cutoff and sigma (Å) that keep an accuracy; longer cutoffs for higher ones, as large systems want it."""
    rc = min(max(8.0 + 1.6 * math.log10(1e-4 / accuracy), 5.0), 12.0) if cutoff is None else cutoff
    return rc, width(0.92 * rc, RHO, accuracy * SHARE) if sigma is None else sigma


def check_split(term: Term, accuracy: float, sigma: float | None, damping: float | None) -> None:
    """AlgebraError for an accuracy or a length that makes no sense."""
    if not 1e-13 <= accuracy <= 0.1 or (sigma is not None and not 0 < sigma < math.inf) or (damping is not None and not damping >= 0):
        raise AlgebraError(
            f"{type(term).__name__} was asked for with accuracy={accuracy}, sigma={sigma}, damping={damping}",
            "The accuracy lies between 1e-13 and 0.1, lengths above 0 Å",
            "Write accuracy=1e-5 and leave the rest out",
        )


def tail(p: int, r: Node, sigma: float) -> Node:
    """Q(p/2, r^2/(2 sigma^2)), the upper incomplete gamma function: what a charge of width sigma lacks of r^-p."""
    if p == 1:
        return erfc(r / (math.sqrt(2) * sigma))
    x = r**2 / (2 * sigma**2)
    return exp(-x) * (1 + x + 0.5 * x**2)


def taper(r: Node, cutoff: float) -> Node:
    """1 up to 0.85 of the cutoff, then 1 - t^3 (10 - 15 t + 6 t^2): slope and curvature are continuous."""
    t = maximum((r - ONSET * cutoff) / ((1 - ONSET) * cutoff), 0.0)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2)
