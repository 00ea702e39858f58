"""Units: one system inside (eV, Å, e, amu, fs), conversion only at doors.

`convert(1.0, "eV/Å^3", "GPa")` is 160.2176634. A unit is a product of the symbols below, with `/`, `*` or `·` between them and
integer powers behind `^`, `**` or as ², ³: "kcal/mol/Å", "1/Å", "Ha/bohr^3", "eV·Å^6".
Source: SI of 2019 (exact e, k_B, N_A) and CODATA 2018 for Hartree, Bohr and atomic mass unit.
"""

from __future__ import annotations

import re
from typing import TypeVar

from composer.errors import UnitError

Quantity = TypeVar("Quantity")  # a float or an array of any kind
Dimension = tuple[int, int, int, int, int]  # powers of kg, m, s, C, K

ENERGY: Dimension = (1, 2, -2, 0, 0)
PRESSURE: Dimension = (1, -1, -2, 0, 0)
LENGTH: Dimension = (0, 1, 0, 0, 0)
TIME: Dimension = (0, 0, 1, 0, 0)
MASS: Dimension = (1, 0, 0, 0, 0)
CHARGE: Dimension = (0, 0, 0, 1, 0)
TEMPERATURE: Dimension = (0, 0, 0, 0, 1)
NUMBER: Dimension = (0, 0, 0, 0, 0)

_EV, _HARTREE, _AVOGADRO = 1.602176634e-19, 4.3597447222071e-18, 6.02214076e23

# symbol -> (value in SI, dimension); "mol" is a number, so that kcal/mol is an energy
SYMBOLS: dict[str, tuple[float, Dimension]] = {
    "1": (1.0, NUMBER),
    "mol": (_AVOGADRO, NUMBER),
    "atom": (1.0, NUMBER),
    "eV": (_EV, ENERGY),
    "meV": (1e-3 * _EV, ENERGY),
    "Ha": (_HARTREE, ENERGY),
    "hartree": (_HARTREE, ENERGY),
    "Ry": (0.5 * _HARTREE, ENERGY),
    "J": (1.0, ENERGY),
    "kJ": (1e3, ENERGY),
    "kcal": (4184.0, ENERGY),
    "Å": (1e-10, LENGTH),
    "A": (1e-10, LENGTH),
    "Angstrom": (1e-10, LENGTH),
    "nm": (1e-9, LENGTH),
    "m": (1.0, LENGTH),
    "bohr": (5.29177210903e-11, LENGTH),
    "Pa": (1.0, PRESSURE),
    "MPa": (1e6, PRESSURE),
    "GPa": (1e9, PRESSURE),
    "bar": (1e5, PRESSURE),
    "kbar": (1e8, PRESSURE),
    "kB": (1e8, PRESSURE),  # VASP's name of the kilobar
    "atm": (101325.0, PRESSURE),
    "fs": (1e-15, TIME),
    "ps": (1e-12, TIME),
    "s": (1.0, TIME),
    "amu": (1.66053906660e-27, MASS),
    "g": (1e-3, MASS),
    "kg": (1.0, MASS),
    "e": (_EV, CHARGE),
    "C": (1.0, CHARGE),
    "K": (1.0, TEMPERATURE),
}

GPA = _EV / 1e-30 / 1e9  # GPa in one eV/Å^3
BOLTZMANN = 1.380649e-23 / _EV  # eV/K
COULOMB = 8.9875517923e9 * _EV / 1e-10  # e^2 / (4 pi eps0) in eV Å
COULOMB_OF_ENGINES = 14.399645  # the same as LAMMPS and GPUMD have it
KINETIC = 1.66053906660e-27 * 1e10 / _EV  # eV in one amu Å^2/fs^2

_FACTOR = re.compile(r"([A-Za-zÅ]+|1)(?:(?:\^|\*\*)(-?\d+))?\Z")


def convert(value: Quantity, source: str, target: str) -> Quantity:
    """Express a quantity in another unit of the same dimension.

    Equation: value * si(source) / si(target). Arguments: value (number or array of any shape, in `source`), source and target
    (units, for example "eV/Å^3" and "GPa"). Returns: the same kind of object, in `target`.
    Errors: UnitError for an unknown unit or two units of different dimension. Source: see the head of this file.
    """
    (from_si, from_dimension), (to_si, to_dimension) = parse(source), parse(target)
    if from_dimension != to_dimension:
        raise UnitError(
            f"A conversion from {source!r} to {target!r} was asked for",
            f"The first is {_spell(from_dimension)}, the second {_spell(to_dimension)}",
            "Give two units of the same dimension, for example convert(x, 'eV/Å^3', 'GPa')",
        )
    return value * (from_si / to_si)  # type: ignore[operator]


def parse(unit: str) -> tuple[float, Dimension]:
    """Read a unit.

    Equation: product of symbol^power. Arguments: unit (text). Returns: (value of one unit in SI, powers of kg, m, s, C, K).
    Errors: UnitError for an unknown symbol. Source: see the head of this file.
    """
    text = unit.replace("²", "^2").replace("³", "^3").replace("·", "*").replace("**", "^").replace(" ", "")
    si, dimension = 1.0, NUMBER
    for sign, factor in re.findall(r"([*/]?)([^*/]*)", "*" + text)[:-1]:
        value, one, power = _factor(factor, unit)
        power = -power if sign == "/" else power
        si *= value**power
        dimension = tuple(a + power * b for a, b in zip(dimension, one, strict=True))
    return si, dimension  # type: ignore[return-value]


def _factor(text: str, unit: str) -> tuple[float, Dimension, int]:
    match = _FACTOR.match(text)
    if match is None or match[1] not in SYMBOLS:
        raise UnitError(f"The unit {unit!r} was given", f"{text!r} in it is not known", f"Use products of {', '.join(SYMBOLS)}")
    return *SYMBOLS[match[1]], int(match[2] or 1)


def _spell(dimension: Dimension) -> str:
    return " ".join(f"{name}^{power}" for name, power in zip(("kg", "m", "s", "C", "K"), dimension, strict=True) if power) or "a number"
