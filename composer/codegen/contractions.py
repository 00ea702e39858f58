"""C++ text of sums over static ranges alone: matrix products of the site, with whole vectors along one contiguous range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.codegen.printer import Block
from composer.ir.indices import Range, Species, parse_index
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, static_of

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

LANES = (8, 4, 2, 1)  # lengths of vectors that a range is cut into
REGISTERS = 12  # vectors that are summed at once
SIMPLE = {"add", "mul", "const"}  # operations that vectors have


class StaticNest:
    """A sum over static ranges. Where a range lies contiguous in all that is read, its values are handled as vectors."""

    def __init__(self, stage: Stage, node: Node) -> None:
        self.stage, self.node, self.body = stage, node, node.args[0]
        self.target = static_of(node)
        self.summed = sorted((i for i in bound_of(node) if isinstance(i, (Range, Species))), key=lambda i: i.key)
        self.loads = self._loads()
        self.along = self._along()

    def code(self) -> list[str]:
        name = ""
        if not self.target:
            name = self.stage.names[self.node] = f"v{len(self.stage.names)}"
        lines = self._looped() if self.along is None else self._vectors(self.along, name)
        return [f"real {name};", *lines] if name else lines

    # ---- what is read

    def _loads(self) -> list[Node]:
        """The values that the body reads; empty if it does more than add and multiply."""
        found: dict[Node, None] = {}
        pending = [self.body]
        while pending:
            node = pending.pop()
            if self.stage.load(node, self._any()) is not None:
                found[node] = None
            elif node.op in SIMPLE:
                pending.extend(node.args)
            else:
                return []
        return list(found)

    def _any(self) -> dict[str, str]:
        return {i.key: "0" for i in (*self.target, *self.summed)}

    def _along(self) -> Range | None:
        """The longest range that is contiguous wherever it is read; one of the target rather than one that is summed."""
        best: tuple[int, int] = (1, 0)
        found = None
        for index in (*self.target, *self.summed):
            fits = isinstance(index, Range) and all(self._contiguous(n, index) for n in self.loads if index in n.free)
            at_end = index in self.summed or (bool(self.target) and self.target[-1] == index)
            if self.loads and fits and at_end and (index.size, index in self.target) > best:
                best, found = (index.size, index in self.target), index
        return found if isinstance(found, Range) else None

    def _contiguous(self, node: Node, index: Range) -> bool:
        if node.op in ("param", "param_t"):
            idx = node.data[2]
            return idx[-1] == index and sum(i == index for i in idx) == 1
        fixed = set()
        while node.op == "at":
            fixed.add(parse_index(node.data[0]))
            node = node.args[0]
        static = self.stage.plan.arrays.get(node, ())
        return bool(static) and static[-1] == index and index not in fixed

    # ---- text

    def _looped(self) -> list[str]:
        names = {i.key: f"q{n}" for n, i in enumerate((*self.target, *self.summed))}
        block = Block(lambda n: self.stage.load(n, names), "t")
        (text,) = block.emit([self.body])
        outer, inner = ([head(i, names) for i in indices] for indices in (self.target, self.summed))
        return [
            *outer, "{", "real acc = 0;", *inner, *block.lines, f"acc += {text};", *["}"] * len(inner), f"{self._place(names)} = acc;", "}",
            *["}"] * len(outer),
        ]  # fmt: skip

    def _place(self, names: dict[str, str]) -> str:
        return self.stage.load(self.node, names) or ""

    def _vectors(self, along: Range, name: str) -> list[str]:
        pieces = list(_pieces(along.size))
        outer = [i for i in self.target if i != along]
        inner = [i for i in self.summed if i != along]
        names = {i.key: f"q{n}" for n, i in enumerate((*outer, *inner))}
        heads, loops = ([head(i, names) for i in indices] for indices in (outer, inner))
        lines = list(heads)
        if along in self.target:
            for first in range(0, len(pieces), REGISTERS):
                lines += ["{", *self._sum(along, pieces[first : first + REGISTERS], names, loops, own=True)]
                for m, (start, length) in enumerate(pieces[first : first + REGISTERS]):
                    lines.append(f"{_vector(self._place({**names, along.key: str(start)}), length, write=True)} = a{m};")
                lines.append("}")
        else:
            lines += ["{", *self._sum(along, pieces, names, loops, own=False)]
            lengths = sorted({length for _, length in pieces}, reverse=True)
            lines += [f"{name or self._place(names)} = {' + '.join(f'whole(a{length})' for length in lengths)};", "}"]
        return lines + ["}"] * len(heads)

    def _sum(self, along: Range, pieces: list[tuple[int, int]], names: dict[str, str], loops: list[str], own: bool) -> list[str]:
        """Sums over `loops` for pieces of the contiguous range: `own` ones, or one for each length of vectors."""
        totals = {f"a{m if own else length}": length for m, (_, length) in enumerate(pieces)}
        lines = [f"{_kind(length)} {total} = {{}};" for total, length in totals.items()]
        lines += loops
        for m, (start, length) in enumerate(pieces):
            block = Block(lambda n, start=start, length=length: self._load(n, along, start, length, names), f"t{m}_")
            (text,) = block.emit([self.body])
            lines += [line.replace("const real", "const auto", 1) for line in block.lines]
            lines.append(f"a{m if own else length} += {text};")
        return [*lines, *["}"] * len(loops)]

    def _load(self, node: Node, along: Range, start: int, length: int, names: dict[str, str]) -> str | None:
        text = self.stage.load(node, {**names, along.key: str(start)})
        return text if text is None or along not in node.free else _vector(text, length)


def head(index: Range | Species, names: dict[str, str]) -> str:
    """The loop over a static index."""
    q = names[index.key]
    return f"for (int {q} = 0; {q} < {index.size}; ++{q}) {{"


def _pieces(size: int) -> list[tuple[int, int]]:
    """Starts and lengths of the vectors that cover 0 .. size - 1."""
    found, start = [], 0
    for length in LANES:
        while size - start >= length:
            found.append((start, length))
            start += length
    return found


def _kind(length: int) -> str:
    return f"lanes{length}" if length > 1 else "real"


def _vector(text: str, length: int, write: bool = False) -> str:
    if length == 1:
        return text
    return f"*({'' if write else 'const '}lanes{length}*)&{text}"


__all__ = ["SIMPLE", "StaticNest", "head"]
