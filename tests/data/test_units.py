"""Units against values of the literature and against ASE's."""

import numpy as np
import pytest
from ase import units as ase_units

from composer import units
from composer.errors import ComposerError, UnitError


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1.0, "eV/Å^3", "GPa", 160.2176634),
        (1.0, "kbar", "GPa", 0.1),
        (1.0, "Ha", "eV", 27.211386245988),
        (1.0, "bohr", "Å", 0.529177210903),
        (1.0, "Ha/bohr", "eV/Å", 51.42206747632590),
        (1.0, "eV", "kcal/mol", 23.06054783061903),
        (1.0, "kJ/mol/nm", "eV/Å", 0.0010364269656),
        (3.0, "1/Å", "nm^-1", 30.0),
        (1.0, "eV·Å^6", "eV*nm**6", 1e-6),
        (2.0, "amu Å²/fs²".replace(" ", "*"), "eV", 2 * 103.6426965268),
    ],
)
def test_values(value, source, target, expected):
    assert units.convert(value, source, target) == pytest.approx(expected, rel=1e-9)
    assert units.convert(expected, target, source) == pytest.approx(value, rel=1e-9)


def test_constants_agree_with_ase():
    assert pytest.approx(1 / ase_units.GPa, rel=1e-7) == units.GPA
    assert pytest.approx(ase_units.kB, rel=1e-6) == units.BOLTZMANN
    assert pytest.approx(ase_units.Hartree * ase_units.Bohr, rel=1e-7) == units.COULOMB
    assert pytest.approx(ase_units.fs**-2, rel=1e-7) == units.KINETIC
    assert units.convert(np.ones((2, 3)), "eV", "meV").tolist() == [[1000.0] * 3] * 2


@pytest.mark.parametrize("unit", ["furlong", "", "eV/", "eV^x", "eV//Å", "__import__('os')"])
def test_unknown_unit(unit):
    with pytest.raises(UnitError, match="was given.*not known.*Use products of"):
        units.convert(1.0, unit, "eV")


def test_other_dimension():
    with pytest.raises(UnitError, match="same dimension") as caught:
        units.convert(1.0, "GPa", "eV")
    assert isinstance(caught.value, ComposerError)
    assert str(caught.value).count(". ") == 2
