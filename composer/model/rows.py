"""Rows of the Jacobian: one component of the forces or of the virial at a time.

dF_a/dtheta is the gradient by theta of minus the slope of the energy along a motion of atom a alone. Only a and its neighbours feel that
motion, so a row is the gradient kernel on these sites; a list of copied sites makes many rows one call. For N atoms with M neighbours it
costs 3 N (M + 1) gradients of a site, where a tangent for each of P numbers costs N P.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.neighbors import Batch, all_positions
from composer.runtime.kernel import Kernel

ENTRIES = 2**22  # of the neighbour list of one call
Index = NDArray[np.int64]


def force_rows(gradient: Kernel, batch: Batch, flat: Tensor, seeds: Tensor, atoms: Tensor | None = None) -> Tensor:
    """dF/dtheta [A, 3, P all] of a program of one stage.

    Arguments: gradient, the kernel; batch, full; flat, all numbers [P all]; seeds [N], weights of the site energies; atoms [A] (default all).
    """
    chosen = np.arange(batch.atoms) if atoms is None else atoms.numpy()
    out = torch.zeros(len(chosen), 3, len(flat), dtype=torch.float64)
    x, owner = all_positions(batch), batch.owner.numpy()
    reach = _reach(batch, owner)
    ends = np.searchsorted(np.cumsum([3 * len(reach[a]) * batch.max_neighbors for a in chosen]) // ENTRIES, np.arange(len(chosen) + 1))
    for start, stop in zip(ends, ends[1:], strict=False):
        if stop > start:
            patch, sites = _patch(batch, owner, chosen[start:stop], reach)
            places = torch.cat([x[sites], x.repeat(4, 1)])
            moves = _moves(patch, sites, owner, chosen[start:stop], reach, batch.sites)
            gradient(
                patch,
                flat,
                places,
                {"seed_t": seeds[sites]},
                moves=moves,
                into=(None, out[start:stop].view(-1, len(flat))),
                by_structure=True,
            )
    return out


def virial_rows(gradient: Kernel, batch: Batch, flat: Tensor, seeds: Tensor) -> Tensor:
    """dW/dtheta [S, 3, 3, P all] of a program of one stage; arguments as `force_rows`."""
    x = all_positions(batch)
    out = torch.zeros(3, 3, batch.structures, len(flat), dtype=torch.float64)
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        moves = torch.zeros_like(x)
        moves[:, b] = -x[:, a]
        gradient(batch, flat, x, {"seed_t": seeds}, moves=moves, into=(None, out[a, b]), by_structure=True)
        out[b, a] = out[a, b]
    return out.permute(2, 0, 1, 3)


def _reach(batch: Batch, owner: Index) -> list[Index]:
    """Atoms whose site energy feels each atom: itself, and those in whose rows it or an image of it stands."""
    home = np.repeat(np.arange(batch.atoms), np.diff(batch.first.numpy()))
    pairs = np.unique(np.concatenate([owner[batch.index.numpy()] * batch.atoms + home, np.arange(batch.atoms) * (batch.atoms + 1)]))
    moved, site = np.divmod(pairs, batch.atoms)
    return np.split(site, np.searchsorted(moved, np.arange(1, batch.atoms)))


def _patch(batch: Batch, owner: Index, atoms: Index, reach: list[Index]) -> tuple[Batch, Index]:
    """A batch of copied sites, one structure for each row, and the atoms they copy.

    Its ghosts are all sites of the old batch four times: at rest, and moved along x, y and z. A copy sees the moved one of its row's atom.
    """
    sites = np.concatenate([np.tile(reach[a], 3) for a in atoms])
    sizes = np.repeat([len(reach[a]) for a in atoms], 3)
    row = np.repeat(np.arange(3 * len(atoms)), sizes)
    first, counts = batch.first.numpy()[sites], np.diff(batch.first.numpy())[sites]
    starts = np.concatenate([[0], np.cumsum(counts)])
    entry = np.repeat(np.arange(len(sites)), counts)
    seen = batch.index.numpy()[np.arange(starts[-1]) - np.repeat(starts[:-1] - first, counts)].astype(np.int64)
    moved = owner[seen] == atoms[row // 3][entry]
    index = len(sites) + seen + np.where(moved, (1 + row % 3)[entry], 0) * batch.sites
    copies = np.concatenate([sites, *[owner] * 4])
    patch = replace(
        batch,
        positions=batch.positions[sites],
        species=batch.species[sites],
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
        ghost_owner=torch.zeros(4 * batch.sites, dtype=torch.int32),
        first=torch.from_numpy(starts),
        index=torch.from_numpy(index.astype(np.int32)),
    )
    # what kernels derive from owners is given outright: an atom that is seen here need not have a copy
    patch.kept_by_list["sites"] = (
        batch.species[copies].contiguous(),
        torch.zeros(len(copies), dtype=torch.int32),
        torch.from_numpy(row.astype(np.int32)),
    )
    return patch, sites


def _moves(patch: Batch, sites: Index, owner: Index, atoms: Index, reach: list[Index], count: int) -> Tensor:
    """Minus the unit motions of all sites of a patch [sites, 3]."""
    moves = torch.zeros(len(sites) + 4 * count, 3, dtype=torch.float64)
    row = np.repeat(np.arange(3 * len(atoms)), np.diff(patch.offsets.numpy()))
    own = np.flatnonzero(sites == atoms[row // 3])
    moves[own, row[own] % 3] = -1.0
    for axis in range(3):
        moves[len(sites) + (1 + axis) * count : len(sites) + (2 + axis) * count, axis] = -1.0
    return moves


__all__ = ["force_rows", "virial_rows"]
