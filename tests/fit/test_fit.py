"""Fits: planted models are found, methods agree, what was held out was held out."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

import composer
from analysis import combine, factorize, penalty, solve
from composer.algebra import Scale
from composer.data import Data, Frame, read_data
from composer.errors import AlgebraError, DataError
from composer.evaluate import evaluate
from composer.fit import Fitted, Weights, fit
from composer.fit.first_order import loss_and_gradient
from composer.fit.levenberg import minimise
from composer.fit.path import path
from composer.fit.rows import Problem
from composer.model import Model
from terms import ZBL, Charges, Coulomb, Density, Morse, Pair, PairFormula, StillingerWeber, ThreeBody

LINEAR = Pair(cutoff=4.5, n_max=4) + ThreeBody(cutoff=4.0, n_max=2, l_max=2)
PRODUCT = Pair(cutoff=4.5, n_max=4) + ThreeBody(cutoff=4.0, n_max=2, l_max=2) * (1 + Density(cutoff=4.5))
WEIGHTS = Weights(energy=0.003, forces=0.1, stress=0.03)


def planted(expression, seed=0, species=("Si",)) -> Model:
    model = Model(expression, species)
    random = torch.Generator().manual_seed(seed)
    return model.with_parameters(model.theta + 0.5 * torch.randn(model.size, generator=random, dtype=torch.float64))


def test_a_planted_linear_model_is_found(shaken, label):
    truth = planted(LINEAR)
    fitted = fit(Model(LINEAR, ["Si"]), label(truth, shaken(12, 1)), WEIGHTS, ridge=1e-16, quiet=True)
    assert fitted.method == "linear"
    assert fitted.train.energy.rmse < 1e-6 and fitted.train.forces.rmse < 1e-8 and fitted.cv.forces.rmse < 1e-6
    np.testing.assert_allclose(fitted.model.theta, truth.theta, atol=1e-5)


def test_the_stress_offset_is_found_and_stays_out_of_the_model(shaken, label):
    truth = planted(LINEAR)
    data = label(truth, shaken(12, 1), offset=-0.15)
    fitted = fit(Model(LINEAR, ["Si"]), data, WEIGHTS, ridge=1e-16, quiet=True)
    assert fitted.stress_offset == pytest.approx(-0.15, abs=1e-6)
    np.testing.assert_allclose(fitted.model.theta, truth.theta, atol=1e-5)
    assert fitted.train.stress.rmse < 1e-6 < 0.1 < evaluate(fitted.model, data).stress.rmse
    without = fit(Model(LINEAR, ["Si"]), data, WEIGHTS, ridge=1e-16, stress_offset=False, quiet=True)
    assert without.stress_offset == 0.0 and without.train.forces.rmse > 1e-3


def test_an_offset_that_no_data_can_have_is_an_error_of_the_model(shaken, label):
    data = label(planted(LINEAR), shaken(12, 1), offset=0.8)
    fitted = fit(Model(LINEAR, ["Si"]), data, WEIGHTS, ridge=1e-16, quiet=True)
    assert fitted.stress_offset == 0.0 and fitted.refused_offset == pytest.approx(0.8, abs=1e-6)
    assert fitted.train.stress.rmse == evaluate(fitted.model, data).stress.rmse
    assert "an offset of +0.80 eV/atom x N/V would fit best" in str(fitted)


def test_a_length_with_a_pole_at_zero_does_not_jump_across_it(label):
    """Exponentials beside fixed charges: a plain step of least squares takes a length below zero, and folds then choose a prior that ends it all."""

    def salt(height: float, length: float) -> Model:
        charges = Coulomb(Charges({"Na": 0.8, "Cl": -0.8}), accuracy=1e-5)
        return Model(PairFormula("A*exp(-r/rho)", cutoff=6.0, A=height, rho=length) + charges, ["Na", "Cl"])

    crystals = [bulk("NaCl", "rocksalt", a=5.3 + 0.06 * k, cubic=True) for k in range(16)]
    for k, atoms in enumerate(crystals):
        atoms.rattle(0.12, seed=k)
        atoms.info["config_type"] = "salt"
    data = label(salt(1500.0, 0.3), crystals)
    for seed, start in itertools.product(range(4), (0.33, 0.4)):  # a third of them went astray
        some, _ = data.split(test=0.25, by="frame", seed=seed)
        fitted = fit(salt(1000.0, start), some, Weights(energy=0.005 + 0.005 * (seed % 2), forces=0.1, stress=0.02), quiet=True)
        np.testing.assert_allclose(fitted.model.parameters["PairFormula.rho"], 0.3, rtol=1e-3)


def test_a_fitted_model_carries_the_covariance_of_its_numbers(shaken, label, tmp_path):
    """Of the size of what fits to other noise of the same size scatter by, each fit from frames of its own."""
    truth = planted(LINEAR)
    fits = [fit(Model(LINEAR, ["Si"]), label(truth, shaken(20, s), noise=0.1, seed=s), WEIGHTS, ridge=1e-12, quiet=True) for s in range(12)]
    scatter = np.std([f.model.theta.numpy() for f in fits], axis=0)
    stated = np.sqrt(np.mean([np.sum(f.model.covariance_root**2, axis=1) for f in fits], axis=0))
    ratio = np.median(stated / scatter)
    assert 0.4 < ratio < 2.5
    again = composer.read_model(fits[0].model.save(tmp_path / "a.composer"))
    np.testing.assert_array_equal(again.covariance_root, fits[0].model.covariance_root)


def test_a_model_says_what_it_was_fitted_to(shaken, label, tmp_path):
    data = label(planted(LINEAR), shaken(12, 1))
    fitted = fit(Model(LINEAR, ["Si"]), data, WEIGHTS, seed=3, quiet=True)
    found = composer.read_model(fitted.model.save(tmp_path / "a.composer")).provenance
    assert found["data"]["hash"] == data.hash and found["data"]["frames"] == 12
    assert found["settings"]["seed"] == 3 and found["train errors"]["forces (eV/Å)"] == fitted.train.forces.rmse


def test_a_planted_product_is_found_by_variable_projection(shaken, label):
    truth = Model(PRODUCT, ["Si"])
    random = torch.Generator().manual_seed(1)
    truth = truth.with_parameters(
        {n: t + 0.3 * torch.rand(t.shape, generator=random, dtype=torch.float64) for n, t in truth.parameters.items()}
    )
    fitted = fit(Model(PRODUCT, ["Si"]), label(truth, shaken(16, 2)), WEIGHTS, ridge=1e-16, quiet=True)
    assert fitted.method == "varpro" and fitted.train.forces.rmse < 1e-4
    np.testing.assert_allclose(fitted.model.parameters["Density.coefficients"], truth.parameters["Density.coefficients"], atol=1e-3)


def test_known_numbers_of_several_species_are_no_unknowns_of_a_fit(shaken, label):
    """The tables of ZBL for each pair of species stand beside the numbers that are fitted."""
    expr = ZBL(outer=2.0) + Morse(cutoff=4.5) * (1 + Density(cutoff=4.0, n_max=1))
    truth = Model(expr, ["C", "Si"])
    truth = truth.with_parameters(truth.theta * (1 + 0.1 * torch.linspace(-1, 1, truth.size, dtype=torch.float64)))
    frames = shaken(8, 2, ("C", "Si"))
    fitted = fit(Model(expr, ["C", "Si"]), label(truth, frames), WEIGHTS, ridge=1e-14, quiet=True)
    assert fitted.train.forces.rmse < 1e-3 and fitted.model.size == truth.size


def test_fisher_23_variable_projection_reaches_the_minimum_of_levenberg_marquardt_in_fewer_steps(shaken, label):
    data = label(planted(PRODUCT, 3), shaken(14, 3), noise=0.1)
    problem = Problem(Model(PRODUCT, ["Si"]), data.frames, WEIGHTS)
    prior, start = penalty(np.full(problem.size, 1e-3)), problem.start()
    density = np.array(["Density" in n for n in problem.model.parameter_names])
    found = {}
    for name, linear in (("varpro", ~density), ("lm", np.zeros_like(density))):
        found[name] = minimise(problem, start, prior, linear, lambda u: np.zeros((len(u), 0)), tolerance=1e-13, limit=400)
    assert found["varpro"][0].cost == pytest.approx(found["lm"][0].cost, rel=1e-8)
    assert len(found["varpro"][1]) < len(found["lm"][1])


def test_positive_and_bounded_numbers_stay_in_their_range(silicon):
    fitted = fit(Model(StillingerWeber(), ["Si"]), silicon, WEIGHTS, folds=0, quiet=True)
    for entry in fitted.model.entries:
        table = fitted.model.parameters[entry.name]
        assert not entry.positive or bool((table > 0).all())
        assert entry.bounds is None or bool(((table >= entry.bounds[0]) & (table <= entry.bounds[1])).all())
    start = evaluate(Model(StillingerWeber(), ["Si"]), silicon)
    assert fitted.train.forces.rmse < start.forces.rmse and fitted.cv is None


def test_the_path_of_strengths_is_the_solution_of_each():
    random = np.random.default_rng(0)
    rows, prior = random.normal(size=(30, 6)) @ np.diag(10.0 ** -np.arange(6)), penalty(random.normal(size=(5, 6)), random.normal(size=6))
    factor, strengths = factorize(rows, random.normal(size=30)), np.array([1e-8, 1e-3, 1.0, 1e4])
    for strength, u in zip(strengths, path(factor, prior, strengths), strict=True):
        root = np.sqrt(strength)
        held = dataclasses.replace(prior, triangle=root * prior.triangle, rhs=root * prior.rhs)
        np.testing.assert_allclose(u, solve(factor, prior=held).theta, rtol=1e-6, atol=1e-8)


def test_errors_of_cross_validation_are_those_of_refits_without_the_fold(silicon):
    model = Model(LINEAR, ["Si"])
    fitted = fit(model, silicon, WEIGHTS, ridge=1e-6, folds=4, quiet=True)
    train, test = silicon.folds(4)[1]
    problem = Problem(model, silicon[train].frames, WEIGHTS, offset=True)
    whole = Problem(model, silicon.frames, WEIGHTS, offset=True)
    from composer.fit.linear import structure
    from composer.fit.prior import prior

    held = prior(whole, structure(model), whole.factor(whole.start()).norms, whole.start())
    held = dataclasses.replace(held, triangle=1e-3 * held.triangle, rhs=1e-3 * held.rhs)
    u = solve(problem.factor(problem.start()), prior=held).theta
    alone = evaluate(problem.at(u), silicon[test], float(u[-1]))
    np.testing.assert_allclose(fitted.cv.by_frame("forces")[test], alone.by_frame("forces"), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(fitted.cv.by_frame("stress")[test], alone.by_frame("stress"), rtol=1e-5)


def test_fits_are_the_same_for_the_same_seed(silicon):
    a, b = (fit(Model(PRODUCT, ["Si"]), silicon, quiet=True) for _ in range(2))
    assert torch.equal(a.model.theta, b.model.theta) and a.weights == b.weights and a.ridge == b.ridge
    assert isinstance(a, Fitted) and "held out" in str(a)
    assert sum(a.chi2_shares.values()) == pytest.approx(1.0)
    assert a.model.domain["Si-Si"] == pytest.approx(2.0, abs=0.4)


def test_gradients_of_first_order_fits_are_those_of_the_rows(shaken, label):
    data = label(planted(PRODUCT), shaken(3, 4), noise=0.3)
    frames = [data[0], dataclasses.replace(data[1], forces=None), dataclasses.replace(data[2], energy=None)]
    problem = Problem(Model(PRODUCT, ["Si"]), frames, WEIGHTS, offset=True)
    u = problem.start() + 0.1 * np.random.default_rng(0).normal(size=problem.size)
    factor = problem.factor(u)
    value, gradient = loss_and_gradient(problem, u)
    assert value == pytest.approx(float(factor.chi2(np.zeros(problem.size))), rel=1e-10)
    np.testing.assert_allclose(gradient, 2 * factor.gradient(np.zeros(problem.size)), rtol=1e-8, atol=1e-8 * np.abs(gradient).max())


@pytest.mark.parametrize(("method", "slack"), [("lbfgs", 1.02), ("adam", 2.0)])
def test_first_order_fits_come_near_the_solution(method, slack, shaken, label):
    data, model = label(planted(LINEAR), shaken(10, 5), noise=0.2), Model(LINEAR, ["Si"])
    best = fit(model, data, WEIGHTS, ridge=0.0, folds=0, quiet=True)
    found = fit(model, data, WEIGHTS, method=method, quiet=True)
    assert found.method == method and found.train.forces.rmse < slack * best.train.forces.rmse


def test_references_may_be_given_or_come_from_isolated_atoms(shaken, label):
    truth = planted(LINEAR)
    data = label(truth, shaken(8, 6))
    e0 = float(truth.parameters["E0"][0])
    given = fit(Model(LINEAR, ["Si"]), data, WEIGHTS, references={"Si": e0 + 0.5}, quiet=True)
    assert float(given.model.parameters["E0"][0]) == e0 + 0.5
    atom = Frame(("Si",), np.zeros((1, 3)), energy=e0)
    isolated = fit(Model(LINEAR, ["Si"]), Data([*data, atom]), WEIGHTS, references="isolated", ridge=1e-16, quiet=True)
    assert float(isolated.model.parameters["E0"][0]) == e0 and isolated.train.forces.rmse < 1e-6
    with pytest.raises(DataError, match="None was found for Si"):
        fit(Model(LINEAR, ["Si"]), data, references="isolated", quiet=True)


def test_what_is_no_model_and_no_weights_is_refused(silicon):
    with pytest.raises(AlgebraError, match="composer.compile"):
        fit(LINEAR, silicon, quiet=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="composer.Weights"):
        fit(Model(LINEAR, ["Si"]), silicon, weights={"energy": 1.0}, quiet=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="read_data"):
        fit(Model(LINEAR, ["Si"]), "silicon.xyz.xz", quiet=True)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="energy='a', forces=0.1, stress=0.03\\) were asked"):
        Weights(energy="a")  # type: ignore[arg-type]


def test_data_of_which_nothing_can_be_learned_are_fitted_without_a_warning(shaken):
    nothing = Data(
        Frame(tuple(a.symbols), a.positions, a.cell[:], a.pbc, energy=0.0, forces=np.zeros_like(a.positions)) for a in shaken(6, 1)
    )
    fitted = fit(Model(Pair(cutoff=4.5, n_max=4), ["Si"]), nothing, quiet=True)
    assert float(fitted.model.theta.abs().max()) < 1e-6


def test_settings_that_cannot_be_are_refused(silicon):
    with pytest.raises(DataError, match="Known are auto"):
        fit(Model(LINEAR, ["Si"]), silicon, method="guess", quiet=True)
    with pytest.raises(AlgebraError, match="do not enter linearly"):
        fit(Model(Morse(cutoff=4.0), ["Si"]), silicon, method="linear", quiet=True)


def test_weights_left_open_are_chosen_and_a_restart_is_never_worse(silicon):
    expression = Scale() * Density(cutoff=4.0, n_max=3) + Pair(cutoff=4.5, n_max=4)
    one = fit(Model(expression, ["Si"]), silicon, quiet=True)
    assert one.weights.scales.keys() == {"energy", "forces", "stress"}
    again = fit(Model(expression, ["Si"]), silicon, WEIGHTS, ridge=1e-8, folds=0, restarts=2, quiet=True)
    plain = fit(Model(expression, ["Si"]), silicon, WEIGHTS, ridge=1e-8, folds=0, quiet=True)
    assert again.history[-1].cost <= plain.history[-1].cost * (1 + 1e-6)


def test_fisher_32_the_linear_baseline_of_75_numbers_on_molybdenum():
    shared = Path(__file__).parents[3] / "shared/data/mlearn"
    if not shared.exists():
        pytest.skip("../shared/data/mlearn is absent: the published set is for benchmarks only and is not shipped")
    train, test = (read_data(str(shared / f"Mo_{part}.xyz.xz"), quiet=True) for part in ("train", "test"))
    model = Model(Pair(cutoff=5.2, n_max=14) + ThreeBody(cutoff=5.2, n_max=4, l_max=5), ["Mo"])
    assert model.size == 75
    fitted = fit(model, train, Weights(energy=0.001, forces=0.1, stress=None), ridge=1e-12, folds=0, quiet=True)
    errors = evaluate(fitted.model, test)
    # another basis (variable confined to [-1, 1], dimer part taken off) than the 7.74 and 0.217 of the note: near, and not worse
    assert errors.energy.rmse == pytest.approx(7.74, rel=0.05) and errors.forces.rmse == pytest.approx(0.217, rel=0.03)


def test_fits_without_some_labels_use_what_is_there(shaken, label):
    data = label(planted(LINEAR), shaken(10, 7))
    frames = [dataclasses.replace(f, forces=None) if n % 2 else dataclasses.replace(f, stress=None) for n, f in enumerate(data)]
    fitted = fit(Model(LINEAR, ["Si"]), Data(frames), WEIGHTS, quiet=True)
    assert fitted.train.forces.count == 5 * 24 and fitted.train.stress.count == 5 * 6
    bare = Data([dataclasses.replace(f, forces=None, stress=None) for f in data])
    assert fit(Model(LINEAR, ["Si"]), bare, quiet=True).train.forces is None


def test_combine_drops_folds(silicon):
    problem = Problem(Model(LINEAR, ["Si"]), silicon.frames, WEIGHTS)
    factors = problem.factors(problem.start(), lambda place: place % 3)
    rest = combine({k: f for k, f in factors.items() if k[1] != 2})
    assert rest.rows == sum(f.rows for k, f in factors.items() if k[1] != 2)
