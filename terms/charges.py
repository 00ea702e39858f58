"""Charges of atoms: given, learned for each species, or a function of the surroundings. A scalar of the site for long-range terms."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from composer.algebra import Expression, Function, Product, Sum, Term
from composer.errors import AlgebraError
from composer.quantities import Environment, Node, Param, operate
from terms.pauling import electronegativity


@dataclass(frozen=True, eq=False, repr=False, kw_only=True, init=False)
class Charges(Term):
    """q_i (e): `Charges({"Na": 1, "Cl": -1})` fixed, `Charges(learn="per species")` learned, `Charges(Density(cutoff=5))` of the surroundings.

    charge (e) per species, learned. neutral=True takes off the mean of each structure (for charges learned per species by default): exact, but
    what two distant fragments of unlike composition share; with neutral=False a net charge meets a uniform background.
    """

    values: tuple[tuple[str, float], ...] = ()
    learn: str = ""
    source: Expression | None = None
    neutral: bool | None = None

    charge = Param(0.0, unit="e", per="species", start="guess")

    def __init__(
        self, given: Any = None, *, values: Any = (), learn: str = "", source: Any = None, neutral: bool | None = None, **known: Any
    ):
        if isinstance(given, Expression):
            source = given
        elif given is not None:
            values = tuple(given.items()) if isinstance(given, dict) else given
        numbers = tuple(sorted((str(s), float(q)) for s, q in values))
        fields = {"values": numbers, "learn": learn, "source": source, "neutral": bool(learn) if neutral is None else bool(neutral)}
        for field, value in {**fields, "name": known.pop("name", None), "fixed": known.pop("fixed", ())}.items():
            object.__setattr__(self, field, value)
        if known:
            raise AlgebraError(
                f"Charges were asked for with {', '.join(known)}", "Known are values, learn, source, neutral", "Leave it out"
            )
        self.__post_init__()

    def check(self) -> None:
        ways = bool(self.values) + bool(self.learn) + (self.source is not None)
        wrong = [f"That of {s} is {q}" for s, q in self.values if not math.isfinite(q)]
        wrong += [f"learn={self.learn!r} is not known, but 'per species'"] if self.learn not in ("", "per species") else []
        if ways != 1 or wrong:
            raise AlgebraError(
                f"Charges were asked for with values={dict(self.values)}, learn={self.learn!r}, source={self.source}",
                (wrong or ["Exactly one of three ways is needed"])[0],
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

    def flat_directions(self, tables: dict[str, Any]) -> list[dict[str, Any]]:
        """A shift of all charges, which the mean takes off again."""
        return [{"charge": 1.0 + 0.0 * tables["charge"]}] if self.learn and self.neutral and not self.fixed else []

    def vanishing(self) -> Charges | None:
        """The charges before the mean is taken off: what they sum to is shared out over all atoms, however far they are."""
        return dataclasses.replace(self, neutral=False) if self.learned else None

    def given_charges(self) -> dict[str, float]:
        """The charges of the species where they are given and no mean is taken off."""
        return {} if self.neutral else dict(self.values)

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
