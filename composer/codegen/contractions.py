"""C++ text of sums over static ranges alone: matrix products of the site, with whole vectors along one contiguous range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from composer.codegen.along import SIMPLE, Along, pieces, vector, zeros
from composer.codegen.places import FEWEST, LANES
from composer.codegen.printer import Block
from composer.ir.indices import Range, Species
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, static_of

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

REGISTERS = 12  # vectors that are summed at once


class StaticNest:
    """A sum over static ranges. Where a range lies contiguous in all that is read, its values are handled as vectors."""

    def __init__(self, stage: Stage, node: Node) -> None:
        self.stage, self.node, self.body = stage, node, node.args[0]
        self.target = static_of(node)
        self.order = stage.plan.arrays.get(node, ())  # as they lie in the array
        self.summed = sorted((i for i in bound_of(node) if isinstance(i, (Range, Species))), key=lambda i: i.key)
        self.along = self._along()

    def code(self) -> list[str]:
        name = ""
        if not self.target:
            name = self.stage.names[self.node] = f"v{len(self.stage.names)}"
        if self.along is None:
            lines = self._looped()
        elif self.along.index in self.target:
            lines = self._side_by_side(self.along)
        else:
            lines = self._reduced(self.along, name)
        return [f"real {name};", *lines] if name else lines

    def _along(self) -> Along | None:
        """The longest range that is contiguous wherever it is read; one of the target rather than one that is summed."""
        best: tuple[int, int] = (0, 0)
        found = None
        for index in (*self.target, *self.summed):
            at_end = index in self.summed or (bool(self.order) and self.order[-1] == index)
            if isinstance(index, Range) and index.size >= FEWEST and at_end and (index.size, index in self.target) > best:
                along = Along(self.stage, index)
                if along.possible([self.body], (*self.target, *self.summed), SIMPLE):
                    best, found = (index.size, index in self.target), along
        return found

    # ---- text

    def _names(self, indices: list[Range | Species]) -> tuple[dict[str, str], list[str]]:
        """Names of looped indices, and the heads of their loops."""
        names = {i.key: f"q{n}" for n, i in enumerate(indices)}
        return names, [head(i, names) for i in indices]

    def _looped(self) -> list[str]:
        names, heads = self._names([*self.target, *self.summed])
        block = Block(lambda n: self.stage.load(n, names), "t")
        (text,) = block.emit([self.body])
        outer, inner = heads[: len(self.target)], heads[len(self.target) :]
        return [
            *outer, "{", "real acc = 0;", *inner, *block.lines, f"acc += {text};", *["}"] * len(inner), f"{self._place(names)} = acc;", "}",
            *["}"] * len(outer),
        ]  # fmt: skip

    def _place(self, names: dict[str, str]) -> str:
        return self.stage.load(self.node, names) or ""

    def _side_by_side(self, along: Along) -> list[str]:
        """Vectors of the target."""
        outer = [i for i in self.target if i != along.index]
        names, heads = self._names([*outer, *self.summed])
        lines, inner = heads[: len(outer)], heads[len(outer) :]
        parts = pieces(along.index.size)
        for first in range(0, len(parts), REGISTERS):
            here = parts[first : first + REGISTERS]
            lines += ["{", zeros(len(here)), *inner]
            for m, piece in enumerate(here):
                body, (text,) = along.text([self.body], piece, names, f"t{m}_")
                lines += [*body, f"a{m} += {text};"]
            lines += ["}"] * len(inner)
            lines += [f"{vector(self._place({**names, along.index.key: str(start)}))} = a{m};" for m, (start, _) in enumerate(here)]
            lines.append("}")
        return lines + ["}"] * len(outer)

    def _reduced(self, along: Along, name: str) -> list[str]:
        """Vectors of what is summed; eight elements of the target, side by side, are finished at once."""
        last = next((i for i in self.order[-1:] if isinstance(i, Range) and i.size >= FEWEST), None)
        outer = [i for i in self.target if i != last]
        names, heads = self._names([*outer, *(i for i in self.summed if i != along.index)])
        lines, inner = heads[: len(outer)], heads[len(outer) :]
        for start in range(0, last.size, LANES) if last else [-1]:
            rows = [] if last is None else [{last.key: str(r)} for r in range(start, min(start + LANES, last.size))]
            lines += ["{", *self._sums(along, [{**names, **r} for r in rows] or [names], inner)]
            if last is None:
                lines.append(f"{name or self._place(names)} = whole(a0);")
            else:
                sums = [f"a{m}" if m < len(rows) else "lanes8{}" for m in range(LANES)]
                lines.append(f"{vector(self._place({**names, last.key: str(start)}))} = totals({', '.join(sums)});")
            lines.append("}")
        return lines + ["}"] * len(outer)

    def _sums(self, along: Along, rows: list[dict[str, str]], inner: list[str]) -> list[str]:
        """One vector of sums for each element of the target."""
        lines = [zeros(len(rows)), *inner]
        for start, length in pieces(along.index.size):
            for m, names in enumerate(rows):
                body, (text,) = along.text([self.body], (start, length), names, f"t{m}_{start}_", reduced=True)
                lines += [*body, f"a{m} += {text};"]
        return [*lines, *["}"] * len(inner)]


def head(index: Range | Species, names: dict[str, str]) -> str:
    """The loop over a static index."""
    q = names[index.key]
    return f"for (int {q} = 0; {q} < {index.size}; ++{q}) {{"


__all__ = ["StaticNest", "head"]
