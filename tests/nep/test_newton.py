"""Second-order training: its matrix, its steps, and Adam beside it."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import composer
from composer.errors import DataError
from composer.fit.newton import Newton, conjugate_gradients, solver
from composer.fit.training import Recipe, Trained, train
from composer.model import Model
from composer.model import jacobian as columns
from composer.runtime.kernel import BLOCKS
from terms import NEP, Charges, Coulomb, Pair
from tests.nep.conftest import Stop, stop_at

RECIPE = Recipe(epochs=6, batch=4, virial=2.0)


@pytest.fixture(scope="module")
def work(model: Model, frames: list) -> Newton:
    return Newton(model, frames[:8], frames[8:], RECIPE)


@pytest.fixture(scope="module")
def trained(model: Model, frames: list) -> Trained:
    return train(model, frames[:8], frames[8:], RECIPE, method="newton")


def test_rows_are_columns(model: Model, frames: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Jacobian by rows, with seeds of ones, is that by one tangent for each number."""
    batch = model.prepare(frames[:2])
    found = {}
    for way in (True, False):
        monkeypatch.setattr(columns, "by_rows", lambda *_, way=way: way)
        found[way] = model.jacobian(batch)
    for name in ("energy", "forces", "virial"):
        rows, tangents = getattr(found[True], name), getattr(found[False], name)
        torch.testing.assert_close(rows, tangents, rtol=1e-10, atol=1e-12 * float(tangents.abs().max()))
        assert float(tangents.abs().max()) > 1e-3


def test_products_and_samples_are_those_of_the_jacobian(work: Newton, model: Model) -> None:
    """J^T J from all rows, and products with it, against the Jacobian written out with the weights of the loss."""
    theta, full = model.theta.numpy(), np.zeros((model.size, model.size))
    for frames, batch, _ in work.batches:
        j = model.jacobian(batch)
        for s, frame in enumerate(frames):
            n = len(frame.symbols)
            rows = j.forces[batch.offsets[s] : batch.offsets[s + 1]].reshape(3 * n, -1).numpy()
            six = j.virial[s][np.triu_indices(3)].numpy() / n
            e = j.energy[s].numpy() / n
            full += (np.outer(e, e) + rows.T @ rows / (3 * n) + RECIPE.virial / 6 * six.T @ six) / work.count
    sampled = work.sampled(theta, 0, 10**9)
    np.testing.assert_allclose(sampled, full, rtol=1e-9, atol=1e-12 * np.abs(full).max())
    v = np.random.default_rng(1).normal(size=model.size)
    np.testing.assert_allclose(work.product(theta, np.ones(model.size))(v), full @ v + v, rtol=1e-8, atol=1e-9 * np.abs(full @ v).max())
    part = work.sampled(theta, 0, 40)
    assert 0.2 < np.trace(part) / np.trace(full) < 5 and not np.allclose(part, full)


def test_derivatives_along_a_direction(model: Model, work: Newton) -> None:
    """Energies, forces and virials by finite differences of the numbers."""
    batch, v = work.batches[0][1], np.random.default_rng(2).normal(size=model.size)
    ends = [work.at(model.theta.numpy() + s * 1e-5 * v)(batch) for s in (1, -1)]
    found = model.along(batch, torch.from_numpy(v))
    for name in ("energy", "forces", "virial"):
        expected = (getattr(ends[0], name) - getattr(ends[1], name)).numpy() / 2e-5
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_conjugate_gradients() -> None:
    """They end at once with the inverse itself, and within P steps with a diagonal."""
    random = np.random.default_rng(3)
    rows, rhs = random.normal(size=(30, 12)), random.normal(size=12)
    matrix = rows.T @ rows
    x, image = conjugate_gradients(lambda v: matrix @ v, rhs, solver(matrix, np.zeros(12)), 1e-8, 2)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, rhs), rtol=1e-8)
    np.testing.assert_allclose(image, rhs, rtol=1e-8)
    y, _ = conjugate_gradients(lambda v: matrix @ v, rhs, solver(np.diagonal(matrix), np.zeros(12)), 1e-10, 15)
    np.testing.assert_allclose(y, x, rtol=1e-6)


