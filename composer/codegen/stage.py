"""Text of a scheduled stage in the C family: gather, loop nests by level, outputs. No name of a term and no text of a user gets here.

A dialect (`cpp.py`, `cuda.py`, C in the exports) says how a stage begins, how its neighbourhood is spelled, and whether it has vectors; its prelude
defines the macros IVDEP (the turns of the next loop are independent), ROLLED (the next loop is not written out) and ROW.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from composer.codegen.contractions import StaticNest
from composer.codegen.layout import Layout
from composer.codegen.nests import PairNest, PlainNest, RangeNest
from composer.codegen.outputs import Output, Table
from composer.codegen.places import in_vectors
from composer.codegen.printer import Block
from composer.codegen.program import field_name
from composer.codegen.schedule import Nest, Schedule
from composer.codegen.tables import SiteTable
from composer.codegen.values import Values
from composer.codegen.vectors import VectorNest
from composer.errors import BackendError
from composer.ir.indices import Neighbor, Range, Species, neighbors
from composer.ir.nodes import Node
from composer.ir.sums import static_of


class Stage(Values, ABC):
    """Code of one stage, which visits every site once.

    `whole`: loops over neighbours without sums run in whole vectors, a little beyond the end.
    """

    def __init__(self, name: str, outputs: Iterable[Output | Table], layout: Layout, site_arrays: list[str], whole: bool = True) -> None:
        self.name, self.whole = name, whole
        outputs = list(outputs)
        self.tables = [o for o in outputs if isinstance(o, Table)]
        entries = [Output("site", w, "") for t in self.tables for w in t.weights]
        rows = [Output("row", node, axis=m) for t in self.tables for m, parts in enumerate(t.rows) for node in parts]
        super().__init__(self.schedule([o for o in outputs if not isinstance(o, Table)] + entries + rows), layout, site_arrays)
        self.kept = sum(len(t.rows) for t in self.tables)
        self.cutoffs = sorted({n.cutoff for nest in self.plan.nests for n in nest.loops} | self._loop_cutoffs())

    def schedule(self, outputs: list[Output]) -> Schedule:
        """The loop nests of the outputs."""
        return Schedule(outputs)

    def _loop_cutoffs(self) -> set[float]:
        return {n.cutoff for o in self.plan.outputs for n in neighbors(o.node.free)}

    # ---- the dialect

    @abstractmethod
    def code(self) -> str:
        """The text of the functions of the stage."""

    @abstractmethod
    def scratch_rows(self) -> int:
        """Rows of `ld` numbers that a visit needs."""

    @abstractmethod
    def gather(self) -> list[str]:
        """Finds the neighbours of site i, and what is read from them."""

    def loads(self) -> list[str]:
        """Reads site arrays at the neighbours."""
        texts = ((text, self.site_text(field_name(field))) for field, text in self.near.items())
        return [f"for (int j = 0; j < near.count; ++j) {text}[j] = {array}[jj[j]];" for text, array in texts]

    def begin(self, species: str) -> str:
        """First neighbour of a species."""
        return f"near.begin({species})"

    def stop(self, cutoff: float, species: str) -> str:
        """The one behind the last neighbour of a species within a cutoff."""
        return f"near.stop({self.cutoffs.index(cutoff)}, {species})"

    def zero(self, row: str, cutoff: float) -> str:
        """A row of numbers of the neighbours within a cutoff is set to zero."""
        return f"near.zero({row}, {self.cutoffs.index(cutoff)});"

    def zero_forces(self) -> str:
        return "near.zero_forces();"

    def scatter(self) -> str:
        """The forces on the neighbours go to their sites."""
        return "near.scatter(F, i);"

    def columns(self, slots: int) -> str:
        """What the neighbours have of so many columns of a Jacobian goes to their sites."""
        return f"near.columns(A, i, {slots}, first, col, weight, slot, kept, ld, F, G);"

    def alive(self, text: str, *slots: str) -> str:
        """What neighbours bring to a sum; `slots` says which."""
        return text

    def total(self, text: str) -> str:
        """What a visit brings to a sum over sites."""
        return text

    # ---- the visit of a site

    def body(self) -> list[str]:
        out: list[str] = []
        if self.cutoffs:
            out += self.gather()
        if len(self.cutoffs) > 1 and self.kept:
            out.append(f"for (int q = 0; q < {self.kept}; ++q) {self.zero('kept + q*ld', self.cutoffs[0])}")
        levels = sorted({n.level for n in self.plan.nests} | {self.plan.level(s) for s in (*self.plan.site, *self.plan.stacks)} | {0})
        for array in self.plan.arrays:
            self.array_names[array] = f"arr{len(self.array_names)}"
        for level in range(max(levels) + 1):
            out += self._site_code(level)
            for nest in self.plan.nests:
                if nest.level == level:
                    out += self.nest_code(nest)
        return out + self.output_code()

    def settle(self) -> list[str]:
        """Works out what is the same for all sites of a species."""
        lines = [line for table in self.plan.stacks if table in self.settled for line in SiteTable(self, table, 0).code()]
        return [f"for (int si = 0; si < {self.species}; ++si) {{", *lines, "}"] if lines else []

    def _site_code(self, level: int) -> list[str]:
        """Scalars and tables of the site that are known at this level; each table element right behind what it needs (short lives)."""
        out: list[str] = []
        for table in self.plan.stacks:
            if self.plan.level(table) == level and table not in self.settled:
                out += SiteTable(self, table, level).code()
        for node in self.plan.site:
            if self.plan.level(node) == level:
                out += self.site_lines(node, level)
        return out

    def static_loop(self, head: str) -> str:
        """The head of a loop over a static range."""
        return head

    def static_loops(self, sizes: list[int], body: list[str]) -> list[str]:
        """Loops q0, q1, ... over static ranges."""
        return in_vectors(sizes, body)

    def site_lines(self, root: Node, level: int) -> list[str]:
        """Code for a scalar of the site and everything below it that is not yet there."""
        out: list[str] = []
        pending = [(root, False)]
        while pending:
            node, ready = pending.pop()
            if node in self.names or node.op in ("const", "at", "param", "param_t"):  # the last three are read where they are used
                continue
            loaded = self.load(node, {})
            if not ready and loaded is None:
                pending.append((node, True))
                pending += [(a, False) for a in reversed(node.args)]
                continue
            if node.op == "sum":
                raise BackendError(
                    "A sum was used before its loops had run. The schedule is out of order. Report the expression that led here."
                )
            self.names[node] = f"v{len(self.names)}"
            out.append(f"const real {self.names[node]} = {loaded if loaded is not None else self._site_operation(node)};")
        return out

    def _site_operation(self, node: Node) -> str:
        block = Block(lambda n: self.load(n, {}), "")
        block.text = {a: self.load(a, {}) or "" for a in node.args}
        return block.operation(node)

    # ---- nests

    def nest_code(self, nest: Nest) -> list[str]:
        if nest.ranges:
            return [line for s in nest.sums for line in self._range_nest(nest, s).code()]
        if len(nest.loops) == 2:
            return PairNest(self, nest).code()
        return [*self._sines(nest), *PlainNest(self, nest).code()]

    def _sines(self, nest: Nest) -> list[str]:
        """Sines that are kept get a loop of their own: beside a cosine, compilers make one call of both that has no vector form."""
        apart = [n for n in nest.stores if n.op == "sin"]
        if not apart or not any(n.op == "cos" for n in nest.visited):
            return []
        lines = PlainNest(self, nest, apart).code()
        nest.stores = [n for n in nest.stores if n not in apart]
        return lines

    def _range_nest(self, nest: Nest, node: Node) -> RangeNest | StaticNest | VectorNest:
        if not self.vectors:
            return RangeNest(self, nest, node)
        if not nest.loops:
            return StaticNest(self, node)
        fast = VectorNest(self, nest, node)
        return fast if fast.possible else RangeNest(self, nest, node)

    def segments(self, index: Neighbor, body: list[str], start: str = "", stop: str = "", whole: bool = False) -> list[str]:
        """Loop over neighbours of one cutoff, species by species; `body` is the code for one, with `start`/`stop` around the inner loop.

        `whole`: in whole vectors, a little beyond the end of a segment; for bodies that do no harm there.
        """
        s = index.slot
        begin, end = self.begin(f"s{s}"), self.stop(index.cutoff, f"s{s}")
        inner = [f"IVDEP for (int {s} = {begin}; {s} < {end}; ++{s}) {{", *body, "}"]
        if whole and self.whole:
            first = f"for (int first = {begin}, end = {end}; first < end; first += 8) {{"
            inner = [first, f"IVDEP for (int {s} = first; {s} < first + 8; ++{s}) {{", *body, "}", "}"]
        if self.species == 1:
            return ["{", f"const int s{s} = 0; (void)s{s};", *([start] if start else []), *inner, *([stop] if stop else []), "}"]
        return [
            f"for (int s{s} = 0; s{s} < {self.species}; ++s{s}) {{",
            *([start] if start else []),
            *inner,
            *([stop] if stop else []),
            "}",
        ]

    # ---- outputs

    def site_value(self, node: Node) -> str | None:
        """What is stored for a site."""
        return self.load(node, {})

    def output_code(self) -> list[str]:
        out: list[str] = []
        for output in self.plan.outputs:
            if output.kind == "site" and output.name:
                out.append(f"{self.site_text(output.name)}[i] = {self.site_value(output.node)};")
            elif output.kind == "parameter":
                out += self._parameter_output(output)
        if any(o.kind == "force" for o in self.plan.outputs):
            out.append(self.scatter())
        for table in self.tables:
            out += self._table_code(table)
        return out

    def _table_code(self, table: Table) -> list[str]:
        """Sparse product of site weights and channel rows: one column of the Jacobian for each slot."""
        columns = [self.layout.text(name, kinds, idx, {"i": "si"}, {}) for name, kinds, idx in table.slots]
        lists = [("int", "first", table.first), ("int", "col", table.columns)]
        out = [f"static const {kind} {name}[] = {{{', '.join(map(str, values)) or '0'}}};" for kind, name, values in lists]
        weights = [self.load(self.plan.lower(w), {}) for w in table.weights]
        out.append(f"const real weight[] = {{{', '.join(map(str, weights)) or '0'}}};")
        out.append(f"const int64_t slot[] = {{{', '.join(columns) or '0'}}};")
        return ["{", *out, self.columns(len(table.slots)), "}"]

    def _parameter_output(self, output: Output) -> list[str]:
        assert output.target is not None
        name, kinds, idx = output.target.data
        static = static_of(output.node) if output.node.free else ()
        wanted = list(dict.fromkeys(i for i in (*kinds, *idx) if isinstance(i, (Species, Range))))
        loops = [i for i in static if i not in wanted]
        if loops:
            raise BackendError(
                "A parameter gradient that runs over an index the parameter lacks was asked for. The sum over it is missing. Report the expression."
            )
        ranges = {i.key: f"q{n}" for n, i in enumerate(wanted)}
        species = {"i": "si", **{i.slot: ranges[i.key] for i in wanted if isinstance(i, Species)}}
        block = Block(lambda n: self.load(n, ranges), "g")
        (text,) = block.emit([output.node])
        target = f"G[{self.layout.text(name, kinds, idx, species, ranges)}] += {self.total(text)};"
        head = [f"for (int {ranges[i.key]} = 0; {ranges[i.key]} < {i.size}; ++{ranges[i.key]}) {{" for i in wanted]
        return ["{", *map(self.static_loop, head), *block.lines, target, *["}"] * len(head), "}"]


__all__ = ["Stage"]
