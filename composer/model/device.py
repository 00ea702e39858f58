"""A model on a GPU: the same expression and numbers, with CUDA kernels and tensors that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from composer.errors import BackendError
from composer.ir.nodes import Node
from composer.model.evaluation import Evaluation
from composer.model.jacobian import volumes
from composer.model.model import Model
from composer.model.placed import DevicePlaced
from composer.model.result import Jacobian, Result
from composer.model.structures import excluded_pairs, listed, matrices, numbered
from composer.runtime.cuda_batch import DeviceBatch, device_batch
from composer.runtime.cuda_kernel import Buffers, CudaKernel
from composer.runtime.launch import Builder, device_builder

if TYPE_CHECKING:
    from composer.calculator import DeviceCalculator

TYPES = {"float32": True, "float64": False}  # whether numbers have 4 bytes


class DeviceModel(Model):
    """A model whose kernels run on a GPU; what it gives are tensors there, and calls wait for nothing but the making of lists.

    Its own numbers (`flat`, `theta`, `parameters`) stay on the CPU, where fits solve for them; `host` is the same model there.
    Arguments: model; device; dtype, "float32" (with positions, their differences and energies in float64) or "float64"; deterministic, forces
    that are equal bit for bit in every call (they are summed as integers of 2^-40 eV/Å, up to 8e6 eV/Å); build, what compiles and launches.
    Long-range sums are done in plain torch (`composer.ops.plain`).
    Errors: BackendError without a GPU or without NVRTC.
    """

    places_images = False

    def __init__(
        self, model: Model, device: str | torch.device, dtype: str = "float32", deterministic: bool = False, build: Builder | None = None
    ) -> None:
        if dtype not in TYPES:
            raise BackendError(
                f"A model with numbers of type {dtype!r} was asked for", f"Known are {', '.join(TYPES)}", "Write dtype='float32'"
            )
        self.__dict__.update(model.host.__dict__)
        self._on_host, self._kernels = self._kernels, {}
        self.builder, self.device = device_builder(device) if build is None else (build, torch.device(device))
        self.single, self.deterministic = TYPES[dtype], deterministic

    # ---- numbers

    @property
    def host(self) -> Model:
        made = object.__new__(Model)
        made.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("numbers", "_places")})
        made._kernels = self._on_host
        return made

    @cached_property
    def numbers(self) -> tuple[Tensor, Tensor]:
        """The flat array of parameters on the device [P all], as the kernels read it and in float64."""
        flat = self.flat.to(self.device)
        return flat.to(self.real), flat

    @property
    def flat_there(self) -> Tensor:
        return self.numbers[1]

    @property
    def real(self) -> torch.dtype:
        """Type of the numbers in the kernels."""
        return torch.float32 if self.single else torch.float64

    @cached_property
    def _places(self) -> Tensor:
        """Where the free numbers stand in the flat array [P]."""
        return self.free.nonzero().flatten().to(self.device)

    def with_parameters(self, values: Mapping[str, Any] | Tensor) -> Self:
        """The same model with other numbers, see `Model.with_parameters`; kernels are shared."""
        made = super().with_parameters(values.cpu() if isinstance(values, Tensor) else values)
        return made._without("numbers", "_places")

    @property
    def memory(self) -> float:
        return torch.cuda.mem_get_info(self.device)[1] if self.device.type == "cuda" else super().memory

    def part(self, node: Node) -> Self:
        made = super().part(node)
        made._on_host = {}
        return made

    def __repr__(self) -> str:
        return f"{super().__repr__()} on {self.device} in {'float32' if self.single else 'float64'}"

    def __reduce__(self) -> tuple:
        return _rebuilt, (self.host, str(self.device), "float32" if self.single else "float64", self.deterministic)

    # ---- kernels and batches

    def kernel(self, kind: str) -> CudaKernel:
        """The kernel of a kind (see `Model.program`), compiled when it is first launched."""
        if kind not in self._kernels:
            forces = kind == "forces"
            mirrored = forces and self.halved is not None
            fixed = self.deterministic and (forces or kind == "tangent")
            self._kernels[kind] = CudaKernel(kind, self.program(kind), self.layout, self.builder, self.single, fixed, mirrored)
        return self._kernels[kind]

    def build(self, batch: DeviceBatch, kinds: Sequence[str] = ("forces",)) -> None:
        """Compile several kernels."""
        for kind in kinds:
            if kind != "columns" or self.staged is not None:
                self.kernel(kind).launches  # noqa: B018

    @property
    def one_stage(self) -> bool:
        return len(self.kernel("gradient").stages) == 1

    def prepare(self, structures: Any, skin: float = 0.0) -> DeviceBatch:
        """Structures (ASE Atoms, frames, or lists of them) on the device with their neighbours; `skin` (Å) lets the list be reused."""
        items = listed(structures)
        given = [numbered(s, n, self.species) for n, s in enumerate(items)]
        return replace(device_batch(given, self.cutoff, skin, self.device, self.builder), excluded=excluded_pairs(items))

    def _batch(self, structures: Any) -> DeviceBatch:
        return structures if isinstance(structures, DeviceBatch) else self.prepare(structures)

    # ---- evaluation

    def evaluation(self, batch: DeviceBatch) -> Evaluation:
        """Energy, forces and virial of one batch again and again, in memory that is taken once."""
        return Evaluation(self, batch)

    def __call__(self, structures: Any) -> Result:
        """Energy [S] eV, forces [N, 3] eV/Å, virial [S, 3, 3] eV, stress and site energies [N], on the device, float64."""
        found = self.evaluation(self._batch(structures))
        found.run()
        return Result(found.batch, found.energy, found.forces, found.virial, lambda: found.energies)

    def placed(self, batch: DeviceBatch) -> DevicePlaced:
        return DevicePlaced(self, self._batch(batch))

    def gradient(
        self, batch: DeviceBatch, by_energy: Tensor | None = None, by_forces: Tensor | None = None, by_virial: Tensor | None = None
    ) -> Tensor:
        """Gradient of a loss L by the free parameters [P], from its slopes by what the model gives.

        dL/dtheta = d/dtheta [sum_i seed_i e_i + w . dE/dx] with seed_i = dL/dE of the structure of i and w_s = -(dL/dF + x_s dL/dW).
        Arguments: batch; dL/dE [S], dL/dF [N, 3] and dL/dW [S, 3, 3], float64 on the device, zero where left out.
        """
        home, owner = batch.home.long(), batch.owner.long()
        moves = torch.zeros(batch.sites, 3, dtype=torch.float64, device=self.device)
        if by_forces is not None:
            moves -= by_forces[owner]
        if by_virial is not None:
            moves -= torch.einsum("sa,sab->sb", batch.places(), by_virial[home[owner]])
        strains = torch.zeros_like(batch.cells) if by_virial is None else by_virial
        inputs = {"seed": 0.0 if by_energy is None else by_energy[home], "seed_t": 1.0}
        return self._run("gradient", batch, inputs, moves=moves, cell_moves=-batch.cells @ strains).gradient.sum(1)[self._places]

    def along(self, batch: DeviceBatch, direction: Tensor) -> Result:
        """Derivatives of energies, forces and virials along a direction of the free parameters [P], on the device."""
        tangents = torch.zeros_like(self.numbers[0])
        tangents[self._places] = direction.to(tangents)
        still = torch.zeros(batch.sites, 3, dtype=torch.float64, device=self.device)
        found, kernel = self._run("tangent", batch, {}, tangents, still), self.kernel("tangent")
        site = kernel.site(found, "e_t")
        virial = matrices(kernel.virials(batch, found))
        return Result(batch, batch.by_structure(site), kernel.forces(found), virial, lambda: site)

    def jacobian(self, structures: Any, seeds: Tensor | None = None) -> Jacobian:
        """Derivatives of energy, forces and virial by the free parameters; `seeds` [N] weigh the site energies."""
        batch = self._batch(structures)
        size = self.layout.size
        inputs = {"seed": 1.0 if seeds is None else seeds}
        energy = self._run("parameters", batch, inputs).gradient
        if self.staged is None:
            forces = torch.zeros(size, batch.atoms, 3, dtype=torch.float64, device=self.device)
            voigt = torch.zeros(size, batch.structures, 6, dtype=torch.float64, device=self.device)
            staged = self.free.nonzero().flatten().tolist()
        else:
            columns = self._run("columns", batch, inputs)
            forces, voigt, staged = columns.columns, columns.voigt, self.staged
        self._by_tangents(batch, staged, forces, voigt)
        strained = matrices(voigt)
        free = self._places
        return Jacobian(energy[:, free], forces[free].permute(1, 2, 0), strained[free].permute(1, 2, 3, 0), volumes(batch))

    def rows(self, batch: DeviceBatch, atoms: Tensor, virials: bool = True) -> Jacobian:
        """The Jacobian with the forces on some atoms alone [A, 3, P]."""
        found = self.jacobian(batch)
        return replace(found, forces=found.forces[atoms.to(self.device)])

    def site_jacobian(self, structures: Any) -> Tensor:
        """Derivatives of the site energies by the free parameters [N, P], found on the CPU."""
        return self.host.site_jacobian(structures)

    def _run(
        self,
        kind: str,
        batch: DeviceBatch,
        inputs: Mapping[str, Tensor | float],
        tangents: Tensor | None = None,
        moves: Tensor | None = None,
        cell_moves: Tensor | None = None,
    ) -> Buffers:
        kernel = self.kernel(kind)
        buffers = kernel.buffers(batch)
        kernel.give(buffers, inputs)
        kernel.run(batch, buffers, self.numbers, tangents, moves, cell_moves)
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

    # ---- doors

    def calculator(self, skin: float = 1.0) -> DeviceCalculator:
        """An ASE calculator: energy, forces, stress, energies; the list of neighbours has a skin (Å) and is reused."""
        from composer.calculator import DeviceCalculator

        return DeviceCalculator(self, skin)

    def plan(self, structures: Any) -> str:
        return self.host.plan(structures)


def _rebuilt(model: Model, device: str, dtype: str, deterministic: bool) -> DeviceModel:
    return DeviceModel(model, device, dtype, deterministic)


__all__ = ["DeviceModel", "Evaluation"]
