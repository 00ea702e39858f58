"""Acceptance tests 11-13, 15, 20: prices of terms against brute-force refits, choice of data against determinants."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import analysis


def refit(rows: NDArray[Any], target: NDArray[Any], root: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Penalised cost and minimum of |J theta - b|^2 + |L theta|^2 by dense least squares on scaled columns."""
    stacked, goal = np.concatenate([rows, np.diag(root)]), np.append(target, np.zeros(len(root)))
    norms = np.linalg.norm(stacked, axis=0)
    theta = np.linalg.lstsq(stacked / norms, goal, rcond=None)[0] / norms
    return float(np.sum((stacked @ theta - goal) ** 2)), theta


def problem(seed: int, parameters: int = 12, count: int = 150) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(seed)
    mixing = np.eye(parameters) + 0.4 * random.normal(size=(parameters, parameters))
    rows = random.normal(size=(count, parameters)) @ mixing * 10.0 ** random.uniform(-3, 3, parameters)
    return rows, random.normal(size=count) + np.sin(rows[:, 0] / np.abs(rows[:, 0]).max()) * 5


BLOCKS = {"pair": [0, 1, 2], "three": [3, 4, 5, 6], "rest": [7, 8, 9, 10, 11], "one": [5], "scattered": [2, 9]}


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_fisher_11_wald_price_is_the_rise_of_chi2_on_refit(ridge: float) -> None:
    rows, target = problem(0)
    factor = analysis.stream((rows[i : i + 20], target[i : i + 20]) for i in range(0, 150, 20))
    root = analysis.ridge_prior(factor, ridge)
    best, theta = refit(rows, target, root)
    prices = analysis.wald_prices(factor, analysis.solve(factor, ridge).theta, BLOCKS, ridge)
    inverse = np.linalg.inv((rows / factor.norms).T @ (rows / factor.norms) + np.diag((root / factor.norms) ** 2))
    for name, block in BLOCKS.items():
        rest = np.setdiff1d(np.arange(12), block)
        rise = refit(rows[:, rest], target, root[rest])[0] - best
        assert rise > 1e-3
        assert prices[name] == pytest.approx(rise, rel=1e-8)
        scaled = (theta * factor.norms)[block]
        assert prices[name] == pytest.approx(scaled @ np.linalg.solve(inverse[np.ix_(block, block)], scaled), rel=1e-7)


