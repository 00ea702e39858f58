"""Expressions with parts replaced."""

from __future__ import annotations

from composer.algebra.functions import Function
from composer.algebra.operators import Expression, Product, Sum


def replaced(expression: Expression, old: Expression, new: Expression) -> Expression:
    """The expression with `old` replaced by `new` wherever it stands."""
    if expression == old:
        return new
    if isinstance(expression, Sum):
        return Sum.of([(f, replaced(p, old, new)) for f, p in expression.parts])
    if isinstance(expression, Product):
        return Product.of([replaced(b, old, new) for b, n in expression.factors for _ in range(n)])
    if isinstance(expression, Function):
        return Function(expression.function, replaced(expression.argument, old, new))
    return expression
