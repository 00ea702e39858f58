"""C++ text of a scheduled stage: gather, loop nests by level, outputs. No name of a term and no text of a user gets here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

from composer.codegen.layout import Layout
from composer.codegen.printer import Block, number
from composer.codegen.program import field_name
from composer.codegen.schedule import Nest, Output, Schedule, Table, static_of
from composer.errors import BackendError
from composer.ir.indices import Neighbor, Range, Species, neighbors
from composer.ir.nodes import Node, bound_of, is_const, parse_index, relation_of, swap

PRELUDE = (Path(__file__).parent / "prelude.cpp").read_text()
BLOCK = 4  # static indices kept in registers at once


class Stage:
    """Code of one stage: a function that visits a range of sites once."""

    def __init__(self, name: str, outputs: Iterable[Output | Table], layout: Layout, site_arrays: list[str]) -> None:
        self.name, self.layout, self.site_arrays = name, layout, site_arrays
        outputs = list(outputs)
        self.tables = [o for o in outputs if isinstance(o, Table)]
        entries = [Output("site", w, "") for t in self.tables for w in t.weights]
        rows = [Output("row", node, axis=m) for t in self.tables for m, parts in enumerate(t.rows) for node in parts]
        self.plan = Schedule([o for o in outputs if not isinstance(o, Table)] + entries + rows)
        self.kept = sum(len(t.rows) for t in self.tables)
        self.species = layout.species
        self.lines: list[str] = []
        self.names: dict[Node, str] = {}  # scalars of the site
        self.array_names: dict[Node, str] = {}
        self.cutoffs = sorted({n.cutoff for nest in self.plan.nests for n in nest.loops} | self._loop_cutoffs())
        self.near: dict[Node, str] = {}
        self._leaves()

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
                named = self._with_species(ranges)
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
            if node.op == "norm" and self.plan._geometry(node):
                return f"len[{slot}]"
            if node.op == "pow" and self.plan._geometry(node):
                return f"inv[{slot}]"
            row = self.plan.rows.get(node if slot == "j" else self.plan.canonical(node))
            if row is not None:
                return f"ROW({row})[{slot}]"
            if node in self.plan.array_rows:
                first, static = self.plan.array_rows[node]
                return f"ROW({first} + {_flat(static, ranges)})[{slot}]"
        if node in self.plan.arrays:
            return f"{self.array_names[node]}[{_flat(self.plan.arrays[node], self._with_species(ranges))}]"
        return None

    def _with_species(self, ranges: dict[str, str]) -> dict[str, str]:
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
            place = _flat(static, {**ranges, **fixed})
            return f"ROW({first + int(place)})[{slot}]" if place.isdigit() else f"ROW({first} + {place})[{slot}]"
        return f"{self.array_names[root]}[{_flat(self.plan.arrays[root], {**self._with_species(ranges), **fixed})}]"

    # ---- the function

    def code(self) -> str:
        body = self._body()
        arrays = [f"real {n}[{_size(self.plan.arrays[a])}];" for a, n in self.array_names.items()]
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
        levels = sorted({n.level for n in self.plan.nests} | {self.plan.level(s) for s in self.plan.site} | {0})
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
        out: list[str] = []
        own, static = parse_index(table.data[0]), static_of(table)
        for n, arg in enumerate(table.args):
            rest = [i for i in static if i != own and i in arg.free]
            absent = [i for i in static if i != own and i not in arg.free]
            for key, value in self.plan.entries(arg).items():
                for node in _scalars(value):
                    out += self._site_lines(node, level)
                written = dict(zip((i.key for i in static_of(arg)), map(str, key), strict=False)) if key else {}
                loops = absent + ([] if key else rest)
                ranges = {**written, **{i.key: f"q{m}" for m, i in enumerate(loops)}}
                block = Block(lambda x, ranges=ranges: self.load(x, ranges), "e")
                (text,) = block.emit([value])
                place = _flat(static, {own.key: str(n), **ranges})
                head = [f"for (int q{m} = 0; q{m} < {i.size}; ++q{m}) {{" for m, i in enumerate(loops)]
                body = [*_rolled(head), *block.lines, f"{self.array_names[table]}[{place}] = {text};", *["}"] * len(head)]
                out += ["{", *body, "}"] if block.lines and not head else body
        return out

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
            return [line for s in nest.sums for line in RangeNest(self, nest, s).code()]
        return PairNest(self, nest).code() if len(nest.loops) == 2 else PlainNest(self, nest).code()

    def segments(self, index: Neighbor, body: list[str], start: str = "", stop: str = "") -> list[str]:
        """Loop over neighbours of one cutoff, species by species; `body` is the code for one, with `start`/`stop` around the inner loop."""
        s, c = index.slot, self.cutoffs.index(index.cutoff)
        inner = ["#pragma GCC ivdep", f"for (int {s} = near.begin(s{s}); {s} < near.stop({c}, s{s}); ++{s}) {{", *body, "}"]
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

    def output_code(self) -> list[str]:
        out: list[str] = []
        for output in self.plan.outputs:
            if output.kind == "site" and output.name:
                out.append(f"{self.site_text(output.name)}[i] = {self.load(output.node, {})};")
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


class PlainNest:
    """One loop over neighbours: rows, sums, and what flows to the neighbour."""

    def __init__(self, stage: Stage, nest: Nest) -> None:
        self.stage, self.nest = stage, nest

    def code(self) -> list[str]:
        stage, nest = self.stage, self.nest
        (index,) = nest.loops
        block = Block(stage.resolve(nest, {}), "t")
        sums = [(n, f"acc{m}") for m, n in enumerate(nest.sums)]
        roots = [*nest.stores, *(n.args[0] for n, _ in sums), *(o.node for o in nest.sinks)]
        outer = self._outside(roots, block)
        texts = block.emit(roots)
        body = list(block.lines)
        body += [f"{stage.load(node, {})} = {text};" for node, text in zip(nest.stores, texts, strict=False) if node in stage.plan.rows]
        body += self._stack_stores(block)
        body += [f"{acc} += {text};" for (_, acc), text in zip(sums, texts[len(nest.stores) :], strict=False)]
        body += self._sinks(texts[len(nest.stores) + len(sums) :])
        total = [f"real tot{m} = 0;" for m, (n, _) in enumerate(sums) if not n.free]
        start = " ".join(f"real {acc} = 0;" for _, acc in sums)
        ends = [f"tot{m} += {acc};" if not n.free else f"{stage.array_names[n]}[sj] = {acc};" for m, (n, acc) in enumerate(sums)]
        out = self._zero() + ["{", *total] + stage.segments(index, body, " ".join(outer) + " " + start, " ".join(ends))
        named = []
        for m, (n, _) in enumerate(sums):
            if not n.free:
                stage.names[n] = f"v{len(stage.names)}"
                named.append(stage.names[n])
                out.append(f"{stage.names[n]} = tot{m};")
        return [f"real {n};" for n in named] + out + ["}"] + self._scatters()

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
                out.append(f"near.g{output.axis}[j] {'=' if self._first(output) else '+='} {text};")
            else:
                out.append(f"{self.stage.site_text(output.name)}[jj[j]] += {text};")
        return out

    def _first(self, output: Output) -> bool:
        """The first contribution to a force row writes it, if it covers the whole list."""
        plan = self.stage.plan
        mine = [n for n in plan.nests if any(o.kind == "force" and o.axis == output.axis for o in n.sinks)]
        return mine[0] is self.nest and self.nest.loops[0].cutoff == self.stage.cutoffs[-1]

    def _zero(self) -> list[str]:
        forces = [o for o in self.nest.sinks if o.kind == "force"]
        plan = self.stage.plan
        first = next((n for n in plan.nests if any(o.kind == "force" for o in n.sinks)), None)
        if not forces or first is not self.nest or self.nest.loops[0].cutoff == self.stage.cutoffs[-1]:
            return []
        return ["near.zero_forces();"]

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
        summed = [stage.plan.lower(swap(n)) if relation_of(n) == "gt" and neighbors(n.free) else n for n in nest.sums]
        texts = block.emit([n.args[0] for n in summed])
        before, outer, start, inner, stop, after = [], [], [], list(block.lines), [], []
        for m, (node, form, text) in enumerate(zip(nest.sums, summed, texts, strict=True)):
            looped = neighbors(form.free)
            if not looped and not form.free:
                stage.names[node] = f"v{len(stage.names)}"
                before.append(f"real {stage.names[node]} = 0;")
                outer.append(f"real acc{m} = 0;")
                inner.append(f"acc{m} += {text};")
                after.append(f"{stage.names[node]} += acc{m};")
            elif looped and looped[0].slot == "j":
                outer.append(f"real acc{m} = 0;")
                inner.append(f"acc{m} += {text};")
                after.append(f"ROW({stage.plan.rows[node]})[j] = acc{m};")
            elif looped:
                before.append(f"near.zero(ROW({stage.plan.rows[node]}), {stage.cutoffs.index(looped[0].cutoff)});")
                inner.append(f"ROW({stage.plan.rows[node]})[k] += {text};")
            else:
                size = _size(stage.plan.arrays[node])
                before.append(f"for (int q = 0; q < {size}; ++q) {stage.array_names[node]}[q] = 0;")
                place = _flat(stage.plan.arrays[node], stage._with_species({}))
                start.append(f"real acc{m} = 0;")
                inner.append(f"acc{m} += {text};")
                stop.append(f"{stage.array_names[node]}[{place}] += acc{m};")
        return [*before, *self._loops(j, k, outer, [*start], inner, [*stop], after)]

    def _loops(
        self, j: Neighbor, k: Neighbor, outer: list[str], start: list[str], inner: list[str], ends: list[str], after: list[str]
    ) -> list[str]:
        stage, c = self.stage, self.stage.cutoffs.index(k.cutoff)
        stop = f"near.stop({c}, sk)"
        if self.nest.relation == "lt":
            stop = f"(near.stop({c}, sk) < j ? near.stop({c}, sk) : j)"
        begin = "(near.begin(sk) > j ? near.begin(sk) : j + 1)" if self.nest.relation == "gt" else "near.begin(sk)"
        skip = ["if (k == j) continue;"] if self.nest.relation == "ne" else []
        loop = [*start, "#pragma GCC ivdep", f"for (int k = {begin}, ke = {stop}; k < ke; ++k) {{", *skip, *inner, "}", *ends]
        second = (
            ["{ const int sk = 0; (void)sk;", *loop, "}"]
            if stage.species == 1
            else [f"for (int sk = 0; sk < {stage.species}; ++sk) {{", *loop, "}"]
        )
        c = stage.cutoffs.index(j.cutoff)
        first = [f"for (int j = near.begin(sj); j < near.stop({c}, sj); ++j) {{", *outer, *second, *after, "}"]
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
        out = [] if keep or self.index is None or (self.by_species or self.stage.species == 1) else self._clear()
        return out + self._blocks(looped, {}, [])

    def _scalar(self) -> list[str]:
        name = self.stage.names[self.node] = f"v{len(self.stage.names)}"
        ranges = {i.key: f"q{m}" for m, i in enumerate(self.summed)}
        block = Block(lambda n: self.stage.load(n, ranges), "t")
        (text,) = block.emit([self.body])
        head = [f"for (int {ranges[i.key]} = 0; {ranges[i.key]} < {i.size}; ++{ranges[i.key]}) {{" for i in self.summed]
        return [f"real {name} = 0;", *_rolled(head), *block.lines, f"{name} += {text};", *["}"] * len(head)]

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

    def _clear(self) -> list[str]:
        return [f"for (int q = 0; q < {_size(self.static)}; ++q) {self.stage.array_names[self.node]}[q] = 0;"]

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
                f"for (int {v} = 0; {v} < {full}; {v} += {width}) {{",
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
                body.append(f"acc{m} += {text};")
                ends.append(f"{stage.load(node, here)} {'=' if self.by_species or stage.species == 1 else '+='} acc{m};")
        return ["{", *body, "}"] if self.index is None else stage.segments(self.index, body, " ".join(start), " ".join(ends))


def _rolled(head: list[str]) -> list[str]:
    """A short loop over a static range stays a loop: written out, it would make the compiler slow and nothing faster."""
    return ["#pragma GCC unroll 1", *head] if head else head


def _scalars(root: Node) -> list[Node]:
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


def _flat(static: tuple[Range | Species, ...], names: dict[str, str]) -> str:
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


def _size(static: tuple[Range | Species, ...]) -> int:
    size = 1
    for index in static:
        size *= index.size
    return size


GATHER_ROWS = 17  # rows of `Neighbourhood` in prelude.cpp

__all__ = ["PRELUDE", "Stage", "field_name", "is_const"]
