"""Fisher reports of models on data: information, prices, gauges, error bars, suggestions."""

import dataclasses

import numpy as np
import pytest
import torch

from analysis import score_gains, solve
from composer.data import Data
from composer.errors import DataError
from composer.evaluate import evaluate
from composer.fisher import fisher, suggest
from composer.fit import Weights, fit
from composer.fit.rows import Problem
from composer.model import Model
from terms import Density, LennardJones, Morse, Pair, ThreeBody

LINEAR = Pair(cutoff=4.5, n_max=4) + ThreeBody(cutoff=4.0, n_max=2, l_max=2)
WEIGHTS = Weights(energy=0.003, forces=0.1, stress=0.03)


@pytest.fixture(scope="module")
def fitted(silicon):
    return fit(Model(LINEAR, ["Si"]), silicon, WEIGHTS, ridge=1e-14, quiet=True)


def test_fisher_03_information_is_the_sum_of_its_blocks(fitted, silicon):
    report = fisher(fitted.model, silicon, WEIGHTS, stress_offset=False)
    alone = [fisher(fitted.model, silicon, dataclasses.replace(WEIGHTS, **dict.fromkeys(others)), False) for others in
             (("forces", "stress"), ("energy", "stress"), ("energy", "forces"))]  # fmt: skip
    total = sum(r.information for r in alone)
    assert np.abs(total - report.information).max() <= 1e-12 * np.abs(total).max()
    by_group = sum(g.information for g in report.groups)
    assert np.abs(by_group - report.information).max() <= 1e-12 * np.abs(total).max()


def test_fisher_09_an_unseen_number_is_called_unseen(shaken, label):
    model = Model(Pair(cutoff=4.5, n_max=6, basis="bspline", inner=0.5), ["Si"])  # its first function ends below all distances
    report = fisher(model, label(model, shaken(5, 1), noise=0.05))
    assert report.unseen == ["Pair.coefficients[Si-Si,0]"]
    assert report.gauge_dimension == 0 and np.isfinite(report.condition)
    assert "Not seen by any row: Pair.coefficients[Si-Si,0]" in report.summary()


def test_fisher_10_the_mean_force_block_of_a_lennard_jones_model(shaken, label):
    model = Model(LennardJones(cutoff=4.0).fix(epsilon=0.02), ["Si"]).with_parameters({"LennardJones.sigma": 2.1})
    data = label(model, shaken(4, 2))
    report = fisher(model, data, Weights(energy=None, forces=1.0, stress=None))
    mean = report.information / len(data)  # what a mean over configurations gives
    names, step = model.parameter_names, 1e-5
    at = names.index("LennardJones.sigma[Si-Si]")
    shift = torch.zeros(model.size, dtype=torch.float64)
    shift[at] = step
    above, below = (model.with_parameters(model.theta + s * shift)(list(data)).forces for s in (1, -1))
    expected = float((((above - below) / (2 * step)) ** 2).sum()) / len(data)
    assert mean[at, at] == pytest.approx(expected, rel=1e-6) and expected > 0


def test_fisher_11_price_of_a_term_is_the_rise_on_refit_without_it(fitted, silicon):
    report = fisher(fitted.model, silicon, WEIGHTS)
    best = solve(report.factor)
    at = report.model.with_parameters(report.model.theta + torch.from_numpy(best.theta[: report.model.size]))
    report = fisher(at, silicon, WEIGHTS)  # at the minimum without any prior
    less = Model(Pair(cutoff=4.5, n_max=4), ["Si"])
    problem = Problem(less, silicon.frames, WEIGHTS, offset=True)
    rise = float(solve(problem.factor(problem.start())).chi2 - solve(report.factor).chi2)
    assert report.prices["ThreeBody"] * float(report.solution.variance) == pytest.approx(rise, rel=1e-7)


