"""The loss of a training: what a model misses of the references of a batch, and its slopes, on the device of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.data import Frame
from composer.fit.weights import Squares
from composer.model import Model, Result
from composer.neighbors import Batch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Targets:
    """References of the S frames of a batch and what their squares count, as tensors beside the batch; both zero where a frame has none.

    sizes n [S]; energy [S] (eV), forces [N, 3] (eV/Å), virial W [S, 3, 3] (eV); by_energy [S], by_forces [N, 3] and by_virial [S] of squares
    of E/n, F and W/n; known, ones where there is a reference: [S], [N, 1], [S]; counts [3] of known numbers.
    """

    sizes: Tensor
    energy: Tensor
    forces: Tensor
    virial: Tensor
    by_energy: Tensor
    by_forces: Tensor
    by_virial: Tensor
    known: tuple[Tensor, Tensor, Tensor]
    counts: Array

    @classmethod
    def of(cls, weigh: Callable[[Frame], Squares], frames: Sequence[Frame], batch: Batch) -> Targets:
        """The targets of frames, the structures of a batch. Arguments: weigh, what the squares of a frame count."""
        squares, sizes = [weigh(f) for f in frames], np.array([len(f.positions) for f in frames])
        known = [
            np.array([f.energy is not None for f in frames], dtype=float),
            np.repeat([float(f.forces is not None) for f in frames], sizes)[:, None],
            np.array([f.stress is not None and f.volume is not None for f in frames], dtype=float),
        ]
        nothing = np.zeros((3, 3))
        arrays = (
            sizes.astype(float),
            np.array([f.energy or 0.0 for f in frames]),
            np.concatenate([np.zeros((n, 3)) if f.forces is None else f.forces for f, n in zip(frames, sizes, strict=True)]),
            np.array([nothing if f.stress is None or f.volume is None else -f.stress * f.volume for f in frames]),
            known[0] * [q.energy for q in squares],
            known[1] * np.concatenate([np.broadcast_to(q.forces, (n, 3)) for q, n in zip(squares, sizes, strict=True)]),
            known[2] * [q.virial for q in squares],
        )
        here = [torch.from_numpy(np.ascontiguousarray(a)).to(batch.positions) for a in (*arrays, *known)]
        counts = np.array([known[0].sum(), 3 * known[1].sum(), 6 * known[2].sum()])
        return cls(*here[:7], known=(here[7], here[8], here[9]), counts=counts)


@dataclass(frozen=True)
class Loss:
    """A quadratic form of a change: its value; half its slopes by energies [S], forces [N, 3] and virials [S, 3, 3]; sums of plain squares and
    their counts [3, 2], of E/N, F and W/N."""

    value: float
    by_energy: Tensor
    by_forces: Tensor
    by_virial: Tensor
    squares: Array


def missed(targets: Targets, found: Result) -> Result:
    """Model minus reference; what has no reference is left as it is, for `loss` does not look at it."""
    energy, forces, virial = found.energy - targets.energy, found.forces - targets.forces, found.virial - targets.virial
    return replace(found, energy=energy, forces=forces, virial=virial)


def loss(targets: Targets, change: Result, share: float = 1.0) -> Loss:
    """The weighted sum of squares of a change in E/N, F and six components of W/N, where a frame has the reference, times `share`."""
    n = targets.sizes
    e, f, w = change.energy / n, change.forces, torch.triu(change.virial) / n[:, None, None]  # 6 components, each once
    by_e, by_f, by_w = share * targets.by_energy * e, share * targets.by_forces * f, share * targets.by_virial[:, None, None] * w
    energies, forces, virials = targets.known
    sums = [(by_e * e).sum() + (by_f * f).sum() + (by_w * w).sum(), (energies * e**2).sum(), (forces * f**2).sum()]
    value, *squares = torch.stack([*sums, (virials[:, None, None] * w**2).sum()]).tolist()  # the one moment at which the host waits
    return Loss(value, by_e / n, by_f, by_w / n[:, None, None], np.column_stack([squares, targets.counts]))


def slope(model: Model, batch: Batch, of: Loss) -> Array:
    """Half the gradient of a loss by the free numbers [P]."""
    return model.gradient(batch, of.by_energy, of.by_forces, of.by_virial).cpu().numpy()


def rmse(sums: Array) -> tuple[float, float, float]:
    """Root mean squares of E/N, F and W/N; NaN where nothing was counted."""
    e, f, w = (float(np.sqrt(s / n)) if n else float("nan") for s, n in sums)
    return e, f, w
