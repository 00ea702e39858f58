"""Scalar expressions with named indices: one hash-consed node kind and smart constructors.

A node is a scalar for each value of its free indices (and for each site, which is implicit). Equal definitions are one object, so
common subexpressions and fields that two terms share exist once. Reductions and static ranges are in `sums.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any
from weakref import WeakValueDictionary

from composer.errors import AlgebraError
from composer.ir.indices import Index, Neighbor, Range, Species

FUNCTIONS = ("exp", "log", "sqrt", "sin", "cos", "tanh", "expm1", "log1p")
_TABLE: WeakValueDictionary[bytes, Node] = WeakValueDictionary()


class Node:
    """One definition: `op` over `args` with static `data`; `free` holds the indices it still depends on."""

    __slots__ = ("__weakref__", "args", "data", "free", "key", "op")
    op: str
    args: tuple[Node, ...]
    data: tuple
    free: frozenset[Index]
    key: bytes

    def __add__(self, other: Node | float) -> Node:
        return add(self, other)

    __radd__ = __add__

    def __neg__(self) -> Node:
        return mul(-1.0, self)

    def __sub__(self, other: Node | float) -> Node:
        return add(self, mul(-1.0, other))

    def __rsub__(self, other: Node | float) -> Node:
        return add(other, mul(-1.0, self))

    def __mul__(self, other: Node | float) -> Node:
        return mul(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Node | float) -> Node:
        return mul(self, reciprocal(other))

    def __rtruediv__(self, other: Node | float) -> Node:
        return mul(other, reciprocal(self))

    def __pow__(self, exponent: Node | float) -> Node:
        return power(self, exponent)

    def __repr__(self) -> str:
        return show(self)


Scalar = Node | float | int


def make(op: str, args: Sequence[Node] = (), data: tuple = (), free: Iterable[Index] | None = None) -> Node:
    """The one node of this definition."""
    args = tuple(args)
    text = "|".join((op, repr(data))).encode()
    key = blake2b(b"".join([text, *(a.key for a in args)]), digest_size=16).digest()
    found = _TABLE.get(key)
    if found is not None:
        return found
    node = Node()
    node.op, node.args, node.data, node.key = op, args, data, key
    node.free = frozenset(free) if free is not None else frozenset().union(*(a.free for a in args))
    _TABLE[key] = node
    return node


def const(value: float) -> Node:
    value = float(value)
    if not math.isfinite(value):
        raise AlgebraError(f"A constant of an expression must be finite. Found {value}. Give a finite number.")
    return make("const", data=(value + 0.0,))


def lift(value: Any) -> Node:
    """A node from a node, a number, or anything that offers one as `.node`."""
    if isinstance(value, Node):
        return value
    node = getattr(value, "node", None)
    return node if isinstance(node, Node) else const(value)


ZERO, ONE = const(0.0), const(1.0)


def is_const(node: Node, value: float | None = None) -> bool:
    return node.op == "const" and (value is None or node.data[0] == value)


# ---- leaves ----------------------------------------------------------------------------------------------------------------------


def displacement(axis: int, index: Neighbor, name: str = "d") -> Node:
    """Component `axis` of x_j - x_i (Å); `name` "d_t" is its tangent."""
    return make(name, data=(name, axis, index.key), free=(index,))


def parameter(name: str, kinds: tuple[str | int | Species, ...], idx: tuple[int | Range, ...] = (), tangent: bool = False) -> Node:
    """Element `idx` of a parameter; `kinds` choose the row: "i" for the site, the species of a neighbour, or a species number."""
    free = [i for i in (*kinds, *idx) if isinstance(i, (Species, Range))]
    return make("param_t" if tangent else "param", data=(name, kinds, idx), free=free)


def mark(species: Species) -> Node:
    """The number one, carrying the species index of a neighbour: a sum over that neighbour then stays resolved by species."""
    return make("mark", data=(species.key,), free=(species,))


def site_input(name: str) -> Node:
    """A number given for each site from outside (a seed, a field of an earlier stage)."""
    return make("site", data=(name,))


def at_neighbor(field: Node, index: Neighbor) -> Node:
    """The value of a site field at the neighbour instead of the site itself."""
    if field.free:
        raise AlgebraError(
            f"Only a scalar of a site can be read at a neighbour. Found free indices {sorted(i.key for i in field.free)}. Sum over them first."
        )
    return field if is_const(field) else make("near", (field,), (index.key,), (index,))


# ---- arithmetic ------------------------------------------------------------------------------------------------------------------


def _coefficient(node: Node) -> tuple[float, Node]:
    if node.op == "mul" and is_const(node.args[0]):
        return node.args[0].data[0], node.args[1]
    return (node.data[0], ONE) if node.op == "const" else (1.0, node)


def add(*terms: Scalar) -> Node:
    """Sum of nodes; equal ones are collected and zeros vanish."""
    coefficients: dict[Node, float] = {}
    stack = [lift(t) for t in reversed(terms)]
    while stack:
        term = stack.pop()
        if term.op == "add":
            stack.extend(reversed(term.args))
            continue
        factor, base = _coefficient(term)
        coefficients[base] = coefficients.get(base, 0.0) + factor
    kept = [mul(c, b) for b, c in coefficients.items() if c != 0.0]
    if len(kept) <= 1:
        return kept[0] if kept else ZERO
    return make("add", sorted(kept, key=lambda n: n.key))


def mul(a: Scalar, b: Scalar) -> Node:
    """Product of two nodes; a constant factor always stands first and outermost."""
    (ca, a), (cb, b) = _coefficient(lift(a)), _coefficient(lift(b))
    factor = ca * cb
    if factor == 0.0:
        return ZERO
    if a is ONE or b is ONE:
        product = b if a is ONE else a
    elif a is b:
        product = power(a, 2)
    else:
        product = make("mul", sorted((a, b), key=lambda n: n.key))
    if factor == 1.0:
        return product
    if product is ONE:
        return const(factor)
    return make("mul", (const(factor), product))


def reciprocal(value: Scalar) -> Node:
    return power(value, -1)


def power(base: Any, exponent: Any) -> Node:
    """base ** exponent; integers stay exact powers, half-integers go through sqrt, others through exp(y log x) for base > 0."""
    base = lift(base)
    if isinstance(exponent, Node) and exponent.op == "const":
        exponent = exponent.data[0]
    if isinstance(exponent, Node):
        return function("exp", mul(exponent, function("log", base)))
    if float(2 * exponent).is_integer() and not float(exponent).is_integer():
        return power(function("sqrt", base), round(2 * exponent))
    if not float(exponent).is_integer():
        return function("exp", mul(exponent, function("log", base)))
    return _integer_power(base, int(exponent))


def _integer_power(base: Node, n: int) -> Node:
    if n == 0:
        return ONE
    if n == 1:
        return base
    if is_const(base):
        if base.data[0] == 0.0 and n < 0:
            raise AlgebraError("A number was divided by zero while an expression was built. Found 1/0. Remove the zero constant.")
        return const(base.data[0] ** n)
    if base.op == "pow":
        return _integer_power(base.args[0], base.data[0] * n)
    factor, rest = _coefficient(base)
    if factor != 1.0:
        return mul(factor**n, _integer_power(rest, n))
    return make("pow", (base,), (n,))


_EVALUATE: dict[str, Callable[[float], float]] = {name: getattr(math, name) for name in FUNCTIONS}


def function(name: str, x: Scalar) -> Node:
    x = lift(x)
    return const(_EVALUATE[name](x.data[0])) if is_const(x) else make(name, (x,))


def maximum(a: Scalar, b: Scalar) -> Node:
    return where_less(a, b, b, a)


def minimum(a: Scalar, b: Scalar) -> Node:
    return where_less(a, b, a, b)


def where_less(a: Scalar, b: Scalar, then: Scalar, otherwise: Scalar) -> Node:
    """`then` where a < b, else `otherwise`; differentiated branch by branch."""
    a, b, then, otherwise = lift(a), lift(b), lift(then), lift(otherwise)
    if is_const(a) and is_const(b):
        return then if a.data[0] < b.data[0] else otherwise
    return then if then is otherwise else make("where", (a, b, then, otherwise))


def norm(x: Node, y: Node, z: Node) -> Node:
    """Length of a displacement, sqrt(x^2 + y^2 + z^2)."""
    return make("norm", (x, y, z))


def show(node: Node, depth: int = 12) -> str:
    """A readable form of a node (shared parts are repeated; deep ones are cut)."""
    if depth == 0:
        return "..."
    inner = [show(a, depth - 1) for a in node.args]
    match node.op:
        case "const":
            return f"{node.data[0]:g}"
        case "add":
            return "(" + " + ".join(inner) + ")"
        case "mul":
            return "*".join(inner)
        case "pow":
            return f"{inner[0]}^{node.data[0]}"
        case "d" | "d_t":
            return f"{node.data[0]}{'xyz'[node.data[1]]}[{node.data[2]}]"
        case "norm":
            return f"r[{next(iter(node.free)).key}]"
        case "param" | "param_t":
            name, kinds, idx = node.data
            return f"{name}{'_t' if node.op == 'param_t' else ''}[{','.join(getattr(i, 'key', str(i)) for i in (*kinds, *idx))}]"
        case "sum":
            return f"sum[{','.join(node.data[2:])} {node.data[0]}]({inner[0]})"
    return f"{node.op}{list(node.data) if node.data else ''}({', '.join(inner)})"
