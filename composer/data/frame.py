"""One structure with what was computed for it. A frame that exists has been checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from composer.data.distances import pairs
from composer.errors import DataError

SHORTEST = 0.3  # Å; below this no two atoms can have been meant
FLATTEST = 1e-3  # volume of a periodic cell over the product of its edges; below this the cell is flat


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure and the observables computed for it; an observable that is missing is None, never zero.

    Arguments: symbols (n of them), positions (Å) [n,3], cell (Å, rows are vectors) [3,3], pbc [3], energy (eV, whole cell),
    forces (eV/Å) [n,3], stress (eV/Å^3, positive under tension, dE/dstrain / V) [3,3], config_type (name of its kind),
    info (whatever else its source says), index (place in its file, or in the list), source (name of the file).
    Errors: DataError for wrong shapes, numbers that are not finite, flat periodic cells, overlapping atoms, the stress of a
    structure that is not periodic in three directions.
    """

    symbols: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: np.ndarray = field(default_factory=lambda: np.zeros(3, bool))
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    config_type: str = "unknown"
    info: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        n = len(self.symbols)
        object.__setattr__(self, "symbols", tuple(self.symbols))
        for name, shape, kind in (("positions", (n, 3), float), ("cell", (3, 3), float), ("pbc", (3,), bool)):
            self._store(name, shape, kind)
        for name, shape in (("forces", (n, 3)), ("stress", (3, 3))):
            if getattr(self, name) is not None:
                self._store(name, shape, float)
        if self.energy is not None:
            object.__setattr__(self, "energy", float(self.energy))
        _check_numbers(self)
        _check_geometry(self)

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.formula}, {self.config_type}>"

    @property
    def name(self) -> str:
        """How messages call the frame: its place, counted from 0, and its file."""
        return f"frame {self.index}" + (f" of {self.source}" if self.source else "")

    @property
    def composition(self) -> dict[str, int]:
        """Number of atoms of each symbol, in alphabetic order."""
        return {symbol: self.symbols.count(symbol) for symbol in sorted(set(self.symbols))}

    @property
    def formula(self) -> str:
        """Composition as text, for example H2O."""
        return "".join(symbol + (str(count) if count > 1 else "") for symbol, count in self.composition.items())

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers [n]."""
        from ase.data import atomic_numbers

        return np.array([atomic_numbers[symbol] for symbol in self.symbols], int)

    @property
    def periodic(self) -> bool:
        """Whether it repeats in three directions, so that volume and stress have a meaning."""
        return bool(self.pbc.all())

    @property
    def volume(self) -> float | None:
        """Volume of the cell (Å^3); None where the structure is not periodic in three directions."""
        return abs(float(np.linalg.det(self.cell))) if self.periodic else None

    @cached_property
    def hash(self) -> str:
        """Sha256 of structure and observables (bits of float64, -0 as 0); place, file and info have no part in it."""
        digest = hashlib.sha256(" ".join((self.config_type, *self.symbols)).encode())
        digest.update(self.pbc.tobytes())
        for array in (self.positions, self.cell, self.energy, self.forces, self.stress):
            digest.update(b"-" if array is None else (np.asarray(array, "<f8") + 0.0).tobytes())
        return digest.hexdigest()

    def atoms(self) -> Any:
        """Return the frame as `ase.Atoms`; observables are attached as a SinglePointCalculator, stress in Voigt order."""
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator
        from ase.stress import full_3x3_to_voigt_6_stress

        atoms = Atoms(list(self.symbols), positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.info.update(self.info, config_type=self.config_type)
        stress = None if self.stress is None else full_3x3_to_voigt_6_stress(self.stress)
        if any(observable is not None for observable in (self.energy, self.forces, stress)):
            atoms.calc = SinglePointCalculator(atoms, energy=self.energy, forces=self.forces, stress=stress)
        return atoms

    def _store(self, name: str, shape: tuple[int, ...], kind: type) -> None:
        array = np.array(getattr(self, name), kind)
        if array.shape != shape:
            raise DataError(
                f"The {name} of {self.name} should have shape {shape}",
                f"Their shape is {array.shape}",
                "Give one row for each atom and three columns, in Å and eV/Å; cells and stresses are 3 x 3",
            )
        array.setflags(write=False)
        object.__setattr__(self, name, array)


def check_finite(quantity: str, value: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity. Arguments: quantity (its name), value (any shape), name (of the frame). Errors: DataError."""
    if not np.isfinite(value).all():
        row = f" (row {int(np.argwhere(~np.isfinite(value))[0][0])})" if value.ndim else ""
        raise DataError(
            f"The {quantity} of {name} should be finite",
            f"NaN or infinity was found{row}",
            "Remove the frame, or leave the observable out of it if the calculation did not give one",
        )


def _check_numbers(frame: Frame) -> None:
    if not frame.symbols:
        raise DataError(f"A structure was asked from {frame.name}", "It holds no atoms", "Remove the frame")
    for quantity in ("positions", "cell", "energy", "forces", "stress"):
        value = getattr(frame, quantity)
        if value is not None:
            check_finite(quantity, np.asarray(value), frame.name)


def _check_geometry(frame: Frame) -> None:
    edges = frame.cell[frame.pbc]  # periodic vectors, [p,3]
    scale = np.prod(np.linalg.norm(edges, axis=1))
    if len(edges) and (scale == 0.0 or np.sqrt(abs(np.linalg.det(edges @ edges.T))) / scale < FLATTEST):
        raise DataError(
            f"The cell of {frame.name} should span a volume in its periodic directions",
            f"Its vectors are {frame.cell.round(4).tolist()} with pbc {frame.pbc.tolist()}",
            "Correct Lattice, or write pbc='F F F' for a molecule",
        )
    if frame.stress is not None and not frame.periodic:
        raise DataError(
            f"A stress is stored for {frame.name}",
            f"The structure is not periodic in three directions (pbc {frame.pbc.tolist()}), so it has no volume to divide by",
            "Leave the stress out of the frame",
        )
    first, second, distance = pairs(frame, SHORTEST)
    if len(distance):
        at = int(np.argmin(distance))
        raise DataError(
            f"The atoms of {frame.name} should be at least {SHORTEST} Å apart",
            f"Atoms {first[at]} and {second[at]} (an image, if they are one atom) are {distance[at]:.3f} Å apart",
            "Check positions, cell and their unit (Å), or remove the frame",
        )
