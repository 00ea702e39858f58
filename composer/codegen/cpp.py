"""C++ text of a scheduled stage: gather, loop nests by level, outputs. No name of a term and no text of a user gets here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from composer.codegen.contractions import StaticNest
from composer.codegen.layout import Layout
from composer.codegen.nests import PairNest, PlainNest, RangeNest
from composer.codegen.outputs import Output, Table
from composer.codegen.places import flat, in_vectors, rolled, scalars_below, size_of
from composer.codegen.printer import Block, number
from composer.codegen.program import field_name
from composer.codegen.schedule import Nest, Schedule
from composer.codegen.vectors import VectorNest
from composer.errors import BackendError
from composer.ir.indices import Neighbor, Range, Species, neighbors, parse_index
from composer.ir.nodes import Node
from composer.ir.sums import static_of

SPECIAL = Path(__file__).with_name("special.cpp").read_text(encoding="utf-8")  # special functions, for long-range sums too
PRELUDE = SPECIAL + Path(__file__).with_name("prelude.cpp").read_text(encoding="utf-8")
GATHER_ROWS = 17  # rows of `Neighbourhood` in prelude.cpp


class Stage:
    """Code of one stage: a function that visits a range of sites once.

    `whole`: loops over neighbours without sums run in whole vectors, a little beyond the end. A dialect without the vector types of
    prelude.cpp sets `vectors` to False.
    """

    vectors = True

    def __init__(self, name: str, outputs: Iterable[Output | Table], layout: Layout, site_arrays: list[str], whole: bool = True) -> None:
        self.name, self.layout, self.site_arrays, self.whole = name, layout, site_arrays, whole
        outputs = list(outputs)
        self.tables = [o for o in outputs if isinstance(o, Table)]
        entries = [Output("site", w, "") for t in self.tables for w in t.weights]
        rows = [Output("row", node, axis=m) for t in self.tables for m, parts in enumerate(t.rows) for node in parts]
        self.plan = self.schedule([o for o in outputs if not isinstance(o, Table)] + entries + rows)
        self.kept = sum(len(t.rows) for t in self.tables)
        self.species = layout.species
        self.lines: list[str] = []
        self.names: dict[Node, str] = {}  # scalars of the site
        self.array_names: dict[Node, str] = {}
        self.cutoffs = sorted({n.cutoff for nest in self.plan.nests for n in nest.loops} | self._loop_cutoffs())
        self.near: dict[Node, str] = {}
        self._leaves()

    def schedule(self, outputs: list[Output]) -> Schedule:
        """The loop nests of the outputs."""
        return Schedule(outputs)

    def _loop_cutoffs(self) -> set[float]:
        return {n.cutoff for o in self.plan.outputs for n in neighbors(o.node.free)}

    def _leaves(self) -> None:
        """Which tangents and fields of neighbours the gather has to bring."""
        self.needs_tangent = False
        seen: set[Node] = set()
        pending = [o.node for o in self.plan.outputs]
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            self.needs_tangent |= node.op == "d_t"
            if node.op == "near":
                self.near.setdefault(node.args[0], f"near{len(self.near)}")
            else:
                pending.extend(node.args)

    # ---- text of values

    def resolve(self, nest: Nest | None, ranges: dict[str, str]):
        """The function that names what is loaded in a nest (None: has to be computed)."""
        computed = set(nest.stores) if nest and not nest.ranges and len(nest.loops) == 1 else set()

        def look(node: Node) -> str | None:
            if node in computed:
                return None
            return self.load(node, ranges)

        return look

    def load(self, node: Node, ranges: dict[str, str]) -> str | None:
        if node in self.names:
            return self.names[node]
        looped = neighbors(node.free)
        slot = looped[0].slot if len(looped) == 1 else ""
        match node.op:
            case "const":
                return number(node.data[0])
            case "mark":
                return "real(1)"
            case "d" | "d_t":
                return f"{'d' if node.op == 'd' else 'dt'}{node.data[1]}[{slot}]"
            case "param" | "param_t":
                name, kinds, idx = node.data
                named = self.with_species(ranges)
                atoms = {"i": "si", **{s: named[Species(s, self.species).key] for s in "jk"}}
                index = self.layout.text(name, kinds, idx, atoms, ranges)
                return f"{'P' if node.op == 'param' else 'PT'}[{index}]"
            case "site":
                return f"real({self.site_text(node.data[0])}[i])"
            case "near":
                return f"{self.near[node.args[0]]}[{slot}]"
            case "at":
                return self._load_element(node, ranges, slot)
        if len(looped) == 1:
            if node.op == "norm" and self.plan.geometry(node):
                return f"len[{slot}]"
            if node.op == "pow" and self.plan.geometry(node):
                return f"inv[{slot}]"
            row = self.plan.rows.get(node if slot == "j" else self.plan.canonical(node))
            if row is not None:
                return f"ROW({row})[{slot}]"
            if node in self.plan.array_rows:
                first, static = self.plan.array_rows[node]
                return f"ROW({first} + {flat(static, ranges)})[{slot}]"
        if node in self.plan.arrays:
            return f"{self.array_names[node]}[{flat(self.plan.arrays[node], self.with_species(ranges))}]"
        return None

    def with_species(self, ranges: dict[str, str]) -> dict[str, str]:
        return {**{Species(s, self.species).key: f"s{s}" for s in "jk"}, **ranges}

    def site_text(self, name: str) -> str:
        return f"site{self.site_arrays.index(name)}"

    def _load_element(self, node: Node, ranges: dict[str, str], slot: str) -> str:
        fixed: dict[str, str] = {}
        root = self.plan.canonical(node) if slot == "k" else node
        while root.op == "at":
            fixed[root.data[0]] = str(root.data[1])
            root = root.args[0]
        if root in self.plan.array_rows:
            first, static = self.plan.array_rows[root]
            place = flat(static, {**ranges, **fixed})
            return f"ROW({first + int(place)})[{slot}]" if place.isdigit() else f"ROW({first} + {place})[{slot}]"
        return f"{self.array_names[root]}[{flat(self.plan.arrays[root], {**self.with_species(ranges), **fixed})}]"

    # ---- the function

    def code(self) -> str:
        body = self._body()
        arrays = [f"real {n}[{size_of(self.plan.arrays[a])}];" for a, n in self.array_names.items()]
        near = [f"real* __restrict {n} = extra + {m}*ld;" for m, n in enumerate(self.near.values())]
        site = [f"double* site{m} = A.site[{m}];" for m in range(len(self.site_arrays))]
        head = [
            f"static void {self.name}_range(const Args& A, const int64_t begin, const int64_t end, double* F, double* G, double* scratch) {{",
            "ROW_LENGTH(A); const double* __restrict P = A.P; const double* __restrict PT = A.PT; (void)P; (void)PT; (void)G; (void)F;",
            f"Neighbourhood<{self.species}, {len(self.cutoffs)}> near(scratch, ld);",
            "real *d0 = near.d0, *d1 = near.d1, *d2 = near.d2, *len = near.len, *inv = near.inv, *dt0 = near.dt0, *dt1 = near.dt1, *dt2 = near.dt2;",
            "(void)d0; (void)d1; (void)d2; (void)len; (void)inv; (void)dt0; (void)dt1; (void)dt2;",
            "const int32_t* jj = near.jj; (void)jj; real* extra = near.end; (void)extra;",
            f"real* kept = extra + {len(self.near)}*ld; (void)kept;",
            f"real* __restrict rows = kept + {self.kept}*ld; (void)rows;",
            *near,
            *site,
            f"static const double cut[] = {{{', '.join(repr(c * c) for c in self.cutoffs) or '0.0'}}};",
            *[f"alignas(64) {a}" for a in arrays],
            "for (int64_t i = begin; i < end; ++i) {",
            "const int si = A.species[i]; (void)si;",
        ]
        return "\n".join([*head, *body, "}", "}", self._entry()])

    def _entry(self) -> str:
        return f'extern "C" void {self.name}(const Args* a) {{ over_blocks(*a, {self.name}_range); }}'

    def scratch_rows(self) -> int:
        """Rows of `ld` numbers that one thread needs."""
        return GATHER_ROWS + len(self.near) + self.kept + self.plan.row_count

    def _body(self) -> list[str]:
        out: list[str] = []
        if self.cutoffs:
            out += self._gather()
        if len(self.cutoffs) > 1 and self.kept:
            out.append(f"for (int q = 0; q < {self.kept}; ++q) near.zero(kept + q*ld, 0);")
        levels = sorted({n.level for n in self.plan.nests} | {self.plan.level(s) for s in (*self.plan.site, *self.plan.stacks)} | {0})
        for array in self.plan.arrays:
            self.array_names[array] = f"arr{len(self.array_names)}"
        for level in range(max(levels) + 1):
            out += self._site_code(level)
            for nest in self.plan.nests:
                if nest.level == level:
                    out += self.nest_code(nest)
        return out + self.output_code()

    def _gather(self) -> list[str]:
        flags = f"{int(self.plan.uses_length)}, {int(self.plan.uses_inverse)}, {int(self.needs_tangent)}"
        out = [f"near.gather<{flags}>(A, i, cut);"]
        out += [
            f"for (int j = 0; j < near.count; ++j) {text}[j] = {self.site_text(field_name(field))}[jj[j]];"
            for field, text in self.near.items()
        ]
        return out

    def _site_code(self, level: int) -> list[str]:
        """Scalars and tables of the site that are known at this level; each table element right behind what it needs (short lives)."""
        out: list[str] = []
        for table in self.plan.stacks:
            if self.plan.level(table) == level:
                out += self._table_lines(table, level)
        for node in self.plan.site:
            if self.plan.level(node) == level:
                out += self._site_lines(node, level)
        return out

    def _table_lines(self, table: Node, level: int) -> list[str]:
        if table.op != "stack":
            return self._map_lines(table, level)
        out: list[str] = []
        own, static = parse_index(table.data[0]), static_of(table)
        for n, arg in enumerate(table.args):
            rest = [i for i in static if i != own and i in arg.free]
            absent = [i for i in static if i != own and i not in arg.free]
            for key, value in self.plan.entries(arg).items():
                for node in scalars_below(value):
                    out += self._site_lines(node, level)
                written = dict(zip((i.key for i in static_of(arg)), map(str, key), strict=False)) if key else {}
                loops = absent + ([] if key else rest)
                ranges = {**written, **{i.key: f"q{m}" for m, i in enumerate(loops)}}
                block = Block(lambda x, ranges=ranges: self.load(x, ranges), "e")
                (text,) = block.emit([value])
                place = flat(static, {own.key: str(n), **ranges})
                head = [f"for (int q{m} = 0; q{m} < {i.size}; ++q{m}) {{" for m, i in enumerate(loops)]
                body = [*rolled(head), *block.lines, f"{self.array_names[table]}[{place}] = {text};", *["}"] * len(head)]
                out += ["{", *body, "}"] if block.lines and not head else body
        return out

    def _map_lines(self, node: Node, level: int) -> list[str]:
        """A value on static ranges, worked out once for all of their elements."""
        static = static_of(node)
        ranges = {i.key: f"q{m}" for m, i in enumerate(static)}
        out = [line for n in scalars_below(node) for line in self._site_lines(n, level)]
        block = Block(lambda x: None if x is node else self.load(x, ranges), "e")
        (text,) = block.emit([node])
        body = [*block.lines, f"{self.array_names[node]}[{flat(static, ranges)}] = {text};"]
        return [*out, *self.static_loops([i.size for i in static], body)]

    def static_loops(self, sizes: list[int], body: list[str]) -> list[str]:
        """Loops q0, q1, ... over static ranges."""
        return in_vectors(sizes, body)

    def _site_lines(self, root: Node, level: int) -> list[str]:
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
        s, c = index.slot, self.cutoffs.index(index.cutoff)
        inner = ["#pragma GCC ivdep", f"for (int {s} = near.begin(s{s}); {s} < near.stop({c}, s{s}); ++{s}) {{", *body, "}"]
        if whole and self.whole:
            first = f"for (int first = near.begin(s{s}), end = near.stop({c}, s{s}); first < end; first += 8) {{"
            inner = [first, "#pragma GCC ivdep", f"for (int {s} = first; {s} < first + 8; ++{s}) {{", *body, "}", "}"]
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
            out.append("near.scatter(F, i);")
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
        return ["{", *out, f"near.columns(A, i, {len(table.slots)}, first, col, weight, slot, kept, ld, F, G);", "}"]

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
        target = f"G[{self.layout.text(name, kinds, idx, species, ranges)}] += {text};"
        head = [f"for (int {ranges[i.key]} = 0; {ranges[i.key]} < {i.size}; ++{ranges[i.key]}) {{" for i in wanted]
        return ["{", *head, *block.lines, target, *["}"] * len(head), "}"]


__all__ = ["PRELUDE", "SPECIAL", "Stage"]
