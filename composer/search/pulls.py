"""Forces of a site function under any weights of the sites, from one call of its kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from composer.neighbors import Batch, all_positions
from composer.runtime.kernel import Kernel

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pulls:
    """The slopes of a site function x_i by places: forces and virials of sum_i s_i x_i are products with the weights s.

    Arguments: forces, -dx_i/dr_a as a sparse matrix [3 N, N]; virials, -dx_i/dstrain [N, 9]; starts, the first atom of each structure [S].
    """

    forces: csr_array
    virials: Array
    starts: NDArray[np.int64]

    def __call__(self, seeds: Array) -> tuple[Array, Array]:
        """Forces [N, 3, k] and virials [S, 3, 3, k] under k weights of the sites [N, k]."""
        each = self.virials[:, :, None] * seeds[:, None, :]
        virials = np.add.reduceat(each, self.starts).reshape(len(self.starts), 3, 3, -1)
        return (self.forces @ seeds).reshape(len(seeds), 3, -1), virials


def pulls(seeded: Kernel, batch: Batch, flat: Tensor) -> Pulls:
    """The pulls of a program of one stage at the numbers `flat`, by its kernel of forces under seeds.

    Every entry of the neighbour list gets a site of its own, so that what a site pulls at a neighbour is told apart from what others do.
    """
    atoms, entries, x = batch.atoms, len(batch.index), all_positions(batch)
    index, owner = batch.index.long(), batch.owner
    center = torch.repeat_interleave(torch.arange(atoms), batch.first.diff())  # [entries]
    apart = replace(
        batch, index=torch.arange(atoms, atoms + entries, dtype=torch.int32), ghost_owner=torch.zeros(entries, dtype=torch.int32)
    )
    structure = torch.repeat_interleave(torch.arange(batch.structures, dtype=torch.int32), batch.offsets.diff())
    species = torch.cat([batch.species, batch.species[owner[index]]])
    apart.kept_by_list["sites"] = (species, torch.zeros(atoms + entries, dtype=torch.int32), structure)
    ones = torch.ones(atoms, dtype=torch.float64)
    found = seeded(apart, flat, torch.cat([x[:atoms], x[index]]), {"seed": ones}).forces
    assert found is not None
    own, pulled = found[:atoms], found[atoms:]
    near = pulled.any(1)  # the list reaches further than most functions
    center, index, pulled = center[near], index[near], pulled[near]
    row = 3 * torch.cat([torch.arange(atoms), owner[index]])[:, None] + torch.arange(3)
    column = torch.cat([torch.arange(atoms), center]).repeat_interleave(3)
    matrix = csr_array((torch.cat([own, pulled]).flatten().numpy(), (row.flatten().numpy(), column.numpy())), shape=(3 * atoms, atoms))
    strains = ((x[index] - x[center])[:, :, None] * pulled[:, None, :]).reshape(-1, 9)
    virials = torch.zeros(atoms, 9, dtype=torch.float64).index_add(0, center, strains)
    return Pulls(matrix, virials.numpy(), batch.offsets[:-1].numpy())


__all__ = ["Pulls", "pulls"]
