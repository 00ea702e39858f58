"""Targets sw and tersoff: files of LAMMPS with one line for each ordered triplet of species, for a model that is this one term."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from composer.errors import AlgebraError
from composer.export.native import FOLDER, Native, note, write_input
from composer.model import Model
from composer.quantities import row

Numbers = Callable[[str, int, int, int], float]  # parameter, species of the centre and of two neighbours -> value


class Form:
    """One of the styles: `name` in LAMMPS, `term`, the class of expressions that are it, and the columns of its file."""

    def __init__(self, name: str, term: str, columns: Callable[[Any, Numbers, tuple[str, ...], int, int, int], list[float]]) -> None:
        self.name, self.term, self.columns = name, term, columns

    def write(self, model: Model, folder: Path, shown: str) -> str:
        """Write the file and the lines that read it. Errors: AlgebraError when the expression is another one."""
        term = model.expression
        if type(term).__name__ != self.term:
            raise AlgebraError(
                f"A file for pair_style {self.name} was asked for",
                f"{model.expression} is not {self.term}(...) alone",
                'Export to "lammps", which takes any expression',
            )
        (folder / f"potential.{self.name}").write_text(self.text(model, term))
        return write_input(folder, shown, self.lines(model)) + note()

    def check_engine(self, folder: Path, model: Model) -> Native:
        """LAMMPS with its own style."""
        return Native(folder, model, self.lines(model))

    def lines(self, model: Model) -> list[str]:
        """The lines of input."""
        return [f"pair_style {self.name}", f"pair_coeff * * {FOLDER}/potential.{self.name} {' '.join(model.species)}"]

    def text(self, model: Model, term: Any) -> str:
        """One line for each ordered triplet: the centre, two neighbours, numbers."""
        species, count = model.species, len(model.species)
        (label,) = model.expression.labels().values()
        tables = {e.name.removeprefix(f"{label}."): (e.per, model.parameters[e.name].tolist()) for e in model.entries}

        def number(name: str, i: int, j: int, k: int) -> float:
            per, values = tables[name]
            return float(values[row(per, count, i, j, k)])

        rows = []
        for i, j, k in itertools.product(range(count), repeat=3):
            columns = self.columns(term, number, species, i, j, k)
            rows.append(" ".join([species[i], species[j], species[k], *(f"{x:.17g}" for x in columns)]))
        return "# written by composer, units metal\n" + "\n".join(rows) + "\n"


def _reach(term: Any, one: str, two: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    """Lengths of a pair of species where the term names them, else the usual ones."""
    for a, b, *lengths in term.pairs:
        if {a, b} == {one, two}:
            return tuple(lengths)
    return usual


def _sw(term: Any, number: Numbers, species: tuple[str, ...], i: int, j: int, k: int) -> list[float]:
    """epsilon sigma a lambda gamma cos0 A B p q tol, with epsilon = 1 eV."""
    sigma = number("sigma", i, j, k)
    (reach,) = _reach(term, species[i], species[j], (term.cutoff,))
    bend = [number("angular", i, j, k), number("gamma", i, j, k), number("cosine", i, j, k)]
    return [1.0, sigma, reach / sigma, *bend, number("A", i, j, k), number("B", i, j, k), term.p, term.q, 0.0]


def _tersoff(term: Any, number: Numbers, species: tuple[str, ...], i: int, j: int, k: int) -> list[float]:
    """m gamma lambda3 c d cos0 n beta lambda2 B R D lambda1 A; the term's beta is gamma here, and beta is 1."""
    inner, outer = _reach(term, species[i], species[k], (term.inner, term.cutoff))
    third = number("lambda3", i, j, k) if term.m else 0.0
    angle = [term.m or 3, number("beta", i, j, k), third, number("c", i, j, k), number("d", i, j, k), number("cosine", i, j, k)]
    bond = [number("n", i, j, k), 1.0, number("lambda2", i, j, k), number("B", i, j, k)]
    return [*angle, *bond, (inner + outer) / 2, (outer - inner) / 2, number("lambda1", i, j, k), number("A", i, j, k)]


SW = Form("sw", "StillingerWeber", _sw)
TERSOFF = Form("tersoff", "Tersoff", _tersoff)
