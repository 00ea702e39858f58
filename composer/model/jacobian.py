"""Derivatives of energy, forces and virial by all parameters of a model at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from composer.model.result import Jacobian
from composer.neighbors import Batch, all_positions, fold, virial
from composer.runtime.kernel import Kernel

MATRIX = [0, 5, 4, 5, 1, 3, 4, 3, 2]  # place of xx, xy, ... zz in xx, yy, zz, yz, xz, xy


def jacobian(
    kernel: Callable[[str], Kernel], batch: Batch, flat: Tensor, free: Tensor, seeds: Tensor | None = None, factored: bool = True
) -> Jacobian:
    """The Jacobian by the free ones of the numbers `flat` [P all] on a full batch; `seeds` [N] weigh the site energies.

    `factored`: one kernel gives all columns; otherwise each one is a tangent.
    """
    size = len(flat)
    ones = torch.ones(batch.atoms, dtype=torch.float64) if seeds is None else seeds.to(torch.float64)
    energy = torch.zeros(batch.structures, size, dtype=torch.float64)
    kernel("parameters")(batch, flat, inputs={"seed": ones}, into=(None, energy), by_structure=True)
    if not factored:
        forces, strained = _by_tangents(kernel("tangent"), batch, flat)
    else:
        forces = torch.zeros(size, batch.atoms, 3, dtype=torch.float64)
        voigt = torch.zeros(size, batch.structures, 6, dtype=torch.float64)
        kernel("columns")(batch, flat, inputs={"seed": ones}, into=(forces, voigt))
        strained = voigt[:, :, MATRIX].reshape(-1, batch.structures, 3, 3)
    volume = torch.where(batch.pbc.all(1), torch.linalg.det(batch.cells).abs(), torch.nan)
    return Jacobian(energy[:, free], forces[free].permute(1, 2, 0), strained[free].permute(1, 2, 3, 0), volume)


def _by_tangents(tangent: Kernel, batch: Batch, flat: Tensor) -> tuple[Tensor, Tensor]:
    """Forces [P all, N, 3] and virials [P all, S, 3, 3], one forward derivative for each number."""
    forces, strained = [], []
    x = all_positions(batch)
    still = torch.zeros_like(x)
    for q in range(len(flat)):
        unit = torch.zeros_like(flat)
        unit[q] = 1.0
        out = tangent(batch, flat, x, tangents=unit, moves=still)
        assert out.forces is not None
        forces.append(fold(batch, out.forces))
        strained.append(virial(batch, x, out.forces))
    return torch.stack(forces), torch.stack(strained)
