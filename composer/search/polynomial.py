"""Expressions as polynomials over their leaves: the terms and functions between which `+` and `*` stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from composer.algebra import Constant, Expression, Product, Sum
from composer.errors import AlgebraError

Monomial = tuple[str, ...]  # digests of leaves, sorted; a power repeats its leaf
LONGEST = 200  # monomials


@dataclass(frozen=True)
class Polynomial:
    """Sum of number times product of leaves, in canonical order; hashable."""

    terms: tuple[tuple[Monomial, float], ...]

    @classmethod
    def of(cls, terms: Iterable[tuple[Monomial, float]]) -> Polynomial:
        """Like monomials collected, zeros gone."""
        found: dict[Monomial, float] = {}
        for monomial, number in terms:
            key = tuple(sorted(monomial))
            found[key] = found.get(key, 0.0) + number
        if len(found) > LONGEST:
            raise AlgebraError(f"A product of {len(found)} terms was to be written out", f"At most {LONGEST} are", "Use fewer factors")
        return cls(tuple(sorted((m, n) for m, n in found.items() if n != 0.0)))

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial.of((*self.terms, *other.terms))

    def __sub__(self, other: Polynomial) -> Polynomial:
        return Polynomial.of((*self.terms, *((m, -n) for m, n in other.terms)))

    def __mul__(self, other: Polynomial) -> Polynomial:
        return Polynomial.of((a + b, x * y) for a, x in self.terms for b, y in other.terms)

    def derivative(self, leaf: str) -> Polynomial:
        """The derivative by a leaf."""
        return Polynomial.of((_less(m, leaf), n * m.count(leaf)) for m, n in self.terms if leaf in m)

    def without(self, zero: Iterable[str]) -> Polynomial:
        """The polynomial where these leaves are zero."""
        gone = set(zero)
        return Polynomial(tuple((m, n) for m, n in self.terms if not gone & set(m)))

    @property
    def leaves(self) -> list[str]:
        """Digests of the leaves, sorted."""
        return sorted({leaf for m, _ in self.terms for leaf in m})

    @property
    def constant(self) -> float | None:
        """The number that this is, or None."""
        return 0.0 if not self.terms else self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None


ONE = Polynomial((((), 1.0),))


def polynomial(expression: Expression) -> Polynomial:
    """The expression with sums and products written out. Errors: AlgebraError where that is too long."""
    if isinstance(expression, Constant):
        return Polynomial.of([((), expression.value)])
    if isinstance(expression, Sum):
        return Polynomial.of((m, f * n) for f, part in expression.parts for m, n in polynomial(part).terms)
    if isinstance(expression, Product):
        found = ONE
        for base, power in expression.factors:
            for _ in range(power):
                found = found * polynomial(base)
        return found
    return Polynomial((((expression.digest,), 1.0),))


def leaves(expression: Expression) -> dict[str, Expression]:
    """The leaves of an expression by digest, in canonical order."""
    if isinstance(expression, Constant):
        return {}
    if isinstance(expression, (Sum, Product)):
        found = {d: leaf for part in expression.operands for d, leaf in leaves(part).items()}
        return dict(sorted(found.items()))
    return {expression.digest: expression}


def tangent(
    written: Polynomial, free: Mapping[str, bool], zero: Iterable[str], linear: Mapping[str, bool]
) -> tuple[dict[str, Polynomial], Polynomial]:
    """The first-order expansion of a polynomial in its leaves: multiplier de/df of each free leaf, and what is left.

    Linear leaves f are unknown themselves: e is about rest + sum_f m_f f with rest = e - sum_f m_f f. For other leaves the unknown is a
    step of their numbers, and rest holds their present value. Leaves in `zero` are zero at the point of expansion.
    Arguments: written; free, whether a leaf has numbers to fit; zero; linear.
    """
    gone = set(zero)
    rest = written.without(gone)
    multipliers = {f: m for f in written.leaves if free[f] and (m := written.derivative(f).without(gone)).terms}
    for leaf, m in multipliers.items():
        if leaf not in gone and linear[leaf]:
            rest = rest - m * Polynomial((((leaf,), 1.0),))
    return multipliers, rest


def _less(monomial: Monomial, leaf: str) -> Monomial:
    place = monomial.index(leaf)
    return monomial[:place] + monomial[place + 1 :]
