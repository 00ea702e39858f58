"""The prior: what one species shows is expected of the others, and kinds of frames judge it."""

from importlib import import_module

import numpy as np
import pytest
import torch
from ase.build import bulk

from composer.data import Data
from composer.errors import DataError
from composer.evaluate import evaluate
from composer.fit import Weights, fit
from composer.model import Model
from composer.quantities import PER, row, rows
from terms import Pair

prior = import_module("composer.fit.prior")
WEIGHTS = Weights(energy=0.003, forces=0.1, stress=0.03)
PAIR = Pair(cutoff=4.5, n_max=6, inner=1.9)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("species", (1, 3))
def test_rows_correlate_as_numbers_that_share_what_their_species_share(per, species):
    """Drawn at random: independent numbers of every ordered tuple of species, each a product of what is common and what is a species' own."""
    if not rows(per, species):
        return
    alike, own = prior.ALIKE, prior.OWN
    one = (1 - alike) * np.eye(species) + alike  # of single species
    whole = np.ones((1, 1))
    for _ in range(PER[per]):
        whole = np.kron(whole, one)
    tuples = list(np.ndindex(*(species,) * PER[per]))
    mean = np.zeros((rows(per, species), len(tuples)))  # a row is the mean over the orders that it does not tell apart
    for at, kinds in enumerate(tuples):
        if per != "unlike triplet" or kinds[1] != kinds[2]:
            mean[row(per, species, *kinds), at] = 1.0
    mean /= mean.sum(axis=1, keepdims=True)
    size = np.sqrt(np.diagonal(mean @ whole @ mean.T))
    expected = (1 - own) * (mean @ whole @ mean.T) / np.outer(size, size) + own * np.eye(len(size))
    root = prior.apart(per, species)
    np.testing.assert_allclose(np.linalg.inv(root.T @ root), expected, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(expected), 1.0)


def alloy(label) -> tuple[Data, Data]:
    """Hot and cold crystals of A, cold ones of B and of both; and hot ones of both: two species that differ a little."""
    model = Model(PAIR, ["Mo", "W"])
    random = np.random.default_rng(0)
    common = 2.0 * random.normal(size=6)
    table = np.array([common, common * 1.05, common * 1.1]) + 0.05 * random.normal(size=(3, 6))
    model = model.with_parameters({**model.parameters, "Pair.coefficients": torch.from_numpy(table)})
    frames = {kind: [] for kind in ("A_hot", "A_cold", "B_cold", "AB_cold", "AB_hot")}
    for (kind, found), n in ((item, n) for item in frames.items() for n in range(8)):
        atoms = bulk("Mo", "bcc", a=3.2 + 0.02 * n, cubic=True) * (2, 2, 1)
        symbols = {"A": ["Mo"], "B": ["W"], "AB": ["Mo", "W"]}[kind.split("_")[0]]
        atoms.symbols[:] = random.choice(symbols, len(atoms))
        atoms.positions += random.normal(scale=0.25 if "hot" in kind else 0.02, size=atoms.positions.shape)
        atoms.info["config_type"] = kind
        found.append(atoms)
    train = [a for kind, found in frames.items() for a in found if kind != "AB_hot"]
    return label(model, train, noise=0.05), label(model, frames["AB_hot"])


def test_hot_frames_of_one_species_teach_those_of_the_other(label, monkeypatch):
    """Without the correlation of species nothing holds the pairs that were never close."""
    train, hot = alloy(label)
    size = np.sqrt(np.mean(np.concatenate([f.forces.ravel() for f in hot]) ** 2))
    errors = {}
    for alike in (prior.ALIKE, 0.0):
        monkeypatch.setattr(prior, "ALIKE", alike)
        prior.apart.cache_clear()
        fitted = fit(Model(PAIR, ["Mo", "W"]), train, by="config_type", folds=9, quiet=True)
        errors[alike] = evaluate(fitted.model, hot).forces.rmse
    prior.apart.cache_clear()
    assert errors[0.999] < 0.1 * size and errors[0.999] < 0.5 * errors[0.0]


def test_folds_by_kind_leave_whole_kinds_out(label):
    train, _ = alloy(label)
    fold = train.fold_of(9, by="config_type")
    assert fold.max() == 3 and all(
        len({int(fold[k]) for k, f in enumerate(train) if f.config_type == kind}) == 1 for kind in train.config_types
    )
    assert not train[:1].fold_of(5).any() and not train.fold_of(0).any()
    model = Model(PAIR, ["Mo", "W"])
    fitted = fit(model, train, WEIGHTS, ridge=1e-16, stress_offset=False, by="config_type", folds=9, quiet=True)
    left = np.flatnonzero(fold == fold[0])
    alone = fit(model, train[np.setdiff1d(np.arange(len(train)), left)], WEIGHTS, ridge=1e-16, stress_offset=False, folds=0, quiet=True)
    assert fitted.cv.forces.rmse > 1.5 * fitted.train.forces.rmse
    expected = evaluate(alone.model, train[left]).by_frame("forces")
    np.testing.assert_allclose(fitted.cv.by_frame("forces")[left], expected, rtol=0.05)
    with pytest.raises(DataError, match="is not known"):
        fit(model, train, by="colour", quiet=True)
