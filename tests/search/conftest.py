"""Small sets of data whose truth is known: structures labelled by a model of ours, with or without noise."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
import pytest
import torch
from ase.build import bulk

import composer
from composer.algebra import Expression
from composer.data import Data, Frame
from composer.dynamics import Verdict
from composer.model import Model
from terms import Density, Embedding, Pair, ThreeBody

SMALL, LARGE = Pair(cutoff=4.8, n_max=3, inner=1.8), Pair(cutoff=4.8, n_max=5, inner=1.8)
ANGLES, MORE_ANGLES = ThreeBody(cutoff=3.8, n_max=2, l_max=1, inner=1.8), ThreeBody(cutoff=3.8, n_max=2, l_max=2, inner=1.8)
CROWD = Density(cutoff=4.2, n_max=1, inner=1.8)
BOUND = Embedding(cutoff=4.2, form="sqrt").fix(decay=1.5)
VOCABULARY: list[Expression] = [SMALL, LARGE, ANGLES, MORE_ANGLES, CROWD, BOUND]


def frames(count: int, seed: int = 0) -> list[Frame]:
    """Shaken and strained crystals of eight or nine silicon atoms, without labels."""
    random, found = np.random.default_rng(seed), []
    for number in range(count):
        kind, length = (("diamond", 5.4), ("bcc", 3.1), ("fcc", 3.9))[number % 3]
        atoms = bulk("Si", kind, a=length, cubic=True)
        atoms = atoms if len(atoms) == 8 else atoms.repeat((1, 1, 2))
        atoms.set_cell(atoms.cell[:] @ (np.eye(3) * random.uniform(0.94, 1.08) + 0.03 * random.normal(size=(3, 3))), scale_atoms=True)
        positions = atoms.positions + 0.12 * random.normal(size=atoms.positions.shape)
        found.append(Frame(tuple(atoms.get_chemical_symbols()), positions, atoms.cell[:], np.ones(3, bool), config_type=kind, index=number))
    return found


def planted(expression: Expression, count: int = 24, noise: float = 0.0, seed: int = 0) -> Data:
    """Frames labelled by the expression at random numbers; noise is relative to the spread of energies and forces."""
    random = np.random.default_rng(seed)
    model = Model(expression, ["Si"])
    model = model.with_parameters(torch.from_numpy(random.uniform(0.3, 1.0, model.size) * random.choice([-1.0, 1.0], model.size)))
    bare = frames(count, seed)
    result = model(bare)
    energy, forces = result.energy.numpy(), result.forces.numpy()
    sizes = np.array([len(f) for f in bare])
    energy = energy + noise * np.std(energy / sizes) * sizes * random.normal(size=count)
    forces = forces + noise * np.std(forces) * random.normal(size=forces.shape)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    made = [
        Frame(
            f.symbols, f.positions, f.cell, f.pbc, float(energy[n]), forces[bounds[n] : bounds[n + 1]], config_type=f.config_type, index=n
        )
        for n, f in enumerate(bare)
    ]
    return Data(made, ["Si"])


def passed(question: object) -> Verdict:
    """The verdict on dynamics where it is not what a test asks about."""
    return Verdict(True)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSER_OPT", "-O1")
    composer.set_threads(1)


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers push no atoms apart: dynamics is not what these tests ask about."""
    monkeypatch.setattr(import_module("composer.search.jury"), "examine", passed)


def sequence(result: object) -> list[tuple]:
    """What two equal searches share."""
    return [(t.key, t.criterion, t.accepted, t.reason, tuple(t.theta)) for t in result.trials]  # type: ignore[attr-defined]


def kinds(expression: Expression) -> list[str]:
    return sorted(type(t).__name__ for t in expression.terms())


def journals(texts: Sequence[str]) -> list[dict]:
    import json

    found = []
    for text in texts:
        event = json.loads(text)
        found.append({k: v for k, v in event.items() if k not in ("time", "seconds")})
    return found
