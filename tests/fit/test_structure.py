"""Which numbers are linear, and which directions are flat."""

import numpy as np
import pytest
import torch

from analysis import gauge_defect, merge, null_space
from composer.algebra import Scale, exp
from composer.fit import Weights, gauges
from composer.fit.linear import structure
from composer.fit.rows import Problem
from composer.model import Model
from terms import Density, Embedding, LennardJones, Morse, Pair, StillingerWeber, ThreeBody

A, B, C = Pair(cutoff=4.0, n_max=2), Density(cutoff=4.5, n_max=2), ThreeBody(cutoff=4.0, n_max=1, l_max=2)


def linear_names(expression, species=("Si",)) -> set[str]:
    model = Model(expression, species)
    found = structure(model).linear
    return {e.name for e in model.entries if e.key in found and model.layout.slots[e.key].size}


def test_linear_numbers_are_found_by_structure():
    assert linear_names(A + C) == {"E0", "Pair.coefficients", "ThreeBody.coefficients"}
    assert linear_names(A + C * (1 + B)) == {"E0", "Pair.coefficients", "ThreeBody.coefficients"}  # the larger factor
    assert linear_names(A * B * C) == {"E0", "ThreeBody.coefficients"}
    assert linear_names(A * B + C) == {"E0", "Pair.coefficients", "ThreeBody.coefficients"} or linear_names(A * B + C) >= {"E0"}
    assert linear_names(A**2 + C) == {"E0", "ThreeBody.coefficients"}
    assert linear_names(exp(A) + C) == {"E0", "ThreeBody.coefficients"}
    assert linear_names(Morse(cutoff=4.0) + Embedding(cutoff=4.0)) == {"E0", "Embedding.coefficients"}  # positive ones are logarithms
    assert linear_names(A.freeze() * B + C) == {"E0", "Density.coefficients", "ThreeBody.coefficients"}


def random_model(expression, species, seed) -> Model:
    model = Model(expression, species)
    random = torch.Generator().manual_seed(seed)
    return model.with_parameters(model.theta * 0.9 + 0.3 * (torch.rand(model.size, generator=random, dtype=torch.float64) - 0.4))


def factor_of(model, shaken, label, seeds=(1, 2, 3)):
    sets = [label(model, shaken(4, seed, model.species)) for seed in seeds]
    problems = [Problem(model, data.frames, Weights()) for data in sets]
    return merge(p.factor(p.start()) for p in problems)


GAUGED = {
    "two factors": (A * B, ("Si",), 1),
    "three factors": (A * B * C, ("Si",), 2),
    "a scaled term": (Scale() * A, ("Si",), 1),
    "a sum of products": (A * B + C, ("Si",), 1),
    "shared by two products": (A * B + C * B, ("Si",), 1),
    "a power": (A**2 * B, ("Si",), 1),
    "one for each species": (C * B, ("C", "Si"), 2),
    "pairs know no centre": (A * B, ("C", "Si"), 1),
    "no factor scales alone": (C * (1 + B), ("Si",), 0),
    "a sum": (A + C, ("Si",), 0),
    "tied outside": (A * B + A, ("Si",), 0),
    "in a function": (exp(A * B), ("Si",), 1),
    "a function fixes its argument": (exp(A) * B, ("Si",), 0),
}


@pytest.mark.parametrize("name", GAUGED)
def test_fisher_07_gauges_follow_from_the_expression(name):
    expression, species, count = GAUGED[name]
    directions = gauges(random_model(expression, species, 1))
    assert directions.shape[1] == np.linalg.matrix_rank(directions) == count if count else directions.shape[1] == 0


@pytest.mark.parametrize("name", ["three factors", "one for each species", "a power", "tied outside", "shared by two products"])
def test_fisher_08_null_space_common_to_random_data_is_the_listed_one(name, shaken, label):
    expression, species, count = GAUGED[name]
    model = random_model(expression, species, 2)
    factor, directions = factor_of(model, shaken, label), gauges(model)
    if count:
        assert gauge_defect(factor, directions).max() < 1e-12
    assert null_space(factor, threshold=1e-9).shape[1] == count
    assert null_space(factor, directions, threshold=1e-9).shape[1] == 0


def test_fisher_07_the_projected_spectrum_does_not_know_the_place_on_the_orbit(shaken, label):
    from analysis import fisher_spectrum

    found = []
    for scale in (1.0, 100.0):
        model = random_model(B * C, ("Si",), 3)
        tables = model.parameters
        model = model.with_parameters(
            {
                "Density.coefficients": tables["Density.coefficients"] * scale,
                "ThreeBody.coefficients": tables["ThreeBody.coefficients"] / scale,
            }
        )
        found.append(fisher_spectrum(factor_of(model, shaken, label), gauges(model)).eigenvalues)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8)


def test_fixed_amplitudes_have_no_gauge():
    assert gauges(Model(A.freeze() * B, ["Si"])).shape[1] == 0
    assert gauges(Model(LennardJones(cutoff=4.0) * StillingerWeber(), ["Si"])).shape[1] == 1
