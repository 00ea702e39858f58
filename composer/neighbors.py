"""Batches of structures with neighbour rows: made once, reused while atoms move less than half the skin.

Sites are the atoms of all structures followed by ghosts, the periodic images that neighbour rows refer to; a ghost stands at
positions[owner] + shift @ cell. Pairs come from `pairs.py`; everything else here is compiled (`runtime/support.cpp`).
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.errors import DataError
from composer.pairs import PairFinder
from composer.runtime import threads
from composer.runtime.support import support
from composer.structures import Structure, checked

Array = NDArray[Any]

_MOST_SITES = 2**31 - 1  # indices are int32


class Kept(dict[Any, Any]):
    """What others have worked out for a batch; it stays in its process."""

    def __reduce__(self) -> tuple:
        return Kept, ()


@dataclass(frozen=True, eq=False)
class Batch:
    """Structures and their neighbours, in tensors on the CPU. S structures, N atoms, G ghosts, E entries of the list.

    Row i holds the sites index[first[i]:first[i+1]], sorted: below N an atom, else ghost number index - N. The list holds all pairs
    closer than cutoff + skin (Å) at `built_positions`; with `half`, each pair once.
    """

    positions: Tensor  # float64 [N, 3], Å
    cells: Tensor  # float64 [S, 3, 3], rows are vectors, Å
    pbc: Tensor  # bool [S, 3]
    species: Tensor  # int32 [N]
    offsets: Tensor  # int64 [S + 1], atoms of structure s are offsets[s]:offsets[s + 1]
    ghost_owner: Tensor  # int32 [G], atoms, ascending
    ghost_shift: Tensor  # int32 [G, 3]
    ghost_offsets: Tensor  # int64 [S + 1]
    first: Tensor  # int64 [N + 1]
    index: Tensor  # int32 [E]
    cutoff: float
    skin: float
    half: bool
    max_neighbors: int
    built_positions: Tensor  # float64 [N, 3], where the list was built
    built_cells: Tensor  # float64 [S, 3, 3]
    excluded: Tensor | None = None  # int64 [E, 2], pairs of atoms that charges leave out, if the structures name any
    kept: Kept = dataclasses.field(init=False, repr=False, default_factory=Kept)  # for these positions
    kept_by_list: Kept = dataclasses.field(init=False, repr=False, default_factory=Kept)  # for the list, wherever atoms are

    @property
    def structures(self) -> int:
        """The number S of structures."""
        return len(self.offsets) - 1

    @property
    def atoms(self) -> int:
        """The number N of atoms."""
        return len(self.species)

    @property
    def open(self) -> tuple[int, ...]:
        """Structures that are not periodic in three directions."""
        return tuple((~self.pbc.all(1)).nonzero().flatten().tolist())

    @property
    def ghosts(self) -> int:
        """The number G of ghosts."""
        return len(self.ghost_owner)

    @property
    def sites(self) -> int:
        """The number N + G of atoms and ghosts."""
        return self.atoms + self.ghosts

    @property
    def owner(self) -> Tensor:
        """The atom of every site, int64 [N + G]: itself, or the one of which a ghost is the image."""
        return torch.cat([torch.arange(self.atoms), self.ghost_owner.long()])

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Atom and site of every entry of the list [E]."""
        return torch.repeat_interleave(torch.arange(self.atoms), self.first.diff()), self.index.long()

    def places(self) -> Tensor:
        """Positions of all sites [N + G, 3], Å."""
        return all_positions(self)


def build_batch(structures: Sequence[Structure], cutoff: float, skin: float = 0.0, half: bool = False) -> Batch:
    """Find the neighbours of all atoms, with ghosts for those in other cells.

    Arguments: structures, one (species [n] as numbers from 0, positions [n, 3] Å, cell [3, 3] Å with vectors in rows, pbc [3]) each;
    vectors of directions that are not periodic have no effect and may be zero; cutoff and skin, Å; half, keep each pair once, in the row
    of either atom, such that rows are about equally long.
    Returns: a Batch that holds copies, equal for equal input.
    Errors: DataError for numbers that are not finite, shapes that do not fit, cells without volume, a cutoff that is not positive.
    """
    species, positions, cells, pbc = checked(structures, cutoff, skin)
    offsets = np.cumsum([0, *map(len, positions)])
    rows = _Rows(offsets, cutoff + skin, half)
    for x, cell, periodic in zip(positions, cells, pbc, strict=True):
        rows.add(x, cell, periodic)
    first, index, owner, shift = rows.join()
    x, c = torch.from_numpy(np.concatenate([np.empty((0, 3)), *positions])), torch.from_numpy(cells)
    return Batch(
        positions=x,
        cells=c,
        pbc=torch.from_numpy(pbc),
        species=torch.from_numpy(np.concatenate([np.empty(0, np.int32), *species])),
        offsets=torch.from_numpy(offsets),
        ghost_owner=torch.from_numpy(owner),
        ghost_shift=torch.from_numpy(shift),
        ghost_offsets=torch.tensor(rows.ghost_offsets),
        first=torch.from_numpy(first),
        index=torch.from_numpy(index),
        cutoff=float(cutoff),
        skin=float(skin),
        half=half,
        max_neighbors=int(np.diff(first).max(initial=0)),
        built_positions=x,
        built_cells=c,
    )


