"""What a model costs: operations of its force program for each atom, at a stated density. Deterministic: nothing is timed."""

from __future__ import annotations

import math
from functools import lru_cache

from composer.codegen.outputs import Output
from composer.codegen.program import Program, walk
from composer.data import Data
from composer.ir.indices import Neighbor, Range, Species
from composer.ir.nodes import Node
from composer.ir.sums import bound_of
from composer.model import Model

DEAR = {"exp", "log", "sin", "cos", "tanh", "expm1", "log1p", "sqrt", "pow", "norm"}
WORK = 8.0  # operations of a dear one
FREE = {"const", "d", "d_t", "param", "param_t", "site", "near", "mark", "at", "stack"}


def density(data: Data) -> float:
    """Median number density of the periodic frames (atoms/Å^3), at which costs are stated; 0.05 where there are none."""
    found = sorted(len(f) / f.volume for f in data if f.volume)
    return float(found[len(found) // 2]) if found else 0.05


def cost(model: Model, density: float) -> float:
    """Operations for the energy and forces of one atom at a density (atoms/Å^3).

    Every node of the program counts once for each neighbour and element on which it depends: 4 pi rc^3 density/3 neighbours within rc;
    sums add one for each summand.
    """
    return operations(model.program("forces"), density)


def operations(program: Program, density: float) -> float:
    """The same for any program."""
    roots = [o.node for stage in program.stages for o in stage if isinstance(o, Output)]
    return float(sum(_work(node, density) for node in walk(roots)))


def _work(node: Node, density: float) -> float:
    if node.op in FREE:
        return 0.0
    if node.op == "sum":
        body = node.args[0]
        return _visits(frozenset(body.free | frozenset(bound_of(node))), density)
    single = WORK if node.op in DEAR else float(max(len(node.args) - 1, 1))
    return single * _visits(frozenset(node.free), density)


@lru_cache(maxsize=10_000)
def _visits(indices: frozenset, density: float) -> float:
    """How often a quantity on these indices is computed for one atom; species follow from the neighbours."""
    found = 1.0
    for index in indices:
        if isinstance(index, Neighbor):
            found *= 4 * math.pi / 3 * index.cutoff**3 * density
        elif isinstance(index, Range) and not isinstance(index, Species):
            found *= index.size
    return found