def test_fisher_11_wald_price_ignores_gauge_and_unseen_directions() -> None:
    rows, target = problem(1)
    wide = np.column_stack([rows, rows[:, 0], np.zeros(150)])  # a copy of column 0 and a column never seen
    factor = analysis.factorize(wide, target)
    theta = analysis.solve(factor).theta
    prices = analysis.wald_prices(factor, theta, {"copy": [12], "unseen": [13], "both": [0, 12], "one": [5]})
    clean = analysis.factorize(rows, target)
    plain = analysis.wald_prices(clean, analysis.solve(clean).theta, {"both": [0], "one": [5]})
    assert prices["copy"] < 1e-18 * plain["one"] and prices["unseen"] == 0.0
    assert prices["both"] == pytest.approx(plain["both"], rel=1e-8) and prices["one"] == pytest.approx(plain["one"], rel=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_fisher_12_score_gain_is_the_fall_of_chi2_on_refit(ridge: float) -> None:
    rows, target = problem(2)
    factor = analysis.stream((rows[i : i + 20], target[i : i + 20]) for i in range(0, 150, 20))
    base = [0, 1, 2, 3]
    candidates = {"near": [4, 5], "far": [6, 7, 8, 9], "last": [11]}
    root = analysis.ridge_prior(factor, ridge, base)
    before, _ = refit(rows[:, base], target, root[base])
    gains = analysis.score_gains(factor, base, candidates, ridge)
    for name, block in candidates.items():
        both = base + block
        after, theta = refit(rows[:, both], target, root[both])
        gain = gains[name]
        assert before - after > 1e-3 and gain.kept == len(block) and gain.angle > 1e-2
        assert gain.gain == pytest.approx(before - after, rel=1e-8)
        np.testing.assert_allclose(np.append(gain.base, gain.amplitude), theta, rtol=1e-8)
        child = analysis.solve(factor.columns(both), prior=root[both])
        np.testing.assert_allclose(child.theta, theta, rtol=1e-8)
        inner = rows[:, base]  # S, g_B and the warm start by their definitions
        left = np.linalg.solve(inner.T @ inner + np.diag(root[base] ** 2), inner.T @ rows[:, block])
        schur = rows[:, block].T @ rows[:, block] + np.diag(root[block] ** 2) - rows[:, block].T @ inner @ left
        score = rows[:, block].T @ (inner @ refit(inner, target, root[base])[1] - target)
        assert gain.gain == pytest.approx(score @ np.linalg.solve(schur, score), rel=1e-6)


def test_fisher_12_a_step_from_the_optimum_is_the_warm_start() -> None:
    rows, target = problem(3)
    base, block, ridge = [0, 1, 2, 3], [6, 7], 1e-4
    whole = analysis.factorize(rows, target)
    root = analysis.ridge_prior(whole, ridge, base)
    theta = np.zeros(12)
    theta[base] = refit(rows[:, base], target, root[base])[1]
    here = analysis.factorize(rows, target - rows @ theta)  # right-hand side is minus the residual
    gain = analysis.score_gains(here, base, {"x": block}, prior=analysis.penalty(root, -theta))["x"]
    _, expected = refit(rows[:, base + block], target, root[base + block])
    np.testing.assert_allclose(np.append(theta[base] + gain.base, gain.amplitude), expected, rtol=1e-8)
    assert gain.gain == pytest.approx(analysis.score_gains(whole, base, {"x": block}, ridge)["x"].gain, rel=1e-8)


def test_fisher_13_score_gain_of_a_factor_with_the_node_frozen() -> None:
    random = np.random.default_rng(4)
    features = np.abs(random.normal(size=(40, 7, 5)))  # site features u_i of structures of 7 sites [S, i, p_A]
    inside = random.normal(size=(40, 7, 2))  # site values of X_k [S, i, p_B]
    theta = random.uniform(0.5, 1.5, 5)
    target = np.einsum("sip,p,si->s", features, theta, 1 + inside @ [0.2, -0.1]) + 0.01 * random.normal(size=40)
    base_rows = features.sum(axis=1)
    theta = np.linalg.lstsq(base_rows, target, rcond=None)[0]
    node = features @ theta  # u_i, frozen in the new factor [S, i]
    new_rows = np.einsum("si,sik->sk", node, inside)
    factor = analysis.factorize(np.column_stack([base_rows, new_rows]), target)
    found = analysis.score_gains(factor, range(5), {"x": [5, 6]})["x"]
    before = np.sum((base_rows @ theta - target) ** 2)
    after, solution = refit(np.column_stack([base_rows, new_rows]), target, np.zeros(7))
    assert found.gain == pytest.approx(before - after, rel=1e-8) and found.gain > 0.1 * before
    np.testing.assert_allclose(np.append(found.base, found.amplitude), solution, rtol=1e-8)

    def chi2(a: NDArray[Any]) -> float:  # the true model, u not frozen
        return float(np.sum((np.einsum("sip,p,si->s", features, theta, 1 + inside @ a) - target) ** 2))

    start = np.append(theta, [0.0, 0.0])
    for k, step in enumerate(1e-4 * np.eye(2)):
        assert (chi2(step) - chi2(-step)) / 2e-4 == pytest.approx(2 * factor.gradient(start)[5 + k], rel=1e-6)


@pytest.mark.parametrize("ridge", [0.0, 1e-10])
def test_fisher_15_a_copy_of_a_present_term_gains_nothing(ridge: float) -> None:
    rows, target = problem(5)
    mixed = rows[:, [3, 4, 5]] @ np.random.default_rng(5).normal(size=(3, 3))  # the same space in another basis
    wide = np.column_stack([rows, rows[:, [0, 1]], mixed, 0 * rows[:, :1]])
    groups = [analysis.factorize(wide[i : i + 15], target[i : i + 15]) for i in range(0, 150, 15)]
    factor = analysis.merge(groups)
    blocks = {"copy": [12, 13], "mixed": [14, 15, 16], "unseen": [17]}
    gains = analysis.score_gains(factor, range(12), blocks, ridge, groups=groups)
    size = float(np.sum(target**2))
    for name in blocks:
        assert gains[name].gain < 1e-8 * size and np.all(np.isfinite(gains[name].amplitude))
        assert gains[name].angle < 1e-5 or name == "unseen"
    assert ridge > 0 or all(gain.kept == 0 and gain.gain == 0 and gain.trace == 0 for gain in gains.values())
    assert analysis.principal_angles(factor, [0, 1], [12, 13]).max() < 1e-5
    angles = analysis.term_angles(factor, {"a": [3, 4, 5], "mixed": [14, 15, 16], "b": [7, 8]})
    assert angles[0, 1] < 1e-5 and angles[0, 2] > 1 and np.array_equal(angles, angles.T)


def test_gain_correction_is_the_number_of_columns_for_a_correct_model() -> None:
    random = np.random.default_rng(6)
    rows = random.normal(size=(4000, 6))
    target = rows[:, :3] @ [1.0, -1.0, 0.5] + random.normal(size=4000)
    groups = [analysis.factorize(rows[i : i + 4], target[i : i + 4]) for i in range(0, 4000, 4)]
    gain = analysis.score_gains(analysis.merge(groups), [0, 1, 2], {"noise": [3, 4, 5]}, groups=groups)["noise"]
    assert gain.trace == pytest.approx(3.0, rel=0.15)
    assert gain.corrected == pytest.approx(gain.gain - 2 * gain.trace)


def pool_of(seed: int, count: int = 25, parameters: int = 8) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    random = np.random.default_rng(seed)
    units = 10.0 ** random.uniform(-2, 2, parameters)
    start = random.normal(size=(20, parameters)) * units
    return start, [random.normal(size=(random.integers(1, 9), parameters)) * units for _ in range(count)]


def test_fisher_20_greedy_gain_is_the_difference_of_log_determinants() -> None:
    start, pool = pool_of(7)
    factors = [analysis.factorize(rows, np.zeros(len(rows))) for rows in pool]
    have = analysis.factorize(start, np.zeros(20))
    choice = analysis.choose(have, factors, 5, ridge=1e-6)
    root = analysis.information_root(have, factors, 1e-6)
    present = np.linalg.inv(root @ root.T)
    slopes = np.random.default_rng(8).normal(size=(3, 8))
    unit = np.sqrt(np.diag(present))

    def log_det(h: NDArray[Any]) -> float:
        return float(np.linalg.slogdet(h / np.outer(unit, unit))[1])

    def average(h: NDArray[Any]) -> float:
        return float(np.trace(slopes @ np.linalg.solve(h, slopes.T)))

    for targets, measure in ((None, log_det), (slopes, lambda h: -average(h))):
        choice = analysis.choose(have, factors, 5, ridge=1e-6, targets=targets)
        information, left = present, list(range(25))
        for picked, gain in zip(choice.order, choice.gains):
            gains = [measure(information + pool[c].T @ pool[c]) - measure(information) for c in left]
            assert left[int(np.argmax(gains))] == picked and gain > 0
            assert gain == pytest.approx(max(gains), abs=1e-9 * max(1.0, abs(measure(present))))
            information = information + pool[picked].T @ pool[picked]
            left.remove(int(picked))
    with pytest.raises(ValueError, match="leave directions free"):
        analysis.choose(analysis.factorize(start[:3], np.zeros(3)), factors, 2, ridge=0.0)


def test_fisher_20_information_matching() -> None:
    _, pool = pool_of(9, count=30)
    factors = [analysis.factorize(rows, np.zeros(len(rows))) for rows in pool]
    gradients = np.random.default_rng(10).normal(size=(3, 8)) * np.linalg.norm(np.concatenate(pool), axis=0)
    weights = analysis.information_matching(factors, gradients)
    unit = 1 / np.linalg.norm(np.concatenate(pool), axis=0)
    need = (gradients * unit).T @ (gradients * unit)

    def excess(w: NDArray[Any]) -> float:
        have = sum(a * (rows * unit).T @ (rows * unit) for a, rows in zip(w, pool))
        return float(np.linalg.eigvalsh(have - need)[0] / np.linalg.norm(need, 2))

    assert np.all(weights >= 0) and excess(weights) > -1e-8
    assert 0 < np.count_nonzero(weights) < len(pool)
    assert excess(weights * (1 - 1e-4)) < 0  # on the boundary
    # weak duality: any Z >= 0 with tr(Z I_m) <= 1 for all m bounds the sum from below by tr(Z T)
    have = sum(a * (rows * unit).T @ (rows * unit) for a, rows in zip(weights, pool))
    values, vectors = np.linalg.eigh(have - need)
    dual = (vectors / np.maximum(values, values[-1] * 1e-14)) @ vectors.T
    dual /= max(np.trace(dual @ (rows * unit).T @ (rows * unit)) for rows in pool)
    assert np.sum(weights) == pytest.approx(np.trace(dual @ need), rel=1e-3)

    blind = [analysis.factorize(np.where(np.arange(8) == 4, 0.0, rows), np.zeros(len(rows))) for rows in pool]
    with pytest.raises(ValueError, match="Infeasible"):
        analysis.information_matching(blind, gradients)
    assert not analysis.information_matching(factors, np.zeros((1, 8))).any()