def test_price_of_a_factor_counts_what_it_multiplies(silicon):
    expression = Pair(cutoff=4.5, n_max=4) + ThreeBody(cutoff=4.0, n_max=2, l_max=2) * Density(cutoff=4.0)
    found = fit(Model(expression, ["Si"]), silicon, WEIGHTS, quiet=True)
    report = fisher(found.model, silicon)
    assert report.gauge_dimension == 1 and "set aside" in report.summary()
    assert report.prices["Density"] == pytest.approx(report.prices["ThreeBody"], rel=1e-6) and report.prices["Density"] > 1.0
    assert min(t.angle for t in report.terms) > 1e-3  # what the factors share by gauge is no redundancy


def test_price_of_a_factor_beside_one_is_the_rise_on_refit_without_it(shaken, label):
    """1 + aD is nearly aD here: to first order the pair's own numbers could take the place of a, and they cannot."""
    pair, crowd = Pair(cutoff=4.5, n_max=3), Density(cutoff=4.0, n_max=1)
    truth = Model(pair * (1 + crowd), ["Si"])
    truth = truth.with_parameters({n: t * 0 + (30.0 if "Density" in n else 0.1) for n, t in truth.parameters.items()})
    data = label(truth, shaken(10, 4), noise=0.02)
    report = fisher(fit(truth, data, WEIGHTS, ridge=1e-14, folds=0, quiet=True).model, data, WEIGHTS, stress_offset=False)
    less = Problem(Model(pair, ["Si"]), data.frames, WEIGHTS)
    rise = float(solve(less.factor(less.start())).chi2 - report.physical.chi2(np.zeros(report.model.size)))
    assert report.prices["Density"] * float(report.solution.variance) == pytest.approx(rise, rel=1e-4) and rise > 100.0
    assert "Density hardly matters" not in report.summary()


def test_fisher_14_the_score_test_finds_the_true_factor(shaken, label):
    parent = Pair(cutoff=4.5, n_max=3) + ThreeBody(cutoff=4.0, n_max=2, l_max=1)
    truth = Model(Pair(cutoff=4.5, n_max=3) + ThreeBody(cutoff=4.0, n_max=2, l_max=1) * (1 + Density(cutoff=4.5)), ["Si"])
    densities = {f"density {c} {n}": Density(cutoff=c, n_max=n) for c, n in ((4.5, 2), (3.5, 2), (3.0, 2), (2.8, 1))}
    candidates = {f"ThreeBody * {k}": ("ThreeBody", d) for k, d in densities.items()} | {
        f"Pair * {k}": ("Pair", d) for k, d in densities.items()
    }
    parts = {"ThreeBody": ThreeBody(cutoff=4.0, n_max=2, l_max=1), "Pair": Pair(cutoff=4.5, n_max=3)}
    base = Model(parent, ["Si"])
    children = {name: Model(parts[u].freeze() * x, ["Si"]) for name, (u, x) in candidates.items()}
    assert len(children) == 8
    for noise in (0.0, 0.01):
        for seed in range(10):
            random = torch.Generator().manual_seed(seed)
            tables = {n: 0.5 * torch.randn(t.shape, generator=random, dtype=torch.float64) for n, t in truth.parameters.items()}
            tables["Density.coefficients"] = 0.1 * torch.randn(1, 2, generator=random, dtype=torch.float64)
            exact = truth.with_parameters(tables)
            size = float(exact(shaken(8, seed)).forces.std())
            data = label(exact, shaken(8, seed), noise=noise * size, seed=seed)
            found = fit(base, data, WEIGHTS, ridge=1e-14, folds=0, quiet=True).model
            assert ranked(found, children, candidates, data)[0] == "ThreeBody * density 4.5 2", (noise, seed)


