"""Which numbers enter the energy linearly: read from the nodes of the model, never tried out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from composer.ir.nodes import Node
from composer.model import Model

Pair = frozenset[str]  # two tables that are multiplied; one name alone: a table multiplied with itself, or not polynomial
Present = tuple[frozenset[str], frozenset[Pair]]  # tables in a node, pairs of them that it multiplies


@dataclass(frozen=True)
class Structure:
    """Tables of parameters by key: `linear`, the largest set of which no two are multiplied; `polynomial`, degree one in each alone;
    `products`, pairs that are multiplied."""

    linear: frozenset[str]
    polynomial: frozenset[str]
    products: frozenset[Pair]


def structure(model: Model) -> Structure:
    """The linear structure of the energy.

    A table is of degree one if no product, power or function multiplies its numbers with each other. Of these the jointly linear set with
    most free numbers is taken; positive or bounded tables count as nonlinear, for fits take their logarithms.
    """
    keys, products = _present(model.node)
    polynomial = frozenset(k for k in keys if frozenset((k,)) not in products)
    size = {e.key: model.layout.slots[e.key].size for e in model.entries if e.free and not e.positive and e.bounds is None}
    candidates = sorted((k for k in polynomial if size.get(k)), key=lambda k: (-size[k], k))
    return Structure(frozenset(_heaviest(candidates, size, products)), polynomial, products)


def linear_part(model: Model) -> Model:
    """The same model with those of its free numbers free that are jointly linear: E0, and the last layer of a network."""
    keys = structure(model).linear
    return model.holding({e.key for e in model.entries} - keys)


def _present(root: Node) -> Present:
    """Tables of a node and the pairs it multiplies, bottom-up over shared nodes."""
    known: dict[Node, Present] = {}
    pending = [root]
    while pending:
        node = pending[-1]
        rest = [a for a in node.args if a not in known]
        pending += rest
        if not rest:
            known[pending.pop()] = _of(node, [known[a] for a in node.args])
    return known[root]


def _of(node: Node, inner: list[Present]) -> Present:
    keys = frozenset().union(*(k for k, _ in inner))
    products = frozenset().union(*(p for _, p in inner))
    match node.op:
        case "param":
            return frozenset((node.data[0],)), frozenset()
        case "add" | "sum" | "stack" | "at" | "near" | "global":
            return keys, products
        case "mul":
            return keys, products | {frozenset((a, b)) for a in inner[0][0] for b in inner[1][0]}
        case "where":
            asked = inner[0][0] | inner[1][0]
            return keys, products | _all_pairs(asked, keys)
    return keys, products | _all_pairs(keys, keys)  # powers and functions


def _all_pairs(first: frozenset[str], second: frozenset[str]) -> frozenset[Pair]:
    return frozenset(frozenset((a, b)) for a in first for b in second)


def _heaviest(candidates: list[str], size: dict[str, int], products: frozenset[Pair]) -> set[str]:
    """The set of most numbers without a product inside: by search for up to 16 tables that meet in products, greedily beyond."""
    clash = {k: {o for o in candidates if o != k and frozenset((k, o)) in products} for k in candidates}
    alone = {k for k in candidates if not clash[k]}
    meeting = [k for k in candidates if clash[k]]
    if len(meeting) > 16:
        for key in meeting:
            alone |= set() if clash[key] & alone else {key}
        return alone
    sets = (set(c) for n in range(len(meeting), 0, -1) for c in combinations(meeting, n) if not any(clash[k] & set(c) for k in c))
    best = max(sets, key=lambda s: (sum(size[k] for k in s), sorted(s)), default=set())
    return alone | best
