"""Target torchsim: a model as a ModelInterface of TorchSim; many systems are one batch, its list of neighbours is reused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_sim  # pyright: ignore[reportMissingImports]
from ase.data import chemical_symbols
from torch import Tensor
from torch_sim.models.interface import ModelInterface  # pyright: ignore[reportMissingImports]

from composer.export.library import Values
from composer.export.scripts import write_script
from composer.model import Model
from composer.neighbors import Batch, needs_rebuild, update


@dataclass(frozen=True)
class _System:
    """What a batch needs of one system."""

    symbols: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray


class TorchSimModel(ModelInterface):
    """A model for TorchSim: energy [S] eV, forces [N, 3] eV/Å, stress [S, 3, 3] eV/Å^3 (zero for systems that are not periodic).

    Arguments: model; skin (Å) of the list of neighbours; device and dtype of what comes back (the kernels work in float64 on the CPU).
    """

    def __init__(self, model: Model, skin: float = 1.0, device: Any = "cpu", dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.potential, self.skin = model, float(skin)
        self._device, self._dtype = torch.device(device), dtype
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        self._batch: Batch | None = None
        self._known: tuple | None = None

    def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Energy, forces and stress of all systems of a state."""
        state = state if isinstance(state, torch_sim.SimState) else torch_sim.SimState(**state)
        positions = state.positions.detach().to("cpu", torch.float64)
        cells = state.cell.detach().to("cpu", torch.float64).transpose(1, 2).contiguous()  # columns are the vectors there
        found = self.potential(self._place(state, positions, cells))
        volume = torch.linalg.det(cells).abs()
        whole = found.batch.pbc.all(1) & (volume > 0)
        stress = torch.where(whole[:, None, None], -found.virial / volume.clamp(min=1e-300)[:, None, None], 0.0)
        values = {"energy": found.energy, "forces": found.forces, "stress": stress}
        return {name: value.to(self._device, self._dtype) for name, value in values.items()}

    def _place(self, state: Any, positions: Tensor, cells: Tensor) -> Batch:
        """The old list at new positions while that is safe, else a new list."""
        home, numbers = state.system_idx.cpu(), state.atomic_numbers.cpu()
        pbc = np.broadcast_to(np.asarray(state.pbc.cpu() if isinstance(state.pbc, Tensor) else state.pbc, dtype=bool), 3)
        known, old = (home.numpy().tobytes(), numbers.numpy().tobytes(), pbc.tobytes()), self._batch
        if old is not None and known == self._known and not needs_rebuild(old, positions, cells):
            self._batch = update(old, positions.clone(), cells)
        else:
            parts = [(home == s).nonzero().flatten() for s in range(len(cells))]
            systems = [
                _System(tuple(chemical_symbols[z] for z in numbers[p].tolist()), positions[p].numpy(), cells[s].numpy(), pbc)
                for s, p in enumerate(parts)
            ]
            self._batch, self._known = self.potential.prepare(systems, skin=self.skin), known
        return self._batch


BODY = "torchsim_model = TorchSimModel(model)\n"


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the script that opens the model in TorchSim."""
    return write_script(folder, shown, "TorchSim", "torch-sim-atomistic", "torchsim", "TorchSimModel", BODY)


def check_engine(folder: Path, model: Model) -> Any:
    """The model called through a TorchSim state."""
    wrapped = TorchSimModel(model)

    def engine(atoms: Any) -> Values:
        found = wrapped(torch_sim.io.atoms_to_state([atoms], torch.device("cpu"), torch.float64))
        virial = -found["stress"][0].numpy() * atoms.get_volume() if all(atoms.pbc) else None
        return Values(float(found["energy"][0]), found["forces"].numpy(), virial)

    return engine


__all__ = ["TorchSimModel", "check_engine", "write"]
