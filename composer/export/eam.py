"""Target eam: a setfl file (eam/alloy, or eam/fs where the density depends on both species) of pairs, densities and embedding energies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from composer.errors import AlgebraError
from composer.export.native import FOLDER, Native, write_input
from composer.export.shape import Shape, density_shape
from composer.export.structures import random_structures
from composer.model import Model

KNOTS = 10_000
LEAST = 0.3  # Å: below it pair energy and density keep their value
DENSEST = 0.6  # linear size of the random structures whose largest density ends the table
COLUMNS = 5


def write(model: Model, folder: Path, shown: str) -> str:
    """Write potential.eam.alloy or potential.eam.fs and the lines that read it. Errors: AlgebraError when the model has another form."""
    shape = density_shape(model)
    (folder / f"potential.{style(shape).replace('/', '.')}").write_text(setfl(shape))
    return write_input(folder, shown, lines(shape)) + "\nThe embedding energy contains E0."


def check_engine(folder: Path, model: Model) -> Native:
    """LAMMPS with pair_style eam/alloy or eam/fs."""
    return Native(folder, model, lines(density_shape(model)), has_alone=True)


def style(shape: Shape) -> str:
    """The LAMMPS style."""
    return "eam/fs" if shape.ordered else "eam/alloy"


def lines(shape: Shape) -> list[str]:
    """The lines of input."""
    name = style(shape)
    return [f"pair_style {name}", f"pair_coeff * * {FOLDER}/potential.{name.replace('/', '.')} {' '.join(shape.model.species)}"]


def setfl(shape: Shape) -> str:
    """The text of the file: F(rho), rho(r) for each species (each ordered pair for eam/fs), then r phi(r) for each pair."""
    model = shape.model
    r = np.arange(KNOTS) * (model.cutoff / (KNOTS - 1))
    near = np.maximum(r, LEAST)
    rho = np.arange(KNOTS) * (largest_density(shape) / (KNOTS - 1))
    count = range(len(model.species))
    head = ["written by composer", f"E = E0 + {model.expression}"[:1000].replace("\n", " "), "units metal"]
    head += [f"{len(model.species)} {' '.join(model.species)}", f"{KNOTS} {rho[1]:.17g} {KNOTS} {r[1]:.17g} {model.cutoff:.17g}"]
    text = "\n".join(head) + "\n"
    for a, symbol in enumerate(model.species):
        z = atomic_numbers[symbol]
        text += f"{z} {atomic_masses[z]:.17g} 0.0 none\n" + _block(shape.embedding(a, rho))
        for b in count if shape.ordered else (a,):
            text += _block(_ending(shape.density_from(b, a, near)))  # what a leaves at b
    for a in count:
        for b in range(a + 1):
            text += _block(r * _ending(shape.pair_energy(a, b, near)))
    return text


def largest_density(shape: Shape) -> float:
    """Where the table of the embedding energy ends: the density of compressed random structures.

    Errors: AlgebraError when densities are negative, which setfl cannot say.
    """
    structures = random_structures(shape.model.species, periodic=True)
    found = [shape.densities(structures)]
    for structure in structures:
        structure.set_cell(structure.cell.array * DENSEST, scale_atoms=True)
    found.append(shape.densities(structures))
    rho = np.concatenate(found) - min(shape.alone(a) for a in range(len(shape.model.species)))
    if rho.min() < 0:
        raise AlgebraError(
            "Tables of embedded atoms were asked for",
            f"The density falls to {rho.min():.3g}, and setfl begins at zero",
            'Export to "lammps"',
        )
    return float(1.2 * rho.max())


def _ending(column: np.ndarray) -> np.ndarray:
    """A column that ends with zero at the cutoff."""
    column = column.copy()
    column[-1] = 0.0
    return column


def _block(column: np.ndarray) -> str:
    rows = column.reshape(-1, COLUMNS)
    return "\n".join(" ".join(f"{x:.17g}" for x in row) for row in rows) + "\n"
