"""Values along one static range, eight at a time: C++ text in vectors where the range lies contiguous in all that is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from composer.codegen.places import LANES
from composer.codegen.printer import Block
from composer.ir.indices import Range, Species, parse_index
from composer.ir.nodes import Node

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

SIMPLE = {"add", "mul", "const"}  # operations of sums in vectors
Piece = tuple[int | str, int | str]  # first index of a vector and how many there are, as numbers or text


class Along:
    """The text of values whose vectors run along one static range of a site; `made`: a value that is worked out and not read."""

    def __init__(self, stage: Stage, index: Range, made: Node | None = None) -> None:
        self.stage, self.index, self.made = stage, index, made

    def possible(self, roots: Iterable[Node], indices: Iterable[Range | Species], operations: set[str]) -> bool:
        """Whether vectors have all operations, and what is read lies contiguous."""
        names = {i.key: "0" for i in indices}
        pending, seen = list(roots), set()
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            if node is not self.made and self.stage.load(node, names) is not None:
                if self.index in node.free and not self._contiguous(node):
                    return False
            elif node.op not in operations:
                return False
            else:
                pending.extend(node.args)
        return True

    def _contiguous(self, node: Node) -> bool:
        if node.op in ("param", "param_t"):
            idx = node.data[2]
            return idx[-1] == self.index and sum(i == self.index for i in idx) == 1
        fixed = set()
        while node.op == "at":
            fixed.add(parse_index(node.data[0]))
            node = node.args[0]
        static = self.stage.plan.arrays.get(node, ())
        return bool(static) and static[-1] == self.index and self.index not in fixed

    def text(
        self, roots: Sequence[Node], piece: Piece, names: dict[str, str], prefix: str, reduced: bool = False
    ) -> tuple[list[str], list[str]]:
        """Lines and texts of the roots for one vector; `reduced`: places behind the last one count as zero."""
        block = Block(lambda n: self._load(n, piece, names, reduced), prefix)
        texts = block.emit(roots)
        return [line.replace("const real", "const auto", 1) for line in block.lines], texts

    def _load(self, node: Node, piece: Piece, names: dict[str, str], reduced: bool) -> str | None:
        start, length = piece
        if node is self.made:
            return None
        text = self.stage.load(node, {**names, self.index.key: str(start)})
        if text is None or self.index not in node.free:
            return text
        foreign = node.op in ("param", "param_t")  # parameters have no room behind them
        return f"some(&{text}, {length})" if length != LANES and (foreign or reduced) else vector(text, "const ")


def pieces(size: int) -> list[Piece]:
    """Starts and lengths of the vectors that cover 0 .. size - 1."""
    return [(start, min(LANES, size - start)) for start in range(0, size, LANES)]


def vector(text: str, kind: str = "") -> str:
    """Eight numbers from this one on."""
    return f"*({kind}lanes8*)&{text}"


def zeros(count: int) -> str:
    """Declares vectors a0, a1, ... that are zero."""
    return f"lanes8 {', '.join(f'a{m} = {{}}' for m in range(count))};"


__all__ = ["SIMPLE", "Along", "Piece", "pieces", "vector", "zeros"]
