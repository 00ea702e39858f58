"""The code of a program: text for the compiler, and what a caller has to know about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from composer.codegen.cpp import CppStage
from composer.codegen.lanes import LaneStage, fits
from composer.codegen.layout import Layout
from composer.codegen.outputs import Output
from composer.codegen.program import Global, Program

LONG = 20_000  # characters of code
LONG_FLAGS = ("-ftree-loop-vectorize", "--param=vect-epilogues-nomask=0", "-fno-ivopts")


@dataclass(frozen=True)
class Code:
    """Generated code and what a caller has to know about it; plain data, kept on disk between runs."""

    text: str
    stages: list[str]  # names of the functions
    arrays: list[str]  # site arrays, in the order of the arguments
    fields: list[list[str]]  # by stage: arrays that ghosts take from their owners afterwards
    adjoints: list[list[str]]  # by stage: arrays that owners collect from their ghosts afterwards
    rows: int  # rows of scratch memory for a thread
    forces: bool
    gradient: bool
    shared: bool  # neighbours are written to in a way that blocks of one structure must not do at once
    together: int  # sites that are visited at once, at most
    long: bool  # whether the compiler should try less hard
    globals: list[list[list]] = field(default_factory=list)  # by stage: operator, source, target, other, tangent, factor
    pulls: list[list] = field(default_factory=list)


def generate(name: str, program: Program, layout: Layout) -> Code:
    """The code of a program."""
    arrays = program.site_arrays()
    stages, texts = _stages(name, program, layout, arrays, whole=True)
    if sum(map(len, texts)) < LONG:  # with all passes of the compiler, plain loops are the faster ones
        stages, texts = _stages(name, program, layout, arrays, whole=False)
    long = sum(map(len, texts)) >= LONG
    for n, stage in enumerate(stages):
        if fits(stage):
            stages[n] = LaneStage(stage, texts[n], program.stages[n])
            texts[n] = stages[n].code()
    kinds = {o.kind if isinstance(o, Output) else "table" for stage in program.stages for o in stage}
    numbers = range(len(stages))
    return Code(
        "\n".join(texts),
        [s.name for s in stages],
        arrays,
        [program.fields.get(n, []) for n in numbers],
        [program.adjoints.get(n, []) for n in numbers],
        max(s.scratch_rows() for s in stages),
        "force" in kinds or bool(program.pulls),
        "parameter" in kinds,
        bool(kinds & {"near", "table"}),
        max(s.together for s in stages),
        long,
        [[_plain(g) for g in program.globals.get(n, [])] for n in numbers],
        [_plain(g) for g in program.pulls],
    )


def _plain(operation: Global) -> list:
    return [list(operation.operator), operation.source, operation.target, operation.other, operation.tangent, operation.factor]


def _stages(name: str, program: Program, layout: Layout, arrays: list[str], whole: bool) -> tuple[list[CppStage], list[str]]:
    stages = [CppStage(f"{name}_{n}", outputs, layout, arrays, whole) for n, outputs in enumerate(program.stages)]
    return stages, [s.code() for s in stages]


__all__ = ["LONG", "LONG_FLAGS", "Code", "generate"]
