"""Expressions from a line of text, read by a whitelist over Python's syntax tree; nothing is ever evaluated as code.

    parse_expression("ZBL() + ThreeBody(cutoff=4.5, n_max=4, l_max=5) * (1 + Density(cutoff=5.0).named('b'))")

Known are the registered terms with keyword fields (numbers, texts, tuples, True, False, None, expressions), + - * / number, ** whole
number, exp sqrt tanh log1p, and the methods .named, .freeze and .fix of a term: whatever `repr(expr)` writes.
"""

from __future__ import annotations

import ast
import difflib
from typing import Any

from composer.algebra import REGISTRY, Expression, Term, as_expression, exp, log1p, sqrt, tanh
from composer.errors import AlgebraError

CALLS = {"exp": exp, "sqrt": sqrt, "tanh": tanh, "log1p": log1p}
METHODS = ("named", "freeze", "fix")
LONGEST = 20_000  # characters
HIGHEST = 64  # power


def parse_expression(text: str) -> Expression:
    """The expression that a line of text states.

    Arguments: text. Returns: an Expression; `parse_expression(repr(expr)) == expr`.
    Errors: AlgebraError that names the part which is not known.
    """
    if len(text) > LONGEST:
        raise AlgebraError("An expression was to be read", f"It has {len(text)} characters", f"Write at most {LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return as_expression(_Reader(text).value(tree.body), "An expression")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        found = f"It is no expression: {error}"
        raise AlgebraError(f"The expression {_short(text)!r} was to be read", found, 'Write e.g. "ZBL() + Pair(cutoff=6.0)"') from None


class _Reader:
    """Walks over the syntax tree of one text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, node: ast.expr) -> Any:
        """An expression or a plain number, text or tuple."""
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as plain):
                return plain
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self.number_or_expression(inner)
            case ast.UnaryOp(op=ast.UAdd(), operand=inner):
                return self.number_or_expression(inner)
            case ast.BinOp(left=left, op=op, right=right):
                return self.join(op, self.number_or_expression(left), self.number_or_expression(right))
            case ast.Call(func=ast.Name(id=name)):
                return self.call(name, node)
            case ast.Call(func=ast.Attribute(value=owner, attr=method)) if method in METHODS:
                return self.method(self.value(owner), method, node)
            case ast.Name(id=name) if name in REGISTRY or name in CALLS:
                raise self.refusal(f"{name!r} without brackets", f"Write {name}(...)")
        raise self.refusal(repr(_short(ast.unparse(node))), f"Use terms, + - * / **, {', '.join(CALLS)}")

    def number_or_expression(self, node: ast.expr) -> Any:
        value = self.value(node)
        if isinstance(value, Expression) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        raise self.refusal(f"{value!r} where a number or a term should be", "Join terms and numbers")

    def join(self, op: ast.operator, a: Any, b: Any) -> Any:
        match op:
            case ast.Add():
                return a + b
            case ast.Sub():
                return a - b
            case ast.Mult():
                return a * b
            case ast.Div() if not isinstance(b, Expression) and b == 0:
                raise self.refusal("a division by zero", "Divide by another number")
            case ast.Div():
                return a / b
            case ast.Pow() if not isinstance(b, Expression) and abs(b) > HIGHEST:
                raise self.refusal(f"the power {b!r}", f"Powers go up to {HIGHEST}")
            case ast.Pow() if isinstance(b, Expression):
                raise self.refusal("a power that is an expression", "Write expr**2")
            case ast.Pow():
                return a**b
        raise self.refusal("^ (powers are **)" if isinstance(op, ast.BitXor) else f"the operator {type(op).__name__}", "Use + - * / **")

    def call(self, name: str, node: ast.Call) -> Any:
        if name in CALLS:
            if len(node.args) != 1 or node.keywords:
                raise self.refusal(f"{name} with {len(node.args) + len(node.keywords)} arguments", f"Write {name}(expression)")
            return CALLS[name](self.value(node.args[0]))
        if name not in REGISTRY:
            near = difflib.get_close_matches(name, [*REGISTRY, *CALLS], 1)
            raise self.refusal(
                f"a call of {name!r}", f"Did you mean {near[0]}?" if near else f"Known are {', '.join([*sorted(REGISTRY), *CALLS])}"
            )
        return self.term(REGISTRY[name], node)

    def term(self, cls: type[Term], node: ast.Call) -> Term:
        return cls(*(self.value(a) for a in node.args), **self.keywords(node))

    def method(self, owner: Any, method: str, node: ast.Call) -> Any:
        if not isinstance(owner, Term):
            raise self.refusal(f".{method} of something that is no term", f"Write Term(...).{method}(...)")
        try:
            return getattr(owner, method)(*(self.value(a) for a in node.args), **self.keywords(node))
        except (TypeError, ValueError) as error:
            raise self.refusal(
                f".{method} with other arguments ({error})", "Write .named('b'), .freeze('sigma') or .fix(sigma=2.0)"
            ) from None

    def keywords(self, node: ast.Call) -> dict[str, Any]:
        if any(k.arg is None for k in node.keywords):
            raise self.refusal("a '**' in a call", "Name every field")
        return {str(k.arg): self.value(k.value) for k in node.keywords}

    def refusal(self, found: str, type_this: str) -> AlgebraError:
        return AlgebraError(f"The expression {_short(self.text)!r} was to be read", f"It has {found}", type_this)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
