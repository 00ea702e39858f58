"""Quantities of a neighbour that an earlier nest computed: kept in rows when dear, computed again where they are needed when cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.ir.indices import neighbors
from composer.ir.nodes import Node

if TYPE_CHECKING:
    from composer.codegen.schedule import Nest, Schedule

LEAVES = {"const", "d", "d_t", "param", "param_t", "site", "near", "mark"}  # read, never computed
DEAR = {"erfc", "exp", "log", "sin", "cos", "tanh", "expm1", "log1p", "sqrt", "pow"}
OPERATIONS = 3  # computed again for each value that would otherwise be stored


def settled(schedule: Schedule, nests: dict[tuple, Nest]) -> list[Nest]:
    """The nests in execution order. From the last to the first, what each takes from earlier ones (its frontier) is settled; that may
    give earlier nests a frontier of their own, or open new ones."""
    while waiting := [n for n in nests.values() if n.frontier]:
        nest = max(waiting, key=lambda n: n.order)
        frontier, nest.frontier = list(nest.frontier), {}
        _settle(schedule, nest, frontier)
    return sorted(nests.values(), key=lambda n: n.order)


def _settle(schedule: Schedule, nest: Nest, frontier: list[Node]) -> None:
    cheap: dict[Node, None] = {}
    pending = [n for n in frontier if n not in schedule.rows]
    count = len(pending)
    while pending:
        node = pending.pop()
        if node in cheap or not neighbors(node.free) or node.op in LEAVES or _at_hand(schedule, node):
            continue
        if schedule.keep and node.op in DEAR:
            schedule.need_row(node)
            continue
        cheap[node] = None
        pending.extend(node.args)
    if schedule.keep and len(cheap) > OPERATIONS * count:
        for node in frontier:
            schedule.need_row(node)
        return
    for node in frontier:  # the nest sees through it down to rows, leaves and sums
        if node not in schedule.rows:
            _see_through(schedule, nest, node)


def _see_through(schedule: Schedule, nest: Nest, node: Node) -> None:
    pending = list(node.args)
    nest.visited.add(node)
    while pending:
        inner = pending.pop()
        if inner in nest.visited and inner not in nest.frontier:
            continue
        nest.visited.add(inner)
        if inner.op in LEAVES or inner in schedule.rows or schedule.geometry(inner):
            continue
        if not inner.free or _at_hand(schedule, inner):
            schedule.available(nest, inner, False)
        elif schedule.keep and neighbors(inner.free) and inner.op in DEAR:
            schedule.need_row(inner)
        else:
            pending.extend(inner.args)


def _at_hand(schedule: Schedule, node: Node) -> bool:
    """Whether a quantity is loaded, for it is kept anyway."""
    return node.op in ("sum", "at", "stack") or node in schedule.rows or schedule.geometry(node)


__all__ = ["DEAR", "LEAVES", "settled"]
