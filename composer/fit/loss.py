"""The loss of a training: what a model misses on frames, and the cotangents that carry it back to the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.data import Frame
from composer.fit.weights import Squares
from composer.model import Model
from composer.neighbors import Batch, all_positions, fold, motion, virial

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """Energies [S] (eV), forces [N, 3] (eV/Å) and virials [S, 3, 3] (eV) of a batch: differences from references, or derivatives."""

    energy: Array
    forces: Array
    virial: Array


@dataclass(frozen=True)
class Loss:
    """A quadratic form of a change: its value; half its slopes by site energies, seed [N], by virials [S, 3, 3], and by forces and virials as
    the `motion` of sites [sites, 3] and cells [S, 3, 3]; sums of plain squares and their counts [3, 2], of E/N, F and W/N."""

    value: float
    seed: Array
    virial: Array
    moves: Tensor
    cell_moves: Tensor
    squares: Array


def missed(frames: Sequence[Frame], batch: Batch, found: Any) -> Change:
    """Model minus reference of a Result; what has no reference is left as it is, for `loss` does not look at it."""
    energy, forces, virial = (getattr(found, name).numpy().copy() for name in ("energy", "forces", "virial"))
    for s, (frame, atoms) in enumerate(zip(frames, _atoms(batch), strict=True)):
        if frame.energy is not None:
            energy[s] -= frame.energy
        if frame.forces is not None:
            forces[atoms] -= frame.forces
        if frame.stress is not None and frame.volume is not None:
            virial[s] += frame.stress * frame.volume
    return Change(energy, forces, virial)


def loss(weigh: Callable[[Frame], Squares], frames: Sequence[Frame], batch: Batch, change: Change) -> Loss:
    """The weighted sum of squares of a change in E/N, F and six components of W/N, where a frame has the reference."""
    seed, by_force, by_virial = np.zeros(batch.atoms), np.zeros((batch.atoms, 3)), np.zeros((len(frames), 3, 3))
    value, squares = 0.0, np.zeros((3, 2))
    for s, (frame, atoms) in enumerate(zip(frames, _atoms(batch), strict=True)):
        n = atoms.stop - atoms.start
        weights = weigh(frame)
        if frame.energy is not None:
            e = change.energy[s] / n
            value += weights.energy * e**2
            seed[atoms] = weights.energy * e / n
            squares[0] += e**2, 1
        if frame.forces is not None:
            f = change.forces[atoms]
            by_force[atoms] = weights.forces * f
            value += float(np.sum(by_force[atoms] * f))
            squares[1] += np.sum(f**2), 3 * n
        if frame.stress is not None and frame.volume is not None:
            w = np.triu(change.virial[s]) / n  # 6 components, each once
            value += weights.virial * float(np.sum(w**2))
            by_virial[s] = weights.virial * w / n
            squares[2] += np.sum(w**2), 6
    moves, cell_moves = motion(batch, torch.from_numpy(by_force), torch.from_numpy(by_virial))
    return Loss(value, seed, by_virial, moves, cell_moves, squares)


def slope(model: Model, batch: Batch, of: Loss) -> Array:
    """Half the gradient of a loss by the free numbers [P]."""
    one = torch.ones(batch.atoms, dtype=torch.float64)
    inputs = {"seed": torch.from_numpy(of.seed), "seed_t": one}
    out = model.kernel("gradient")(batch, model.flat, inputs=inputs, moves=of.moves, cell_moves=of.cell_moves)
    assert out.gradient is not None
    return out.gradient[model.free].numpy()


def along(model: Model, batch: Batch, direction: Array) -> Change:
    """The derivative of energies, forces and virials along a direction of the free numbers [P]."""
    x = all_positions(batch)
    tangents = torch.zeros_like(model.flat)
    tangents[model.free] = torch.from_numpy(direction)
    out = model.kernel("tangent")(batch, model.flat, x, tangents=tangents, moves=torch.zeros_like(x))
    assert out.forces is not None
    site = out.site["e_t"][: batch.atoms].numpy()
    energy = np.array([site[atoms].sum() for atoms in _atoms(batch)])
    return Change(energy, fold(batch, out.forces).numpy(), virial(batch, x, out.forces, out.cells).numpy())


def rmse(sums: Array) -> tuple[float, float, float]:
    """Root mean squares of E/N, F and W/N; NaN where nothing was counted."""
    e, f, w = (float(np.sqrt(s / n)) if n else float("nan") for s, n in sums)
    return e, f, w


def _atoms(batch: Batch) -> list[slice]:
    bounds = batch.offsets.tolist()
    return [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
