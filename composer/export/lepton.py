"""Target lepton: a pair potential as formulas for pair_style lepton."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

from composer.export.formula import pair_formula
from composer.export.native import Native, note, write_input
from composer.model import Model


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the lines of input. Errors: AlgebraError when the model is no sum over pairs."""
    return write_input(folder, shown, lines(model)) + note()


def check_engine(folder: Path, model: Model) -> Native:
    """LAMMPS with pair_style lepton."""
    return Native(folder, model, lines(model))


def lines(model: Model) -> list[str]:
    """The lines of input: one formula for each pair of species."""
    pairs = combinations_with_replacement(range(len(model.species)), 2)
    return [f"pair_style lepton {model.cutoff!r}", *(f'pair_coeff {a + 1} {b + 1} "{pair_formula(model, a, b)}"' for a, b in pairs)]
