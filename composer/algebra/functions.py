"""Functions of an expression, zero at zero."""

from __future__ import annotations

import dataclasses
from typing import Any

from composer.algebra.operators import Expression, as_expression
from composer.errors import AlgebraError
from composer.ir import nodes
from composer.ir.nodes import Node
from composer.quantities import Environment

SMOOTHING = 1e-4  # sqrt(x + s^2) - s is smooth at x = 0


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
