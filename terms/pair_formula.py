"""A pair potential from a formula, read by a whitelist over Python's syntax tree; nothing is ever evaluated as code."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

from composer.algebra import Term, is_number
from composer.errors import AlgebraError
from composer.quantities import BoundParam, Environment, Node, Param, cos, exp, expm1, log, log1p, power, sin, sqrt, sum_over, tanh
from terms import radial

CALLS = {"exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "sqrt": sqrt, "sin": sin, "cos": cos, "tanh": tanh}
LONGEST = 1000  # characters of a formula
RESERVED = ("r", "formula", "cutoff", "inner", "taper", "values", "name", "fixed", *CALLS)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True, init=False)
class PairFormula(Term):
    """phi(r) from a string: `PairFormula("D*((1-exp(-a*(r-r0)))**2-1)", cutoff=6, D=0.5, a=1.5, r0=2.0)`.

    formula of r (Å) in eV; every other name is a parameter per pair with the start value that is given; below `inner` (Å) phi is constant.
    Known are + - * / **, numbers, exp, expm1, log, log1p, sqrt, sin, cos, tanh; anything else is an AlgebraError.
    """

    smoothness = property(lambda term: 2 if term.taper else -1)  # type: ignore[assignment]
    formula: str
    cutoff: float
    inner: float = 0.1
    taper: bool = True
    values: tuple[tuple[str, float], ...] = ()

    def __init__(self, formula: str, *, cutoff: float, inner: float = 0.1, taper: bool = True, values: Any = (), **numbers: Any) -> None:
        known = {"name": numbers.pop("name", None), "fixed": numbers.pop("fixed", ())}
        start = {str(n): _start(str(n), v) for n, v in (*values, *numbers.items())}
        fields = {"formula": str(formula), "cutoff": cutoff, "inner": inner, "taper": taper, "values": tuple(sorted(start.items()))}
        for field, value in {**fields, **known}.items():
            object.__setattr__(self, field, value)
        self.__post_init__()

    def params(self) -> dict[str, Param]:  # type: ignore[override]
        return {n: Param(value, per="pair", name=n) for n, value in self.values}

    def check(self) -> None:
        bad = [n for n, _ in self.values if n in RESERVED or not n.isidentifier()]
        if bad:
            raise AlgebraError(f"The formula {self.formula!r} was given numbers named {bad}", "These names are taken", "Choose other names")
        numbers = dict(self.values)
        try:
            used = read(self.formula, {"r": 1.234, **numbers})[1]
            self.site(Environment(["H"]))
        except (ArithmeticError, ValueError, RecursionError) as error:
            raise AlgebraError(f"The formula {self.formula!r} was to be read", f"It fails: {error}", "Simplify it") from None
        if set(numbers) - used:
            asked = f"The formula {self.formula!r} was given {', '.join(sorted(set(numbers) - used))}"
            raise AlgebraError(asked, "It does not use them", "Leave them out, or mend the formula")

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        names = {n: BoundParam(self, p)[j] for n, p in self.params().items()}
        energy = read(self.formula, {"r": radial.above(j.r, self.inner), **names})[0]
        return sum_over(j, 0.5 * energy * (radial.smooth(j.r, self.cutoff) if self.taper else 1.0))


def _start(name: str, value: Any) -> float:
    if is_number(value) and math.isfinite(value):
        return float(value)
    found = f"Its {name} is {value!r}, and one finite number starts all pairs"
    raise AlgebraError("A formula was given", found, f"Write {name}=1.0; numbers by pair go into model.with_parameters")


def read(formula: str, names: dict[str, Any]) -> tuple[Any, set[str]]:
    """The value of a formula over nodes or numbers, and the names that it uses.

    Arguments: formula; names, what each name stands for. Errors: AlgebraError for anything that is not whitelisted.
    """
    reader = _Reader(formula, names)
    if len(formula) > LONGEST:
        raise AlgebraError("A formula was asked for", f"It has {len(formula)} characters", f"Write at most {LONGEST}, or a term class")
    try:
        tree = ast.parse(formula.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError) as error:
        raise AlgebraError(f"The formula {formula!r} was to be read", f"It is no expression: {error}", 'Write e.g. "a*exp(-b*r)"') from None
    return reader.value(tree.body), reader.used


class _Reader:
    def __init__(self, formula: str, names: dict[str, Any]) -> None:
        self.formula, self.names, self.used = formula, names, set[str]()

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return float(number)
            case ast.Name(id=name) if name in self.names:
                self.used.add(name)
                return self.names[name]
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -1.0 * self.value(inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.value(inner)
            case ast.BinOp(left=left, op=op, right=right):
                return self.join(op, self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in CALLS:
                return CALLS[name](self.value(argument))
        raise self.refusal(ast.unparse(node))

    def join(self, op: ast.operator, a: Any, b: Any) -> Any:
        match op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.Div():
                return a / b
            case ast.Pow():
                return power(a, b)
        raise self.refusal("^ (powers are **)" if isinstance(op, ast.BitXor) else f"the operator {type(op).__name__}")

    def refusal(self, what: str) -> AlgebraError:
        known = ", ".join(n for n in (*self.names, *CALLS))
        return AlgebraError(
            f"The formula {self.formula!r} was to be read", f"It has {what!r}, which is not known", f"Use {known}, + - * / **"
        )
