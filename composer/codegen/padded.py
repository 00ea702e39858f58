"""Neighbours of the reference: found by a loop over images, kept in padded rows, shared with nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

F64 = torch.float64


class Structures(Protocol):
    """The part of a Batch that the oracle reads; its neighbour list is ignored."""

    @property
    def positions(self) -> Tensor: ...  # [N, 3], Å
    @property
    def cells(self) -> Tensor: ...  # [S, 3, 3], Å
    @property
    def pbc(self) -> Tensor: ...  # [S, 3]
    @property
    def species(self) -> Tensor: ...  # [N]
    @property
    def offsets(self) -> Tensor: ...  # [S + 1]


class Padded:
    """Neighbours of each atom within a cutoff, by a loop over images: owner [N, M], shift [N, M, 3], real [N, M]; home [N]."""

    def __init__(self, batch: Structures, cutoff: float) -> None:
        found: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in range(len(batch.positions))]
        offsets = batch.offsets.tolist()
        for s, (start, stop) in enumerate(itertools.pairwise(offsets)):
            x, cell = batch.positions[start:stop].to(F64), batch.cells[s].to(F64) * batch.pbc[s][:, None]
            for shift in _images(x, cell, cutoff) if len(x) else ():
                d = x[None, :] + torch.tensor(shift, dtype=F64) @ cell - x[:, None]  # [n, n, 3]
                near = (d**2).sum(-1) < (1.0 + 1e-9) * cutoff**2
                if not any(shift):
                    near.fill_diagonal_(False)
                for i, j in near.nonzero().tolist():
                    found[start + i].append((start + j, shift))
        width = max((len(row_) for row_ in found), default=0) or 1
        padding = [(0, (0, 0, 0))] * width
        self.home = torch.repeat_interleave(torch.arange(len(offsets) - 1), batch.offsets.diff())  # [N]
        self.owner = torch.tensor([[o for o, _ in (*row_, *padding)][:width] for row_ in found])
        self.shift = torch.tensor([[t for _, t in (*row_, *padding)][:width] for row_ in found], dtype=F64)
        self.real = torch.tensor([[n < len(row_) for n in range(width)] for row_ in found])

    def displacements(self, batch: Structures, x: Tensor, strain: Tensor | None) -> Tensor:
        moved = torch.einsum("nma,nab->nmb", self.shift, batch.cells.to(F64)[self.home])
        d = x[self.owner] + moved - x[:, None]
        return d if strain is None else d + torch.einsum("nma,nab->nmb", d, strain[self.home])


def _images(x: Tensor, cell: Tensor, cutoff: float) -> Iterator[tuple[int, ...]]:
    """Shifts of the cell that can bring a pair within the cutoff: |n_a| <= cutoff |b_a| + spread of the fractional coordinates."""
    dual = torch.linalg.pinv(cell)  # columns are the reciprocal vectors
    fractional = x @ dual
    spread = fractional.amax(0) - fractional.amin(0)
    reach = torch.where(cell.norm(dim=1) > 0, torch.floor(cutoff * dual.norm(dim=0) + spread + 1e-6), 0.0)
    return itertools.product(*(range(-int(n), int(n) + 1) for n in reach.tolist()))
