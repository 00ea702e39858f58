"""C++ text of a scheduled stage: a function that visits a range of sites."""

from __future__ import annotations

from pathlib import Path

from composer.codegen.stage import Stage

SPECIAL = Path(__file__).with_name("special.cpp").read_text(encoding="utf-8")  # special functions, for long-range sums too
PRELUDE = SPECIAL + "".join(Path(__file__).with_name(n).read_text(encoding="utf-8") for n in ("prelude.cpp", "lanes.cpp"))
GATHER_ROWS = 17  # rows of `Neighbourhood` in prelude.cpp


class CppStage(Stage):
    """Code of one stage: a function that visits a range of sites once."""

    vectors = True
    together = 1  # sites visited at once
    field = "double* site{m} = A.site[{m}];"

    def code(self) -> str:
        body = self.body()
        near = [f"real* __restrict {n} = extra + {m}*ld;" for m, n in enumerate(self.near.values())]
        site = [self.field.format(m=m) for m in range(len(self.site_arrays))]
        head = [
            f"static void {self.name}_range(const Args& A, const int64_t begin, const int64_t end, double* F, double* G, double* scratch) {{",
            self.length(),
            "const double* __restrict P = A.P; const double* __restrict PT = A.PT; (void)P; (void)PT; (void)G; (void)F;",
            f"Neighbourhood<{self.species}, {len(self.cutoffs)}> near(scratch, ld);",
            "real *d0 = near.d0, *d1 = near.d1, *d2 = near.d2, *len = near.len, *inv = near.inv, *dt0 = near.dt0, *dt1 = near.dt1, *dt2 = near.dt2;",
            "(void)d0; (void)d1; (void)d2; (void)len; (void)inv; (void)dt0; (void)dt1; (void)dt2;",
            "const auto* jj = near.jj; (void)jj; real* extra = near.end; (void)extra;",
            f"real* kept = extra + {len(self.near)}*ld; (void)kept;",
            f"real* __restrict rows = kept + {self.kept}*ld; (void)rows;",
            *near,
            *site,
            f"static const double cut[] = {{{', '.join(repr(c * c) for c in self.cutoffs) or '0.0'}}};",
            *[f"alignas(64) {a[:-1]} = {{}};" for a in self.arrays()],
            *self.settle(),
            *self.visit(),
        ]
        return "\n".join([*head, *body, "}", "}", self._entry()])

    def length(self) -> str:
        """How far rows are apart."""
        return "ROW_LENGTH(A);"

    def visit(self) -> list[str]:
        """The loop over the sites."""
        return ["for (int64_t i = begin; i < end; ++i) {", "const int si = A.species[i]; (void)si;"]

    def _entry(self) -> str:
        return f'extern "C" void {self.name}(const Args* a) {{ over_blocks(*a, {self.name}_range); }}'

    def scratch_rows(self) -> int:
        """Rows of `ld` numbers that one thread needs."""
        return GATHER_ROWS + len(self.near) + self.kept + self.plan.row_count

    def gather(self) -> list[str]:
        flags = f"{int(self.plan.uses_length)}, {int(self.plan.uses_inverse)}, {int(self.needs_tangent)}"
        return [f"near.gather<{flags}>(A, i, cut);", *self.loads()]


__all__ = ["PRELUDE", "SPECIAL", "CppStage"]
