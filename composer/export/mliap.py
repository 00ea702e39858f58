"""Target mliap: a model as an object for `pair_style mliap unified` of a LAMMPS that was built with ML-IAP and Python.

LAMMPS gives every atom its pairs r_ij = x_j - x_i (Å) and takes dE/dr_ij (eV/Å) back: f_i += dE/dr_ij, f_j -= dE/dr_ij. It gives no fields of
neighbours, so expressions that read one are left to target lammps, which is faster in any case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from composer.errors import AlgebraError
from composer.export.check import Engine, reads_neighbours
from composer.export.library import Values
from composer.export.scripts import write_script
from composer.model import Model
from composer.model.structures import whole
from composer.neighbors import Batch, all_positions


class MliapModel:
    """A model with the attributes and methods of `lammps.mliap.mliap_unified_abc.MLIAPUnified`.

    LAMMPS counts a pair as near below (R_i + R_j) rcutfac with R = 1, so rcutfac is half the cutoff (Å).
    Errors: AlgebraError for a model that reads fields of neighbours.
    """

    interface = None
    ndescriptors = 1
    nparams = 1

    def __init__(self, model: Model) -> None:
        if reads_neighbours(model):
            raise AlgebraError(
                f"{model.expression} was to run in ML-IAP",
                "It reads fields of neighbours, which ML-IAP does not pass",
                'Export to "lammps"',
            )
        self.model, self.element_types, self.rcutfac = model, list(model.species), model.cutoff / 2

    def compute_gradients(self, data: Any) -> None:
        """Nothing: the forces are all that LAMMPS needs."""

    def compute_descriptors(self, data: Any) -> None:
        """Nothing: the forces are all that LAMMPS needs."""

    def compute_forces(self, data: Any) -> None:
        """Write site energies (eV), their sum, and dE/dr_ij of all pairs (eV/Å)."""
        pairs = (np.asarray(a) for a in (data.pair_i, data.jelems, data.rij))
        energies, slopes = along_pairs(self.model, np.asarray(data.ielems), *pairs)
        data.eatoms = energies
        data.energy = float(energies.sum())
        data.update_pair_forces(slopes)


def along_pairs(model: Model, species: np.ndarray, centre: np.ndarray, others: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Site energies [n] (eV) and dE/dr_ij [p, 3] (eV/Å) from displacements alone.

    Arguments: species numbers [n]; of every pair its atom [p], the species number of the other one [p], and r_ij [p, 3] (Å).
    Every pair gets a site of its own, so that the force on that site is minus the slope by its r_ij.
    """
    order = np.argsort(centre, kind="stable")
    batch = _apart(model, species, centre[order], others[order])
    x = torch.zeros(batch.sites, 3, dtype=torch.float64)
    x[batch.atoms :] = torch.from_numpy(np.ascontiguousarray(d[order], dtype=np.float64))
    found = model.kernel("forces")(batch, model.flat, x)
    assert found.forces is not None
    slopes = np.empty((len(d), 3))
    slopes[order] = -found.forces[batch.atoms :].numpy()
    return found.site["e"][: len(species)].numpy(), slopes


def _apart(model: Model, species: np.ndarray, centre: np.ndarray, others: np.ndarray) -> Batch:
    """All atoms at one place, each with rows of ghosts; a further atom of each species, without neighbours, owns the ghosts of that species."""
    n, kinds, p = len(species), len(model.species), len(centre)
    counts = np.bincount(centre, minlength=n + kinds) if p else np.zeros(n + kinds, dtype=np.int64)
    x, cell = torch.zeros(n + kinds, 3, dtype=torch.float64), torch.zeros(1, 3, 3, dtype=torch.float64)
    return Batch(
        positions=x,
        cells=cell,
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        species=torch.from_numpy(np.concatenate([species, np.arange(kinds)]).astype(np.int32)),
        offsets=torch.tensor([0, n + kinds]),
        ghost_owner=torch.from_numpy((n + others).astype(np.int32)),
        ghost_shift=torch.zeros(p, 3, dtype=torch.int32),
        ghost_offsets=torch.tensor([0, p]),
        first=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        index=torch.arange(n + kinds, n + kinds + p, dtype=torch.int32),
        cutoff=model.cutoff,
        skin=0.0,
        half=False,
        max_neighbors=int(counts.max()),
        built_positions=x,
        built_cells=cell,
    )


BODY = """mliap_model = MliapModel(model)
# lmp = lammps.lammps(); lammps.mliap.activate_mliappy(lmp)
# pair_style mliap unified EXISTS 0, pair_coeff * * and the species of the atom types; then
# lammps.mliap.load_unified(mliap_model)
"""


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the script that opens the model for ML-IAP. Errors: AlgebraError for a model that reads fields of neighbours."""
    MliapModel(model)
    return write_script(folder, shown, "LAMMPS with ML-IAP and Python", "such a LAMMPS", "mliap", "MliapModel", BODY)


def check_engine(folder: Path, model: Model) -> Engine:
    """The object called as LAMMPS calls it."""
    called = MliapModel(model)

    def engine(structure: Any) -> Values:
        data = Pairs(model, structure)
        called.compute_forces(data)
        return Values(data.energy, data.forces, data.virial, data.eatoms)

    return engine


class Pairs:
    """What LAMMPS passes for one structure, as its coupling names it, and what it does with the answer."""

    def __init__(self, model: Model, structure: Any) -> None:
        batch = whole(model.prepare(structure))
        sites, x = batch.index.long(), all_positions(batch)
        owner = batch.owner
        row = torch.repeat_interleave(torch.arange(batch.atoms), batch.first.diff())
        self.pair_i, self.pair_j, self.rij = row.numpy(), owner[sites].numpy(), (x[sites] - x[row]).numpy()
        self.ielems = batch.species.numpy()
        self.jelems = self.ielems[self.pair_j]
        self.forces, self.virial, self.energy, self.eatoms = np.zeros((batch.atoms, 3)), np.zeros((3, 3)), 0.0, np.zeros(batch.atoms)

    def update_pair_forces(self, slopes: np.ndarray) -> None:
        """Forces from dE/dr_ij."""
        np.add.at(self.forces, self.pair_i, slopes)
        np.add.at(self.forces, self.pair_j, -slopes)
        self.virial = -self.rij.T @ slopes


__all__ = ["MliapModel", "along_pairs", "check_engine", "write"]
