"""Training of a small network on data of a known potential."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import composer
from composer.data import Data
from composer.errors import DataError
from composer.fit.adam import Adam
from composer.fit.loss import slope
from composer.fit.scaling import scaled
from composer.fit.training import Recipe, Trained, train
from composer.model import Model
from terms import NEP
from tests.nep.conftest import Stop, by_calorine, stop_at

RECIPE = Recipe(epochs=12, batch=2)


@pytest.fixture(scope="module")
def trained(model: Model, frames: list) -> Trained:
    return train(model, frames[:8], frames[8:], RECIPE)


def test_scales_bring_inputs_to_unit_range(model: Model, frames: list) -> None:
    """scaler = 1/(max - min) of the descriptors over all atoms: scaling again finds the same."""
    again = scaled(model, frames)
    for name in ("NEP.radial_scaler", "NEP.angular_scaler"):
        torch.testing.assert_close(again.parameters[name], model.parameters[name], rtol=1e-9, atol=0)
        assert float((model.parameters[name] - 1).abs().min()) > 1e-3


def test_errors_fall(trained: Trained) -> None:
    first, last = trained.history[0], trained.history[-1]
    assert last.loss < 0.1 * first.loss and last.validation[1] < 0.5 * first.validation[1]
    assert trained.reason == "all epochs are done" and len(trained.history) == RECIPE.epochs


def test_references_are_solved(trained: Trained, frames: list) -> None:
    """The mean error of the energies is zero at the end of an epoch up to what the last steps moved."""
    left = [float(trained.model([f]).energy) / 8 - f.energy / 8 for f in frames[:8]]
    assert abs(np.mean(left)) < 5e-3 and abs(float(trained.model.parameters["E0"][0])) > 0.5


def test_the_gradient_of_the_loss_is_its_slope(model: Model, frames: list) -> None:
    """Energies, forces and virials of a batch, along a random direction of all numbers."""
    work = Adam(model, frames, [], replace(RECIPE, virial=3.0))
    part = work.batches[0]

    def at(theta: np.ndarray) -> float:
        return work.misses(work.at(theta), part, 2)[0].value

    half = slope(model, part[1], work.misses(model, part, 2)[0])
    v = np.random.default_rng(0).normal(size=model.size)
    ends = [at(model.theta.numpy() + s * 1e-5 * v) for s in (1, -1)]
    assert 2 * half @ v == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_same_seed_same_numbers(model: Model, frames: list, trained: Trained) -> None:
    again = train(model, frames[:8], frames[8:], RECIPE)
    assert torch.equal(again.model.theta, trained.model.theta) and again.history == trained.history
    other = train(model, frames[:8], frames[8:], RECIPE, seed=1)
    assert not torch.equal(other.model.theta, trained.model.theta)


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(model: Model, frames: list, trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    often = replace(RECIPE, minutes=0.0)
    with pytest.raises(Stop):
        train(model, frames[:8], frames[8:], often, checkpoint=file, report=stop_at(7))
    seen: list[int] = []
    again = train(model, frames[:8], frames[8:], often, checkpoint=file, report=lambda e: seen.append(e.number))
    assert seen == list(range(7, RECIPE.epochs + 1))
    assert torch.equal(again.model.theta, trained.model.theta) and again.history == trained.history
    with pytest.raises(DataError, match="other settings"):
        train(model, frames[:8], frames[8:], often, seed=1, checkpoint=file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        train(model, frames[:8], frames[8:], often, checkpoint=file)


def test_training_ends_early_or_when_it_diverges(model: Model, frames: list) -> None:
    early = train(model, frames[:8], frames[8:], replace(RECIPE, epochs=60, rate=0.3, patience=3))
    assert "no better validation loss" in early.reason and len(early.history) < 60
    best = min(early.history, key=lambda e: e.validation_loss)
    assert early.history[-1].number - best.number == 3
    away = train(model, frames[:8], frames[8:], replace(RECIPE, rate=1e8, warmup=0))
    assert "loss rose" in away.reason or "all epochs" in away.reason
    assert away.model.theta.isfinite().all()


def test_a_read_file_is_trained_further(trained: Trained, frames: list, tmp_path: Path) -> None:
    """Fine-tuning keeps the scaler and the descriptors' form; frozen tables stay."""
    model = composer.read_model(trained.model.export(tmp_path / "nep.txt").folder)
    before = model.evaluate(Data(frames)).scores["forces"].rmse
    tuned = train(model, frames, recipe=Recipe(epochs=5, batch=5, rate=1e-3)).model
    assert torch.equal(tuned.parameters["NEP.radial_scaler"], model.parameters["NEP.radial_scaler"])
    assert tuned.evaluate(Data(frames)).scores["forces"].rmse < before


def test_t9_calorine_reads_what_was_trained(trained: Trained, frames: list, tmp_path: Path) -> None:
    """T9 of `theory/nep.md` in small, E to 1e-6 eV/atom; the errors on PbTe are in docs/benchmarks.md."""
    path = Path(trained.model.export(tmp_path / "nep.txt").folder)
    for frame in frames[8:]:
        sites, forces, _ = by_calorine(path, frame.atoms())
        found = trained.model([frame])
        assert abs(float(found.energy) - sites.sum()) < 1e-6 * len(sites)
        np.testing.assert_allclose(found.forces.numpy(), forces, rtol=0, atol=1e-5)


def test_wrong_settings(model: Model, frames: list) -> None:
    with pytest.raises(DataError):
        Recipe(epochs=0)
    with pytest.raises(DataError):
        Recipe(energy=0, forces=0, virial=0)
    with pytest.raises(DataError, match="no energy"):
        train(model, [replace(frames[0], energy=None)])


def test_fit_in_epochs(frames: list) -> None:
    """The verb: a start without scales is scaled, some frames are held out, and the result says how it did."""
    start = composer.compile(NEP(cutoff=(5, 4), n_max=(2, 2), basis=(4, 4), l_max=(2, 0, 0), neurons=6), ["Si"], quiet=True)
    fitted = composer.fit(start, Data(frames), method="adam", epochs=4, quiet=True)
    assert fitted.method == "adam" and len(fitted.history) == 4 and fitted.cv is not None
    assert fitted.history[-1].cost < fitted.history[0].cost and fitted.model.domain["Si-Si"] > 1.5
    assert float((fitted.model.parameters["NEP.radial_scaler"] - 1).abs().min()) > 1e-3
    second = composer.fit(start, Data(frames), epochs=2, quiet=True)  # few frames
    assert second.method == "newton" and second.history[-1].cost < second.history[0].cost
    with pytest.raises(DataError, match="passes of Adam"):
        composer.fit(start, Data(frames), method="lm", epochs=4, quiet=True)