def ranked(parent, children, candidates, data) -> list[str]:
    """Candidates by the fall of chi2 that the score test predicts for a factor 1 + a X, a = 0."""
    here = Problem(parent, data.frames, WEIGHTS)
    matrices, rhs, blocks, start = [], [], {}, here.size
    own = list(here.rows(here.start()))
    weight = {o: 1 / s for o, s in WEIGHTS.scales.items()}
    matrices.append(np.concatenate([r.matrix * weight[r.observable] for r in own]))
    rhs = np.concatenate([r.rhs * weight[r.observable] for r in own])
    for name, child in children.items():
        term = candidates[name][0]
        model = child.with_parameters({f"{term}.coefficients": parent.parameters[f"{term}.coefficients"]})  # u as it is fitted
        problem = Problem(model, data.frames, WEIGHTS)
        columns = np.concatenate([r.matrix[:, 1:] * weight[r.observable] for r in problem.rows(problem.start())])  # without E0
        blocks[name] = range(start, start + columns.shape[1])
        start += columns.shape[1]
        matrices.append(columns)
    from analysis import factorize

    gains = score_gains(factorize(np.concatenate(matrices, axis=1), rhs), range(here.size), blocks)
    return sorted(gains, key=lambda name: -gains[name].gain)


def test_fisher_18_held_out_errors_are_those_of_refits(fitted, silicon):
    from composer.fisher.bars import held_out

    report = fisher(fitted.model, silicon, WEIGHTS)
    errors, deviations, names = held_out(report)
    frame = next(n for n in range(len(silicon)) if len(silicon[n].symbols) > 2)
    group = report.cluster[frame]
    rest = Problem(fitted.model, [f for f, c in zip(silicon, report.cluster, strict=True) if c != group], WEIGHTS, offset=True)
    step = solve(rest.factor(rest.start()), 1e-12).theta
    refit = evaluate(rest.at(rest.start() + step), silicon[report.cluster == group])
    np.testing.assert_allclose(np.abs(errors["forces"][names["forces"] == group]), np.abs(refit.error("forces")), rtol=1e-4, atol=1e-7)
    assert (deviations["forces"] > 0).all()


def test_fisher_19_propagation_agrees_with_sampling_and_gauges_change_nothing(shaken, label):
    model = Model(Morse(cutoff=4.5) * (1 + Density(cutoff=4.0)), ["Si"])
    data = label(model, shaken(12, 3), noise=0.002)
    report = fisher(fit(model, data, WEIGHTS, folds=0, ridge=1e-14, quiet=True).model, data, WEIGHTS)
    crystal = shaken(1, 9)[0]

    def c11(m: Model) -> torch.Tensor:
        strained = []
        for e in (1e-3, -1e-3):
            atoms = crystal.copy()
            atoms.set_cell(atoms.cell[:] @ np.diag([1 + e, 1, 1]), scale_atoms=True)
            strained.append(atoms)
        stress = m(strained).stress[:, 0, 0]
        return (stress[0] - stress[1]) / 2e-3

    theta, root = report.model.theta, torch.from_numpy(report.covariance_root)
    slope = torch.stack([(c11(report.model.with_parameters(theta + h)) - c11(report.model.with_parameters(theta - h))) / 2e-5
                         for h in 1e-5 * torch.eye(report.model.size, dtype=torch.float64)])  # fmt: skip
    predicted = float(torch.linalg.norm(slope @ root))
    random = torch.Generator().manual_seed(0)
    draws = torch.randn(3000, root.shape[1], generator=random, dtype=torch.float64) @ root.T
    sampled = float(torch.stack([c11(report.model.with_parameters(theta + d)) for d in draws[:1500]]).std())
    assert sampled == pytest.approx(predicted, rel=0.05) and predicted > 0
    product = fit(Model(Pair(cutoff=4.5, n_max=3) * Density(cutoff=4.0), ["Si"]), data, WEIGHTS, folds=0, quiet=True).model
    from composer.fit import gauges

    direction = torch.from_numpy(gauges(product)[:, 0])
    step = 1e-5 * float(product.theta.norm())
    change = (
        c11(product.with_parameters(product.theta + step * direction)) - c11(product.with_parameters(product.theta - step * direction))
    ) / 2
    assert abs(float(change)) < 1e-10 * max(abs(float(c11(product))), 1.0)


