"""Text of the tables of a site: stacks, whose elements are written one by one, and maps, values on static ranges that are worked out once."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from composer.codegen.along import SIMPLE, Along, vector
from composer.codegen.places import FEWEST, LANES, rolled, scalars_below
from composer.codegen.printer import Block
from composer.ir.indices import Range, Species, parse_index
from composer.ir.nodes import Node
from composer.ir.sums import static_of

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

Entry = tuple[dict[str, str], list[Range | Species], Node]  # indices that are fixed, indices that are looped, value
OPERATIONS = SIMPLE | {"pow"}  # of which tables are made in vectors


class SiteTable:
    """A stack or a map that is kept as an array of the site, at a level of the schedule."""

    def __init__(self, stage: Stage, table: Node, level: int) -> None:
        self.stage, self.table, self.level = stage, table, level
        self.static = static_of(table)
        self.entries = self._entries()

    def code(self) -> list[str]:
        along = self._along()
        if along is not None:
            return self._vectors(along)
        return self._stack() if self.table.op == "stack" else self._map()

    def _entries(self) -> list[Entry]:
        """The elements of a stack; a map is one element."""
        if self.table.op != "stack":
            return [({}, list(self.static), self.table)]
        own = parse_index(self.table.data[0])
        found: list[Entry] = []
        for n, arg in enumerate(self.table.args):
            rest = [i for i in self.static if i != own and i in arg.free]
            absent = [i for i in self.static if i != own and i not in arg.free]
            for key, value in self.stage.plan.entries(arg).items():
                written = dict(zip((i.key for i in static_of(arg)), map(str, key), strict=False)) if key else {}
                found.append(({own.key: str(n), **written}, absent + ([] if key else rest), value))
        return found

    def _along(self) -> Along | None:
        """The last range, where the elements can be worked out in vectors."""
        last = self.stage.plan.arrays[self.table][-1]
        if not self.stage.vectors or not isinstance(last, Range) or last.size < FEWEST:
            return None
        along = Along(self.stage, last, self.table)
        fits = all(last in loops and along.possible([value], self.static, OPERATIONS) for _, loops, value in self.entries)
        return along if fits else None

    def _scalars(self, value: Node) -> list[str]:
        return [line for node in scalars_below(value) for line in self.stage.site_lines(node, self.level)]

    def _vectors(self, along: Along) -> list[str]:
        """All elements, those with the same loops together."""
        out: list[str] = []
        size = along.index.size
        for loops, group in groupby(self.entries, lambda entry: entry[1]):
            entries = list(group)
            out += [line for _, _, value in entries for line in self._scalars(value)]
            outer = [i for i in loops if i != along.index]
            names = {i.key: f"q{m}" for m, i in enumerate(outer)}
            heads = [f"for (int {names[i.key]} = 0; {names[i.key]} < {i.size}; ++{names[i.key]}) {{" for i in outer]
            heads.append(f"for (int f = 0; f < {size}; f += {LANES}) {{" if size > LANES else "{ const int f = 0;")
            lines, texts = along.text([v for _, _, v in entries], ("f", f"{size} - f"), names, "e")
            places = [vector(self.stage.element(self.table, {**fixed, **names, along.index.key: "f"})) for fixed, _, _ in entries]
            stores = [f"{place} = lanes8{{}} + {text};" for place, text in zip(places, texts, strict=True)]
            out += [*heads, *lines, *stores, *["}"] * len(heads)]
        return out

    def _stack(self) -> list[str]:
        """Each element right behind what it needs (short lives)."""
        out: list[str] = []
        for fixed, loops, value in self.entries:
            out += self._scalars(value)
            names = {i.key: f"q{m}" for m, i in enumerate(loops)}
            block = Block(lambda x, names=names: self.stage.load(x, names), "e")
            (text,) = block.emit([value])
            head = [f"for (int q{m} = 0; q{m} < {i.size}; ++q{m}) {{" for m, i in enumerate(loops)]
            body = [*rolled(head), *block.lines, f"{self.stage.element(self.table, {**fixed, **names})} = {text};", *["}"] * len(head)]
            out += ["{", *body, "}"] if block.lines and not head else body
        return out

    def _map(self) -> list[str]:
        """Loops over all elements."""
        names = {i.key: f"q{m}" for m, i in enumerate(self.static)}
        out = self._scalars(self.table)
        block = Block(lambda x: None if x is self.table else self.stage.load(x, names), "e")
        (text,) = block.emit([self.table])
        body = [*block.lines, f"{self.stage.element(self.table, names)} = {text};"]
        return [*out, *self.stage.static_loops([i.size for i in self.static], body)]


__all__ = ["SiteTable"]
