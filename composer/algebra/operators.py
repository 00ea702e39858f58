"""Expressions, and the sums and products that their operators make, in canonical form."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

from composer.errors import AlgebraError
from composer.ir import nodes
from composer.ir.nodes import Node
from composer.quantities import Environment

if TYPE_CHECKING:
    from composer.algebra.term import Term

# operators of numpy, and ours with the expression on the right
_REVERSED = {
    "add": "__radd__",
    "subtract": "__rsub__",
    "multiply": "__rmul__",
    "divide": "__rtruediv__",
    "equal": "__eq__",
    "not_equal": "__ne__",
}


class Expression:
    """A scalar for each site: a term, a sum, a product, a power, a function or a constant."""

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """A numpy number or array on the left leaves the operator to us; functions of numpy know no expressions."""
        ours = _REVERSED.get(function.__name__)
        if ours is not None and len(inputs) == 2 and inputs[1] is self:
            return getattr(self, ours)(inputs[0])
        name = function.__name__
        raise AlgebraError(
            f"numpy.{name} of an expression was asked for",
            "Functions of numpy take numbers",
            f"Write composer.{name}(...)" if name in ("exp", "sqrt", "tanh", "log1p") else "Known are composer.exp, sqrt, tanh and log1p",
        )

    def site(self, env: Environment) -> Node:
        """The scalar of the site as a node of the index language."""
        raise AlgebraError(
            f"The site scalar of {type(self).__name__} was asked for. Found no `site` method. Define site(self, env) on the term."
        )

    def data(self) -> Any:
        """The canonical declaration as JSON data."""
        raise AlgebraError("The declaration of an abstract expression was asked for. Found no content. Build it from terms.")

    @property
    def operands(self) -> tuple[Expression, ...]:
        return ()

    @property
    def non_negative(self) -> bool:
        """Whether the scalar cannot fall below zero."""
        return False

    @property
    def amplitude(self) -> tuple[str, ...]:
        """Digests of the terms whose amplitudes together scale this expression; empty if nothing scales it as a whole."""
        return ()

    @cached_property
    def canonical(self) -> str:
        return json.dumps(self.data(), sort_keys=True, separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """Short hash of the canonical form."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]

    def json(self) -> str:
        """The expression as JSON text; `composer.expression(text)` reads it back."""
        return json.dumps({"composer": 1, "expression": self.data()}, sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.canonical == other.canonical

    def __hash__(self) -> int:
        return hash(self.canonical)

    def __add__(self, other: Any) -> Expression:
        return Sum.of([(1.0, self), (1.0, as_expression(other, "+"))])

    def __radd__(self, other: Any) -> Expression:
        return self + other

    def __sub__(self, other: Any) -> Expression:
        return Sum.of([(1.0, self), (-1.0, as_expression(other, "-"))])

    def __rsub__(self, other: Any) -> Expression:
        return Sum.of([(1.0, as_expression(other, "-")), (-1.0, self)])

    def __neg__(self) -> Expression:
        return Sum.of([(-1.0, self)])

    def __mul__(self, other: Any) -> Expression:
        return Product.of([self, as_expression(other, "*")])

    def __rmul__(self, other: Any) -> Expression:
        return self * other

    def __truediv__(self, other: Any) -> Expression:
        if not is_number(other) or other == 0:
            raise AlgebraError(
                f"The quotient of an expression and {other!r} was asked for. Only a number other than zero can stand below the line. "
                "Multiply by a term that states the inverse instead."
            )
        return Product.of([self, Constant(1.0 / float(other))])

    def __rtruediv__(self, other: Any) -> Expression:
        raise AlgebraError(
            f"{other!r} / expression was asked for. Division by an expression is not defined. Multiply by a term that states the inverse."
        )

    def __pow__(self, exponent: Any) -> Expression:
        if not is_number(exponent) or not float(exponent).is_integer() or exponent < 1:
            raise AlgebraError(
                f"An expression to the power {exponent!r} was asked for. Powers are whole numbers >= 1. Write expr**2, or sqrt(expr) for a root."
            )
        return Product.of([self] * int(exponent))

    def terms(self) -> list[Term]:
        """The distinct terms of the expression in canonical order."""
        found = {term.canonical: term for operand in self.operands for term in operand.terms()}
        return [found[k] for k in sorted(found)]

    def walk(self) -> Iterator[Expression]:
        yield self
        for operand in self.operands:
            yield from operand.walk()

    def gauges(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Exact flat directions: pairs (terms scaled up, terms scaled down), as digests of terms; one fewer than the factors with an amplitude."""
        found: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
        for part in dict.fromkeys(self.walk()):
            if isinstance(part, Product):
                scaled = [f.amplitude for f, _ in part.factors if f.amplitude]
                found += [(scaled[0], other) for other in scaled[1:]]
        return found

    def labels(self) -> dict[str, str]:
        """Readable, unique label of each term: digest -> its name, or its class name (numbered where several share it)."""
        count: dict[str, int] = {}
        wanted = [(t.digest, t.name or type(t).__name__) for t in self.terms()]
        many = {w for _, w in wanted if [x for _, x in wanted].count(w) > 1}
        result = {}
        for digest, label in wanted:
            count[label] = count.get(label, 0) + 1
            result[digest] = f"{label}.{count[label]}" if label in many else label
        return result

    def __str__(self) -> str:
        return repr(self)

    def _repr_latex_(self) -> str:
        from composer.show import latex

        return latex(self)

    def _repr_html_(self) -> str:
        from composer.show import html

        return html(self)

    def to_networkx(self) -> Any:
        """The expression as a networkx.DiGraph: nodes are sums, products and terms."""
        from composer.show import graph

        return graph(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Constant(Expression):
    """A fixed number."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise AlgebraError(f"A constant in an expression must be finite. Found {self.value}. Give a finite number.")
        object.__setattr__(self, "value", float(self.value) + 0.0)

    @property
    def non_negative(self) -> bool:
        return self.value >= 0

    def site(self, env: Environment) -> Node:
        return nodes.const(self.value)

    def data(self) -> Any:
        return self.value

    def __repr__(self) -> str:
        return f"{int(self.value)}" if self.value.is_integer() and abs(self.value) < 1e15 else repr(self.value)


@dataclasses.dataclass(frozen=True, eq=False)
class Sum(Expression):
    """Sum of expressions with number coefficients, in canonical order."""

    parts: tuple[tuple[float, Expression], ...]

    @staticmethod
    def of(parts: Iterable[tuple[float, Expression]]) -> Expression:
        """The canonical sum: nested sums flattened, equal parts collected, zeros gone; a lone part is that part."""
        collected: dict[Expression, float] = {}
        for factor, part in parts:
            factor, part = _take_number(factor, part)  # c*(a + b) among other parts is flattened too
            inner = [(factor * f, p) for f, p in part.parts] if isinstance(part, Sum) else [(factor, part)]
            for f, p in inner:
                f, p = _take_number(f, p)
                collected[p] = collected.get(p, 0.0) + f
        kept = sorted(((f, p) for p, f in collected.items() if f != 0.0), key=lambda fp: fp[1].canonical)
        if not kept:
            return Constant(0.0)
        if len(kept) == 1:
            factor, part = kept[0]
            return part if factor == 1.0 else Product.of([Constant(factor), part])
        return Sum(tuple(kept))

    @property
    def operands(self) -> tuple[Expression, ...]:
        return tuple(p for _, p in self.parts)

    @property
    def non_negative(self) -> bool:
        return all(f >= 0 and p.non_negative for f, p in self.parts)

    @property
    def amplitude(self) -> tuple[str, ...]:
        inner = [p.amplitude for _, p in self.parts]
        return tuple(sorted({d for a in inner for d in a})) if all(inner) else ()

    def site(self, env: Environment) -> Node:
        return nodes.add(*(nodes.mul(f, p.site(env)) for f, p in self.parts))

    def data(self) -> Any:
        return {"sum": [[f, p.data()] for f, p in self.parts]}

    def __repr__(self) -> str:
        text = ""
        for factor, part in self.parts:
            sign = (" - " if factor < 0 else " + ") if text else ("-" if factor < 0 else "")
            body = repr(part) if abs(factor) == 1.0 else f"{Constant(abs(factor))!r}*{_bracket(part)}"
            if isinstance(part, Constant):
                body = repr(Constant(abs(factor) * part.value))
            text += sign + body
        return text


@dataclasses.dataclass(frozen=True, eq=False)
class Product(Expression):
    """Product of powers of expressions, in canonical order; a number in front counts as a factor."""

    factors: tuple[tuple[Expression, int], ...]

    @staticmethod
    def of(factors: Iterable[Expression]) -> Expression:
        """The canonical product: nested products flattened, numbers and equal factors collected."""
        number, powers = 1.0, {}
        for factor in factors:
            for base, n in factor.factors if isinstance(factor, Product) else ((factor, 1),):
                if isinstance(base, Constant):
                    number *= base.value**n
                else:
                    powers[base] = powers.get(base, 0) + n
        if number == 0.0 or not powers:
            return Constant(number)
        kept = sorted(powers.items(), key=lambda bn: bn[0].canonical)
        if number != 1.0:
            kept.insert(0, (Constant(number), 1))
        return kept[0][0] if len(kept) == 1 and kept[0][1] == 1 else Product(tuple(kept))

    @property
    def operands(self) -> tuple[Expression, ...]:
        return tuple(b for b, _ in self.factors)

    @property
    def non_negative(self) -> bool:
        return all(b.non_negative or n % 2 == 0 for b, n in self.factors)

    @property
    def amplitude(self) -> tuple[str, ...]:
        return next((b.amplitude for b, _ in self.factors if b.amplitude), ())

    def site(self, env: Environment) -> Node:
        result = nodes.ONE
        for base, n in self.factors:
            result = nodes.mul(result, nodes.power(base.site(env), n))
        return result

    def data(self) -> Any:
        return {"product": [[b.data(), n] for b, n in self.factors]}

    def __repr__(self) -> str:
        return "*".join(_bracket(b) + (f"**{n}" if n > 1 else "") for b, n in self.factors)


def as_expression(value: Any, operator: str) -> Expression:
    """A number or an expression as an expression; anything else is an AlgebraError that names the operator."""
    if isinstance(value, Expression):
        return value
    if is_number(value):
        return Constant(float(value))
    raise AlgebraError(
        f"{operator} with {type(value).__name__} {str(value)[:60]!r} was asked for. Only terms, expressions and numbers can be joined. "
        "Write a term call such as Pair(cutoff=5.0)."
    )


def _take_number(factor: float, part: Expression) -> tuple[float, Expression]:
    """Move the number in front of a product, or a constant, into the coefficient."""
    if isinstance(part, Constant):
        return factor * part.value, Constant(1.0)
    if isinstance(part, Product) and isinstance(part.factors[0][0], Constant):
        rest = part.factors[1:]
        return factor * part.factors[0][0].value, rest[0][0] if len(rest) == 1 and rest[0][1] == 1 else Product(rest)
    return factor, part


def _bracket(part: Expression) -> str:
    negative = isinstance(part, Constant) and part.value < 0
    return f"({part!r})" if isinstance(part, Sum) or negative else repr(part)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, Python's or numpy's."""
    return isinstance(value, Real) and not isinstance(value, bool)
