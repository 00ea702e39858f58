"""Acceptance test 21: the simpler model at the end of the loosest direction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from composer.data import Data, Frame
from composer.fisher import fisher
from composer.fit import Weights, fit
from composer.model import Model
from terms import BornMayer, Morse, Pair

FORCES, ENERGIES = Weights(energy=None, forces=0.02, stress=None), Weights(energy=0.0015, forces=None, stress=None)


def pulls(model: Model, distances: np.ndarray, noise: float) -> Data:
    """One frame of many dimers far apart, with forces alone."""
    first = 100.0 * np.array(list(np.ndindex(20, 20, 20)), dtype=float)[: len(distances)]
    positions = np.concatenate([first, first + distances[:, None] * [1.0, 0.0, 0.0]])
    bare = Frame(("Si",) * len(positions), positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))
    forces = model([bare]).forces.numpy() + noise * np.random.default_rng(0).normal(size=positions.shape)
    return Data([dataclasses.replace(bare, forces=forces)], ["Si"])


def energies(model: Model, distances: np.ndarray, noise: float) -> Data:
    """Dimers with energies alone."""
    random, frames = np.random.default_rng(0), []
    for n, r in enumerate(distances):
        bare = Frame(("Si", "Si"), np.array([[0.0, 0.0, 0.0], [r, 0.0, 0.0]]), np.zeros((3, 3)), np.zeros(3, dtype=bool), index=n)
        frames.append(dataclasses.replace(bare, energy=float(model([bare]).energy[0]) + noise * random.normal()))
    return Data(frames, ["Si"])


def test_fisher_21_one_of_two_exponentials_is_dropped_or_merged() -> None:
    one = BornMayer(cutoff=9.0, taper=False)
    model = Model(one + one.named("b"), ["Si"])
    model = model.with_parameters({"BornMayer.height": 1.0, "BornMayer.length": 1.0, "b.height": 0.02, "b.length": 0.6})
    data = pulls(model, np.linspace(0.5, 5.0, 400), 0.02)
    found = fisher(fit(model, data, FORCES, folds=0, ridge=1e-14, quiet=True).model, data, FORCES).boundary()
    assert found.kind in ("merge", "drop") and found.proposed and abs(found.rise) < 0.01, str(found)
    assert found.model is not None and len(found.model.expression.terms()) == 1 and found.model.size == 3
    assert "Proposed" in str(found) and found.text in str(found)


def test_fisher_21_a_morse_fit_over_a_short_range_names_what_runs_away() -> None:
    model = Model(Morse(cutoff=9.0, taper=False), ["Si"])
    model = model.with_parameters({"Morse.depth": 0.5, "Morse.width": 1.2, "Morse.length": 2.1})
    data = energies(model, np.linspace(2.0, 2.2, 24), 0.003)
    found = fisher(fit(model, data, ENERGIES, folds=0, ridge=1e-14, quiet=True).model, data, ENERGIES).boundary()
    assert found.running["Morse.depth[Si-Si]"] == "infinity" and found.running["Morse.width[Si-Si]"] == "0"
    assert any("Morse.depth" in h and "Morse.width" in h for h in found.held)  # depth width^2 is the spring that the data see
    assert found.kind == "freeze" and found.proposed and found.model is not None and found.model.size == 3, str(found)


def test_a_linear_model_has_no_edge() -> None:
    model = Model(Pair(cutoff=5.0, n_max=3, inner=1.0), ["Si"])
    data = pulls(model, np.linspace(2.0, 3.0, 5), 0.1)
    found = fisher(model, data, FORCES).boundary()
    assert not found.proposed and found.model is None and "linearly" in str(found)
    assert found.rise == pytest.approx(np.inf)
