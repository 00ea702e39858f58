"""C++ text of the three kinds of loop nests: one neighbour, two neighbours, static ranges."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from composer.codegen.outputs import Output
from composer.codegen.places import rolled
from composer.codegen.printer import Block
from composer.codegen.schedule import Nest
from composer.ir.indices import Neighbor, Range, Species, neighbors
from composer.ir.nodes import Node
from composer.ir.sums import bound_of, static_of

if TYPE_CHECKING:
    from composer.codegen.stage import Stage

BLOCK = 4  # static indices kept in registers at once


class PlainNest:
    """One loop over neighbours: rows, sums, and what flows to the neighbour."""

    def __init__(self, stage: Stage, nest: Nest, only: list[Node] | None = None) -> None:
        self.stage, self.nest, self.only = stage, nest, only

    @property
    def whole(self) -> bool:
        """Whether the loop may run a little beyond the end: it stores and pushes, and sums nothing."""
        return not self.nest.sums and all(o.kind == "force" for o in self.nest.sinks)

    def code(self) -> list[str]:
        stage, nest = self.stage, self.nest
        (index,) = nest.loops
        block = Block(stage.resolve(nest, {}), "t")
        if self.only is not None:
            return self._stored(index, block, self.only)
        sums = [(n, f"acc{m}") for m, n in enumerate(nest.sums)]
        roots = [*nest.stores, *(n.args[0] for n, _ in sums), *(o.node for o in nest.sinks)]
        outer = self._outside(roots, block)
        texts = block.emit(roots)
        body = list(block.lines)
        body += [f"{stage.load(node, {})} = {text};" for node, text in zip(nest.stores, texts, strict=False) if node in stage.plan.rows]
        body += self._stack_stores(block)
        body += [f"{acc} += {stage.alive(text, 'j')};" for (_, acc), text in zip(sums, texts[len(nest.stores) :], strict=False)]
        body += self._sinks(texts[len(nest.stores) + len(sums) :])
        total = [f"real tot{m} = 0;" for m, (n, _) in enumerate(sums) if not n.free]
        start = " ".join(f"real {acc} = 0;" for _, acc in sums)
        ends = [f"tot{m} += {acc};" if not n.free else f"{stage.array_names[n]}[sj] = {acc};" for m, (n, acc) in enumerate(sums)]
        whole = self.whole
        out = self._zero() + ["{", *total] + stage.segments(index, body, " ".join(outer) + " " + start, " ".join(ends), whole)
        named = []
        for m, (n, _) in enumerate(sums):
            if not n.free:
                stage.names[n] = f"v{len(stage.names)}"
                named.append(stage.names[n])
                out.append(f"{stage.names[n]} = tot{m};")
        return [f"real {n};" for n in named] + out + ["}"] + self._scatters()

    def _stored(self, index: Neighbor, block: Block, nodes: list[Node]) -> list[str]:
        """A loop that keeps these quantities and does nothing else."""
        outer = self._outside(nodes, block)
        texts = block.emit(nodes)
        body = [*block.lines, *(f"{self.stage.load(n, {})} = {text};" for n, text in zip(nodes, texts, strict=True))]
        return self.stage.segments(index, body, " ".join(outer), whole=True)

    def _outside(self, roots: list[Node], block: Block) -> list[str]:
        """Values of the species pair alone, taken out of the loop."""
        if self.stage.species == 1:
            return []
        found: dict[Node, None] = {}
        pending, seen = list(roots), set()
        while pending:
            node = pending.pop()
            if node in seen or not node.free:
                continue
            seen.add(node)
            if all(isinstance(i, Species) for i in node.free):
                found.setdefault(node)
            elif block.resolve(node) is None:
                pending.extend(node.args)
        outside = Block(lambda n: self.stage.load(n, {}), "c")
        texts = outside.emit(list(found))
        lines = list(outside.lines)
        for m, (node, text) in enumerate(zip(found, texts, strict=True)):
            block.text[node] = f"o{m}"
            lines.append(f"const real o{m} = {text};")
        return lines

    def _stack_stores(self, block: Block) -> list[str]:
        out = []
        for node, values in self.stage.plan.stack_rows.items():
            first, _ = self.stage.plan.array_rows[node]
            if neighbors(node.free) != self.nest.loops or self.stage.plan.level(node) != self.nest.level:
                continue
            for n, value in enumerate(values):
                text = block.text.get(value) or self.stage.load(value, {})
                out.append(f"ROW({first + n})[j] = {text};")
        return out

    def _sinks(self, texts: list[str]) -> list[str]:
        out = []
        for output, text in zip(self.nest.sinks, texts, strict=True):
            if output.kind == "row":
                out.append(f"(kept + {output.axis}*ld)[j] {'+=' if len(self.stage.cutoffs) > 1 else '='} {text};")
            elif output.kind == "force":
                add = f"+= j < end ? {text} : real(0)" if self.whole and self.stage.whole else f"+= {text}"
                out.append(f"near.g{output.axis}[j] {f'= {text}' if self._first(output) else add};")
            else:
                out.append(f"{self.stage.site_text(output.name)}[jj[j]] += {text};")
        return out

    def _first(self, output: Output) -> bool:
        """The first contribution to a force row writes it, if it covers the whole list."""
        mine = (o for n in self.stage.plan.nests for o in n.sinks if o.kind == "force" and o.axis == output.axis)
        return next(mine) is output and self._covers_all()

    def _covers_all(self) -> bool:
        return self.nest.loops[0].cutoff == self.stage.cutoffs[-1]

    def _zero(self) -> list[str]:
        """Force rows start at zero where the first nest with forces does not write all of them."""
        first = next((n for n in self.stage.plan.nests if any(o.kind == "force" for o in n.sinks)), None)
        axes = {o.axis for o in self.nest.sinks if o.kind == "force"}
        return [self.stage.zero_forces()] if first is self.nest and not (self._covers_all() and axes == {0, 1, 2}) else []

    def _scatters(self) -> list[str]:
        return []


class PairNest:
    """Loops over two neighbours j and k of the site."""

    def __init__(self, stage: Stage, nest: Nest) -> None:
        self.stage, self.nest = stage, nest

    def code(self) -> list[str]:
        stage, nest = self.stage, self.nest
        j, k = nest.loops
        block = Block(stage.resolve(nest, {}), "t")
        summed = [stage.plan.forms[n] for n in nest.sums]
        texts = block.emit([n.args[0] for n in summed])
        before, outer, start, inner, stop, after = [], [], [], list(block.lines), [], []
        for m, (node, form, text) in enumerate(zip(nest.sums, summed, texts, strict=True)):
            looped = neighbors(form.free)
            if not looped and not form.free:
                stage.names[node] = f"v{len(stage.names)}"
                before.append(f"real {stage.names[node]} = 0;")
                outer.append(f"real acc{m} = 0;")
                inner.append(f"acc{m} += {stage.alive(text, 'j', 'k')};")
                after.append(f"{stage.names[node]} += acc{m};")
            elif looped and looped[0].slot == "j":
                outer.append(f"real acc{m} = 0;")
                inner.append(f"acc{m} += {stage.alive(text, 'k')};")
                after.append(f"ROW({stage.plan.rows[node]})[j] = acc{m};")
            elif looped:
                before.append(stage.zero(f"ROW({stage.plan.rows[node]})", looped[0].cutoff))
                inner.append(f"ROW({stage.plan.rows[node]})[k] += {stage.alive(text, 'j')};")
            else:
                before.append(stage.clear(node))
                start.append(f"real acc{m} = 0;")
                inner.append(f"acc{m} += {stage.alive(text, 'j', 'k')};")
                stop.append(f"{stage.element(node, stage.with_species({}))} += acc{m};")
        return [*before, *self._loops(j, k, outer, [*start], inner, [*stop], after)]

    def _loops(
        self, j: Neighbor, k: Neighbor, outer: list[str], start: list[str], inner: list[str], ends: list[str], after: list[str]
    ) -> list[str]:
        stage = self.stage
        begin, stop = stage.begin("sk"), stage.stop(k.cutoff, "sk")
        if self.nest.relation == "lt":
            stop = f"({stop} < j ? {stop} : j)"
        if self.nest.relation == "gt":
            begin = f"({begin} > j ? {begin} : j + 1)"
        skip = ["if (k == j) continue;"] if self.nest.relation == "ne" else []
        loop = [*start, f"IVDEP for (int k = {begin}, ke = {stop}; k < ke; ++k) {{", *skip, *inner, "}", *ends]
        second = (
            ["{ const int sk = 0; (void)sk;", *loop, "}"]
            if stage.species == 1
            else [f"for (int sk = 0; sk < {stage.species}; ++sk) {{", *loop, "}"]
        )
        first = [f"for (int j = {stage.begin('sj')}; j < {stage.stop(j.cutoff, 'sj')}; ++j) {{", *outer, *second, *after, "}"]
        return (
            ["{ const int sj = 0; (void)sj;", *first, "}"]
            if stage.species == 1
            else [f"for (int sj = 0; sj < {stage.species}; ++sj) {{", *first, "}"]
        )


class RangeNest:
    """A sum with static indices: the target's indices are looped in register blocks, summed static indices are written out."""

    def __init__(self, stage: Stage, nest: Nest, node: Node) -> None:
        self.stage, self.nest, self.node = stage, nest, node
        self.static = static_of(node)
        self.body = node.args[0]
        self.summed = sorted((i for i in bound_of(node) if isinstance(i, (Range, Species)) and i in nest.ranges), key=lambda i: i.key)
        self.index = nest.loops[0] if nest.loops else None
        self.by_species = any(isinstance(i, Species) and self.index is not None and i.slot == self.index.slot for i in self.static)

    def code(self) -> list[str]:
        if not self.static and self.index is None:
            return self._scalar()
        looped = [i for i in self.static if isinstance(i, Range) or not self.by_species]
        keep = neighbors(self.node.free)
        out = [] if keep or self.index is None or (self.by_species or self.stage.species == 1) else [self.stage.clear(self.node)]
        return out + self._blocks(looped, {}, [])

    def _scalar(self) -> list[str]:
        name = self.stage.names[self.node] = f"v{len(self.stage.names)}"
        ranges = {i.key: f"q{m}" for m, i in enumerate(self.summed)}
        block = Block(lambda n: self.stage.load(n, ranges), "t")
        (text,) = block.emit([self.body])
        head = [f"for (int {ranges[i.key]} = 0; {ranges[i.key]} < {i.size}; ++{ranges[i.key]}) {{" for i in self.summed]
        return [f"real {name} = 0;", *rolled(head), *block.lines, f"{name} += {text};", *["}"] * len(head)]

    def _written_out(self, ranges: dict[str, str], prefix: str) -> tuple[list[str], str]:
        """The body with every summed static index written out."""
        lines: list[str] = []
        texts: list[str] = []
        for values in product(*(range(i.size) for i in self.summed)):
            here = {**ranges, **{i.key: str(v) for i, v in zip(self.summed, values, strict=True)}}
            block = Block(lambda n, here=here: self.stage.load(n, here), f"{prefix}{'_'.join(map(str, values))}_")
            texts += block.emit([self.body])
            lines += block.lines
        return lines, " + ".join(texts)

    def _blocks(self, looped: list[Range | Species], ranges: dict[str, str], tile: list[tuple[Range | Species, str, int]]) -> list[str]:
        """Loops over the static indices; the last two (one, if the target keeps its neighbour) are tiled."""
        if not looped:
            return self._tile(ranges, tile)
        index, rest = looped[0], looped[1:]
        v = f"n{len(ranges)}"
        tiled = len(looped) <= (1 if neighbors(self.node.free) else 2)
        width = min(BLOCK, index.size) if tiled else 1
        full = index.size - index.size % width
        out = []
        if full:
            out += [
                self.stage.static_loop(f"for (int {v} = 0; {v} < {full}; {v} += {width}) {{"),
                *self._blocks(rest, {**ranges, index.key: v}, [*tile, (index, v, width)]),
                "}",
            ]
        if index.size % width:
            out += [
                "{",
                f"const int {v} = {full};",
                *self._blocks(rest, {**ranges, index.key: v}, [*tile, (index, v, index.size % width)]),
                "}",
            ]
        return out

    def _tile(self, ranges: dict[str, str], tile: list[tuple[Range | Species, str, int]]) -> list[str]:
        stage, node = self.stage, self.node
        body, start, ends = [], [], []
        for m, offsets in enumerate(product(*(range(w) for _, _, w in tile))):
            here = {**ranges, **{i.key: f"({v}+{o})" if o else v for (i, v, _), o in zip(tile, offsets, strict=True)}}
            lines, text = self._written_out(here, f"t{m}_")
            body += lines
            if neighbors(node.free):
                body.append(f"{stage.load(node, here)} = {text};")
            elif self.index is None:
                body.append(f"{stage.load(node, here)} = {text};")
            else:
                start.append(f"real acc{m} = 0;")
                body.append(f"acc{m} += {stage.alive(text, 'j')};")
                ends.append(f"{stage.load(node, here)} {'=' if self.by_species or stage.species == 1 else '+='} acc{m};")
        return ["{", *body, "}"] if self.index is None else stage.segments(self.index, body, " ".join(start), " ".join(ends))
