"""Energy, forces and virial of one batch on a device again and again, in memory that is taken once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from composer.model.structures import matrices
from composer.runtime.cuda_batch import DeviceBatch

if TYPE_CHECKING:
    from composer.model.device import DeviceModel


class Evaluation:
    """Energy, forces and virial of a batch where it stands: `run` launches kernels and no more, so that a CUDA graph can hold it.

    Write new numbers into `batch.positions` and `batch.cells`, then `run` and read. `energies` and `slopes` are views of the memory that
    `run` fills; the other quantities are small operations of torch on them.
    """

    def __init__(self, model: DeviceModel, batch: DeviceBatch) -> None:
        self.batch, self.kernel, self.numbers = batch, model.kernel("forces"), model.numbers
        self.buffers = self.kernel.buffers(batch)
        self.energies = self.kernel.site(self.buffers, "e")  # eV [N]
        self.slopes = self.buffers.forces[:, :3]  # the forces [N, 3] in the type of the kernels: integers if deterministic
        self.kernel.launches  # noqa: B018  (built now: nothing may be compiled inside a graph)

    def run(self) -> None:
        """Place the sites and launch the kernels on the current stream."""
        self.batch.place()
        self.kernel.run(self.batch, self.buffers, self.numbers)

    @property
    def energy(self) -> Tensor:
        """Energies of the structures in eV [S]."""
        return self.batch.by_structure(self.energies)

    @property
    def forces(self) -> Tensor:
        """Forces in eV/Å [N, 3], float64."""
        return self.kernel.forces(self.buffers)

    @property
    def virial(self) -> Tensor:
        """Virials -dE/dstrain in eV [S, 3, 3]."""
        return matrices(self.kernel.virials(self.batch, self.buffers))


__all__ = ["Evaluation"]
