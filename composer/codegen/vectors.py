"""C++ text of sums with static ranges over or at neighbours, in whole vectors of neighbours.

What is kept for each neighbour may be written a little beyond the end of a segment: the next segment, or nobody, owns these places. Sums over
neighbours leave out what lies beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby, product
from math import prod
from typing import TYPE_CHECKING

from composer.codegen.along import SIMPLE, vector, zeros
from composer.codegen.contractions import head
from composer.codegen.places import FEWEST, LANES, whole_vectors
from composer.codegen.printer import Block
from composer.codegen.schedule import Nest
from composer.ir.indices import Range, Species, neighbors
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, static_of

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

Tile = dict[str, str]  # index key -> its value, as text
KEPT, SUMMED, TURNED = (1, 12), (2, 8), (24, LANES)  # elements of the last two static ranges that are held in registers at once
TURN = 24  # operations that turn eight rows


class VectorNest:
    """A sum with static indices and one neighbour, whose body only adds and multiplies."""

    def __init__(self, stage: Stage, nest: Nest, node: Node) -> None:
        self.stage, self.node, self.body = stage, node, node.args[0]
        (self.index,) = nest.loops
        static = static_of(node)
        self.summed = sorted((i for i in bound_of(node) if isinstance(i, Range) and i in nest.ranges), key=lambda i: i.key)
        self.by_species = any(isinstance(i, Species) and i.slot == self.index.slot for i in static)
        self.kept = bool(neighbors(node.free))
        order = static if self.kept else stage.plan.arrays[node]
        self.looped = [i for i in order if isinstance(i, Range) or not self.by_species]
        self.along = self._along()

    @property
    def possible(self) -> bool:
        """Whether vectors have all operations of the body."""
        return bool(self.looped) and not any(isinstance(i, Species) for i in (*self.looped, *self.summed)) and self._simple(self.body)

    def _simple(self, root: Node, apart: Range | None = None) -> bool:
        """Whether a value is simple; `apart`: parts that depend on this range are rows of neighbours."""
        names = {i.key: "0" for i in (*self.looped, *self.summed)}
        pending = [root]
        while pending:
            node = pending.pop()
            if self.stage.load(node, names) is None:
                if node.op not in SIMPLE:
                    return False
                pending.extend(node.args)
            elif apart in node.free and not neighbors(node.free):
                return False
        return True

    def _along(self) -> Range | None:
        """The last range of the target, if rows of neighbours are better turned into vectors along it: each is then used for other ranges."""
        if not self.looped or self.kept or self.summed:
            return None
        *others, last = self.looped
        if not isinstance(last, Range) or last.size < FEWEST or not self._simple(self.body, last):
            return None
        rest = prod(i.size for i in others)
        turned, summed = TURN + rest * whole_vectors(last.size), 2 * rest * last.size  # operations for eight neighbours
        in_line = self.stage.plan.arrays[self.node][-1] == last  # eight elements are stored together
        return last if turned < summed and in_line else None

    def code(self) -> list[str]:
        begin, stop = self.stage.begin("sj"), self.stage.stop(self.index.cutoff, "sj")
        if self.kept:
            return self._segments([f"for (int j = {begin}; j < {stop}; j += {LANES}) {{", *self._tiles(KEPT, self._kept), "}"])
        segment = f"const int first = {begin}, stop = {stop};"
        if self.along is None:
            clear = [] if self.by_species or self.stage.species == 1 else [self.stage.clear(self.node)]
            return [*clear, *self._segments([segment, *self._tiles(SUMMED, self._summed)])]
        if self.by_species:
            return self._segments([segment, *self._tiles(TURNED, self._turned)])
        return self._tiles(TURNED, lambda tile: self._turned(tile, segment))

    def _segments(self, body: list[str]) -> list[str]:
        if self.stage.species == 1:
            return ["{", "const int sj = 0; (void)sj;", *body, "}"]
        return [f"for (int sj = 0; sj < {self.stage.species}; ++sj) {{", *body, "}"]

    # ---- tiles

    def _tiles(self, widths: tuple[int, int], code: Callable[[list[Tile]], list[str]]) -> list[str]:
        """Loops over the static indices of the target; of the last two, several elements at once."""
        outer, last = self.looped[:-2], self.looped[-2:]
        names = {i.key: f"q{n}" for n, i in enumerate(outer)}
        lines = [head(i, names) for i in outer]
        parts = [list(_parts(i.size, w, i == self.along)) for i, w in zip(last, widths[-len(last) :])]
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
            lines += [*steps, "{", *code(tile), "}", *["}"] * len(steps)]
        return [*lines, *["}"] * len(outer)]

    def _kept(self, tile: list[Tile]) -> list[str]:
        lines = self._accumulate(tile)
        return [*lines, *(f"{vector(self._place(t))} = a{m};" for m, t in enumerate(tile))]

    def _place(self, tile: Tile) -> str:
        return self.stage.load(self.node, tile) or ""

    def _summed(self, tile: list[Tile]) -> list[str]:
        lines = self._accumulate(tile, [f"for (int j = first; j < stop; j += {LANES}) {{", "const auto keep = below(stop - j);"])
        sign = "=" if self.by_species or self.stage.species == 1 else "+="
        last = self.stage.plan.arrays[self.node][-1]
        m = 0
        for _, group in groupby(tile, lambda t: [t[i.key] for i in self.looped if i != last]):
            sums = {f"a{m + u}": self._place(t) for u, t in enumerate(group)}
            m += len(sums)
            if last in self.looped and len(sums) >= FEWEST:
                row = ", ".join([*sums, *["lanes8{}"] * (LANES - len(sums))])
                lines.append(f"{vector(next(iter(sums.values())))} {sign} totals({row});")
            else:
                lines += [f"{place} {sign} whole({name});" for name, place in sums.items()]
        return lines

    def _accumulate(self, tile: list[Tile], loop: list[str] | None = None) -> list[str]:
        names = {i.key: f"m{n}" for n, i in enumerate(self.summed)}
        block = Tiles(self, tile, names)
        heads = [head(i, names) for i in self.summed]
        add = [f"a{m} += {f'keep ? {text} : lanes8{{}}' if loop else text};" for m, text in enumerate(block.texts)]
        return [zeros(len(tile)), *(loop or []), *heads, *block.lines, *add, *["}"] * (len(heads) + bool(loop))]

    def _turned(self, tile: list[Tile], segment: str = "") -> list[str]:
        """Neighbours one by one, in vectors along the last range: eight rows of eight neighbours are turned at once."""
        assert self.along is not None
        places = list(dict.fromkeys(t[self.along.key] for t in tile))  # of a vector
        columns: dict[str, str] = {}
        texts, body = [], []
        tile = tile[:: len(places)]
        for m, element in enumerate(tile):
            block = Block(lambda n, here=element: self._column(n, here, places, columns), f"t{m}_")
            texts += block.emit([self.body])
            body += [line.replace("const real", "const auto", 1) for line in block.lines]
        loops = [
            f"for (int next = first; next < stop; next += {LANES}) {{",
            "const int j = next;",
            *(f"lanes8 {name}[8]; turn({name}, {rows});" for rows, name in columns.items()),
            f"for (int j = next, u = 0, end = next + {LANES} < stop ? next + {LANES} : stop; j < end; ++j, ++u) {{",
            *body,
            *(f"a{m} += {text};" for m, text in enumerate(texts)),
            *["}"] * 2,
        ]
        loops = self._segments([segment, *loops]) if segment else loops
        return [zeros(len(tile)), *loops, *(f"{vector(self._place(t))} = a{m};" for m, t in enumerate(tile))]

    def _column(self, node: Node, here: Tile, places: list[str], columns: dict[str, str]) -> str | None:
        """A number of this neighbour, or the vector of eight rows there."""
        text = self.stage.load(node, here)
        if text is None or self.along is None or self.along not in node.free:
            return text
        rows = [vector(self.stage.load(node, {**here, self.along.key: p}) or "", "const ") for p in places]
        return columns.setdefault(", ".join(rows + ["lanes8{}"] * (LANES - len(rows))), f"z{len(columns)}") + "[u]"


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


def _parts(size: int, width: int, whole: bool = False) -> list[tuple[int, int, int]]:
    """Start, width and count of the blocks that cover a range, in parts much alike or (`whole`) all of this width but the last."""
    width = min(width, size)
    if not whole and size % width and size < 2 * width:
        half = -(-size // 2)
        return [(0, half, 1), (half, size - half, 1)] if width > 2 else [(0, width, size // width), (size - size % width, size % width, 1)]
    found = [(0, width, size // width)]
    return [*found, (size - size % width, size % width, 1)] if size % width else found


__all__ = ["VectorNest"]
