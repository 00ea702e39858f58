"""A model on a GPU: the same expression and numbers, with CUDA kernels and tensors that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from composer.errors import BackendError
from composer.model.jacobian import MATRIX
from composer.model.result import Jacobian, Result
from composer.model.structures import excluded_pairs, listed, numbered
from composer.runtime.cuda_batch import DeviceBatch, device_batch
from composer.runtime.cuda_kernel import Buffers, CudaKernel
from composer.runtime.launch import Builder, device_builder

if TYPE_CHECKING:
    from composer.calculator import DeviceCalculator
    from composer.model.model import Model

TYPES = {"float32": True, "float64": False}  # whether numbers have 4 bytes


class DeviceModel:
    """A model whose kernels run on a GPU; what it gives are tensors there, and calls wait for nothing but the making of lists.

    Arguments: model; device; dtype, "float32" (with positions, their differences and energies in float64) or "float64"; deterministic, forces
    that are equal bit for bit in every call (they are summed as integers of 2^-40 eV/Å, up to 8e6 eV/Å); build, what compiles and launches.
    Long-range sums are done in plain torch (`composer.ops.plain`).
    Errors: BackendError without a GPU or without NVRTC.
    """

    def __init__(
        self, model: Model, device: str | torch.device, dtype: str = "float32", deterministic: bool = False, build: Builder | None = None
    ) -> None:
        if dtype not in TYPES:
            raise BackendError(
                f"A model with numbers of type {dtype!r} was asked for", f"Known are {', '.join(TYPES)}", "Write dtype='float32'"
            )
        self.build = device_builder(device) if build is None else build
        self.model, self.device, self.single, self.deterministic = model, torch.device(device), TYPES[dtype], deterministic
        self.kernels: dict[str, CudaKernel] = {}

    @cached_property
    def numbers(self) -> tuple[Tensor, Tensor]:
        """The flat array of parameters on the device [P all], as the kernels read it and in float64."""
        return self.model.flat.to(self.device, torch.float32 if self.single else torch.float64), self.model.flat.to(self.device)

    def with_parameters(self, values: Mapping[str, Any] | Tensor) -> DeviceModel:
        """The same model with other numbers, see `Model.with_parameters`; kernels are shared."""
        made = object.__new__(DeviceModel)
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k != "numbers"})
        made.model = self.model.with_parameters(values.cpu() if isinstance(values, Tensor) else values)
        return made

    def __repr__(self) -> str:
        return f"{self.model!r} on {self.device} in {'float32' if self.single else 'float64'}"

    def kernel(self, kind: str) -> CudaKernel:
        """The kernel of a kind (see `Model.program`), compiled when it is first launched."""
        if kind not in self.kernels:
            forces = kind == "forces"
            mirrored = forces and self.model.halved is not None
            fixed = self.deterministic and (forces or kind == "tangent")
            self.kernels[kind] = CudaKernel(kind, self.model.program(kind), self.model.layout, self.build, self.single, fixed, mirrored)
        return self.kernels[kind]

    def prepare(self, structures: Any, skin: float = 0.0) -> DeviceBatch:
        """Structures (ASE Atoms, frames, or lists of them) on the device with their neighbours; `skin` (Å) lets the list be reused."""
        items = listed(structures)
        given = [numbered(s, n, self.model.species) for n, s in enumerate(items)]
        return replace(device_batch(given, self.model.cutoff, skin, self.device, self.build), excluded=excluded_pairs(items))

    def evaluation(self, batch: DeviceBatch) -> Evaluation:
        """Energy, forces and virial of one batch again and again, in memory that is taken once."""
        return Evaluation(self, batch)

    def __call__(self, structures: Any) -> Result:
        """Energy [S] eV, forces [N, 3] eV/Å, virial [S, 3, 3] eV, stress and site energies [N], on the device, float64."""
        batch = self._batch(structures)
        found = self.evaluation(batch)
        found.run()
        return Result(batch, found.energy, found.forces, found.virial, lambda: found.energies)  # type: ignore[arg-type]

    def calculator(self, skin: float = 1.0) -> DeviceCalculator:
        """An ASE calculator: energy, forces, stress, energies; the list of neighbours has a skin (Å) and is reused."""
        from composer.calculator import DeviceCalculator

        return DeviceCalculator(self, skin)

    def gradient(
        self, batch: DeviceBatch, by_energy: Tensor | None = None, by_forces: Tensor | None = None, by_virial: Tensor | None = None
    ) -> Tensor:
        """Gradient of a loss L by the free parameters [P], from its slopes by what the model gives.

        dL/dtheta = d/dtheta [sum_i seed_i e_i + w . dE/dx] with seed_i = dL/dE of the structure of i and w_s = -(dL/dF + x_s dL/dW).
        Arguments: batch; dL/dE [S], dL/dF [N, 3] and dL/dW [S, 3, 3], float64 on the device, zero where left out.
        """
        kernel, home, owner = self.kernel("gradient"), batch.home.long(), batch.owner.long()
        buffers = kernel.buffers(batch)
        moves = torch.zeros(batch.sites, 3, dtype=torch.float64, device=self.device)
        if by_forces is not None:
            moves -= by_forces[owner]
        if by_virial is not None:
            moves -= torch.einsum("sa,sab->sb", batch.x[:, :3], by_virial[home[owner]])
        strains = torch.zeros_like(batch.cells) if by_virial is None else by_virial
        seeds = {"seed": 0.0 if by_energy is None else by_energy[home], "seed_t": 1.0}
        kernel.give(buffers, seeds)
        kernel.run(batch, buffers, self.numbers, moves=moves, cell_moves=-batch.cells @ strains)
        return buffers.gradient.sum(1)[self._free]

    def jacobian(self, structures: Any) -> Jacobian:
        """Derivatives of energy, forces and virial by the free parameters."""
        batch = self._batch(structures)
        size = self.model.layout.size
        energy = self._seeded("parameters", batch).gradient
        if self.model.staged is None:
            forces = torch.zeros(size, batch.atoms, 3, dtype=torch.float64, device=self.device)
            voigt = torch.zeros(size, batch.structures, 6, dtype=torch.float64, device=self.device)
            staged = self.model.free.nonzero().flatten().tolist()
        else:
            columns = self._seeded("columns", batch)
            forces, voigt, staged = columns.columns, columns.voigt, self.model.staged
        self._by_tangents(batch, staged, forces, voigt)
        volume = torch.where(batch.pbc.all(1), torch.linalg.det(batch.cells).abs(), torch.nan)
        strained = voigt[:, :, MATRIX].reshape(-1, batch.structures, 3, 3)
        return Jacobian(energy[:, self._free], forces[self._free].permute(1, 2, 0), strained[self._free].permute(1, 2, 3, 0), volume)

    def _seeded(self, kind: str, batch: DeviceBatch) -> Buffers:
        kernel = self.kernel(kind)
        buffers = kernel.buffers(batch)
        kernel.give(buffers, {"seed": 1.0})
        kernel.run(batch, buffers, self.numbers)
        return buffers

    def _by_tangents(self, batch: DeviceBatch, numbers: Sequence[int], forces: Tensor, voigt: Tensor) -> None:
        """Forces [P all, N, 3] and virials [P all, S, 6] of the given numbers, one forward derivative for each."""
        if not numbers:
            return
        kernel = self.kernel("tangent")
        buffers = kernel.buffers(batch)
        still = torch.zeros(batch.sites, 3, dtype=torch.float64, device=self.device)
        unit = torch.zeros_like(self.numbers[0])
        for q in numbers:
            unit.zero_()
            unit[q] = 1.0
            kernel.run(batch, buffers, self.numbers, tangents=unit, moves=still)
            forces[q] = kernel.forces(buffers)
            voigt[q] = kernel.virials(batch, buffers)

    @cached_property
    def _free(self) -> Tensor:
        return self.model.free.nonzero().flatten().to(self.device)

    def _batch(self, structures: Any) -> DeviceBatch:
        return structures if isinstance(structures, DeviceBatch) else self.prepare(structures)


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
        return self.kernel.virials(self.batch, self.buffers)[:, MATRIX].reshape(-1, 3, 3)


__all__ = ["DeviceModel", "Evaluation"]
