"""Reductions and static ranges of nodes, and what rewrites them.

`sum_over` is the only reduction, `stack` lists the elements of a static range, `element` reads one of them, `swap` exchanges the two
neighbours, `rebuild` makes the same operation on other arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from composer.ir.indices import MIRROR, Index, Neighbor, Range, Species, parse_index
from composer.ir.nodes import (
    FUNCTIONS,
    ONE,
    ZERO,
    Node,
    Scalar,
    add,
    at_neighbor,
    displacement,
    function,
    is_const,
    lift,
    make,
    mark,
    mul,
    norm,
    operate,
    parameter,
    power,
    where_less,
)


def sum_over(bound: Iterable[Index], body: Scalar, relation: str = "", given: Neighbor | None = None) -> Node:
    """Sum of `body` over the indices in `bound`; factors that do not depend on them are taken out.

    `relation` ties the neighbours of slot k and j where both occur: "ne", "lt" (k before j) or "gt"; `given` is the one that
    stays free (found in the body if it is not stated).
    """
    body, bound = lift(body), frozenset(bound)
    if is_const(body, 0.0):
        return ZERO
    bound = frozenset(i for i in bound if isinstance(i, Neighbor) or i in body.free)
    if not bound:
        return body
    looped = [i for i in bound if isinstance(i, Neighbor)]
    if relation == "gt" and len(looped) == 2 and not any(isinstance(i, Species) for i in body.free - bound):
        return sum_over(map(_exchange, bound), swap(body), "lt")  # one of the two mirror images stands for both
    outside = [i for i in body.free if isinstance(i, Neighbor) and i not in bound] if len(looped) == 1 and relation else []
    given = given if len(looped) == 1 and relation else None
    given = outside[0] if outside and given is None else given
    slots = {i.slot for i in looped}  # what depends on the species of a looped neighbour stays inside, so that the sum stays resolved by it
    factor, rest = _split(body, bound | {i for i in body.free if isinstance(i, Species) and i.slot in slots})
    data = (relation if looped else "", given.key if given else "", *sorted(i.key for i in bound))
    free = (rest.free - bound) | ({given} if given else set())
    return mul(factor, make("sum", (rest,), data, free))


def _split(body: Node, bound: frozenset[Index]) -> tuple[Node, Node]:
    """Factors of a product without and with the bound indices."""
    if body.op != "mul":
        return ONE, body
    a, b = body.args
    if not a.free & bound:
        outer, inner = _split(b, bound)
        return mul(a, outer), inner
    if not b.free & bound:
        outer, inner = _split(a, bound)
        return mul(b, outer), inner
    return ONE, body


def stack(index: Range | Species, elements: Sequence[Scalar]) -> Node:
    """The node whose value at index = n is elements[n]."""
    nodes = tuple(lift(e) for e in elements)
    if all(n is nodes[0] for n in nodes):
        return nodes[0]
    free = frozenset().union(*(n.free for n in nodes)) | {index}
    return make("stack", nodes, (index.key,), free)


def element(node: Node, index: Range | Species, value: int) -> Node:
    """The node at index = value: resolved through arithmetic, kept as a read of an array at a sum."""
    return _Rewrite(lambda n: _element_here(n, index, value))(node) if index in node.free else node


def _element_here(node: Node, index: Range | Species, value: int) -> Node | None:
    if index not in node.free:
        return node
    if node.op == "stack" and node.data[0] == index.key:
        return node.args[value]
    if node.op in ("sum", "at"):
        return make("at", (node,), (index.key, value), node.free - {index})
    if node.op == "mark":
        return ONE
    if node.op in ("param", "param_t"):
        name, kinds, idx = node.data
        if isinstance(index, Species):
            kinds = tuple(value if k == index else k for k in kinds)
        return parameter(name, kinds, tuple(value if i == index else i for i in idx), node.op == "param_t")
    return None


def swap(node: Node) -> Node:
    """The node with the two neighbours j and k exchanged: f(j, k) -> f(k, j); whatever is summed over both stays as it is."""
    return _Rewrite(_swap_here)(node)


def _swap_here(node: Node) -> Node | None:
    if not any(isinstance(i, (Neighbor, Species)) for i in node.free):
        return node
    match node.op:
        case "d" | "d_t":
            return displacement(node.data[1], _exchange(next(iter(node.free))), node.op)  # type: ignore[arg-type]
        case "near":
            return at_neighbor(node.args[0], _exchange(next(iter(node.free))))  # type: ignore[arg-type]
        case "param" | "param_t":
            name, kinds, idx = node.data
            exchanged = tuple(_exchange(k) if isinstance(k, Species) else k for k in kinds)
            return parameter(name, exchanged, idx, node.op == "param_t")  # type: ignore[arg-type]
        case "mark":
            return mark(_exchange(next(iter(node.free))))  # type: ignore[arg-type]
        case "sum":
            given = given_of(node)
            left = _exchange(given) if given else None
            return sum_over(map(_exchange, bound_of(node)), swap(node.args[0]), MIRROR[node.data[0]], left)  # type: ignore[arg-type]
        case "at":
            index = _exchange(parse_index(node.data[0]))
            return make("at", (swap(node.args[0]),), (index.key, node.data[1]), [_exchange(i) for i in node.free])
        case "stack":
            index = _exchange(parse_index(node.data[0]))
            return stack(index, [swap(a) for a in node.args])  # type: ignore[arg-type]
    return None


def _exchange(index: Index) -> Index:
    other = "k" if getattr(index, "slot", "") == "j" else "j"
    if isinstance(index, Neighbor):
        return Neighbor(index.cutoff, other)
    return Species(other, index.size) if isinstance(index, Species) else index


class _Rewrite:
    """Rebuilds a node bottom-up; `here` returns a replacement or None to go on with rewritten arguments."""

    def __init__(self, here: Callable[[Node], Node | None]) -> None:
        self.here, self.memo = here, {}

    def __call__(self, node: Node) -> Node:
        found = self.memo.get(node)
        if found is None:
            found = self.here(node)
            if found is None:
                found = rebuild(node, [self(a) for a in node.args])
            self.memo[node] = found
        return found


def rewrite(node: Node, here: Callable[[Node], Node | None]) -> Node:
    """The node with every part for which `here` gives a replacement exchanged for it."""
    return _Rewrite(here)(node)


def rebuild(node: Node, args: Sequence[Node]) -> Node:
    """The same operation on other arguments."""
    if tuple(args) == node.args:
        return node
    match node.op:
        case "add":
            return add(*args)
        case "mul":
            return mul(*args)
        case "pow":
            return power(args[0], node.data[0])
        case "where":
            return where_less(*args)
        case "sum":
            return sum_over(bound_of(node), args[0], relation_of(node), given_of(node))
        case "stack":
            return stack(parse_index(node.data[0]), args)  # type: ignore[arg-type]
        case "at":
            return element(args[0], parse_index(node.data[0]), node.data[1])  # type: ignore[arg-type]
        case "norm":
            return norm(*args)
        case "global" | "global_t":
            return operate(node.data, args[0], node.op == "global_t")
        case op if op in FUNCTIONS:
            return function(op, args[0])
    return make(node.op, args, node.data)


def bound_of(node: Node) -> frozenset[Index]:
    """The indices a sum runs over."""
    return frozenset(parse_index(k) for k in node.data[2:])


def given_of(node: Node) -> Neighbor | None:
    """The neighbour that a related sum leaves free."""
    return parse_index(node.data[1]) if node.data[1] else None  # type: ignore[return-value]


def relation_of(node: Node) -> str:
    """How k is tied to j in a sum: "", "ne", "lt" or "gt"."""
    return node.data[0]


def static_of(node: Node) -> tuple[Range | Species, ...]:
    """Static indices that a value is resolved by (not the species of a neighbour it already belongs to)."""
    slots = {i.slot for i in node.free if isinstance(i, Neighbor)}
    static = [i for i in node.free if isinstance(i, Range) or (isinstance(i, Species) and i.slot not in slots)]
    return tuple(sorted(static, key=lambda i: (isinstance(i, Range), i.key)))


def elements(node: Node, static: tuple[Range | Species, ...]) -> dict[tuple[int, ...], Node]:
    """All elements of a value on static indices, in row-major order."""
    found: dict[tuple[int, ...], Node] = {(): node}
    for index in static:
        found = {(*key, n): element(value, index, n) for key, value in found.items() for n in range(index.size)}
    return found
