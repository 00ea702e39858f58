"""A program as CUDA kernels: its text, its buffers, its launches. What compiles and launches is given, so that the text also runs elsewhere."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property

import torch
from torch import Tensor

from composer.codegen.cuda import BLOCK, CudaStage, unit
from composer.codegen.layout import Layout
from composer.codegen.outputs import Table
from composer.codegen.program import Program
from composer.ops.operators import Bound
from composer.ops.plain.form import Plain
from composer.ops.plain.forms import operation
from composer.ops.sites import Sites
from composer.quantities import row
from composer.runtime.cuda_batch import DeviceBatch
from composer.runtime.launch import Builder, Launch

THREADS = 132 * 1024  # most threads of a launch that needs memory of its own for each
MEMORY = 2**31  # most bytes of such memory
FIXED_ONE = 2.0**40  # the 1 of forces that are kept as integers, as in prelude.cu


class Args(ctypes.Structure):
    """Args of prelude.cu."""

    _fields_ = [
        (n, ctypes.c_void_p) for n in ("x", "home", "first", "count", "index", "P", "P64", "PT", "w", "site", "F", "V", "G", "J", "scratch")
    ] + [(n, ctypes.c_int64) for n in ("atoms", "structures", "stride", "ld")]


@dataclass(frozen=True)
class Buffers:
    """Memory of the calls on one batch. Forces hold integers where they are summed without regard to order."""

    site: Tensor  # float64 [arrays, N]
    forces: Tensor  # [N, 4]
    virials: Tensor  # [N, 6] xx yy zz yz xz xy, -dE/dstrain
    gradient: Tensor  # float64 [P, threads], or [S, P] where it is summed for each structure
    columns: Tensor  # float64 [P, N, 3]
    voigt: Tensor  # float64 [P, S, 6]
    far: Tensor  # float64 [S, 3, 3], the virial of global operations
    forms: dict[tuple, Plain]  # of global operations
    scratch: Tensor
    threads: int


class CudaKernel:
    """A program as CUDA.

    Arguments: name; program; layout; build, which compiles; single, numbers of 4 bytes beside double geometry and energies; fixed, forces
    that do not depend on the order of threads; mirrored, see `CudaStage`.
    """

    def __init__(
        self, name: str, program: Program, layout: Layout, build: Builder, single: bool = True, fixed: bool = False, mirrored: bool = False
    ) -> None:
        self.name, self.program, self.layout, self.build = name, program, layout, build
        self.single, self.ordered = single, fixed
        self.fixed = fixed and not mirrored  # what is mirrored adds nothing to other sites
        self.arrays = program.site_arrays()
        self.by_structure = name == "parameters"
        self.stages = [CudaStage(f"{name}_{n}", o, layout, self.arrays, mirrored, self.by_structure) for n, o in enumerate(program.stages)]
        kinds = {o.kind for s in self.stages for o in s.plan.outputs}
        self.pushes, self.sums = "force" in kinds or bool(program.pulls), "parameter" in kinds
        self.tabled = any(isinstance(o, Table) for s in program.stages for o in s)

    @property
    def real(self) -> torch.dtype:
        """Type of forces and parameters in the kernels."""
        return torch.float32 if self.single else torch.float64

    @cached_property
    def source(self) -> str:
        """Text of the translation unit."""
        count = self.layout.species
        pairs = [row("pair", count, a, b) for a in range(count) for b in range(count)]
        return unit("\n".join(s.code() for s in self.stages), pairs, self.single, self.fixed)

    @cached_property
    def launches(self) -> list[Launch]:
        """The compiled stages."""
        return self.build(self.source, [s.name for s in self.stages])

    @property
    def rows(self) -> int:
        """Rows of scratch memory for a thread."""
        return max(s.scratch_rows() for s in self.stages)

    def buffers(self, batch: DeviceBatch) -> Buffers:
        """Memory for calls on this batch and on others of the same shape."""
        self.source  # noqa: B018  (rows are known once the text is there)
        size, atoms = self.layout.size, batch.atoms
        threads = -(-atoms // BLOCK) * BLOCK
        each = self.rows * row_length(batch.max_neighbors) * (4 if self.single else 8) + (
            8 * size if self.sums and not self.by_structure else 0
        )
        if each:
            threads = max(BLOCK, min(threads, THREADS, MEMORY // each // BLOCK * BLOCK))

        def zeros(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=batch.device)

        return Buffers(
            site=zeros(torch.float64, len(self.arrays), atoms),
            forces=zeros(torch.int64 if self.fixed else self.real, atoms if self.pushes else 0, 4),
            virials=zeros(self.real, atoms if self.pushes else 0, 6),
            gradient=zeros(torch.float64, *((batch.structures, size) if self.by_structure else (size, threads)) if self.sums else (0,)),
            columns=zeros(torch.float64, size if self.tabled else 0, atoms, 3),
            voigt=zeros(torch.float64, size if self.tabled else 0, batch.structures, 6),
            far=zeros(torch.float64, batch.structures, 3, 3),
            forms=self.forms(batch),
            scratch=torch.empty(threads * self.rows * row_length(batch.max_neighbors), dtype=self.real, device=batch.device),
            threads=threads,
        )

    def run(
        self,
        batch: DeviceBatch,
        buffers: Buffers,
        parameters: tuple[Tensor, Tensor],
        tangents: Tensor | None = None,
        moves: Tensor | None = None,
        cell_moves: Tensor | None = None,
    ) -> None:
        """Launch all stages on the current stream; nothing waits, and without global operations nothing is allocated.

        Arguments: batch, placed; buffers, with the inputs of the sites in `site`; parameters, the flat array [P] as `real`
        and as float64; tangents of the parameters [P] as `real`; moves, tangents of all sites, float64 [sites, 3]; cell_moves, tangents of
        the cells [S, 3, 3] for global operations, which stand still without them.
        """
        for kept in (buffers.forces, buffers.virials, buffers.gradient, buffers.columns, buffers.voigt):
            kept.zero_()
        for name in {a for collected in self.program.adjoints.values() for a in collected}:
            buffers.site[self.arrays.index(name)].zero_()
        tables = buffers.voigt if self.tabled else buffers.gradient
        args = Args(
            x=batch.x.data_ptr(), home=batch.home.data_ptr(), first=batch.first.data_ptr(), count=batch.count.data_ptr(),
            index=batch.index.data_ptr(), P=parameters[0].data_ptr(), P64=parameters[1].data_ptr(),
            PT=None if tangents is None else tangents.data_ptr(), w=None if moves is None else moves.data_ptr(),
            site=buffers.site.data_ptr(), F=buffers.forces.data_ptr(), V=buffers.virials.data_ptr(), G=tables.data_ptr(),
            J=buffers.columns.data_ptr(), scratch=buffers.scratch.data_ptr(), atoms=batch.atoms, structures=batch.structures,
            stride=batch.stride, ld=row_length(batch.max_neighbors),
        )  # fmt: skip
        bound = self._bound(batch, buffers, moves, cell_moves) if buffers.forms else None
        for stage, launch in enumerate(self.launches):
            launch(args, buffers.threads // BLOCK, BLOCK)
            if bound is not None:
                operations = map(astuple, self.program.globals.get(stage, ()))
                bound.operate(operations, self.pulls, lambda n: self.site(buffers, n), lambda n, v: self.site(buffers, n).copy_(v))
        if bound is not None and self.pulls:
            self._pull(bound, batch, buffers)

    @cached_property
    def pulls(self) -> list[tuple]:
        """Slopes of global operations that forces have to be given."""
        return [astuple(g) for g in self.program.pulls]

    def forms(self, batch: DeviceBatch) -> dict[tuple, Plain]:
        """The global operations of the program for a batch, in plain torch; made once for a list, by the host, which waits for cells and positions."""
        found = {}
        for operator in {g.operator for g in (*self.program.pulls, *(g for s in self.program.globals.values() for g in s))}:
            key = (operator, self.single, self.ordered)
            if key not in batch.kept:
                x, cells, pbc, offsets = (t.cpu() for t in (batch.x[: batch.atoms, :3], batch.cells, batch.pbc, batch.offsets))
                here = Sites(x, cells, pbc, offsets, batch.excluded)
                batch.kept[key] = operation(operator, here, batch.device, self.single, self.ordered)
            found[operator] = batch.kept[key]
        return found

    def _bound(self, batch: DeviceBatch, buffers: Buffers, moves: Tensor | None, cell_moves: Tensor | None) -> Bound:
        sites = Sites(batch.x[: batch.atoms, :3].contiguous(), batch.cells, batch.pbc, batch.offsets)
        moved = None if moves is None or cell_moves is None else (moves[: batch.atoms].contiguous(), cell_moves)
        return Bound(sites, moved, buffers.forms.__getitem__)

    def _pull(self, bound: Bound, batch: DeviceBatch, buffers: Buffers) -> None:
        """Forces and virials of global operations."""
        by_x, by_h = bound.pull(self.pulls, lambda n: self.site(buffers, n))
        buffers.forces[:, :3] -= torch.round(by_x * FIXED_ONE).long() if self.fixed else by_x.to(self.real)
        moments = batch.by_structure(bound.sites.x[:, :, None] * by_x[:, None, :])
        buffers.far.copy_(-(moments + batch.cells.transpose(1, 2) @ by_h))

    def give(self, buffers: Buffers, inputs: Mapping[str, Tensor | float]) -> None:
        """Write inputs of the sites, a number or one for each [N], where the program reads them."""
        for name, value in inputs.items():
            if name in self.arrays:
                self.site(buffers, name)[:] = value

    def site(self, buffers: Buffers, name: str) -> Tensor:
        """A named site array [N]."""
        return buffers.site[self.arrays.index(name)]

    def virials(self, batch: DeviceBatch, buffers: Buffers) -> Tensor:
        """Virials in float64 [S, 6], eV, xx yy zz yz xz xy."""
        xx, xy, xz, _, yy, yz, _, _, zz = buffers.far.flatten(1).unbind(1)
        return batch.by_structure(buffers.virials) + torch.stack([xx, yy, zz, yz, xz, xy], 1)

    def forces(self, buffers: Buffers) -> Tensor:
        """Forces in float64 [N, 3], eV/Å."""
        found = buffers.forces[:, :3].to(torch.float64)
        return found / FIXED_ONE if self.fixed else found


def row_length(neighbors: int) -> int:
    """Numbers from one row to the next."""
    return max(16, -(-neighbors // 16) * 16)


__all__ = ["Args", "Buffers", "CudaKernel", "row_length"]
