"""Derivatives of energy, forces and virial by the parameters of a model: of a loss, along a direction, and all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from composer.model.result import Jacobian, Result
from composer.model.rows import force_rows, virial_rows
from composer.model.structures import by_structure, matrices
from composer.neighbors import Batch, all_positions, fold, motion, virial
from composer.runtime.cuda_batch import DeviceBatch
from composer.runtime.kernel import Kernel


def gradient(
    kernel: Callable[[str], Kernel],
    batch: Batch,
    flat: Tensor,
    by_energy: Tensor | None,
    by_forces: Tensor | None,
    by_virial: Tensor | None,
) -> Tensor:
    """Gradient of a loss by the numbers `flat` [P all] on a full batch, from its slopes by energies [S], forces [N, 3] and virials [S, 3, 3]."""

    def given(slope: Tensor | None, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64) if slope is None else slope

    seed = given(by_energy, batch.structures).repeat_interleave(batch.offsets.diff())
    moves, cell_moves = motion(batch, given(by_forces, batch.atoms, 3), given(by_virial, batch.structures, 3, 3))
    inputs = {"seed": seed, "seed_t": torch.ones_like(seed)}
    found = kernel("gradient")(batch, flat, inputs=inputs, moves=moves, cell_moves=cell_moves).gradient
    assert found is not None
    return found


def along(kernel: Callable[[str], Kernel], batch: Batch, flat: Tensor, tangents: Tensor) -> Result:
    """Derivatives of energies, forces and virials along a direction [P all] of the numbers `flat` on a full batch."""
    x = all_positions(batch)
    out = kernel("tangent")(batch, flat, x, tangents=tangents, moves=torch.zeros_like(x))
    assert out.forces is not None
    site = out.site["e_t"][: batch.atoms]
    return Result(batch, by_structure(batch, site), fold(batch, out.forces), virial(batch, x, out.forces, out.cells), lambda: site)


def jacobian(
    kernel: Callable[[str], Kernel], batch: Batch, flat: Tensor, free: Tensor, staged: Sequence[int] | None, seeds: Tensor | None = None
) -> Jacobian:
    """The Jacobian by the free ones of the numbers `flat` [P all] on a full batch; `seeds` [N] weigh the site energies.

    Numbers in `staged` share nothing: they take one tangent of the whole energy each, or rows of it for all of them at once, whichever is less
    work; None stands for all numbers, and that there is no kernel of columns.
    """
    size = len(flat)
    ones = torch.ones(batch.atoms, dtype=torch.float64) if seeds is None else seeds.to(torch.float64)
    energy = torch.zeros(batch.structures, size, dtype=torch.float64)
    kernel("parameters")(batch, flat, inputs={"seed": ones}, into=(None, energy), by_structure=True)
    forces = torch.zeros(size, batch.atoms, 3, dtype=torch.float64)
    voigt = torch.zeros(size, batch.structures, 6, dtype=torch.float64)
    if staged is None:
        staged = free.nonzero().flatten().tolist()
    else:
        kernel("columns")(batch, flat, inputs={"seed": ones}, into=(forces, voigt))
    strained = matrices(voigt)
    if staged and by_rows(kernel, batch, len(staged)):
        forces[staged] = force_rows(kernel("gradient"), batch, flat, ones)[..., staged].permute(2, 0, 1)
        strained[staged] = virial_rows(kernel("gradient"), batch, flat, ones)[..., staged].permute(3, 0, 1, 2)
    elif staged:
        _by_tangents(kernel("tangent"), batch, flat, staged, forces, strained)
    return Jacobian(energy[:, free], forces[free].permute(1, 2, 0), strained[free].permute(1, 2, 3, 0), volumes(batch))


def rows(kernel: Callable[[str], Kernel], batch: Batch, flat: Tensor, free: Tensor, atoms: Tensor, virials: bool) -> Jacobian:
    """The Jacobian with the forces on some atoms alone [A, 3, P], row by row, of a program of one stage; without `virials` these are zero."""
    one = torch.ones(batch.atoms, dtype=torch.float64)
    energy = torch.zeros(batch.structures, len(flat), dtype=torch.float64)
    kernel("parameters")(batch, flat, inputs={"seed": one}, into=(None, energy), by_structure=True)
    forces = force_rows(kernel("gradient"), batch, flat, one, atoms)
    still = torch.zeros(batch.structures, 3, 3, len(flat), dtype=torch.float64)
    strained = virial_rows(kernel("gradient"), batch, flat, one) if virials else still
    return Jacobian(energy[:, free], forces[..., free], strained[..., free], volumes(batch))


def site_jacobian(kernel: Callable[[str], Kernel], batch: Batch, flat: Tensor, numbers: Tensor) -> Tensor:
    """Derivatives of the site energies [N, K] by K of the numbers `flat` [P all] on a full batch, `numbers` their places.

    Of a program of one stage the gradient with every atom as a structure of its own; else, where the energy of a site reads scalars that
    belong to others, one tangent for each number.
    """
    if len(kernel("gradient").code.stages) > 1:
        columns = [kernel("tangent")(batch, flat, tangents=unit, moves=still).site["e_t"] for unit, still in _units(batch, flat, numbers)]
        return torch.stack([c[: batch.atoms] for c in columns], dim=1) if columns else torch.zeros(batch.atoms, 0, dtype=torch.float64)
    each = replace(batch, offsets=torch.arange(batch.atoms + 1))
    out = torch.zeros(batch.atoms, len(flat), dtype=torch.float64)
    ones = torch.ones(batch.atoms, dtype=torch.float64)
    kernel("parameters")(each, flat, all_positions(batch), inputs={"seed": ones}, into=(None, out), by_structure=True)
    return out[:, numbers]


def volumes(batch: Batch | DeviceBatch) -> Tensor:
    """Volumes in Å^3 [S], NaN where a structure is not periodic in three directions."""
    return torch.where(batch.pbc.all(1), torch.linalg.det(batch.cells).abs(), torch.nan)


def by_rows(kernel: Callable[[str], Kernel], batch: Batch, numbers: int) -> bool:
    """Whether rows are possible (the energy has one stage) and fewer evaluations of a site than tangents of so many numbers."""
    return 3 * (len(batch.index) + batch.atoms) < numbers * batch.atoms and len(kernel("gradient").code.stages) == 1


def _by_tangents(tangent: Kernel, batch: Batch, flat: Tensor, numbers: Sequence[int], forces: Tensor, strained: Tensor) -> None:
    """Forces [P all, N, 3] and virials [P all, S, 3, 3], one forward derivative for each of the numbers."""
    x = all_positions(batch)
    for q, (unit, still) in zip(numbers, _units(batch, flat, numbers), strict=True):
        out = tangent(batch, flat, x, tangents=unit, moves=still)
        assert out.forces is not None
        forces[q] = fold(batch, out.forces)
        strained[q] = virial(batch, x, out.forces, out.cells)


def _units(batch: Batch, flat: Tensor, numbers: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """A unit tangent of each number, and sites at rest."""
    still = torch.zeros(batch.sites, 3, dtype=torch.float64)
    for number in numbers:
        unit = torch.zeros_like(flat)
        unit[number] = 1.0
        yield unit, still
