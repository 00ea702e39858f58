"""composer.validate: an export beside its model and beside itself (differences of its own energy), and dynamics in its engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from composer.errors import BackendError, DataError
from composer.export import folder as folders
from composer.export.check import FLOOR, Engine, worst
from composer.export.structures import random_structures
from composer.export.targets import find_target
from composer.model import Model
from composer.modelfile import read_model

STEP = 1e-4  # Å, and strain, of central differences
SLOPE = 1e-6  # allowed relative error of central differences
DRIFT = 1e-6  # eV/atom/ps
MOST = 40  # structures
DIRECTIONS = 8  # of atoms, for central differences
WIDTH = 12.0  # Å, least width of the box of dynamics


@dataclass(frozen=True)
class Line:
    """One comparison: its largest value and what is allowed; a value of None was not measured, for the reason in `note`."""

    subject: str
    value: float | None
    bar: float | None
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.value is None or self.bar is None or self.value <= self.bar


@dataclass(frozen=True)
class Validation:
    """The lines of a comparison; printable; `ok` if all are within what is allowed."""

    folder: Path
    target: str
    lines: tuple[Line, ...]

    @property
    def ok(self) -> bool:
        """Whether every line is within its bar."""
        return all(line.ok for line in self.lines)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each line, ready for JSON."""
        return [{"subject": x.subject, "value": x.value, "bar": x.bar, "ok": x.ok, "note": x.note} for x in self.lines]

    def __str__(self) -> str:
        text = [f"{self.folder} ({self.target})", f"{'':48s}{'found':>10s}{'allowed':>10s}"]
        for x in self.lines:
            found = "-" if x.value is None else f"{x.value:.1e}"
            allowed = "" if x.bar is None else f"{x.bar:.0e}"
            text.append(f"{x.subject:48s}{found:>10s}{allowed:>10s}  {'' if x.ok else 'FAILS '}{x.note}".rstrip())
        return "\n".join([*text, "all within what is allowed" if self.ok else "the export FAILS"])


def validate(folder: str | Path, data: Iterable[Any] | None = None, steps: int = 2000, temperature: float = 300.0) -> Validation:
    """Compare an export with its model, its forces and stress with differences of its own energy, and run dynamics where its engine can.

    Arguments: folder written by `model.export`; data, structures (ase.Atoms or frames; default: random ones); steps of dynamics (0 for
    none) at a temperature (K), 0.5 fs each. Returns: a Validation. Errors: DataError for a folder that is no export or was changed.
    """
    folder = Path(folder)
    about = folders.read_manifest(folder)
    target = find_target(str(about["target"]))
    model = read_model(folder / folders.MODEL, Model)
    structures = _structures(data, model, target.periodic)
    lines = _compared("export", target.check_engine(folder, model), model, structures, target.bar)
    if target.engine is not None:
        try:
            engine = target.engine(folder, model)
            sums = getattr(engine, "error", 0.0)  # its own, over all atoms: they need periodic structures
            taken = [s for s in structures if all(s.pbc)] if sums else structures
            lines += _compared("engine", engine, model, taken, max(target.bar, 1e-10, sums), max(SLOPE, sums))
        except BackendError as error:
            return Validation(folder, about["target"], (*lines, Line("engine", None, None, f"not run: {error}")))
        lines += _dynamics(engine, structures, steps, temperature)
    return Validation(folder, about["target"], tuple(lines))


def _structures(data: Iterable[Any] | None, model: Model, periodic: bool) -> list[Atoms]:
    if data is None:
        return random_structures(model.species, 1, periodic)
    found = [_atoms(s) for s in data]
    found = [s for s in found if (all(s.pbc) if periodic else all(s.pbc) or not any(s.pbc))]
    if not found:
        raise DataError(
            "An export was to be compared on data", "There is no structure that its engine takes", "Give structures that are periodic"
        )
    return [found[n] for n in np.unique(np.linspace(0, len(found) - 1, MOST).round().astype(int))]


def _atoms(structure: Any) -> Atoms:
    if isinstance(structure, Atoms):
        return structure
    return Atoms(list(structure.symbols), positions=structure.positions, cell=structure.cell, pbc=structure.pbc)


def _compared(name: str, engine: Engine, model: Model, structures: Sequence[Atoms], bar: float, slope: float = SLOPE) -> list[Line]:
    found = worst(engine, model, structures)
    lines = [Line(f"{name}: {what} against the model", value, bar, f"{len(structures)} structures") for what, value in found.items()]
    lines.append(Line(f"{name}: forces against differences of energy", force_error(engine, structures[0]), slope))
    whole = next((s for s in structures if all(s.pbc)), None)
    if whole is not None and engine(whole).virial is not None:
        lines.append(Line(f"{name}: virial against differences of energy", strain_error(engine, whole), slope, "six strains"))
    return lines


def force_error(engine: Engine, atoms: Atoms, seed: int = 0) -> float:
    """Largest difference of forces along random directions of all atoms from central differences, relative to the largest such force."""
    random = np.random.default_rng(seed)
    forces = engine(atoms).forces
    errors, sizes = [], []
    for _ in range(DIRECTIONS):
        direction = random.standard_normal(forces.shape)
        direction /= np.linalg.norm(direction)
        ends = [_energy(engine, _moved(atoms, direction * h)) for h in _steps()]
        sizes.append(abs(float((forces * direction).sum())))
        errors.append(abs(-_slope(ends) - float((forces * direction).sum())))
    return max(errors) / max(*sizes, FLOOR)


def strain_error(engine: Engine, atoms: Atoms) -> float:
    """Largest difference of the virial from central differences of the energy by the six strains, relative to its largest element."""
    virial = engine(atoms).virial
    assert virial is not None
    errors = []
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        ends = []
        for h in _steps():
            strain = np.eye(3)
            strain[a, b] += h / 2
            strain[b, a] += h / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            ends.append(_energy(engine, strained))
        errors.append(abs(-_slope(ends) - (virial[a, b] + virial[b, a]) / 2))
    return max(errors) / max(float(np.abs(virial).max()), FLOOR)


def _steps() -> tuple[float, ...]:
    return (-2 * STEP, -STEP, STEP, 2 * STEP)


def _slope(ends: Sequence[float]) -> float:
    """Slope from values at -2h, -h, h, 2h, exact to fourth order."""
    a, b, c, d = ends
    return (a - 8 * b + 8 * c - d) / (12 * STEP)


def _energy(engine: Engine, atoms: Atoms) -> float:
    return engine(atoms).energy


def _moved(atoms: Atoms, shift: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += shift
    return moved


def _dynamics(engine: Any, structures: Sequence[Atoms], steps: int, temperature: float) -> list[Line]:
    whole = next((s for s in structures if all(s.pbc)), None)
    if not hasattr(engine, "drift") or not steps or whole is None:
        return []
    widths = whole.cell.cellpar()[:3]
    box = whole.repeat([max(1, int(np.ceil(WIDTH / w))) for w in widths])
    drift = abs(engine.drift(box, steps, temperature, timestep=0.0005))
    return [Line("engine: drift of energy, eV/atom/ps", drift, DRIFT, f"{len(box)} atoms, {steps} steps of 0.5 fs from {temperature:g} K")]
