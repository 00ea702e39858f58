"""Atoms that are pressed together: what fits are asked for is what the checks of a winner ask."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

import composer
from composer.data import Data, Frame
from composer.dynamics import repulsive, scans
from composer.fit.weights import Weights
from composer.model import Model
from composer.search.cover import covers
from composer.search.expansion import Expansion
from composer.search.study import Study
from composer.search.trial import DEAR, Task, run
from terms import ZBL, Density, Pair, StillingerWeber, ThreeBody
from tests.search.conftest import frames

CORE = ZBL(inner=1.0, outer=2.0)


def labelled(count: int, noise: float = 0.0) -> Data:
    """Frames labelled by Stillinger-Weber silicon, with errors of the forces (eV/Å) and half of it for each atom's energy."""
    random, bare = np.random.default_rng(3), frames(count)
    truth = Model(StillingerWeber(), ["Si"])(bare)
    forces = (truth.forces + noise * torch.from_numpy(random.normal(size=truth.forces.shape))).split([len(f) for f in bare])
    energy = truth.energy + 0.5 * noise * torch.from_numpy(random.normal(size=count) * [len(f) for f in bare])
    return Data([
        Frame(f.symbols, f.positions, f.cell, f.pbc, float(e), x.numpy(), config_type=f.config_type, index=n)
        for n, (f, e, x) in enumerate(zip(bare, energy, forces, strict=True))
    ], ["Si"])  # fmt: skip


def study(data: Data, words: list[composer.Expression]) -> Study:
    return Study(data, Weights(), np.arange(len(data)) % 4, tuple(covers(words, ["Si"])), 5.0, core=CORE)


def test_walls_are_differences_of_energies_of_the_scans() -> None:
    """The rises by columns against the energies of the model itself, for the very structures that `repulsive` looks at."""
    words = [
        Pair(cutoff=5.0, n_max=4, inner=1.8),
        ThreeBody(cutoff=4.0, n_max=2, l_max=1, inner=1.8),
        Density(cutoff=4.5, n_max=1, inner=1.8),
    ]
    expression = CORE + words[0] + words[1] * (1 + words[2])
    one = study(labelled(8), words)
    expansion = Expansion(one, expression)
    u = np.random.default_rng(0).normal(size=expansion.size)
    assert one.crystal is not None
    model = expansion.model.with_parameters(torch.from_numpy(u[: expansion.model.size]))
    expected = []
    for scan in scans(["Si"], one.shortest, [one.crystal]):
        energy = model(scan.frames).energy.numpy() / len(scan.frames[0])
        expected.append(energy[scan.near] - energy[scan.far])
    found = expansion.walls @ expansion.numbers(u)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-9, atol=1e-9)
    assert np.abs(found).max() > 0.1 and (expansion.failing(u) == ~(found > 0)).all()


def test_a_fit_repels_where_the_data_are_silent_if_that_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few noisy frames leave short distances open: the free fit falls into a hole there, the one that is kept does not."""
    data, pair, angles = labelled(12, noise=0.15), Pair(cutoff=5.0, n_max=10, inner=1.8), ThreeBody(cutoff=4.5, n_max=4, l_max=4, inner=1.8)
    one = study(data, [pair, angles])
    task = Task(one, CORE + pair + angles, Weights(), 0, 0.05)

    def fitted() -> tuple[float, Model]:
        found = run(task)
        assert not found.failure
        model = Model(task.expression, ["Si"]).with_parameters(torch.from_numpy(found.theta[: found.parameters]))
        model.domain = one.shortest
        return found.criterion, model

    criterion, model = fitted()
    assert repulsive(model, ["Si"], [one.crystal])
    monkeypatch.setattr(import_module("composer.search.trial"), "DEAR", -np.inf)
    free, model = fitted()
    assert not repulsive(model, ["Si"], [one.crystal])
    assert criterion != free and criterion < free + DEAR