def test_error_bars_cover_what_they_promise(fitted, silicon):
    report = fisher(fitted.model, silicon)
    bars = report.error_bars(list(silicon))
    assert bars.energy.shape == (len(silicon),) and bars.forces.shape == (sum(len(f.symbols) for f in silicon), 3)
    assert 0.4 < bars.coverage["energy"] <= 1.0 and 0.4 < bars.coverage["forces"] <= 1.0
    assert "on held-out groups it covers" in str(bars)
    far = silicon[0].atoms()
    far.set_cell(far.cell[:] * 0.75, scale_atoms=True)
    near = report.error_bars([silicon[0]])
    assert report.error_bars([far]).energy[0] > near.energy[0]  # further from the data, less certain


def test_standard_errors_shrink_with_more_data(silicon, fitted):
    less = fisher(fitted.model, silicon[:20], WEIGHTS).information
    more = fisher(fitted.model, silicon, WEIGHTS).information
    assert np.linalg.eigvalsh(more - less).min() > -1e-9 * np.abs(more).max()
    assert set(fisher(fitted.model, silicon).standard_errors) == set(fitted.model.parameter_names)


def test_suggestions_prefer_what_the_data_lack(fitted, silicon):
    pool = [silicon[0].atoms(), silicon[1].atoms()]
    odd = silicon[0].atoms()
    odd.set_cell(odd.cell[:] @ (np.eye(3) + 0.15 * np.random.default_rng(0).normal(size=(3, 3))), scale_atoms=True)
    found = suggest(fitted.model, silicon, [*pool, odd], picks=2)
    assert found.order[0] == 2 and found.gains[0] > found.gains[1] > 0
    aimed = suggest(fitted.model, silicon, [*pool, odd], picks=1, targets=[odd])
    assert aimed.criterion == "I" and aimed.order == (2,)
    with pytest.raises(DataError, match="pool is empty"):
        suggest(fitted.model, silicon, [])


def test_reports_speak_and_draw(fitted, silicon):
    report = fisher(fitted.model, silicon)
    text = report.summary()
    assert "The data determine" in text and "ThreeBody" in text and "loosest direction" in text
    assert report.plot().axes and report.plot_terms().axes
    assert report.tic_trace > 0 and 0 < report.n_eff <= fitted.model.size


def test_errors_of_a_model_print_and_name_the_worst_frame(fitted, silicon):
    errors = fitted.model.evaluate(silicon)
    frame = int(np.nanargmax(errors.by_frame("forces")))
    assert errors.forces.worst_frame == frame and silicon[frame].name in str(errors)
    result = fitted.model([silicon[frame]])
    rms = float(np.sqrt(np.mean((result.forces.numpy() - silicon[frame].forces) ** 2)))
    assert errors.forces.worst == pytest.approx(rms, rel=1e-12)
    total = sum(s["forces"].rmse ** 2 * s["forces"].count for s in errors.by_config_type.values() if "forces" in s)
    assert total / errors.forces.count == pytest.approx(errors.forces.rmse**2)
    assert errors.plot().axes
    with pytest.raises(DataError, match="None of the 1 frames"):
        evaluate(fitted.model, Data([dataclasses.replace(silicon[0], energy=None, forces=None, stress=None)]))


def test_rows_follow_the_weights_that_the_report_chose(silicon: Data) -> None:
    """Without weights the noise of the residuals takes their place, for rows that are made later, too."""
    report = fisher(Model(Pair(cutoff=4.5, n_max=3), ["Si"]), silicon)
    fresh = Problem(report.model, report.problem.frames, report.problem.weights, report.problem.offset)
    start = fresh.start()
    for found, expected in zip(report.problem.rows(start), fresh.rows(start), strict=True):
        np.testing.assert_allclose(found.matrix, expected.matrix, rtol=1e-12)
