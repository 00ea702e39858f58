"""The SNAP basis as a linear model: rows of LAMMPS `compute snap`, to refit SNAP on any data."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from benchmarks.peers_lammps import open_box


@dataclass(frozen=True)
class Snap:
    """The settings and coefficients of a linear SNAP potential.

    Attributes:
        elements: types, in order.
        radii, weights: of each element; a pair of elements reaches rcutfac (R_a + R_b) Å.
        settings: rcutfac, twojmax, rfac0, rmin0, bzeroflag of the parameter file.
        coefficients: [elements, 1 + K] eV, the constant first.
    """

    elements: tuple[str, ...]
    radii: tuple[float, ...]
    weights: tuple[float, ...]
    settings: dict[str, float]
    coefficients: np.ndarray

    @property
    def cutoff(self) -> float:
        """The largest pair cutoff, Å."""
        return 2 * max(self.radii) * self.settings["rcutfac"]


@dataclass(frozen=True)
class Design:
    """What each coefficient contributes; contract the last axis with coefficients.ravel().

    Attributes:
        energy: [S,P], forces: [N,3,P] 1/Å, virial: [S,3,3,P] (-d/dstrain), atoms and structures in the order given.
    """

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


def read_snap(folder: Path) -> Snap:
    """Read SNAPotential.snapcoeff and SNAPotential.snapparam of `folder`; quadratic SNAP is refused."""
    settings = {
        key: float(value) for key, value in re.findall(r"^(\w+)\s+(\S+)\s*$", (folder / "SNAPotential.snapparam").read_text(), re.M)
    }
    if settings.pop("quadraticflag", 0.0):
        raise ValueError(f"A linear SNAP was asked for. {folder} holds a quadratic one. Give a folder with quadraticflag 0.")
    lines = [line.split() for line in (folder / "SNAPotential.snapcoeff").read_text().splitlines() if line.strip() and line[0] != "#"]
    count, length = int(lines[0][0]), int(lines[0][1])
    blocks = [lines[1 + k * (length + 1) : 1 + (k + 1) * (length + 1)] for k in range(count)]
    heads, numbers = [block[0] for block in blocks], [[float(row[0]) for row in block[1:]] for block in blocks]
    elements, radii, weights = zip(*((name, float(radius), float(weight)) for name, radius, weight in heads))
    return Snap(elements, radii, weights, settings, np.array(numbers))


def design(frames: Iterable[Atoms], snap: Snap) -> Design:
    """Return the rows of the linear SNAP problem for periodic frames.

    Equation: E = sum_i beta_0 + sum_k beta_k B_k(i), one block of 1 + K columns for each element.
    Source: LAMMPS `compute snap`; Thompson et al., J. Comput. Phys. 285, 316 (2015).
    """
    parts = [_frame_rows(atoms, snap) for atoms in frames]
    energy, forces, virial = zip(*parts)
    return Design(np.stack(energy), np.concatenate(forces), np.stack(virial))


def _frame_rows(atoms: Atoms, snap: Snap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return energy [P], forces [N,3,P] and virial [3,3,P] of one frame."""
    instance, rotation = open_box(atoms, snap.elements)
    try:
        instance.commands_string(_commands(snap))
        rows = np.array(instance.numpy.extract_compute("design", 0, 2))[:, :-1]  # the last column is the (empty) reference
    finally:
        instance.close()
    kinds, bispectrum = len(snap.elements), rows.reshape(len(rows), len(snap.elements), -1)
    table = np.concatenate([np.zeros((len(rows), kinds, 1)), bispectrum], axis=2)
    table[0, :, 0] = [atoms.get_chemical_symbols().count(element) for element in snap.elements]
    table = table.reshape(len(rows), -1)  # [1 + 3 N + 6, P]
    forces = np.einsum("nap,ab->nbp", table[1:-6].reshape(len(atoms), 3, -1), rotation)
    xx, yy, zz, yz, xz, xy = table[-6:]
    virial = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])  # [3,3,P]
    return table[0], forces, np.einsum("abp,ac,bd->cdp", virial, rotation, rotation)


def _commands(snap: Snap) -> str:
    s = snap.settings
    radii, weights = (" ".join(f"{x:.17g}" for x in values) for values in (snap.radii, snap.weights))
    head = f"{s['rcutfac']:.17g} {s['rfac0']:.17g} {s['twojmax']:.0f} {radii} {weights}"
    options = f"rmin0 {s['rmin0']:.17g} bzeroflag {s['bzeroflag']:.0f} quadraticflag 0"
    return f"""pair_style zero {snap.cutoff + 0.1:.17g}
pair_coeff * *
compute design all snap {head} {options}
thermo_style custom step c_design[1][1]
run 0 post no"""