def update(batch: Batch, positions: Tensor, cells: Tensor | None = None) -> Batch:
    """The same atoms and the same list at other positions [N, 3] (Å) and in other cells [S, 3, 3] (Å).

    The list is not looked at: ask `needs_rebuild` first. Nothing is copied: float64 tensors given here are those of the new batch.
    Errors: DataError when a shape does not fit.
    """
    positions, cells = _places(batch, positions, cells)
    moved = dataclasses.replace(batch, positions=positions, cells=cells)
    moved.kept_by_list.update(batch.kept_by_list)
    return moved


def needs_rebuild(batch: Batch, positions: Tensor, cells: Tensor | None = None) -> bool:
    """Whether a pair that is missing in the list could have come closer than the cutoff.

    With F the deformation that carries the old cell into the new one, d a pair's old vector and u what atoms move beyond F (the mean
    of a structure taken off), |d F + u_j - u_i| >= s (cutoff + skin) - 2 max|u|, s the smallest singular value of F; so the list holds
    while max|u| <= (s (cutoff + skin) - cutoff) / 2, which is half the skin in a cell that stays.

    Arguments: positions [N, 3] and cells [S, 3, 3], Å.
    Returns: True also when a number is not finite.
    """
    positions, cells = _places(batch, positions, cells)
    reach = batch.cutoff + batch.skin
    deformation = torch.eye(3, dtype=torch.float64).repeat(batch.structures, 1, 1)
    margin = torch.full((batch.structures,), batch.skin / 2, dtype=torch.float64)
    if not torch.equal(cells, batch.built_cells):
        if not bool(torch.isfinite(cells).all()):
            return True
        old, new = batch.built_cells * batch.pbc[:, :, None], cells * batch.pbc[:, :, None]
        deformation += torch.linalg.pinv(old) @ (new - old)
        margin = (torch.linalg.svdvals(deformation)[:, -1] * reach - batch.cutoff) / 2
    arguments = (batch.offsets, positions, batch.built_positions, deformation.contiguous(), margin)
    return bool(support().moved(threads.count(), batch.structures, *map(_pointer, arguments)))


def overlap(batch: Batch, least: float) -> tuple[int, int] | None:
    """The first two atoms of the list, or an atom and an image, that stand closer than `least` (Å); None where there are none."""
    arguments = (batch.first, batch.index, all_positions(batch))
    entry = int(support().overlap(threads.count(), batch.atoms, *map(_pointer, arguments), least))
    if entry == len(batch.index):
        return None
    return int(torch.searchsorted(batch.first, entry, right=True)) - 1, int(batch.owner[int(batch.index[entry])])


def all_positions(batch: Batch, positions: Tensor | None = None, cells: Tensor | None = None) -> Tensor:
    """Positions of all sites: x_i for atoms, x_owner + shift @ cell for ghosts.

    Arguments: positions [N, 3] and cells [S, 3, 3] in Å, those of the batch by default; no derivatives flow through.
    Returns: [N + G, 3], Å.
    """
    positions, cells = _places(batch, positions, cells)
    sites = torch.empty(batch.sites, 3, dtype=torch.float64)
    arguments = (batch.ghost_offsets, batch.ghost_owner, batch.ghost_shift, positions, cells, sites)
    support().all_positions(threads.count(), batch.structures, batch.atoms, *map(_pointer, arguments))
    return sites


def differentiable_positions(batch: Batch, positions: Tensor, cells: Tensor) -> Tensor:
    """The same as `all_positions` in plain torch, for any derivative and any floating dtype.

    Arguments: positions [N, 3] and cells [S, 3, 3], Å.
    Returns: [N + G, 3], Å.
    """
    shift, owner = batch.ghost_shift.to(cells.dtype), batch.ghost_owner.long()  # [G, 3], [G]
    if batch.structures == 1:
        moved = shift @ cells[0]
    else:
        home = torch.repeat_interleave(torch.arange(batch.structures), batch.ghost_offsets.diff())  # [G]
        moved = torch.einsum("ga,gab->gb", shift, cells[home])
    return torch.cat([positions, positions.index_select(0, owner) + moved])


def fold(batch: Batch, values: Tensor) -> Tensor:
    """Add what ghosts have received to their owners: out_i = v_i + sum of v_g over the ghosts g of i.

    Arguments: values [N + G, ...], for example forces in eV/Å.
    Returns: [N, ...], same for any number of threads.
    """
    values = _as_float(values, "values", (batch.sites, *values.shape[1:]))
    folded = torch.empty(batch.atoms, *values.shape[1:], dtype=torch.float64)
    arguments = (batch.ghost_offsets, batch.ghost_owner, values, folded)
    support().fold(threads.count(), batch.structures, batch.atoms, math.prod(values.shape[1:]), *map(_pointer, arguments))
    return folded


