"""Forward differentiation: node -> tangent node."""

from __future__ import annotations

from collections.abc import Callable

from composer.ir.calculus import partials, times
from composer.ir.indices import parse_index
from composer.ir.nodes import ZERO, Node, add, at_neighbor
from composer.ir.sums import bound_of, element, given_of, relation_of, stack, sum_over

LEAVES = ("const", "d", "d_t", "param", "param_t", "site", "mark")


class Tangent:
    """The map node -> tangent for given tangents of the leaves, dv = sum_a (dv/da) da (memoised over all calls)."""

    def __init__(self, leaf: Callable[[Node], Node]) -> None:
        self.leaf, self.memo = leaf, {}

    def __call__(self, node: Node) -> Node:
        found = self.memo.get(node)
        if found is None:
            found = self.memo[node] = self._tangent(node)
        return found

    def _tangent(self, node: Node) -> Node:
        if node.op in LEAVES:
            return ZERO if node.op in ("const", "mark") else self.leaf(node)
        inner = [self(a) for a in node.args]
        if all(t is ZERO for t in inner):
            return ZERO
        match node.op:
            case "sum":
                return sum_over(bound_of(node), inner[0], relation_of(node), given_of(node))
            case "stack":
                return stack(parse_index(node.data[0]), inner)  # type: ignore[arg-type]
            case "at":
                return element(inner[0], parse_index(node.data[0]), node.data[1])  # type: ignore[arg-type]
            case "near":
                return at_neighbor(inner[0], parse_index(node.data[0]))  # type: ignore[arg-type]
        return add(*(times(p, t) for p, t in zip(partials(node), inner, strict=True) if t is not ZERO and p is not ZERO))
