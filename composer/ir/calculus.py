"""Derivatives of the elementary operations, as a table: node -> partial derivative for each argument."""

from __future__ import annotations

import math
from collections.abc import Callable

from composer.ir.nodes import ONE, ZERO, Node, add, const, function, mul, power, reciprocal, where_less

_SIN = "sin"


def _norm(n: Node) -> list[Node]:
    inverse = reciprocal(n)
    return [mul(x, inverse) for x in n.args]


PARTIALS: dict[str, Callable[[Node], list[Node]]] = {
    "add": lambda n: [ONE] * len(n.args),
    "mul": lambda n: [n.args[1], n.args[0]],
    "pow": lambda n: [mul(n.data[0], power(n.args[0], n.data[0] - 1))],
    "exp": lambda n: [n],
    "expm1": lambda n: [add(n, 1.0)],
    "log": lambda n: [reciprocal(n.args[0])],
    "log1p": lambda n: [reciprocal(add(n.args[0], 1.0))],
    "sqrt": lambda n: [mul(0.5, reciprocal(n))],
    "sin": lambda n: [function("cos", n.args[0])],
    "cos": lambda n: [mul(-1.0, function(_SIN, n.args[0]))],
    "erfc": lambda n: [mul(-2.0 / math.sqrt(math.pi), function("exp", mul(-1.0, power(n.args[0], 2))))],
    "tanh": lambda n: [add(1.0, mul(-1.0, power(n, 2)))],
    "norm": _norm,
    "where": lambda n: [ZERO, ZERO, where_less(n.args[0], n.args[1], 1.0, 0.0), where_less(n.args[0], n.args[1], 0.0, 1.0)],
}


def partials(node: Node) -> list[Node]:
    """Derivatives of a node with respect to its arguments, written with the node itself where that saves work."""
    return PARTIALS[node.op](node)


def times(a: Node, b: Node) -> Node:
    """a * b, where a selection between 0 and something selects the product instead (keeps 0 * overflow out)."""
    for choice, other in ((a, b), (b, a)):
        if choice.op == "where" and any(x is ZERO for x in choice.args[2:]):
            left, right, yes, no = choice.args
            return where_less(left, right, mul(yes, other), mul(no, other))
    return mul(a, b)


__all__ = ["PARTIALS", "const", "partials", "times"]
