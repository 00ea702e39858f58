"""Reverse differentiation: seeds on nodes -> adjoints of leaves, as nodes again.

A contribution that carries more indices than the node it flows to is summed over them: that one rule turns sums into broadcasts and
broadcasts into sums. A node that names only the second neighbour k is the same field as its mirror at j, and shares its adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from composer.errors import AlgebraError
from composer.ir.calculus import partials, times
from composer.ir.indices import Index, Neighbor, Species, neighbors, parse_index
from composer.ir.nodes import ONE, ZERO, Node, add, mark, mul
from composer.ir.sums import bound_of, element, relation_of, stack, sum_over, swap

Key = tuple[Node, str]  # a node with two neighbours has one adjoint for each relation between them


def vjp(seeds: Iterable[tuple[Node, Node]], wanted: Callable[[Node], bool]) -> dict[Node, Node]:
    """Adjoints of the wanted nodes for sum over roots of seed * root.

    Arguments: pairs (root, seed), both scalars of the site; `wanted` marks the nodes at which the sweep stops.
    Returns {node: adjoint}; the adjoint carries the node's free indices. A "near" node that is wanted stands for the scatter to neighbours.
    """
    sweep = _Sweep(wanted)
    for root, seed in seeds:
        sweep.give(root, "", seed)
    return sweep.run([root for root, _ in seeds])


class _Sweep:
    def __init__(self, wanted: Callable[[Node], bool]) -> None:
        self.wanted = wanted
        self.parts: dict[Key, list[Node]] = {}
        self.elements: dict[Key, dict[tuple[str, int], list[Node]]] = {}
        self.active: dict[Node, bool] = {}

    def is_active(self, node: Node) -> bool:
        found = self.active.get(node)
        if found is None:
            found = self.active[node] = self.wanted(node) or any(self.is_active(a) for a in node.args)
        return found

    def give(self, node: Node, relation: str, part: Node) -> None:
        if part is not ZERO and self.is_active(node):
            self.parts.setdefault((node, relation), []).append(part)

    def run(self, roots: list[Node]) -> dict[Node, Node]:
        result: dict[Node, Node] = {}
        for node in reversed(_order(roots, self)):
            for relation in ("", "ne", "lt", "gt"):
                adjoint = self.collect(node, relation)
                if adjoint is ZERO:
                    continue
                if _only_second(node):
                    self.give(swap(node), "", swap(adjoint))
                elif self.wanted(node):
                    result[node] = add(result.get(node, ZERO), adjoint)
                else:
                    self.push(node, relation, adjoint)
        return result

    def collect(self, node: Node, relation: str) -> Node:
        parts = self.parts.pop((node, relation), [])
        grouped: dict[str, dict[int, Node]] = {}
        for (key, value), pieces in self.elements.pop((node, relation), {}).items():
            grouped.setdefault(key, {})[value] = add(*pieces)
        for key, values in grouped.items():
            index = parse_index(key)
            assert not isinstance(index, Neighbor)
            parts.append(stack(index, [values.get(n, ZERO) for n in range(index.size)]))
        return add(*parts) if parts else ZERO

    def push(self, node: Node, relation: str, adjoint: Node) -> None:
        match node.op:
            case "sum":
                context = neighbors(node.free | bound_of(node))  # the body may lack the neighbour that the relation refers to
                static = not any(isinstance(i, Neighbor) for i in bound_of(node))
                self.flow(node.args[0], relation if static else relation_of(node), adjoint, context)
            case "stack":
                index = parse_index(node.data[0])
                for n, arg in enumerate(node.args):
                    self.flow(arg, relation, element(adjoint, index, n), neighbors(node.free))  # type: ignore[arg-type]
            case "at":
                key = (node.args[0], relation)
                if self.is_active(node.args[0]):
                    self.elements.setdefault(key, {}).setdefault((node.data[0], node.data[1]), []).append(adjoint)
            case "near":
                raise AlgebraError("A field read at a neighbour must be a wanted node of the sweep. Found one that is not. Ask for it.")
            case _:
                for arg, partial in zip(node.args, partials(node), strict=True):
                    if self.is_active(arg) and partial is not ZERO:
                        self.flow(arg, relation, times(adjoint, partial), neighbors(node.free))

    def flow(self, arg: Node, relation: str, part: Node, context: tuple[Neighbor, ...]) -> None:
        """Give `part`, which lives on the indices of `context`, to `arg`: sum over what the argument does not carry."""
        if not self.is_active(arg) or part is ZERO:
            return
        lost: set[Index] = {i for i in context if i not in arg.free}
        slots = {i.slot for i in arg.free if isinstance(i, Neighbor)}
        lost |= {i for i in part.free - arg.free if not isinstance(i, Neighbor) and not (isinstance(i, Species) and i.slot in slots)}
        gone = {i.slot for i in lost if isinstance(i, Neighbor)}
        for index in sorted(arg.free, key=lambda i: i.key):  # in the same order in every process
            if isinstance(index, Species) and index.slot in gone and index not in part.free:
                part = mul(part, mark(index))  # summed over that neighbour, but for each of its species apart
        kept = [i for i in context if i in arg.free]
        two = len(context) == 2
        part = sum_over(lost, part, relation if two else "", kept[0] if two and len(kept) == 1 else None) if lost else part
        self.give(arg, relation if two and len(kept) == 2 else "", part)


def _only_second(node: Node) -> bool:
    looped = neighbors(node.free)
    return len(looped) == 1 and looped[0].slot == "k"


def _order(roots: list[Node], sweep: _Sweep) -> list[Node]:
    """Active nodes, arguments first; a node of the second neighbour depends on its mirror alone."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack_ = [(root, False) for root in roots]
    while stack_:
        node, done = stack_.pop()
        if done:
            order.append(node)
            continue
        if node in seen or not sweep.is_active(node):
            continue
        seen.add(node)
        stack_.append((node, True))
        if sweep.wanted(node) and not _only_second(node):
            continue
        stack_.extend((a, False) for a in ([swap(node)] if _only_second(node) else node.args))
    return order


__all__ = ["ONE", "vjp"]
