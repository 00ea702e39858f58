"""A batch of structures on a device: what CUDA kernels read, and the list of neighbours made there."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from composer.codegen.cuda import BLOCK
from composer.errors import DataError
from composer.runtime.launch import Builder, Launch
from composer.structures import Structure, checked

SLICE = 32  # atoms whose rows of neighbours are interleaved: the threads of a warp read entries that lie side by side
SOURCE = Path(__file__).with_name("neighbors.cu").read_text(encoding="utf-8")
KERNELS = ("count_images", "write_images", "place_sites", "find_bins", "count_neighbors", "write_neighbors", "find_moves")
TENSORS = (
    "positions", "cells", "dual", "pbc", "home", "species", "owner", "shift", "x", "images", "low", "width", "bins", "bin", "order", "start",
    "first", "count", "index", "built", "built_cells", "stale",
)  # fmt: skip
MOST_BINS = 4  # bins for each site


class ListArgs(ctypes.Structure):
    """ListArgs of neighbors.cu."""

    _fields_ = [
        *((n, ctypes.c_void_p) for n in TENSORS),
        *((n, ctypes.c_int64) for n in ("atoms", "sites", "stride")),
        ("cutoff", ctypes.c_double),
        ("reach", ctypes.c_double),
    ]


@dataclass(frozen=True, eq=False)
class DeviceBatch:
    """Structures and their neighbours on a device; S structures, N atoms, M sites: atoms and after them their images.

    Entry e of the row of atom i is the site index[first[i] + e * stride]; both sides of each pair are listed. Site s stands at
    positions[owner[s]] + shift[s] @ cell. `positions` and `cells` may be written in place, then `place` again.
    """

    positions: Tensor  # float64 [N, 3], Å
    cells: Tensor  # float64 [S, 3, 3], Å
    pbc: Tensor  # bool [S, 3]
    species: Tensor  # int32 [N]
    home: Tensor  # int32 [N], structure of an atom
    offsets: Tensor  # int64 [S + 1]
    cutoff: float
    skin: float
    kernels: dict[str, Launch] = field(repr=False)
    dual: Tensor  # float64 [S, 3, 3] of the cells at which the list was built
    built: Tensor  # float64 [N, 3]
    built_cells: Tensor  # float64 [S, 3, 3]
    owner: Tensor  # int32 [M]
    shift: Tensor  # int32 [M, 3]
    x: Tensor  # float64 [M, 4]: x, y, z in Å, and two int32: owner and species
    first: Tensor  # int64 [N]
    count: Tensor  # int32 [N]
    index: Tensor  # int32
    stale: Tensor  # int32 [1]
    max_neighbors: int
    open: tuple[int, ...]  # structures that are not periodic in three directions
    stride: int = SLICE
    excluded: Tensor | None = None  # int64 [E, 2] on the host, pairs of atoms that charges leave out, if the structures name any
    kept: dict[tuple, Any] = field(default_factory=dict, repr=False)  # what is worked out once for a list

    @property
    def atoms(self) -> int:
        """The number N of atoms."""
        return len(self.species)

    @property
    def structures(self) -> int:
        """The number S of structures."""
        return len(self.cells)

    @property
    def sites(self) -> int:
        """The number M of sites."""
        return len(self.owner)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.positions.device

    def place(self) -> None:
        """Bring all sites to where positions and cells are now; waits for nothing."""
        self._launch("place_sites", self.sites)

    def look(self) -> Tensor:
        """Set `stale` [1] to 1 if a pair that is not listed could have come within the cutoff, else to 0; waits for nothing."""
        self.stale.zero_()
        self._launch("find_moves", self.atoms)
        return self.stale

    def rebuilt(self) -> DeviceBatch:
        """The same structures with a list of neighbours for where they are now; the host waits for two numbers of the device."""
        return _listed(self)

    def moved_to(self, positions: Tensor, cells: Tensor | None = None) -> DeviceBatch:
        """The same list at other positions [N, 3] and cells [S, 3, 3] in Å: float64 tensors of this device, not copied, and placed."""
        cells = self.cells if cells is None else cells
        for name, new, old in (("positions", positions, self.positions), ("cells", cells, self.cells)):
            if new.shape != old.shape or new.dtype != old.dtype or new.device != old.device or not new.is_contiguous():
                found = f"They are {new.dtype} {list(new.shape)} on {new.device}"
                raise DataError(f"A batch was given {name}", found, f"Pass contiguous {old.dtype} {list(old.shape)} on {old.device}")
        moved = replace(self, positions=positions, cells=cells, x=torch.empty_like(self.x))
        moved.place()
        return moved

    def by_structure(self, site: Tensor) -> Tensor:
        """Sums of site values [N, ...] over the atoms of each structure [S, ...], in float64 and in an order of their own."""
        if self.structures == 1:
            return site.sum(0, keepdim=True, dtype=torch.float64)
        return torch.segment_reduce(site.to(torch.float64), "sum", offsets=self.offsets, axis=0)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Atom and site of every entry of the list [E]."""
        atom = torch.repeat_interleave(torch.arange(self.atoms, device=self.device), self.count)
        entry = torch.arange(len(atom), device=self.device) - (torch.cumsum(self.count, 0) - self.count)[atom]
        return atom, self.index[self.first[atom] + entry * self.stride].long()

    def places(self) -> Tensor:
        """Positions of all sites [M, 3], Å."""
        return self.x[:, :3]

    def _launch(self, kernel: str, items: int, **more: Tensor) -> None:
        if items:
            self.kernels[kernel](self._args(**more), -(-items // BLOCK), BLOCK)

    def _args(self, **more: Tensor) -> ListArgs:
        known = {n: more[n] if n in more else getattr(self, n, None) for n in TENSORS}
        pointers = {n: t.data_ptr() for n, t in known.items() if t is not None}
        reach = self.cutoff + self.skin
        return ListArgs(**pointers, atoms=self.atoms, sites=self.sites, stride=self.stride, cutoff=self.cutoff, reach=reach)


def device_batch(structures: Sequence[Structure], cutoff: float, skin: float, device: str | torch.device, build: Builder) -> DeviceBatch:
    """Structures on a device, with their neighbours within cutoff + skin (Å).

    Arguments: structures as for `composer.neighbors.build_batch`; build, which compiles the kernels of lists.
    Errors: DataError for numbers that are not finite, shapes that do not fit, cells without volume, a cutoff that is not positive.
    """
    species, positions, cells, pbc = checked(structures, cutoff, skin)
    sizes = torch.tensor([len(x) for x in positions], dtype=torch.int64)
    nothing = torch.empty(0, device=device)

    def whole(parts: list, last: tuple[int, ...], dtype: type) -> Tensor:
        return torch.from_numpy(np.concatenate([np.empty((0, *last), dtype), *parts])).to(device)

    x, h = whole(positions, (3,), np.float64), torch.from_numpy(cells).to(device)
    bare = DeviceBatch(
        positions=x,
        cells=h,
        pbc=torch.from_numpy(pbc).to(device),
        species=whole(species, (), np.int32),
        home=torch.repeat_interleave(torch.arange(len(sizes), dtype=torch.int32), sizes).to(device),
        offsets=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).to(device),
        cutoff=float(cutoff),
        skin=float(skin),
        kernels=dict(zip(KERNELS, build(SOURCE, KERNELS), strict=True)),
        **dict.fromkeys(("dual", "built", "built_cells", "owner", "shift", "x", "first", "count", "index"), nothing),
        stale=torch.zeros(1, dtype=torch.int32, device=device),
        max_neighbors=0,
        open=tuple(np.flatnonzero(~pbc.all(1)).tolist()),
    )
    return _listed(bare)


def _listed(old: DeviceBatch) -> DeviceBatch:
    """The batch with images, bins and rows made anew."""
    device, atoms = old.device, old.atoms
    dual = torch.linalg.pinv((old.cells * old.pbc[:, :, None]).cpu()).to(device).contiguous()  # [S, 3, 3], 3 x 3 each: quicker on the CPU
    batch = replace(old, kept={}, dual=dual, built=old.positions.clone(), built_cells=old.cells.clone())
    images = torch.empty(atoms, dtype=torch.int64, device=device)
    batch._launch("count_images", atoms, images=images)
    ghosts = int(images.sum())
    start = torch.cumsum(images, 0) - images

    def empty(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    sites = atoms + ghosts
    batch = replace(
        batch, owner=empty(torch.int32, sites), shift=empty(torch.int32, sites, 3), x=empty(torch.float64, sites, 4),
        first=empty(torch.int64, atoms), count=empty(torch.int32, atoms),
    )  # fmt: skip
    batch._launch("write_images", atoms, images=start)
    batch.place()
    bins = _bins(batch)
    batch._launch("count_neighbors", atoms, **bins)
    first, length, longest = _slices(batch.count)
    batch = replace(batch, first=first, index=torch.zeros(length, dtype=torch.int32, device=device), max_neighbors=longest)
    batch._launch("write_neighbors", atoms, **bins)
    return batch


def _bins(batch: DeviceBatch) -> dict[str, Tensor]:
    """Sites in boxes with edges of at least the reach; as many boxes as the sites can fill."""
    reach = batch.cutoff + batch.skin
    low, high, sites = _corners(batch)
    extent = (high - low).clamp(min=0.0).nan_to_num(0.0)
    low = low.nan_to_num(0.0)
    number = torch.floor(extent / reach).clamp(min=1.0)  # [S, 3]
    room = MOST_BINS * sites.clamp(min=1)
    crowd = (number.prod(1) / room).clamp(min=1.0) ** (1 / 3)  # a gas fills few boxes: they are made wider
    number = torch.floor(torch.minimum(number / crowd[:, None], room[:, None].double())).clamp(min=1.0)
    width = torch.where(number > 1, extent / number, torch.clamp(extent, min=reach))
    count = number.long()
    base = torch.cumsum(count.prod(1), 0)
    made = {"low": low, "width": width.contiguous(), "bins": torch.cat([count, (base - count.prod(1))[:, None]], 1).contiguous()}
    made["bin"] = torch.empty(batch.sites, dtype=torch.int64, device=batch.device)
    batch._launch("find_bins", batch.sites, **made)
    filled, order = torch.sort(made["bin"], stable=True)
    total = int(base[-1]) if batch.structures else 0
    start = torch.searchsorted(filled, torch.arange(total + 1, device=batch.device))
    return made | {"order": order, "start": start}


def _corners(batch: DeviceBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Lowest and highest coordinates of the sites of each structure [S, 3], and how many they are [S]."""
    x, corner = batch.x[:, :3], torch.full((batch.structures, 3), torch.inf, dtype=torch.float64, device=batch.device)
    if batch.structures == 1 and batch.sites:  # a million sites would wait for each other at three numbers
        low, high = torch.aminmax(x, dim=0)
        return low[None], high[None], torch.full((1,), batch.sites, device=batch.device)
    home = batch.home[batch.owner.long()].long()
    wide = home[:, None].expand(-1, 3)
    sites = torch.zeros(batch.structures, dtype=torch.int64, device=batch.device).index_add_(0, home, torch.ones_like(home))
    return corner.scatter_reduce(0, wide, x, "amin"), (-corner).scatter_reduce(0, wide, x, "amax"), sites


def _slices(count: Tensor) -> tuple[Tensor, int, int]:
    """Where the rows of atoms begin [N], how long all of them are together, and how long the longest is."""
    atoms = len(count)
    rows = torch.zeros(-(-atoms // SLICE) * SLICE, dtype=torch.int64, device=count.device)
    rows[:atoms] = count
    longest = rows.reshape(-1, SLICE).amax(1) if atoms else rows
    start = (torch.cumsum(longest, 0) - longest) * SLICE  # of the slices
    atom = torch.arange(atoms, device=count.device)
    ends = torch.stack([longest.sum() * SLICE, rows.max() if atoms else rows.sum()]).tolist()
    return start[atom // SLICE] + atom % SLICE, *ends


__all__ = ["KERNELS", "SOURCE", "DeviceBatch", "device_batch"]
