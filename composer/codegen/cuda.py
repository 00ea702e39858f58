"""CUDA text of a scheduled stage: one thread visits a site, with the loops that C++ has. No name of a term and no text of a user gets here.

A stage whose loops have one neighbour each *streams*: it reads the list again in every loop, recomputes what it needs and keeps nothing.
Any other stage gathers the neighbours of its site in rows, as the C++ does.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from composer.codegen.layout import Layout
from composer.codegen.outputs import Output, Table
from composer.codegen.program import field_name
from composer.codegen.schedule import Nest, Schedule
from composer.codegen.stage import Stage
from composer.ir.indices import Neighbor
from composer.ir.nodes import Node

PRELUDE = Path(__file__).with_name("prelude.cu").read_text(encoding="utf-8")
BLOCK = 128  # threads of a block


class CudaStage(Stage):
    """Code of one stage: a kernel that visits all sites.

    `mirrored`: the energy is a sum over pairs that both atoms see alike, so that the force on a site is twice what its own visit brings.
    `by_structure`: gradients of the parameters are summed for each structure, not for each thread.
    """

    def __init__(
        self,
        name: str,
        outputs: Iterable[Output | Table],
        layout: Layout,
        site_arrays: list[str],
        mirrored: bool = False,
        by_structure: bool = False,
    ) -> None:
        super().__init__(name, outputs, layout, site_arrays, whole=False)
        self.mirrored, self.by_structure = mirrored, by_structure
        self.pushes = False

    def schedule(self, outputs: list[Output]) -> Schedule:
        plan = Schedule(outputs, keep=False)
        plain = all(len(n.loops) == 0 or (len(n.loops) == 1 and not n.ranges) for n in plan.nests)
        self.streams = plain and not self.tables and not plan.row_count
        return plan if self.streams else Schedule(outputs)

    def code(self) -> str:
        body = self.body()
        kinds = {o.kind for o in self.plan.outputs}
        head = [
            f'extern "C" __global__ void __launch_bounds__({BLOCK}) {self.name}(const __grid_constant__ Args A) {{',
            "const int64_t thread = blockIdx.x * (int64_t)blockDim.x + threadIdx.x, threads = gridDim.x * (int64_t)blockDim.x;",
            "const real* __restrict__ P = A.P; const double* __restrict__ P64 = A.P64; const real* __restrict__ PT = A.PT;",
            "(void)thread; (void)threads; (void)P; (void)P64; (void)PT;",
            *(["const Strided<double> G = {A.G + thread, threads};"] if "parameter" in kinds and not self.by_structure else []),
            *self._site_pointers(),
            *self._neighbours(),
            *self.arrays(),
            "for (int64_t i = thread; i < A.atoms; i += threads) {",
            "const int si = A.x[i].species; (void)si;",
            *(
                [f"const Collected G = {{A.G + (int64_t)A.home[i] * {self.layout.size}}};"]
                if "parameter" in kinds and self.by_structure
                else []
            ),
        ]
        return "\n".join([*head, *body, "}", "}"])

    def _site_pointers(self) -> list[str]:
        """Named site arrays; those that collect from neighbours do so in a way of their own."""
        collected = {o.name for o in self.plan.outputs if o.kind == "near"}
        out = []
        for m, name in enumerate(self.site_arrays):
            kind = "Collected" if name in collected else "Complete" if name.startswith("adjoint ") else "double*"
            out.append(f"{kind if kind == 'double*' else f'const {kind}'} site{m} = {{A.site + {m} * A.atoms}}; (void)site{m};")
        return out

    def _neighbours(self) -> list[str]:
        if not self.cutoffs:
            return []
        flags = [self.plan.uses_length, self.plan.uses_inverse, self.needs_tangent]
        names = ("d0", "d1", "d2", "len", "inv", "dt0", "dt1", "dt2")
        if self.streams:
            start = [f"Stream<{', '.join(_flag(f) for f in (*flags, self.mirrored))}> near;"]
            rows = [f"real *{', *'.join(f'{n} = near.{n}' for n in names)}; const int32_t* jj = near.jj; (void)jj;"]
            rows += [f"real {n}[1];" for n in self.near.values()]
        else:
            start = [f"OWN_ROWS(A, {self.scratch_rows()})"]
            start += [f"Neighbourhood<{self.species}, {len(self.cutoffs)}, {', '.join(map(_flag, flags))}> near(scratch, ld, thread);"]
            rows = [f"const Row {', '.join(f'{n} = near.{n}' for n in names)}; const Whole jj = near.jj; (void)jj;"]
            place = self._gather_rows()
            rows += [f"const Row {n} = scratch + {place + m}*ld;" for m, n in enumerate(self.near.values())]
            place += len(self.near)
            rows += [f"const Row kept = scratch + {place}*ld, rows = scratch + {place + self.kept}*ld; (void)kept; (void)rows;"]
        used = "".join(f"(void){n}; " for n in names)
        return [*start, *rows, used, f"const double cut[] = {{{', '.join(f'WITHIN({c * c!r})' for c in self.cutoffs)}}};"]

    def _gather_rows(self) -> int:
        """Rows of `Neighbourhood` in prelude.cu."""
        inverse = self.plan.uses_inverse
        return 7 + (self.plan.uses_length or inverse) + inverse + 3 * self.needs_tangent

    def scratch_rows(self) -> int:
        return 0 if self.streams or not self.cutoffs else self._gather_rows() + len(self.near) + self.kept + self.plan.row_count

    def gather(self) -> list[str]:
        if self.streams:
            return ["near.open(A, i);"]
        return ["near.gather(A, i, cut);", *self.loads()]

    def scatter(self) -> str:
        return "near.scatter(A, i);"

    def columns(self, slots: int) -> str:
        return f"near.columns(A, i, {slots}, first, col, weight, slot, kept, ld);"

    def nest_code(self, nest: Nest) -> list[str]:
        self.pushes = any(o.kind == "force" for o in nest.sinks)
        return super().nest_code(nest)

    def segments(self, index: Neighbor, body: list[str], start: str = "", stop: str = "", whole: bool = False) -> list[str]:
        if not self.streams:
            return super().segments(index, body, start, stop)
        kind = "-1" if self.species == 1 else "sj"
        inner = [
            "for (int64_t entry = A.first[i], last = entry + A.count[i] * A.stride; entry < last; entry += A.stride) {",
            f"if (!near.meets(A, i, entry, cut[{self.cutoffs.index(index.cutoff)}], {kind})) continue;",
            "const int j = 0;",
            *(f"{text}[0] = {self.site_text(field_name(field))}[jj[0]];" for field, text in self.near.items()),
            *body,
            *(["near.push(A);"] if self.pushes else []),
            "}",
        ]
        head = "{ const int sj = 0; (void)sj;" if self.species == 1 else f"for (int sj = 0; sj < {self.species}; ++sj) {{"
        return [head, start, *inner, stop, "}"]

    def static_loop(self, head: str) -> str:
        """Not written out, though all sizes are known: networks would outgrow the registers and the cache of instructions, and take the compiler longer."""
        return f"ROLLED {head}"

    def static_loops(self, sizes: list[int], body: list[str]) -> list[str]:
        heads = [self.static_loop(f"for (int q{m} = 0; q{m} < {size}; ++q{m}) {{") for m, size in enumerate(sizes)]
        return [*heads, *body, *["}"] * len(heads)]

    def _table_code(self, table: Table) -> list[str]:
        return super()._table_code(table) if self.cutoffs else []  # without neighbours there is no force

    def site_value(self, node: Node) -> str | None:
        """In double, however exact the parts are: an energy is a small difference from that of the atom alone."""
        parts = [self.load(a, {}) for a in (node.args if node.op == "add" else (node,))]
        return " + ".join(f"double({p.replace('P[', 'P64[', 1) if p and p.startswith('P[') else p})" for p in parts)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def unit(text: str, pairs: list[int], single: bool = True, fixed: bool = False) -> str:
    """One translation unit.

    Arguments: text of the stages; pairs, rows of tables by pair [species^2]; single, numbers of 4 bytes (geometry and energies stay double);
    fixed, forces add up in a way that does not depend on the order.
    """
    macros = [
        f"typedef {'float' if single else 'double'} real;",
        *(["#define SINGLE"] if single else []),
        *(["#define FIXED"] if fixed else []),
    ]
    table = f"__constant__ int PAIR[] = {{{', '.join(map(str, pairs))}}};"
    return "\n".join([*macros, PRELUDE, table, text]) + "\n"


__all__ = ["BLOCK", "PRELUDE", "CudaStage", "unit"]
