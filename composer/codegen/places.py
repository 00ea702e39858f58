"""Where elements of values on static indices stand, and small pieces of loop text."""

from __future__ import annotations

from math import prod

from composer.ir.indices import Range, Species
from composer.ir.nodes import Node

LANES = 8  # numbers of a vector
FEWEST = 3  # numbers side by side that are handled as vectors


def rolled(head: list[str]) -> list[str]:
    """A short loop over a static range stays a loop: written out, it would make the compiler slow and nothing faster."""
    return [f"ROLLED {head[0]}", *head[1:]] if head else head


def in_vectors(sizes: list[int], body: list[str]) -> list[str]:
    """Loops q0, q1, ... over static ranges, the last one in whole vectors: the last vector begins early enough to end in time."""
    head = [f"for (int q{m} = 0; q{m} < {size}; ++q{m}) {{" for m, size in enumerate(sizes)]
    if sizes[-1] <= 8:
        return [*head, *body, *["}"] * len(head)]
    q, last = f"q{len(sizes) - 1}", sizes[-1] - 8
    blocks = [f"for (int b = 0; b < {sizes[-1]}; b += 8) {{", f"const int f = b < {last} ? b : {last};"]
    return [*head[:-1], *blocks, f"IVDEP for (int {q} = f; {q} < f + 8; ++{q}) {{", *body, "}", *["}"] * len(head)]


def scalars_below(root: Node) -> list[Node]:
    """Scalars of the site that a value on static indices is made of."""
    found: dict[Node, None] = {}
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if not node.free:
            found[node] = None
        elif node.op not in ("sum", "at", "stack"):
            pending.extend(node.args)
    return list(found)


def flat(static: tuple[Range | Species, ...], names: dict[str, str], padded: bool = False) -> str:
    """Row-major position of an element, as text (a number where all indices are numbers); `padded`: the last range fills whole vectors."""
    sizes = _sizes(static, padded)
    if all(names[i.key].isdigit() for i in static):
        place = 0
        for index, size in zip(static, sizes):
            place = place * size + int(names[index.key])
        return str(place)
    text = names[static[0].key]
    for index, size in zip(static[1:], sizes[1:]):
        text = f"({text})*{size}+{names[index.key]}"
    return text


def size_of(static: tuple[Range | Species, ...], padded: bool = False) -> int:
    """Number of places of an array."""
    return prod(_sizes(static, padded))


def _sizes(static: tuple[Range | Species, ...], padded: bool) -> list[int]:
    sizes = [i.size for i in static]
    if padded and isinstance(static[-1], Range):
        sizes[-1] = whole_vectors(sizes[-1])
    return sizes


def whole_vectors(size: int) -> int:
    """The size of a range with room for whole vectors."""
    return size if size < FEWEST else -(-size // LANES) * LANES
