"""What a fit would pass over in silence is said: reaches without a pair, species without a frame, charges that do not cancel."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import composer
from composer.data import Data, Frame
from composer.fit.gaps import gaps
from composer.model import Model
from terms import Charges, Coulomb, Pair, ThreeBody

PAIR = Pair(cutoff=4.5, n_max=2)


def salt(periodic: bool = True) -> Data:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    return Data([Frame(tuple(atoms.get_chemical_symbols()), atoms.positions, atoms.cell[:], np.full(3, periodic), energy=0.0)])


def test_a_cutoff_below_all_distances_is_said_with_the_shortest() -> None:
    expression = PAIR + ThreeBody(cutoff=0.45, n_max=2, l_max=1).named("angles")  # nm for Å
    (said,) = gaps(Model(expression, ["Na", "Cl"]), salt())
    assert "angles sees no pair of atoms" in said and "0.45 Å" in said and "2.800 Å" in said
    lonely = Data([Frame(("Na",), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool), energy=-1.0)])
    assert any("no two atoms" in said for said in gaps(Model(PAIR, ["Na"]), lonely))


def test_species_without_a_frame_are_said() -> None:
    (said,) = gaps(Model(PAIR, ["Na", "Cl", "K"]), salt())
    assert "no frame holds K" in said


@pytest.mark.parametrize(("sodium", "periodic", "count"), [(1.0, True, 0), (0.9, True, 1), (0.9, False, 0)])
def test_given_charges_that_do_not_cancel_in_a_cell_are_said(sodium: float, periodic: bool, count: int) -> None:
    charges = Charges({"Na": sodium, "Cl": -1.0})
    said = gaps(Model(PAIR + Coulomb(charges), ["Na", "Cl"]), salt(periodic))
    assert len(said) == count and all("-0.4 e" in note and "background" in note for note in said)
    assert not gaps(Model(PAIR + Coulomb(Charges({"Na": sodium, "Cl": -1.0}, neutral=True)), ["Na", "Cl"]), salt(periodic))


def test_a_fit_tells_them(capsys: pytest.CaptureFixture[str]) -> None:
    random, frames = np.random.default_rng(0), []
    for number in range(4):
        positions = bulk("Ar", cubic=True, a=5.3).positions + 0.1 * random.normal(size=(4, 3))
        atoms = Atoms("Ar4", positions, cell=[5.3] * 3, pbc=True)
        frames.append(
            Frame(tuple(atoms.symbols), positions, atoms.cell[:], np.ones(3, bool), float(number), random.normal(size=(4, 3)), index=number)
        )
    expression = PAIR + Pair(cutoff=0.55, n_max=2).named("short")
    fitted = composer.fit(Model(expression, ["Ar"]), Data(frames), composer.Weights(0.1, 1.0, None), ridge=1e-6, folds=0)
    assert "short sees no pair" in capsys.readouterr().out and "warning: short sees no pair" in str(fitted)
