"""Engine of the files that LAMMPS reads itself: its own styles, with the energies of free atoms added."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from composer.export.lammps_engine import Lammps
from composer.export.library import Values
from composer.model import E0, Model


class Native:
    """LAMMPS with the lines of an input file of an export; the files know no E0, so it is added to the energy."""

    def __init__(self, folder: Path, model: Model, lines: Sequence[str], has_alone: bool = False) -> None:
        commands = [line.replace(FOLDER, str(folder)) for line in lines]
        self.engine = Lammps(model.species, commands)
        alone = model.parameters[E0].reshape(-1).tolist()
        self.alone = dict(zip(model.species, [0.0] * len(alone) if has_alone else alone, strict=True))

    def __call__(self, atoms: Any) -> Values:
        found = self.engine(atoms)
        return Values(found.energy + sum(self.alone[s] for s in atoms.symbols), found.forces, found.virial)

    def drift(self, *arguments: Any, **settings: Any) -> float:
        """Slope of the energy in dynamics; see `Lammps.drift`."""
        return self.engine.drift(*arguments, **settings)


SHOWN = 100  # characters of a line
FOLDER = "{folder}"  # stands for the folder of the export in lines of input


def write_input(folder: Path, shown: str, lines: Sequence[str]) -> str:
    """Write the lines of input beside the files they name, and return them as they can be typed."""
    written = [line.replace(FOLDER, shown) for line in lines]
    (folder / "potential.lmp").write_text("# For an input with units metal.\n" + "\n".join(written) + "\n")
    typed = [line if len(line) < SHOWN else line[:SHOWN] + " ..." for line in written]
    return f"In a LAMMPS input with units metal (or: include {shown}/potential.lmp):\n" + "\n".join(f"  {line}" for line in typed)


def note(has_alone: bool = False) -> str:
    """What users must know about energies."""
    return "" if has_alone else "\nEnergies of free atoms (E0) are not in the file: total energies differ by them."


__all__ = ["FOLDER", "Native", "note", "write_input"]
