"""Charges as a word of a search: added to other energies, never a factor."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import composer
from composer.data import Data, Frame
from composer.dynamics import Verdict
from composer.model import Model
from composer.search.moves import neighbours
from composer.search.study import Study
from composer.search.vocabulary import default_vocabulary, is_alone
from terms import Charges, Coulomb, Pair, PairFormula
from tests.longrange.systems import rock_salt

PAIRS = Pair(cutoff=4.5, n_max=5, inner=1.8)
CHARGED = Coulomb(Charges(learn="per species"), accuracy=1e-4, damping=0.0, cutoff=6.0)


@pytest.fixture(scope="module")
def data() -> Data:
    """Shaken and strained rock salt, labelled by the repulsion of Born and Mayer and charges of 0.8 e."""
    repulsion = PairFormula("A*exp(-r/rho)", cutoff=4.5, A=1200.0, rho=0.32)
    model = Model(repulsion + Coulomb(Charges({"Na": 0.8, "Cl": -0.8}), accuracy=1e-5), ["Na", "Cl"])
    frames = []
    for n in range(10):
        atoms = rock_salt(1, shake=0.2, seed=n)
        atoms.set_cell(atoms.cell * (0.94 + 0.015 * n), scale_atoms=True)
        found, symbols = model(atoms), tuple(atoms.get_chemical_symbols())
        frames.append(Frame(symbols, atoms.positions, atoms.cell[:], np.ones(3, bool), float(found.energy), found.forces.numpy(), index=n))
    return Data(frames, ["Na", "Cl"])


def test_a_salt_is_improved_by_charges(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """The move is ranked with its gain, fitted, and kept: its charges are those of the data."""
    monkeypatch.setattr(import_module("composer.search.jury"), "examine", lambda question: Verdict(True))
    found = composer.search(data, [PAIRS, CHARGED], max_parameters=20, budget=2, start=PAIRS, executor=None, quiet=True)
    before, after = found.trials
    assert before.expression == PAIRS and after.expression == PAIRS + CHARGED and after.accepted
    assert after.criterion < before.criterion - 5.0
    charge = found.pick().parameters["Coulomb.Charges.charge"]
    assert abs(abs(float(charge[0] - charge[1])) / 1.6 - 1) < 0.01


def test_charges_are_added_and_never_multiplied() -> None:
    for start in (PAIRS, PAIRS + CHARGED):
        for move in neighbours(start, [PAIRS, CHARGED, Pair(cutoff=4.5, n_max=2, inner=1.8)]):
            assert all(part == CHARGED for _, part in getattr(move.expression, "parts", ()) if is_alone(part)), move.text
    assert PAIRS + CHARGED in [m.expression for m in neighbours(PAIRS, [PAIRS, CHARGED])]


def test_ionic_data_have_the_word(data: Data) -> None:
    """By the difference of electronegativities: salts do, silicon carbide does not."""
    assert [w for w in default_vocabulary(["Na", "Cl"], data) if is_alone(w)] == [Coulomb(Charges(learn="per species"), accuracy=1e-4)]
    carbide = Data([Frame(("Si", "C"), f.positions[:2], f.cell, f.pbc, index=n) for n, f in enumerate(data)], ["Si", "C"])
    assert not [w for w in default_vocabulary(["Si", "C"], carbide) if is_alone(w)]


def test_bonded_pairs_are_known_to_the_leaves_of_a_search() -> None:
    """Chunks of the data carry them, and atoms of scans are never bonded."""
    random, frames = np.random.default_rng(0), []
    for n in range(2):
        water = molecule("H2O") + Atoms("OH2", molecule("H2O").positions + [4.0, 0.0, 0.0])
        positions = water.positions + random.normal(scale=0.05, size=(6, 3))
        bonded = {"excluded": [[m + a, m + b] for m in (0, 3) for a, b in ((0, 1), (0, 2), (1, 2))]}
        known = {"energy": 0.0, "forces": np.zeros((6, 3)), "info": bonded, "index": n}
        frames.append(Frame(tuple(water.symbols), positions, 9.0 * np.eye(3), np.ones(3, bool), **known))
    data, word = Data(frames, ["H", "O"]), Coulomb(Charges(learn="per species"), damping=0.0, cutoff=5.0, excluded=True)
    study = Study(data, composer.Weights(), np.zeros(2, dtype=int), (), 5.0, word)
    leaf = study.leaves[word]
    forces, _ = leaf.pulls(study.batches[0], leaf.start)(np.ones((12, 1)))
    np.testing.assert_allclose(forces[..., 0], leaf.model(frames).forces.numpy(), atol=1e-10)
    assert np.isfinite(leaf.values(study.scans[0], leaf.start)).all()
