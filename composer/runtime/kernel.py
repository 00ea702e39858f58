"""A compiled program: builds its library on first use, and calls it on a Batch."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from composer.codegen.cpp import PRELUDE
from composer.codegen.layout import Layout
from composer.codegen.program import Program
from composer.errors import DataError
from composer.neighbors import Batch, all_positions
from composer.ops.operators import Bound, sites_of
from composer.quantities import row
from composer.runtime import cache, threads
from composer.runtime.build import library
from composer.runtime.code import LONG_FLAGS, Code, generate

BLOCKS = 64  # pieces of a batch; their number does not depend on the threads, so sums over them do not either


class _Args(ctypes.Structure):
    _fields_ = (
        [(n, ctypes.c_void_p) for n in ("x", "species", "owner", "home", "first", "index", "P", "PT", "w", "site", "F", "G", "block", "scratch")]
        + [(n, ctypes.c_int64) for n in ("blocks", "force_stride", "gradient_stride", "scratch_stride", "ld", "threads", "atoms", "structures")]
    )  # fmt: skip


@dataclass
class Output:
    """What a call gives: site arrays by name [sites], forces on all sites [sites, 3] or None, gradient [P] or None."""

    site: dict[str, Tensor]
    forces: Tensor | None
    gradient: Tensor | None
    cells: Tensor | None = None  # minus the derivative by cells at fixed sites [S, 3, 3], where global operations have one


class Kernel:
    """A program as native code."""

    def __init__(self, name: str, program: Program | None, layout: Layout, code: Code | None = None) -> None:
        self.name, self.layout = name, layout
        assert code or program
        self.code = code or generate(name, program, layout)  # type: ignore[arg-type]
        self._functions: dict[int, list] = {}  # by row length; 0 serves all

    def source(self, length: int = 0) -> str:
        """Text of the library, for rows of `length` neighbours or (0) for any."""
        return unit([self], self.layout.species, length)

    @property
    def effort(self) -> tuple[str, tuple[str, ...]]:
        """Optimisation flags: long programs are as fast with fewer passes, and their loops need no tails of shorter vectors."""
        return ("-O1", LONG_FLAGS) if self.code.long else ("-O3", ())

    def bind(self, loaded: ctypes.CDLL, length: int = 0) -> None:
        """Take the functions from a library that holds this kernel."""
        functions = [getattr(loaded, name) for name in self.code.stages]
        for function in functions:
            function.argtypes, function.restype = [ctypes.POINTER(_Args)], None
        self._functions[length] = functions

    def functions(self, length: int) -> list:
        """The stages for rows of `length`, built when first needed."""
        if length not in self._functions and 0 not in self._functions:
            optimize, extra = self.effort
            self.bind(library(self.source(length), optimize=optimize, extra=extra), length)
        return self._functions.get(length) or self._functions[0]

    def __call__(
        self,
        batch: Batch,
        parameters: Tensor,
        positions: Tensor | None = None,
        inputs: dict[str, Tensor] | None = None,
        tangents: Tensor | None = None,
        moves: Tensor | None = None,
        into: tuple[Tensor | None, Tensor] | None = None,
        by_structure: bool = False,
        cells: Tensor | None = None,
        cell_moves: Tensor | None = None,
    ) -> Output:
        """Run on a batch.

        Arguments: flat parameters [P]; positions of all sites [sites, 3] (default: the batch's own); inputs, site arrays [atoms] by
        name; tangents of the parameters [P]; moves, tangents of all sites [sites, 3]; into, zeroed tensors that take the place of forces and
        gradient; by_structure, one gradient for each structure [S, P]; cells [S, 3, 3] and their tangents, for global operations alone.
        """
        x = all_positions(batch) if positions is None else positions
        site = self._site_arrays(batch, inputs or {})
        count = 1 if batch.structures == 1 and self.code.shared else threads.count()
        shared = batch.structures == 1 and count > 1
        block = batch.offsets if by_structure else blocks(batch, self.code.together)
        forces = torch.zeros((count if shared else 1, batch.sites, 3), dtype=torch.float64) if self.code.forces else None
        gradient = torch.zeros((len(block) - 1, self.layout.size), dtype=torch.float64) if self.code.gradient else None
        if into is not None:
            forces, gradient = into
        ld = row_length(batch.max_neighbors)
        scratch = torch.empty(count * self.code.rows * ld, dtype=torch.float64)
        pointers = (ctypes.c_void_p * max(len(site), 1))(*(t.data_ptr() for t in site.values()))
        species, owner, home = _sites(batch)
        args = _Args(
            x=x.data_ptr(), species=species.data_ptr(), owner=owner.data_ptr(), home=home.data_ptr(), first=batch.first.data_ptr(), index=batch.index.data_ptr(),
            P=parameters.data_ptr(), PT=_pointer(tangents), w=_pointer(moves), site=ctypes.cast(pointers, ctypes.c_void_p), F=_pointer(forces),
            G=_pointer(gradient), block=block.data_ptr(), scratch=scratch.data_ptr(), blocks=len(block) - 1,
            force_stride=3 * batch.sites if shared else 0, gradient_stride=self.layout.size if self.code.gradient else 0,
            scratch_stride=self.code.rows * ld, ld=ld, threads=count,
            atoms=batch.atoms, structures=batch.structures,
        )  # fmt: skip
        bound = self._bound(batch, x, batch.cells if cells is None else cells, moves, cell_moves) if any(self.code.globals) else None
        self._stages(args, batch, site, bound)
        if into is not None:
            return Output(dict(site), None, None)
        total = None if forces is None else forces.sum(0) if shared else forces[0]
        by_cells = None
        if bound is not None and total is not None:
            by_x, by_h = bound.pull(self.code.pulls, lambda n: site[n][: batch.atoms])
            total[: batch.atoms] -= by_x
            by_cells = -by_h
        return Output(dict(site), total, None if gradient is None else gradient.sum(0), by_cells)

    def _stages(self, args: _Args, batch: Batch, site: dict[str, Tensor], bound: Bound | None) -> None:
        """Run the stages one after the other, with what ghosts and global operations need behind each of them."""
        for stage, function in enumerate(self.functions(args.ld)):
            function(ctypes.byref(args))
            self._exchange(batch, site, stage)
            if bound is not None:
                bound.operate(
                    self.code.globals[stage],
                    self.code.pulls,
                    lambda n: site[n][: batch.atoms],
                    lambda n, v: site[n][: batch.atoms].copy_(v),
                )

    def _bound(self, batch: Batch, x: Tensor, cells: Tensor, moves: Tensor | None, cell_moves: Tensor | None) -> Bound:
        sites = sites_of(batch, x, cells)
        if not any(m is not None and m.any() for m in (moves, cell_moves)):  # at rest: nothing changes along the moves
            return Bound(sites, None)
        moved = torch.zeros_like(sites.x) if moves is None else moves[: batch.atoms].contiguous()
        return Bound(sites, (moved, torch.zeros_like(cells) if cell_moves is None else cell_moves))

    def _site_arrays(self, batch: Batch, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        site: dict[str, Tensor] = {}
        for name in self.code.arrays:
            site[name] = torch.zeros(batch.sites, dtype=torch.float64)
            if name in inputs:
                site[name][: batch.atoms] = inputs[name]
                site[name][batch.atoms :] = site[name][batch.ghost_owner.long()] if batch.ghosts else 0.0
        return site

    def _exchange(self, batch: Batch, site: dict[str, Tensor], stage: int) -> None:
        """After a stage: ghosts take the fields of their owners, owners take what was collected on their ghosts."""
        for name in self.code.fields[stage] if batch.ghosts else []:
            site[name][batch.atoms :] = site[name][batch.ghost_owner.long()]
        for name in self.code.adjoints[stage] if batch.ghosts else []:
            site[name][: batch.atoms].index_add_(0, batch.ghost_owner.long(), site[name][batch.atoms :])
            site[name][batch.atoms :] = 0.0


def build(kernels: list[Kernel], batch: Batch) -> None:
    """Compile kernels for the row length of a batch, as many at once as the machine has cores."""
    length = row_length(batch.max_neighbors)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda k: k.functions(length), sorted(kernels, key=lambda k: -len(k.code.text))))


def row_length(neighbors: int) -> int:
    """Numbers from one row to the next: 72, 136, 264, ... so that rows fall on different cache sets; with room for whole vectors."""
    length = 64
    while length < neighbors:
        length *= 2
    return length + 8


def unit(kernels: list[Kernel], species: int, length: int = 0) -> str:
    """One translation unit with several kernels."""
    table = ", ".join(str(row("pair", species, a, b)) for a in range(species) for b in range(species))
    head = [f"#define LD {length}"] if length else []
    return "\n".join([*head, PRELUDE, f"static const int PAIR[] = {{{table}}};", *(k.code.text for k in kernels)])


def blocks(batch: Batch, together: int = 1) -> Tensor:
    """Ranges of atoms [blocks + 1]: whole structures if there are several, else equal pieces; `together`, sites that are visited at once."""
    name = f"blocks {together}"
    if name not in batch.kept_by_list:
        count = BLOCKS if together == 1 else max(1, min(BLOCKS, batch.atoms // (4 * together)))
        wanted = torch.linspace(0, batch.atoms, count + 1, dtype=torch.float64)
        if batch.structures > 1:
            found = batch.offsets[torch.searchsorted(batch.offsets.double(), wanted).clamp(max=batch.structures)]
        else:
            found = ((wanted / together).round().long() * together).clamp(max=batch.atoms)
            found[-1] = batch.atoms
        batch.kept_by_list[name] = torch.unique(found)
    return batch.kept_by_list[name]


def _sites(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Species and owner of all sites [sites], structure of each atom [atoms]."""
    if "sites" not in batch.kept_by_list:
        owner = batch.owner
        home = torch.repeat_interleave(torch.arange(batch.structures, dtype=torch.int32), batch.offsets.diff())
        batch.kept_by_list["sites"] = (batch.species[owner].contiguous(), owner.int(), home)
    return batch.kept_by_list["sites"]


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def check_species(batch: Batch, count: int) -> None:
    if batch.atoms and int(batch.species.max()) >= count:
        raise DataError(
            f"A batch with species number {int(batch.species.max())} was given to a model of {count} species. Prepare it with model.prepare(structures)."
        )


def remembered(name: str, key: str, program: Callable[[], Program], layout: Layout) -> Kernel:
    """The kernel whose code was generated in an earlier run for the same `key`, or a new one (and remember it)."""
    slots = [(s.name, s.offset, s.per, s.rows, s.shape) for s in layout.slots.values()]
    digest = sha256(json.dumps([name, key, slots, layout.species, _generator()]).encode()).hexdigest()
    found = cache.find(f"{digest}.json")
    if found is not None:
        try:
            return Kernel(name, None, layout, Code(**json.loads(found.read_text())))
        except (ValueError, TypeError, OSError):
            pass  # a damaged note is made anew
    kernel = Kernel(name, program(), layout)
    with cache.writing(f"{digest}.json") as workplace:
        note = workplace / "code.json"
        note.write_text(json.dumps(asdict(kernel.code)))
        cache.keep(note, workplace.parent / f"{digest}.json")
    return kernel


@lru_cache
def _generator() -> str:
    """Fingerprint of the code generator itself."""
    home = Path(__file__).parents[1]
    files = [home / "runtime" / "code.py", *sorted((home / "ir").glob("*.py")), *sorted((home / "codegen").glob("*.*"))]
    return sha256(b"".join(f.read_bytes() for f in files if f.suffix in (".py", ".cpp"))).hexdigest()