def test_the_loss_falls_at_every_step_and_further_than_by_adam(trained: Trained, model: Model, frames: list) -> None:
    """Acceptance T14 in small: six steps against as many evaluations of Adam; the comparison on PbTe is in docs/benchmarks.md."""
    losses = [e.loss for e in trained.history]
    assert all(b < a for a, b in zip(losses, losses[1:], strict=False)) and trained.history[-1].validation[1] < 0.3
    adam = train(model, frames[:8], frames[8:], replace(RECIPE, epochs=20))
    assert losses[-1] < adam.history[-1].loss


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(model: Model, frames: list, trained: Trained, tmp_path: Path) -> None:
    file, often = tmp_path / "run.npz", replace(RECIPE, minutes=0.0)
    with pytest.raises(Stop):
        train(model, frames[:8], frames[8:], often, checkpoint=file, report=stop_at(4), method="newton")
    again = train(model, frames[:8], frames[8:], often, checkpoint=file, method="newton")
    assert torch.equal(again.model.theta, trained.model.theta) and again.history == trained.history
    with pytest.raises(DataError, match="other settings"):
        train(model, frames[:8], frames[8:], often, checkpoint=file, method="adam")


def test_many_numbers_take_a_diagonal(work: Newton, model: Model, frames: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("composer.fit.newton"), "DENSE", 10)
    small = Newton(model, frames[:4], [], replace(RECIPE, epochs=2))
    theta = model.theta.numpy()
    whole = Newton(model, frames[:4], [], RECIPE).sampled(theta, 0, 10**9)
    assert whole.shape == (model.size,)
    np.testing.assert_allclose(
        whole, [unit @ small.product(theta, np.zeros(model.size))(unit) for unit in np.eye(model.size)], rtol=1e-6, atol=1e-9
    )
    history = small.run().history
    assert history[-1].loss < history[0].loss


def test_a_ridge_holds_the_numbers(model: Model, frames: list, trained: Trained) -> None:
    held = train(model, frames[:8], frames[8:], replace(RECIPE, ridge=1e-3), method="newton")
    assert float(held.model.theta[1:].norm()) < float(trained.model.theta[1:].norm())


def test_models_without_rows_are_refused(frames: list) -> None:
    """A sum over all atoms: a force reaches beyond the neighbours."""
    several = composer.compile(Pair(cutoff=4.0) + Coulomb(Charges(learn="per species")), ["Si", "C"], quiet=True)
    with pytest.raises(DataError, match='method="adam"'):
        train(several, frames, method="newton")


def test_elements_that_always_come_together_share_their_reference(frames: list) -> None:
    """The data say nothing of the difference, and energies still come out right."""
    mixed = [replace(f, symbols=("Si", "C") * 4) for f in frames[:3]]
    start = composer.compile(NEP(cutoff=(4, 3), n_max=(1, 1), basis=(2, 2), l_max=(1, 0, 0), neurons=2), ["Si", "C"], quiet=True)
    work = Newton(start.with_parameters({"E0": [1.0, -3.0]}), mixed, [], RECIPE)
    solved = work.at(work.referenced(start.theta.numpy().copy()))
    e0 = solved.parameters["E0"]
    assert float(e0[0]) == pytest.approx(float(e0[1]), abs=1e-12)
    assert np.mean([float(solved([f]).energy[0]) - f.energy for f in mixed]) == pytest.approx(0.0, abs=1e-9)


def test_memory_is_estimated_before_it_is_taken(model: Model, frames: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate is from above and not by much; a machine that is too small refuses before anything is built."""
    memory = import_module("composer.fit.memory")
    batch = model.prepare(frames[:4])
    real = memory.ENTRY * len(batch.index) + memory.SITE * batch.sites + 8 * BLOCKS * len(model.flat)
    assert real < memory.needed(model, frames[:4]) < 3 * real
    assert memory.needed(model, frames[:4], 3) - memory.needed(model, frames[:4]) == 24 * model.size**2
    monkeypatch.setattr(Model, "memory", 1e4)
    with pytest.raises(DataError, match="the machine has"):
        train(model, frames, method="newton")
