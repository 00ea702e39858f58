"""C++ text of a stage that visits several sites at once: the loops of one site, with a vector of numbers for each number.

A crystal with four neighbours leaves vectors along the neighbours nearly empty. Here all lanes are sites of one species, and a slot holds
neighbours of one species, so that loops, species and parameters are the same for all lanes (`lanes.cpp`).
"""

from __future__ import annotations

from collections.abc import Iterable

from composer.codegen.cpp import CppStage
from composer.codegen.outputs import Output, Table


class LaneStage(CppStage):
    """Code of one stage: a function that visits a range of sites, eight or four at a time.

    `plain`: the stage for one site at a time; `otherwise`: its text, which stands in where vectors are shorter.
    """

    vectors = False
    together = 8
    field = "const Field site{m} = {{A.site[{m}]}};"

    def __init__(self, plain: CppStage, otherwise: str, outputs: Iterable[Output | Table]) -> None:
        super().__init__(plain.name, outputs, plain.layout, plain.site_arrays, whole=False)
        self.otherwise = otherwise
        self.ranges = max(self.species * len(self.cutoffs), 1)  # of neighbours: each may have as many slots as a list is long

    def code(self) -> str:
        return "\n".join(["#ifdef __AVX__", "namespace lanes {", super().code(), "}", "#else", self.otherwise, "#endif"])

    def length(self) -> str:
        return super().length() if self.ranges == 1 else f"LANE_LENGTH(A, {self.ranges});"

    def visit(self) -> list[str]:
        return [f"Sites i; for (Groups<{self.species}> groups(A, begin, end); groups.take(i);) {{", "const int si = groups.kind; (void)si;"]

    def scratch_rows(self) -> int:
        return self.together * super().scratch_rows() * (self.ranges + (self.ranges > 1))

    def alive(self, text: str, *slots: str) -> str:
        return f"only({' & '.join(f'jj[{s}].alive' for s in slots)}, {text})"

    def total(self, text: str) -> str:
        return f"total(i, {text})"


def fits(stage: CppStage) -> bool:
    """Whether several sites at once are faster: loops over pairs of neighbours, and no static ranges."""
    nests = stage.plan.nests
    return any(len(n.loops) == 2 for n in nests) and not any(n.ranges for n in nests)


__all__ = ["LaneStage", "fits"]