def virial(batch: Batch, positions: Tensor, forces: Tensor, by_cells: Tensor | None = None) -> Tensor:
    """The virial of each structure, W = sum over its sites of x (outer) F = -dE/dstrain = -V stress (ASE's sign of stress).

    Arguments: positions, Å, and forces, eV/Å, of all sites [N + G, 3], forces not yet folded; by_cells [S, 3, 3], eV/Å, minus the slopes of
    sums over all images by the cells h, which add h^T times them.
    Returns: [S, 3, 3], eV, same for any number of threads.
    """
    positions, forces = (_as_float(value, "values of sites", (batch.sites, 3)) for value in (positions, forces))
    total = torch.empty(batch.structures, 3, 3, dtype=torch.float64)
    arguments = (batch.offsets, batch.ghost_offsets, positions, forces, total)
    support().virial(threads.count(), batch.structures, batch.atoms, *map(_pointer, arguments))
    return total if by_cells is None else total + batch.cells.transpose(1, 2) @ by_cells


def motion(batch: Batch, by_forces: Tensor, by_virial: Tensor) -> tuple[Tensor, Tensor]:
    """The motion of sites and cells that carries a loss L of forces and virials back to the energy: -(dL/dF + x dL/dW) and -h dL/dW.

    The derivative of the energy along it has the same slopes by parameters as L; it is the adjoint of `fold` and `virial`, with F = -dE/dx.
    Arguments: slopes by the forces of atoms [N, 3] and by the virials of structures [S, 3, 3].
    Returns: motions of all sites [N + G, 3] and of cells [S, 3, 3], which sums over all images see by themselves.
    """
    by_sites = by_forces[batch.owner]
    if by_virial.any():  # data without virials are common, and the sum costs as much as everything else here
        home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())[batch.owner]
        by_sites = by_sites + torch.einsum("sa,sab->sb", all_positions(batch), by_virial[home])
    return -by_sites, -(batch.cells @ by_virial)


class _Rows:
    """Neighbour rows and ghosts, one structure after the other: pairs are found and packed at once."""

    def __init__(self, offsets: Array, reach: float, half: bool) -> None:
        self.offsets, self.half = offsets, half
        self.pairs_of = PairFinder(reach)
        self.parts: list[tuple[Array, Array, Array, Array]] = []  # first, index, ghost owner, ghost shift of each structure
        self.ghost_offsets, self.entries = [0], 0

    def add(self, positions: Array, cell: Array, pbc: Array) -> None:
        """Append one structure; positions [n, 3] and cell [3, 3] in Å."""
        atoms, (pairs, shifts) = len(positions), self.pairs_of(positions, cell, pbc)
        sizes = (ctypes.c_int64 * 2)()
        handle = support().packing_open(atoms, len(pairs), pairs.ctypes.data, shifts.ctypes.data, self.half, sizes)
        entries, ghosts = sizes
        first, index = np.empty(atoms, np.int64), np.empty(entries, np.int32)
        owner, shift = np.empty(ghosts, np.int32), np.empty((ghosts, 3), np.int32)
        start = int(self.offsets[len(self.ghost_offsets) - 1])
        site = int(self.offsets[-1]) + self.ghost_offsets[-1]
        fits = site + ghosts <= _MOST_SITES
        outputs = [array.ctypes.data if fits else None for array in (first, index, owner, shift)]
        support().packing_close(threads.count(), handle, start, site, self.entries, *outputs)
        if not fits:
            raise DataError("All structures were asked for in one batch", "It has more than 2^31 sites", "Split the list of structures")
        self.parts.append((first, index, owner, shift))
        self.ghost_offsets.append(self.ghost_offsets[-1] + ghosts)
        self.entries += entries

    def join(self) -> tuple[Array, Array, Array, Array]:
        """The rows of all structures: first [N + 1], index [E], ghost owner [G], ghost shift [G, 3]."""
        if len(self.parts) == 1:  # one large structure is not copied
            first, index, owner, shift = self.parts[0]
        else:
            nothing = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, 3), np.int32))
            first, index, owner, shift = (np.concatenate(parts) for parts in zip(nothing, *self.parts, strict=True))
        return np.concatenate([[0], first]), index, owner, shift


def _places(batch: Batch, positions: Tensor | None, cells: Tensor | None) -> tuple[Tensor, Tensor]:
    x, c = batch.positions if positions is None else positions, batch.cells if cells is None else cells
    return _as_float(x, "positions", (batch.atoms, 3)), _as_float(c, "cells", (batch.structures, 3, 3))


def _as_float(value: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    if tuple(value.shape) != shape:
        raise DataError(f"A batch was given {name}", f"Their shape is {list(value.shape)}", f"Pass {list(shape)}")
    return value.detach().to(device="cpu", dtype=torch.float64).contiguous()


def _pointer(tensor: Tensor) -> int:
    return tensor.data_ptr()
