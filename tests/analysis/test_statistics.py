"""Acceptance tests 16-18 and the criteria: TIC, sandwich, held-out errors, evidence, envelopes, calibration."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import analysis


def factors(rows: NDArray[Any], target: NDArray[Any], size: int) -> list[analysis.Factor]:
    return [analysis.factorize(rows[i : i + size], target[i : i + size]) for i in range(0, len(rows), size)]


@pytest.mark.parametrize("size", [1, 3])
def test_fisher_16_tic_trace_of_a_correct_model_is_its_number_of_parameters(size: int) -> None:
    random = np.random.default_rng(11)
    rows = random.normal(size=(48, 4))
    ratios = []
    for _ in range(200):
        target = rows @ [1.0, 2.0, -1.0, 0.5] + 0.3 * random.normal(size=48)
        groups = factors(rows, target, size)
        solution = analysis.solve(analysis.merge(groups))
        ratios.append(analysis.tic_trace(groups, solution) / (0.3**2 * 4))
    error = np.std(ratios) / np.sqrt(200)
    assert abs(np.mean(ratios) - 1) < 3 * error and error < 0.05


def test_fisher_16_tic_trace_of_a_misspecified_model_is_larger() -> None:
    random = np.random.default_rng(12)
    ratios = []
    for _ in range(200):
        x = random.uniform(-1, 1, 60)
        target = np.sin(4 * x) + 0.05 * random.normal(size=60)
        groups = factors(np.column_stack([np.ones(60), x]), target, 1)
        solution = analysis.solve(analysis.merge(groups))
        ratios.append(analysis.tic_trace(groups, solution) / (float(solution.variance) * 2))
    assert np.mean(ratios) - 1 > 3 * np.std(ratios) / np.sqrt(200)
    plain = analysis.tic_trace(groups, solution, "none")
    rows = np.column_stack([np.ones(60), x])
    score = rows * (rows @ solution.theta - target)[:, None]
    assert plain == pytest.approx(np.trace(np.linalg.solve(rows.T @ rows, score.T @ score)), rel=1e-10)
    assert analysis.tic_trace(groups, solution, "count") == pytest.approx(plain * 60 / 59, rel=1e-12)
    assert analysis.tic(10.0, 3.0, 2.0) == 8.0


def test_fisher_17_clustered_sandwich_covers_where_the_naive_error_does_not() -> None:
    random = np.random.default_rng(13)
    truth, hits = np.array([1.0, -2.0, 0.5]), {"sandwich": [], "naive": []}
    for _ in range(300):
        shared = random.normal(size=(50, 1, 3))
        rows = (shared + 0.5 * random.normal(size=(50, 8, 3))).reshape(-1, 3)
        noise = (random.normal(size=(50, 1)) + 0.5 * random.normal(size=(50, 8))).ravel()
        groups = factors(rows, rows @ truth + noise, 8)
        solution = analysis.solve(analysis.merge(groups))
        for name, root in (("sandwich", analysis.sandwich_root(solution, groups)), ("naive", analysis.naive_root(solution))):
            deviation = analysis.propagate(np.eye(3), root)
            hits[name].append(analysis.covered(solution.theta - truth, deviation, 1.96))
    assert 0.92 <= np.mean(hits["sandwich"]) <= 0.98
    assert np.mean(hits["naive"]) < 0.85


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_fisher_18_leave_one_group_out_equals_refits(ridge: float) -> None:
    random = np.random.default_rng(14)
    rows = random.normal(size=(90, 7)) * 10.0 ** random.uniform(-3, 3, 7)
    target = random.normal(size=90)
    groups = factors(rows, target, 6)
    whole = analysis.merge(groups)
    root = analysis.ridge_prior(whole, ridge)
    solution = analysis.solve(whole, prior=root)
    held = analysis.leave_one_out(groups, solution)
    for c, group in enumerate(groups):
        keep = np.ones(90, dtype=bool)
        keep[6 * c : 6 * c + 6] = False
        stacked = np.concatenate([rows[keep], np.diag(root)]) / whole.norms
        expected = np.linalg.lstsq(stacked, np.append(target[keep], np.zeros(7)), rcond=None)[0] / whole.norms
        np.testing.assert_allclose(held[c] * whole.norms, expected * whole.norms, rtol=1e-9, atol=1e-10)
        residual = rows[~keep] @ expected - target[~keep]
        assert float(group.chi2(held[c])) == pytest.approx(np.sum(residual**2), rel=1e-9)
        fitted = rows[~keep] @ solution.theta - target[~keep]
        np.testing.assert_allclose(analysis.leave_one_out_residual(rows[~keep], fitted, solution), residual, rtol=1e-9, atol=1e-10)
    folds = {k: analysis.merge(groups[k::5]) for k in range(5)}
    for k, found in analysis.held_out(folds, prior=root).items():
        others = analysis.merge(g for c, g in enumerate(groups) if c % 5 != k)
        np.testing.assert_allclose(found.theta, analysis.solve(others, prior=root).theta, rtol=1e-9)


def test_a_group_that_alone_determines_a_parameter_cannot_be_left_out() -> None:
    groups = [
        analysis.factorize(np.array([[1.0, 0.0]]), np.ones(1)),
        analysis.factorize(np.array([[1.0, 1.0]]), np.ones(1)),
        analysis.factorize(np.array([[2.0, 0.0]]), np.ones(1)),
    ]
    with pytest.raises(ValueError, match="Group 1 .* alone determines"):
        analysis.leave_one_out(groups, analysis.solve(analysis.merge(groups)))
    assert np.isfinite(analysis.sandwich_root(analysis.solve(analysis.merge(groups)), groups)).all()
    assert np.isfinite(analysis.leave_one_out(groups, analysis.solve(analysis.merge(groups), ridge=1e-6))).all()


def test_evidence_is_the_marginal_likelihood() -> None:
    random = np.random.default_rng(15)
    rows, target = random.normal(size=(20, 4)), random.normal(size=20)
    factor = analysis.factorize(rows, target)
    for variance in (1.0, 0.4):
        root = np.diag([1.0, 2.0, 0.5, 1.0]) + 0.1
        spread = variance * (np.eye(20) + rows @ np.linalg.inv(root.T @ root) @ rows.T)
        expected = -0.5 * (target @ np.linalg.solve(spread, target) + np.linalg.slogdet(2 * np.pi * spread)[1])
        assert analysis.evidence(factor, prior=root, variance=variance) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="improper"):
        analysis.evidence(factor, prior=np.eye(4)[:2])


def test_information_criteria() -> None:
    assert analysis.aic(50.0, 100, 5) == pytest.approx(100 * np.log(0.5) + 10)
    assert analysis.aicc(50.0, 100, 5) == pytest.approx(100 * np.log(0.5) + 10 + 60 / 94)
    assert analysis.aicc(50.0, 6, 5) == np.inf
    assert analysis.bic(50.0, 100, 5) == pytest.approx(100 * np.log(0.5) + 5 * np.log(100))
    assert analysis.effective_count(100, 4.0, 40.0, 1.0) == pytest.approx(10.0)
    assert analysis.effective_count(100, 4.0, 2.0, 1.0) == 100.0


def test_effective_count_of_repeated_rows_is_the_number_of_distinct_ones() -> None:
    random = np.random.default_rng(16)
    rows, target = random.normal(size=(300, 3)), random.normal(size=300)
    groups = factors(np.repeat(rows, 5, axis=0), np.repeat(target, 5), 5)
    solution = analysis.solve(analysis.merge(groups))
    count = analysis.effective_count(1500, solution.dof, analysis.tic_trace(groups, solution), float(solution.variance))
    assert count == pytest.approx(300, rel=0.15)


def test_propagation_agrees_with_sampling_and_gauge_directions_move_nothing() -> None:
    random = np.random.default_rng(17)
    rows = random.normal(size=(60, 3))
    wide = np.column_stack([rows, rows[:, 0]])
    gauge = np.array([1.0, 0.0, 0.0, -1.0])
    groups = factors(wide, random.normal(size=60), 4)
    solution = analysis.solve(analysis.merge(groups), gauge=gauge)
    root = analysis.sandwich_root(solution, groups)
    slopes = np.concatenate([s := random.normal(size=(5, 3)), s[:, :1]], axis=1)  # properties do not see the gauge
    draws = random.normal(size=(20000, root.shape[1])) @ root.T @ slopes.T
    np.testing.assert_allclose(draws.std(axis=0), analysis.propagate(slopes, root), rtol=0.05)
    assert analysis.propagate(gauge, root) < 1e-10  # along the gauge itself there is no spread


def test_pointwise_optimal_members_fit_their_row_and_the_envelope_holds_the_residuals() -> None:
    x = np.linspace(-1, 1, 80)
    rows, target = np.column_stack([np.ones(80), x]), x**2
    solution = analysis.solve(analysis.factorize(rows, target))
    residual = rows @ solution.theta - target
    members = analysis.pointwise_optimal(rows, residual, solution)
    np.testing.assert_allclose(np.einsum("mp,mp->m", rows, members), target, atol=1e-12)
    low, high = analysis.envelope(rows, members, solution.theta)
    assert np.all(low <= -residual + 1e-12) and np.all(-residual <= high + 1e-12)
    tight = analysis.envelope(rows, members, solution.theta, tail=0.05)
    assert np.all(tight[0] >= low) and np.all(tight[1] <= high)


def test_conformal_scale_covers_new_groups() -> None:
    random = np.random.default_rng(19)
    hits = []
    for _ in range(100):
        size = np.exp(0.5 * random.normal(size=(80, 1)))  # errors of one group hang together
        errors, deviations = 3 * size * random.normal(size=(80, 6)), np.ones((80, 6))
        names = np.repeat(np.arange(40), 6).tolist()
        scale = analysis.conformal_scale(errors[:40].ravel(), deviations[:40].ravel(), 0.9, names)
        hits.append(analysis.covered(errors[40:], deviations[40:], scale))
    assert 0.88 <= np.mean(hits) <= 0.95
    assert analysis.conformal_scale([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 0.5) == 2.0
    assert analysis.conformal_scale([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 0.9) == np.inf
