"""A model as one dependency-free C file: the loops of its forces kernel, its numbers, and a small interface.

The generator writes its loops in the part that C and C++ share; how C spells the neighbourhood is said here. Sources: `prelude.c` (gather and scatter of one site), `ending.c` (interface), `potential.h`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from composer.codegen.outputs import Output
from composer.codegen.stage import Stage
from composer.model import Model
from composer.quantities import row

HOME = Path(__file__).parent
GATHER_ROWS = 13  # rows of `neighbourhood` in prelude.c
LENGTHS = (136, 264)  # row lengths with code of their own


class CStage(Stage):
    """One stage as C functions: a body that visits sites, and copies of it for rows of known length."""

    def code(self) -> str:
        body = self.body()
        arrays = self.arrays()
        near = [f"real* __restrict {n} = near.end + {m}*ld; (void){n};" for m, n in enumerate(self.near.values())]
        site = [f"double* site{m} = A->site[{m}]; (void)site{m};" for m in range(len(self.site_arrays))]
        rows = ("d0", "d1", "d2", "len", "inv")
        head = [
            f"INLINE void {self.name}_visit(const potential_system* A, const int64_t ld) {{",
            f"static const double cut[] = {{{', '.join(repr(c * c) for c in self.cutoffs) or '0.0'}}}; (void)cut;",
            "neighbourhood near;",
            "open_rows(&near, A->scratch, ld);",
            *(f"real *{r} = near.{r}; (void){r};" for r in rows),
            f"const int32_t* jj = near.jj; (void)jj; real* __restrict rows = near.end + {len(self.near)}*ld; (void)rows;",
            *near,
            *site,
            *arrays,
            "for (int64_t n = 0; n < A->atoms; ++n) {",
            "const int64_t i = A->list ? A->list[n] : n;",
            "const int si = A->species[i]; (void)si;",
        ]
        return "\n".join([*head, *body, "}", "}", self._entry()])

    def _entry(self) -> str:
        cases = [f"case {n}: {self.name}_visit(A, {n}); break;" for n in LENGTHS]
        return "\n".join(
            [
                f"static void {self.name}(const potential_system* A) {{",
                "switch (A->row) {",
                *cases,
                f"default: {self.name}_visit(A, A->row);",
                "}",
                "}",
            ]
        )

    def scratch_rows(self) -> int:
        return GATHER_ROWS + len(self.near) + self.plan.row_count

    # ---- the neighbourhood in C

    def gather(self) -> list[str]:
        flags = f"{len(self.cutoffs)}, {int(self.plan.uses_length)}, {int(self.plan.uses_inverse)}"
        return [f"gather(&near, A, i, cut, {flags});", *self.loads()]

    def begin(self, species: str) -> str:
        return f"begin_of(&near, {len(self.cutoffs)}, {species})"

    def stop(self, cutoff: float, species: str) -> str:
        return f"stop_of(&near, {len(self.cutoffs)}, {self.cutoffs.index(cutoff)}, {species})"

    def zero(self, row: str, cutoff: float) -> str:
        return f"zero(&near, {row});"

    def zero_forces(self) -> str:
        return "zero_forces(&near);"

    def scatter(self) -> str:
        return "scatter(&near, A, i);"


def c_source(model: Model) -> str:
    """The text of potential.c: energy, forces and virials of a model with its present numbers."""
    program = model.program("forces")
    names = program.site_arrays()
    outputs = [[o for o in stage if isinstance(o, Output)] for stage in program.stages]
    stages = [CStage(f"stage{n}", part, model.layout, names, whole=False) for n, part in enumerate(outputs)]
    code = [s.code() for s in stages]
    count = len(model.species)
    pairs = [row("pair", count, a, b) for a in range(count) for b in range(count)]
    rings = max((len(s.cutoffs) for s in stages), default=1)
    numbers = range(len(stages))
    macros = {
        "SPECIES": count,
        "BOUNDS": count * max(rings, 1),
        "GATHER_ROWS": GATHER_ROWS,
        "SCRATCH_ROWS": max(s.scratch_rows() for s in stages),
        "STAGES": len(stages),
        "ARRAYS": len(names),
        "ENERGY": names.index("e"),
        "CUTOFF": repr(model.cutoff),
    }
    return "\n".join(
        [
            "/* Written by composer from an expression of physics terms. The interface is explained in potential.h. */",
            *(f"#define {name} {value}" for name, value in macros.items()),
            (HOME / "prelude.c").read_text(),
            *([_list("int", "PAIR", pairs)] if any("PAIR[" in text for text in code) else []),
            _list("double", "P", [repr(v) for v in model.flat.tolist()]),
            _list("char *const", "SYMBOLS", [f'"{s}"' for s in model.species]),
            *_exchanges("FORWARD", [[names.index(a) for a in program.fields.get(n, [])] for n in numbers]),
            *_exchanges("BACKWARD", [[names.index(a) for a in program.adjoints.get(n, [])] for n in numbers]),
            *code,
            f"static void (*const STAGE[])(const potential_system*) = {{{', '.join(s.name for s in stages)}}};",
            (HOME / "ending.c").read_text(),
        ]
    )


def c_header(model: Model, checks: dict[str, Any]) -> str:
    """The text of potential.h with the numbers of the self-check."""
    lines = [f"   Checked against the model, {name}: {value:.1e}" for name, value in checks.items()]
    filled = {
        "formula": _comment(f"E = E0 + {model.expression}"),
        "symbols": ", ".join(model.species),
        "cutoff": f"{model.cutoff:g}",
        "count": str(len(model.flat)),
        "checks": "".join(line + "\n" for line in lines),
    }
    text = (HOME / "potential.h").read_text()
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return text


def _comment(text: str) -> str:
    """Text that is safe inside a comment of C: names are a user's."""
    return re.sub(r"[^\w .,;:+\-()=<>'\[\]{}|^%]", "·", text).replace("/", "|")


def _list(kind: str, name: str, values: list[Any]) -> str:
    return f"static const {kind} {name}[] = {{{', '.join(map(str, values)) or '0'}}};"


def _exchanges(name: str, arrays: list[list[int]]) -> list[str]:
    first = [sum(map(len, arrays[:n])) for n in range(len(arrays) + 1)]
    return [_list("int", name, [a for part in arrays for a in part]), _list("int", f"{name}_FIRST", first)]


__all__ = ["c_header", "c_source"]
