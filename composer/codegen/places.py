"""Where elements of values on static indices stand, and small pieces of loop text."""

from __future__ import annotations

from composer.ir.indices import Range, Species
from composer.ir.nodes import Node


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


def flat(static: tuple[Range | Species, ...], names: dict[str, str]) -> str:
    """Row-major position of an element, as text (a number where all indices are numbers)."""
    if all(names[i.key].isdigit() for i in static):
        place = 0
        for index in static:
            place = place * index.size + int(names[index.key])
        return str(place)
    text = names[static[0].key]
    for index in static[1:]:
        text = f"({text})*{index.size}+{names[index.key]}"
    return text


def size_of(static: tuple[Range | Species, ...]) -> int:
    size = 1
    for index in static:
        size *= index.size
    return size
