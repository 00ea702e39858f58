"""What a model gives back: energies and their derivatives."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from composer.errors import DataError
from composer.neighbors import Batch
from composer.runtime.cuda_batch import DeviceBatch


@dataclasses.dataclass(frozen=True)
class Result:
    """Energies and their derivatives for a batch of S structures and N atoms."""

    batch: Batch | DeviceBatch
    energy: Tensor  # eV [S]
    forces: Tensor  # eV/Å [N, 3]
    virial: Tensor  # eV [S, 3, 3], minus the derivative by strain
    _site: Any

    @property
    def stress(self) -> Tensor:
        """Stress dE/dstrain / V in eV/Å^3 [S, 3, 3], positive under tension; refused for structures without three periodic directions."""
        if self.batch.open:
            raise DataError(
                f"The stress of structure {self.batch.open[0]} was asked for. It is not periodic in three directions, so it has no volume. Use .virial (eV) instead."
            )
        volume = torch.linalg.det(self.batch.cells).abs()
        return -self.virial / volume[:, None, None]

    @cached_property
    def energies(self) -> Tensor:
        """Site energies in eV [N]."""
        return self._site()


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """Derivatives of observables by the P free parameters."""

    energy: Tensor  # [S, P], eV per unit of the parameter
    forces: Tensor  # [N, 3, P]
    virial: Tensor  # [S, 3, 3, P], eV
    volume: Tensor  # [S], Å^3 (NaN where a structure is not periodic in three directions)

    @property
    def stress(self) -> Tensor:
        """[S, 3, 3, P], sign of ASE."""
        return -self.virial / self.volume[:, None, None, None]
