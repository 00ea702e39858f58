"""C++ text of sums with static ranges over or at neighbours, in whole vectors of neighbours.

What is kept for each neighbour may be written a little beyond the end of a segment: the next segment, or nobody, owns these places. Sums over
neighbours leave out what lies beyond.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from composer.codegen.contractions import SIMPLE, head
from composer.codegen.places import size_of
from composer.codegen.printer import Block
from composer.codegen.schedule import Nest
from composer.ir.indices import Range, Species, neighbors
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, static_of

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

Tile = dict[str, str]  # index key -> its value, as text
KEPT, SUMMED = (1, 12), (2, 8)  # elements of the last two static ranges that are held in registers at once
LANES = 8


class VectorNest:
    """A sum with static indices and one neighbour, whose body only adds and multiplies."""

    def __init__(self, stage: Stage, nest: Nest, node: Node) -> None:
        self.stage, self.node, self.body = stage, node, node.args[0]
        (self.index,) = nest.loops
        self.static = static_of(node)
        self.summed = sorted((i for i in bound_of(node) if isinstance(i, Range) and i in nest.ranges), key=lambda i: i.key)
        self.by_species = any(isinstance(i, Species) and i.slot == self.index.slot for i in self.static)
        self.kept = bool(neighbors(node.free))
        self.looped = [i for i in self.static if isinstance(i, Range) or not self.by_species]

    @property
    def possible(self) -> bool:
        """Whether vectors have all operations of the body."""
        names = {i.key: "0" for i in (*self.static, *self.summed)}
        pending = [self.body]
        while pending:
            node = pending.pop()
            if self.stage.load(node, names) is None:
                if node.op not in SIMPLE:
                    return False
                pending.extend(node.args)
        return bool(self.looped) and not any(isinstance(i, Species) for i in (*self.looped, *self.summed))

    def code(self) -> list[str]:
        begin, stop = self.stage.begin("sj"), self.stage.stop(self.index.cutoff, "sj")
        if self.kept:
            return self._segments([f"for (int j = {begin}; j < {stop}; j += {LANES}) {{", *self._tiles(KEPT), "}"])
        clear = [] if self.by_species or self.stage.species == 1 else [self._clear()]
        return [*clear, *self._segments([f"const int first = {begin}, stop = {stop};", *self._tiles(SUMMED)])]

    def _segments(self, body: list[str]) -> list[str]:
        if self.stage.species == 1:
            return ["{", "const int sj = 0; (void)sj;", *body, "}"]
        return [f"for (int sj = 0; sj < {self.stage.species}; ++sj) {{", *body, "}"]

    def _clear(self) -> str:
        return f"for (int q = 0; q < {size_of(self.static)}; ++q) {self.stage.array_names[self.node]}[q] = 0;"

    # ---- tiles

    def _tiles(self, widths: tuple[int, int]) -> list[str]:
        """Loops over the static indices of the target; of the last two, several elements at once."""
        outer, last = self.looped[:-2], self.looped[-2:]
        names = {i.key: f"q{n}" for n, i in enumerate(outer)}
        lines = [head(i, names) for i in outer]
        parts = [list(_parts(i.size, w)) for i, w in zip(last, widths[-len(last) :])]
        for ranges in product(*parts):
            starts = [f"n{n}" if count > 1 else str(start) for n, (start, _, count) in enumerate(ranges)]
            steps = [
                f"for (int n{n} = {start}; n{n} < {start + width * count}; n{n} += {width}) {{"
                for n, (start, width, count) in enumerate(ranges)
                if count > 1
            ]
            tile = [
                {**names, **{i.key: _shifted(s, o) for i, s, o in zip(last, starts, offsets)}}
                for offsets in product(*(range(width) for _, width, _ in ranges))
            ]
            lines += [*steps, "{", *(self._kept(tile) if self.kept else self._summed(tile)), "}", *["}"] * len(steps)]
        return [*lines, *["}"] * len(outer)]

    def _kept(self, tile: list[Tile]) -> list[str]:
        lines = self._accumulate(tile)
        return [*lines, *(f"*(lanes8*)&{self.stage.load(self.node, t)} = a{m};" for m, t in enumerate(tile))]

    def _summed(self, tile: list[Tile]) -> list[str]:
        lines = self._accumulate(tile, [f"for (int j = first; j < stop; j += {LANES}) {{", "const auto keep = below(stop - j);"])
        sign = "=" if self.by_species or self.stage.species == 1 else "+="
        m = 0
        while m < len(tile):
            place = self.stage.load(self.node, tile[m])
            if m % LANES == 0 and len(tile) - m >= LANES and len(tile) % LANES == 0:
                lines.append(f"*(lanes8*)&{place} {sign} totals({', '.join(f'a{m + u}' for u in range(LANES))});")
                m += LANES
            else:
                lines.append(f"{place} {sign} whole(a{m});")
                m += 1
        return lines

    def _accumulate(self, tile: list[Tile], loop: list[str] | None = None) -> list[str]:
        names = {i.key: f"m{n}" for n, i in enumerate(self.summed)}
        block = Tiles(self, tile, names)
        heads = [head(i, names) for i in self.summed]
        add = [f"a{m} += {f'keep ? {text} : lanes8{{}}' if loop else text};" for m, text in enumerate(block.texts)]
        start = [f"lanes8 {', '.join(f'a{m} = {{}}' for m in range(len(tile)))};"]
        return [*start, *(loop or []), *heads, *block.lines, *add, *["}"] * (len(heads) + bool(loop))]


class Tiles:
    """The body for several elements; what they share is loaded once."""

    def __init__(self, nest: VectorNest, tile: list[Tile], names: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.texts: list[str] = []
        self.known: dict[str, str] = {}
        for m, element in enumerate(tile):
            block = Block(lambda n, here={**element, **names}: self._load(nest, n, here), f"t{m}_")
            (text,) = block.emit([nest.body])
            self.lines += [line.replace("const real", "const auto", 1) for line in block.lines]
            self.texts.append(text if any(neighbors(n.free) for n in [nest.body]) else f"(lanes8{{}} + {text})")

    def _load(self, nest: VectorNest, node: Node, here: dict[str, str]) -> str | None:
        text = nest.stage.load(node, here)
        if text is None or not neighbors(node.free):
            return text
        if text not in self.known:
            self.known[text] = f"r{len(self.known)}"
            self.lines.append(f"const lanes8 {self.known[text]} = *(const lanes8*)&{text};")
        return self.known[text]


def _shifted(start: str, offset: int) -> str:
    return str(int(start) + offset) if start.isdigit() else f"({start}+{offset})" if offset else start


def _parts(size: int, width: int) -> list[tuple[int, int, int]]:
    """Start, width and count of the blocks that cover a range."""
    width = min(width, size)
    if size % width and size < 2 * width:
        half = -(-size // 2)
        return [(0, half, 1), (half, size - half, 1)] if width > 2 else [(0, width, size // width), (size - size % width, size % width, 1)]
    found = [(0, width, size // width)]
    return [*found, (size - size % width, size % width, 1)] if size % width else found


__all__ = ["VectorNest"]
