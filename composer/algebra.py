"""The algebra of terms: frozen declarations joined by +, -, *, / number, ** integer and a few functions.

An expression states one scalar for each site. Canonical form is made at construction (flatten, collect, sort; never distribute), so
equal physics is one object: `a + b == b + a`, hashable and printable. Equal operands are tied (one set of parameters); names untie.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

from composer.errors import AlgebraError
from composer.ir import nodes
from composer.ir.nodes import Node
from composer.quantities import Environment, Param

REGISTRY: dict[str, type[Term]] = {}
SMOOTHING = 1e-4  # sqrt(x + s^2) - s is smooth at x = 0


class Expression:
    """A scalar for each site: a term, a sum, a product, a power, a function or a constant."""

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
        if not _is_number(other) or other == 0:
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
        if not isinstance(exponent, int) or isinstance(exponent, bool) or exponent < 1:
            raise AlgebraError(
                f"An expression to the power {exponent!r} was asked for. Powers are whole numbers >= 1. Write expr**2, or sqrt(expr) for a root."
            )
        return Product.of([self] * exponent)

    def terms(self) -> list[Term]:
        """The distinct terms of the expression in canonical order."""
        found: dict[str, Term] = {}
        for operand in self.walk():
            if isinstance(operand, Term):
                found.setdefault(operand.canonical, operand)
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


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Term(Expression):
    """A physics term: fields are architecture, `Param` attributes are learnable numbers, `site` states its scalar.

    `name` unties it from equal terms; `fixed` lists parameters that are not fitted, with their value or None for the default.
    """

    smoothness: ClassVar[int] = 2
    name: str | None = None
    fixed: tuple[tuple[str, float | None], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        REGISTRY[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, _coerce(field, value))
            if field.name.startswith("cutoff") and not all(_is_number(c) and 0 < c < math.inf for c in _flat(value)):
                raise AlgebraError(
                    f"{type(self).__name__} was asked for with {field.name} = {value}. A cutoff must be a finite length above 0 Å. Give e.g. 5.0."
                )
        unknown = [n for n, _ in self.fixed if n not in self.params()]
        if unknown:
            raise AlgebraError(
                f"{type(self).__name__} was asked to fix {unknown}. Its parameters are {', '.join(self.params())}. Name one of these."
            )
        self.check()

    def check(self) -> None:
        """Raise an AlgebraError if the fields make no sense (terms may override)."""

    @classmethod
    def params(cls) -> dict[str, Param]:
        """The learnable numbers, by attribute name."""
        return {n: p for c in reversed(cls.__mro__) for n, p in vars(c).items() if isinstance(p, Param)}

    def named(self, name: str) -> Term:
        """The same term with parameters of its own under `name`."""
        return dataclasses.replace(self, name=str(name))

    def freeze(self, *names: str) -> Term:
        """The same term with these parameters (all, if none is named) not fitted."""
        kept = dict(self.fixed)
        return dataclasses.replace(self, fixed=tuple(sorted({**kept, **{n: kept.get(n) for n in names or tuple(self.params())}}.items())))

    def fix(self, **values: float) -> Term:
        """The same term with these parameters held at the given values."""
        return dataclasses.replace(self, fixed=tuple(sorted({**dict(self.fixed), **{k: float(v) for k, v in values.items()}}.items())))

    @property
    def amplitude(self) -> tuple[str, ...]:
        free = [n for n, p in self.params().items() if p.amplitude and n not in dict(self.fixed)]
        return (self.digest,) if free else ()

    def data(self) -> Any:
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if _is_left_out(field, value):
                continue
            fields[field.name] = value.data() if isinstance(value, Expression) else _plain(value)
        return {"term": type(self).__name__, **fields}

    def __repr__(self) -> str:
        shown = [f for f in dataclasses.fields(self) if f.name not in ("name", "fixed") and not _is_left_out(f, getattr(self, f.name))]
        given = [(f.name, getattr(self, f.name)) for f in shown]
        text = f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in given)})"
        text += f".named({self.name!r})" if self.name else ""
        values = {n: v for n, v in self.fixed if v is not None}
        frozen = [repr(n) for n, v in self.fixed if v is None]
        text += f".fix({', '.join(f'{n}={v!r}' for n, v in values.items())})" if values else ""
        return text + (f".freeze({', '.join(frozen)})" if frozen else "")


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Scale(Term):
    """One learnable number, a: the amplitude of whatever it multiplies."""

    a = Param(0.0, amplitude=True)

    def site(self, env: Environment) -> Node:
        return self.a.node


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


@dataclasses.dataclass(frozen=True, eq=False)
class Function(Expression):
    """A function of an expression; zero at zero: exp means exp(x) - 1, sqrt is smoothed at zero."""

    function: str
    argument: Expression

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise AlgebraError(
                f"The function {self.function!r} of an expression was asked for. Known are {', '.join(FUNCTIONS)}. Use one of these."
            )
        if self.function in ("sqrt", "log1p") and not self.argument.non_negative:
            raise AlgebraError(
                f"{self.function}({self.argument}) was asked for. The argument may become negative. Use a density with non-negative coefficients, "
                "e.g. Density(..., positive=True), or square it."
            )

    @property
    def operands(self) -> tuple[Expression, ...]:
        return (self.argument,)

    @property
    def non_negative(self) -> bool:
        return self.argument.non_negative

    def site(self, env: Environment) -> Node:
        return FUNCTIONS[self.function](self.argument.site(env))

    def data(self) -> Any:
        return {"function": self.function, "of": self.argument.data()}

    def __repr__(self) -> str:
        return f"{self.function}({self.argument!r})"


def _smooth_root(x: Node) -> Node:
    return nodes.function("sqrt", x + SMOOTHING**2) - SMOOTHING


FUNCTIONS = {
    "exp": lambda x: nodes.function("expm1", x),
    "sqrt": _smooth_root,
    "tanh": lambda x: nodes.function("tanh", x),
    "log1p": lambda x: nodes.function("log1p", x),
}


def exp(x: Expression) -> Expression:
    """exp(x) - 1 of an expression (zero for an isolated atom); write 1 + exp(x) for the plain exponential."""
    return Function("exp", as_expression(x, "exp"))


def sqrt(x: Expression) -> Expression:
    """Square root of an expression that cannot be negative, smoothed at zero."""
    return Function("sqrt", as_expression(x, "sqrt"))


def tanh(x: Expression) -> Expression:
    """Hyperbolic tangent of an expression."""
    return Function("tanh", as_expression(x, "tanh"))


def log1p(x: Expression) -> Expression:
    """ln(1 + x) of an expression that cannot be negative."""
    return Function("log1p", as_expression(x, "log1p"))


def as_expression(value: Any, operator: str) -> Expression:
    """A number or an expression as an expression; anything else is an AlgebraError that names the operator."""
    if isinstance(value, Expression):
        return value
    if _is_number(value):
        return Constant(float(value))
    raise AlgebraError(
        f"{operator} with {type(value).__name__} {str(value)[:60]!r} was asked for. Only terms, expressions and numbers can be joined. "
        "Write a term call such as Pair(cutoff=5.0)."
    )


def expression(text: str) -> Expression:
    """The expression of a JSON text written by `Expression.json()`; only registered terms are built, nothing is evaluated."""
    try:
        content = json.loads(text)
        return from_data(content["expression"] if isinstance(content, dict) and "expression" in content else content)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise AlgebraError(
            f"An expression was to be read from JSON. Found {text[:80]!r} ({error}). Use text written by expr.json()."
        ) from None


def from_data(data: Any) -> Expression:
    if _is_number(data):
        return Constant(float(data))
    if "sum" in data:
        return Sum.of([(float(f), from_data(p)) for f, p in data["sum"]])
    if "product" in data:
        return Product.of([b for base, n in data["product"] for b in [from_data(base)] * int(n)])
    if "function" in data:
        return Function(str(data["function"]), from_data(data["of"]))
    return _term_from(dict(data))


def _term_from(data: dict[str, Any]) -> Term:
    kind = data.pop("term")
    if kind not in REGISTRY:
        raise AlgebraError(
            f"A term named {kind!r} was asked for. Known are {', '.join(sorted(REGISTRY))}. Import the module that defines it, or mend the name."
        )
    cls = REGISTRY[kind]
    known = {f.name for f in dataclasses.fields(cls)}
    if set(data) - known:
        raise AlgebraError(f"{kind} was asked for with {sorted(set(data) - known)}. Its fields are {sorted(known)}. Mend the file.")
    values: dict[str, Any] = {
        k: from_data(v) if isinstance(v, dict) and ({"term", "sum", "product", "function"} & set(v)) else _tuples(v)
        for k, v in data.items()
    }
    return cls(**values)


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


def _is_left_out(field: Any, value: Any) -> bool:
    """Whether a field need not be told: it has its default, and is one of those that few terms need."""
    return value == field.default and (field.name in ("name", "fixed") or bool(field.metadata.get("quiet")))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _coerce(field: Any, value: Any) -> Any:
    """6 and 6.0 are one cutoff: numbers take the type that the field declares, lists become tuples."""
    kind = str(field.type)
    if kind.startswith("float") and _is_number(value):
        return float(value)
    if kind.startswith("int") and isinstance(value, float) and value.is_integer():
        return int(value)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(v) for v in value)
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _flat(value: Any) -> list[float]:
    return [x for v in value for x in _flat(v)] if isinstance(value, (list, tuple)) else [value]
