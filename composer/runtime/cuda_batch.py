"""A batch of structures on a device: what CUDA kernels read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from composer.neighbors import Batch

SLICE = 32  # atoms whose rows of neighbours are interleaved: the threads of a warp read entries that lie side by side


@dataclass(frozen=True, eq=False)
class DeviceBatch:
    """Structures and their neighbours on a device; S structures, N atoms, G ghosts, both sides of each pair listed.

    Entry e of the row of atom i is index[first[i] + e * stride], a site: below N an atom, else ghost number index - N.
    """

    sites: Tensor  # float64 [N + G, 4]: x, y, z in Å, and two int32: the atom that a site is an image of, its species
    positions: Tensor  # float64 [N, 3], Å
    cells: Tensor  # float64 [S, 3, 3], Å
    pbc: Tensor  # bool [S, 3]
    species: Tensor  # int32 [N]
    home: Tensor  # int32 [N], structure of an atom
    offsets: Tensor  # int64 [S + 1]
    ghost_owner: Tensor  # int32 [G]
    ghost_shift: Tensor  # int32 [G, 3]
    first: Tensor  # int64 [N]
    count: Tensor  # int32 [N]
    index: Tensor  # int32
    stride: int
    max_neighbors: int
    cutoff: float
    skin: float
    built_positions: Tensor  # float64 [N, 3]
    built_cells: Tensor  # float64 [S, 3, 3]

    @property
    def atoms(self) -> int:
        """The number N of atoms."""
        return len(self.species)

    @property
    def structures(self) -> int:
        """The number S of structures."""
        return len(self.cells)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.positions.device


def on_device(batch: Batch, device: str | torch.device) -> DeviceBatch:
    """A batch with full rows, copied to a device; its list of neighbours is kept in slices."""
    home = torch.repeat_interleave(torch.arange(batch.structures, dtype=torch.int32), batch.offsets.diff())
    first, count, index = sliced(batch.first.to(device), batch.index.to(device))
    made = DeviceBatch(
        sites=torch.empty(batch.sites, 4, dtype=torch.float64, device=device),
        positions=batch.positions.clone().to(device),
        cells=batch.cells.clone().to(device),
        pbc=batch.pbc.to(device),
        species=batch.species.to(device),
        home=home.to(device),
        offsets=batch.offsets.to(device),
        ghost_owner=batch.ghost_owner.to(device),
        ghost_shift=batch.ghost_shift.to(device),
        first=first,
        count=count,
        index=index,
        stride=SLICE,
        max_neighbors=batch.max_neighbors,
        cutoff=batch.cutoff,
        skin=batch.skin,
        built_positions=batch.built_positions.to(device),
        built_cells=batch.built_cells.to(device),
    )
    name_sites(made)
    return made


def name_sites(batch: DeviceBatch) -> None:
    """Write atom and species of every site."""
    atoms = torch.arange(batch.atoms, dtype=torch.int32, device=batch.device)
    owner = torch.cat([atoms, batch.ghost_owner])
    batch.sites.view(torch.int32)[:, 6] = owner
    batch.sites.view(torch.int32)[:, 7] = batch.species[owner.long()]


def moved_to(batch: DeviceBatch, positions: Tensor, cells: Tensor | None = None) -> DeviceBatch:
    """The same list at other positions [N, 3] and cells [S, 3, 3] in Å, tensors of the device that are not copied."""
    return replace(batch, positions=positions, cells=batch.cells if cells is None else cells)


def sliced(first: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of CSR (first [N + 1], index) interleaved by slices of atoms: first [N], count [N], index."""
    atoms, count = len(first) - 1, first.diff()
    rows = torch.zeros(-(-atoms // SLICE) * SLICE, dtype=torch.int64, device=first.device)
    rows[:atoms] = count
    longest = rows.reshape(-1, SLICE).amax(1) if atoms else rows
    start = (torch.cumsum(longest, 0) - longest) * SLICE  # of the slices
    atom = torch.arange(atoms, device=first.device)
    place = start[atom // SLICE] + atom % SLICE if atoms else atom
    entry = torch.repeat_interleave(atom, count)
    within = torch.arange(len(index), device=first.device) - first[:-1][entry]
    out = torch.zeros(int(longest.sum()) * SLICE, dtype=torch.int32, device=first.device)
    out[place[entry] + within * SLICE] = index
    return place, count.to(torch.int32), out


__all__ = ["SLICE", "DeviceBatch", "moved_to", "name_sites", "on_device", "sliced"]
