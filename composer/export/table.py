"""Target table: a LAMMPS table for each pair of species."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

from composer.export.native import FOLDER, Native, note, write_input
from composer.export.shape import Shape, pair_shape
from composer.model import Model

POINTS = 8_000
LEAST = 0.4  # Å, where tables begin: LAMMPS stops when atoms come closer


def write(model: Model, folder: Path, shown: str) -> str:
    """Write pairs.table with one section for each pair of species, and the lines that read it."""
    shape = pair_shape(model)
    (folder / "pairs.table").write_text("# UNITS: metal\n\n" + "\n".join(section(shape, a, b) for a, b in _pairs(model)))
    return write_input(folder, shown, lines(model)) + note()


def check_engine(folder: Path, model: Model) -> Native:
    """LAMMPS with pair_style table."""
    return Native(folder, model, lines(model))


def lines(model: Model) -> list[str]:
    """The lines of input."""
    coefficients = [
        f"pair_coeff {a + 1} {b + 1} {FOLDER}/pairs.table {model.species[a]}_{model.species[b]} {model.cutoff!r}" for a, b in _pairs(model)
    ]
    return [f"pair_style table spline {POINTS}", *coefficients]


def section(shape: Shape, a: int, b: int) -> str:
    """One section: r (Å), energy (eV) and force (eV/Å) on a grid that is even in r^2, as LAMMPS keeps it."""
    model = shape.model
    r = np.sqrt(np.linspace(LEAST**2, model.cutoff**2, POINTS))
    energy = shape.pair_energy(a, b, r)
    force = -slope(shape, a, b, r)
    rows = "\n".join(f"{n + 1} {x:.16g} {e:.16g} {f:.16g}" for n, (x, e, f) in enumerate(zip(r, energy, force, strict=True)))
    return f"{model.species[a]}_{model.species[b]}\nN {POINTS} RSQ {LEAST!r} {model.cutoff!r}\n\n{rows}\n"


def slope(shape: Shape, a: int, b: int, r: np.ndarray) -> np.ndarray:
    """dphi/dr (eV/Å) from the forces of the model on two atoms."""
    from composer.export.shape import dimers

    forces = shape.model(dimers(shape.model, a, b, r)).forces.numpy().reshape(-1, 2, 3)
    return -forces[:, 1, 1]


def _pairs(model: Model) -> list[tuple[int, int]]:
    return list(combinations_with_replacement(range(len(model.species)), 2))
