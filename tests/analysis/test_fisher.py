"""Acceptance tests 3-7, 9 of the Fisher information: sums of blocks, streaming, small eigenvalues, units, gauges, unseen parameters."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

import analysis

FRAMES = 12


def observables(seed: int, parameters: int = 6) -> dict[tuple[str, int], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Rows, targets and weights by observable and frame, with columns of very unlike units."""
    random = np.random.default_rng(seed)
    scale = 10.0 ** random.uniform(-3, 3, parameters)
    sizes = {"energy": 1, "forces": 24, "stress": 6}
    return {
        (name, frame): (random.normal(size=(m, parameters)) * scale, random.normal(size=m), np.full(m, 1 / s))
        for frame in range(FRAMES)
        for (name, m), s in zip(sizes.items(), (0.01, 0.1, 0.02))
    }


def dense(data: dict[Any, Any], keys: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
    chosen = list(data) if keys is None else keys
    rows = np.concatenate([data[key][0] * data[key][2][:, None] for key in chosen])
    return rows, np.concatenate([data[key][1] * data[key][2] for key in chosen])


def close(a: NDArray[Any], b: NDArray[Any], tolerance: float) -> None:
    size = np.abs(b).max()
    assert size > 0
    assert np.abs(a - b).max() <= tolerance * size


def test_fisher_03_information_is_the_sum_of_blocks_and_a_missing_observable_gives_no_rows() -> None:
    data = observables(0)
    factors = {key: analysis.factorize(*chunk) for key, chunk in data.items()}
    unit = 1 / np.linalg.norm(dense(data)[0], axis=0)  # compare unit-free
    total = analysis.combine(factors).information * np.outer(unit, unit)
    for part in (0, 1):  # by observable, by frame
        blocks = analysis.information(analysis.group_by(factors, lambda key, part=part: key[part]))
        assert len(blocks) == (3, FRAMES)[part]
        close(sum(blocks.values()) * np.outer(unit, unit), total, 1e-12)
    rows, _ = dense(data)
    close(total, (rows * unit).T @ (rows * unit), 1e-12)
    blocks = analysis.term_blocks(total, {"pair": [0, 1], "three": [2, 3, 4, 5]})
    assert np.array_equal(blocks["pair", "three"], total[:2, 2:])

    missing = {key: chunk for key, chunk in data.items() if key != ("stress", 3)}
    fewer = analysis.combine({key: factors[key] for key in missing})
    assert fewer.rows == analysis.combine(factors).rows - 6
    rows, target = dense(missing)
    close(fewer.information * np.outer(unit, unit), (rows * unit).T @ (rows * unit), 1e-12)
    close(analysis.solve(fewer).theta / unit, np.linalg.lstsq(rows * unit, target, rcond=None)[0], 1e-12)


def test_weights_ridge_and_folds_equal_dense_refits() -> None:
    data = observables(1)
    factors = {key: analysis.factorize(*chunk) for key, chunk in data.items()}
    weights = {key: {"energy": 3.0, "forces": 1.0, "stress": 0.0}[key[0]] for key in factors}
    kept = [key for key in data if weights[key] > 0 and key[1] % 4]
    rows, target = dense({key: (*data[key][:2], data[key][2] * weights[key]) for key in kept})
    found = analysis.combine({key: factors[key] for key in kept}, {key: weights[key] for key in kept})
    norms = np.linalg.norm(rows, axis=0)
    ridge = 1e-3
    largest = np.linalg.norm(rows / norms, 2)
    stacked = np.concatenate([rows / norms, np.sqrt(ridge) * largest * np.eye(6)])
    expected = np.linalg.lstsq(stacked, np.append(target, np.zeros(6)), rcond=None)[0]
    solution = analysis.solve(found, ridge)
    close(solution.theta * norms, expected, 1e-12)
    close(solution.chi2, np.sum((rows @ solution.theta - target) ** 2), 1e-12)
    hat = rows / norms @ np.linalg.solve(stacked.T @ stacked, (rows / norms).T)
    close(np.array(solution.dof), np.trace(hat), 1e-12)
    close(solution.leverage(rows), np.diag(hat), 1e-11)
    prior = analysis.ridge_prior(found, ridge)
    close(analysis.solve(found, prior=prior).theta * norms, expected, 1e-12)
    step = analysis.solve(analysis.factorize(rows, target - rows @ (0.3 / norms)), prior=analysis.penalty(prior, -0.3 / norms))
    close(step.theta * norms + 0.3, expected, 1e-11)
    shares = analysis.term_dof(found, solution, {"a": [0, 1], "b": [2, 3, 4, 5]})
    close(np.array(sum(shares.values())), np.array(solution.dof), 1e-11)


@pytest.mark.parametrize("columns", [(), (3,)])
def test_fisher_04_streaming_over_chunks_and_workers(columns: tuple[int, ...]) -> None:
    random = np.random.default_rng(2)
    rows, rhs = random.normal(size=(900, 20)) * 10.0 ** random.uniform(-4, 4, 20), random.normal(size=(900, *columns))
    whole = analysis.factorize(rows, rhs)
    norms = whole.norms
    for size in (1, 7, 64, 333):
        chunks = [(rows[i : i + size], rhs[i : i + size]) for i in range(0, 900, size)]
        one = analysis.stream(chunks)
        close(one.triangle / norms, whole.triangle / norms, 1e-10)
        close(one.rhs, whole.rhs, 1e-10)
        close(one.rss, whole.rss, 1e-12)
        assert one.rows == 900 and np.all(np.diag(one.triangle) >= 0)
        for workers in (1, 2, 4):
            with ThreadPoolExecutor(workers) as pool:
                other = analysis.stream(chunks, pool.map)
            assert np.array_equal(one.triangle, other.triangle) and np.array_equal(one.rhs, other.rhs)
            assert np.array_equal(one.rss, other.rss)


def exact_eigenvalues(rows: NDArray[Any]) -> NDArray[Any]:
    """Eigenvalues of D^(-1/2) J^T J D^(-1/2) in 50 digits."""
    with mpmath.workdps(50):
        matrix = mpmath.matrix(rows.tolist())
        gram = matrix.T * matrix
        size = gram.rows
        for a in range(size):
            for b in range(a):
                gram[a, b] = gram[b, a] = gram[a, b] / mpmath.sqrt(gram[a, a] * gram[b, b])
        for a in range(size):
            gram[a, a] = mpmath.mpf(1)
        return np.array(sorted((float(v) for v in mpmath.eigsy(gram, eigvals_only=True)), reverse=True))


def exponentials() -> NDArray[Any]:
    """Jacobian of a sum of exponentials in its four amplitudes and four rates."""
    t = np.linspace(0.0, 5.0, 60)[:, None]
    rates = np.array([0.7, 0.9, 1.1, 1.3])
    return np.concatenate([np.exp(-rates * t), -t * np.exp(-rates * t)], axis=1)


@pytest.mark.parametrize("rows", [np.vander(np.linspace(0.0, 1.0, 40), 13), exponentials()], ids=["vandermonde", "exponentials"])
def test_fisher_05_small_eigenvalues_against_fifty_digits(rows: NDArray[Any]) -> None:
    exact = exact_eigenvalues(rows)
    assert exact[-1] < 1e-13 * exact[0]
    found = analysis.fisher_spectrum(analysis.stream((rows[i : i + 9], np.zeros(len(rows[i : i + 9]))) for i in range(0, len(rows), 9)))
    real = exact > 1e-20 * exact[0]
    assert np.count_nonzero(real & (exact < 1e-13 * exact[0])) >= 1
    np.testing.assert_allclose(found.eigenvalues[real], exact[real], rtol=0.01)
    assert not found.rounding[real].any()
    gram = analysis.gram_spectrum(rows.T @ rows)
    assert np.array_equal(gram.rounding, gram.eigenvalues <= 1e-13 * gram.eigenvalues[0])
    assert gram.rounding[exact < 1e-15 * exact[0]].all() and gram.rounding.any() and np.isinf(gram.condition)
    np.testing.assert_allclose(gram.eigenvalues[~gram.rounding], exact[~gram.rounding], rtol=0.05)


def test_fisher_06_units_and_general_changes_of_parameters() -> None:
    random = np.random.default_rng(4)
    rows = np.vander(np.linspace(-1, 1, 80), 9) + 1e-4 * random.normal(size=(80, 9))
    rhs = random.normal(size=80)
    chunks = np.array_split(np.arange(80), 20)

    def factors(j: NDArray[Any]) -> list[analysis.Factor]:
        return [analysis.factorize(j[c], rhs[c]) for c in chunks]

    plain = analysis.merge(factors(rows))
    spectrum = analysis.fisher_spectrum(plain)
    for p in range(9):
        scale = np.ones(9)
        scale[p] = 1e6
        other = analysis.fisher_spectrum(analysis.merge(factors(rows * scale)))
        np.testing.assert_allclose(other.eigenvalues, spectrum.eigenvalues, rtol=1e-9)

    change = np.eye(9)  # theta = T theta', the block of columns 6..8 keeps to itself
    change[:6, :6] += 0.3 * random.normal(size=(6, 6))
    change[6:, 6:] += 0.3 * random.normal(size=(3, 3))
    mixed = factors(rows @ change)
    slopes = random.normal(size=(4, 9))
    results = []
    for groups, gradient in ((factors(rows), slopes), (mixed, slopes @ change)):
        factor = analysis.merge(groups)
        solution = analysis.solve(factor)
        results.append(
            (
                analysis.fisher_spectrum(factor).rank(),
                analysis.wald_prices(factor, solution.theta, {"b": [6, 7, 8]})["b"],
                analysis.tic_trace(groups, solution),
                analysis.propagate(gradient, analysis.naive_root(solution, 1.0)),
            )
        )
    assert results[0][0] == results[1][0] == 9
    for a, b in zip(results[0][1:], results[1][1:]):
        assert np.all(np.asarray(a) > 0)
        np.testing.assert_allclose(a, b, rtol=1e-8)
    assert np.abs(analysis.fisher_spectrum(analysis.merge(mixed)).eigenvalues / spectrum.eigenvalues - 1).max() > 1e-3


def product(blocks: list[NDArray[Any]], theta: list[NDArray[Any]]) -> NDArray[Any]:
    """Jacobian of the product over factors of (basis [m, p_f] @ theta_f [p_f])."""
    values = [basis @ t for basis, t in zip(blocks, theta)]
    return np.concatenate(
        [basis * np.prod([v for g, v in enumerate(values) if g != f], axis=0)[:, None] for f, basis in enumerate(blocks)], axis=1
    )


def gauged(case: str, along: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Jacobian and gauge directions G of a small model, moved along its orbit by a factor (or amount) `along`."""
    random = np.random.default_rng(5)
    sizes = {"A*B": (3, 4), "A*B*C": (3, 4, 2), "constants": (3, 3), "scaled basis": (1, 1)}[case]
    basis = [np.abs(random.normal(size=(50, p))) + 0.1 for p in sizes]
    theta = [random.uniform(0.5, 2.0, p) for p in sizes]
    ends = np.cumsum((0, *sizes))
    if case in ("A*B", "A*B*C"):
        theta[0], theta[1] = theta[0] * along, theta[1] / along
        gauge = np.zeros((ends[-1], len(sizes) - 1))
        for g in range(len(sizes) - 1):
            gauge[: sizes[0], g], gauge[ends[g + 1] : ends[g + 2], g] = theta[0], -theta[g + 1]
        return product(basis, theta), gauge
    if case == "constants":  # c_1 + A + c_2 + B: linear, so the place along the orbit cannot be seen
        basis[0][:, 0] = basis[1][:, 0] = 1.0
        return np.concatenate(basis, axis=1), np.array([1.0, 0, 0, -1.0, 0, 0])[:, None]
    coefficient, scale = theta[0] * along, theta[1] / along  # y = c * s * f(x)
    return product(basis[:1] + [np.ones((50, 1))], [coefficient, scale]), np.concatenate([coefficient, -scale])[:, None]


@pytest.mark.parametrize("case, dimension", [("A*B", 1), ("A*B*C", 2), ("constants", 1), ("scaled basis", 1)])
def test_fisher_07_gauge_directions_are_projected_out(case: str, dimension: int) -> None:
    rows, gauge = gauged(case, 1.0)
    factor = analysis.factorize(rows, np.zeros(len(rows)))
    assert np.all(analysis.gauge_defect(factor, gauge) < 1e-12)
    assert np.isinf(analysis.fisher_spectrum(factor).condition)
    found = analysis.fisher_spectrum(factor, gauge)
    assert found.coordinates.gauge_dimension == dimension and len(found.eigenvalues) == rows.shape[1] - dimension
    assert found.condition < 1e12 and analysis.null_space(factor, gauge).shape[1] == 0
    assert analysis.null_space(factor).shape[1] == dimension

    moved_rows, moved_gauge = gauged(case, 100.0)
    moved = analysis.fisher_spectrum(analysis.factorize(moved_rows, np.zeros(len(rows))), moved_gauge)
    np.testing.assert_allclose(moved.eigenvalues, found.eigenvalues, rtol=1e-8)
    spanning = np.concatenate([gauge, gauge @ np.ones((dimension, 1))], axis=1)  # a dependent direction counts once
    np.testing.assert_allclose(analysis.fisher_spectrum(factor, spanning).eigenvalues, found.eigenvalues, rtol=1e-9)
    eigenvalues = analysis.gram_spectrum(rows.T @ rows, gauge).eigenvalues
    np.testing.assert_allclose(eigenvalues, found.eigenvalues, rtol=1e-6)

    target = rows @ np.linspace(0.5, 1.5, rows.shape[1])
    solution = analysis.solve(analysis.factorize(rows, target), gauge=gauge)
    assert np.abs(rows @ solution.theta - target).max() < 1e-9 * np.abs(target).max()
    assert np.abs(solution.root.T @ (np.sum(rows**2, axis=0)[:, None] * gauge)).max() < 1e-6 * np.abs(solution.root).max() * np.sum(rows**2)


def test_fisher_07_a_direction_that_carries_information_is_refused() -> None:
    rows, gauge = gauged("A*B", 1.0)
    with pytest.raises(ValueError, match="carry information"):
        analysis.fisher_spectrum(analysis.factorize(rows, np.zeros(len(rows))), gauge + 0.1)


def test_fisher_09_an_unseen_parameter_is_reported_as_unseen() -> None:
    rows, gauge = gauged("A*B", 1.0)
    clean = analysis.fisher_spectrum(analysis.factorize(rows, np.zeros(50)), gauge)
    wide, wide_gauge = np.insert(rows, 2, 0.0, axis=1), np.insert(gauge, 2, 0.7, axis=0)  # column 2 lies beyond all distances
    factor = analysis.stream((wide[i : i + 8], np.ones(len(wide[i : i + 8]))) for i in range(0, 50, 8))
    found = analysis.fisher_spectrum(factor, wide_gauge)
    assert found.coordinates.unseen.tolist() == [2] and found.coordinates.gauge_dimension == 1
    np.testing.assert_allclose(found.eigenvalues, clean.eigenvalues, rtol=1e-9)
    assert np.isfinite(found.condition) and found.modes()[2].tolist() == [0.0] * 6
    assert analysis.solve(factor, gauge=wide_gauge).theta[2] == 0.0
    held = analysis.solve(factor, prior=np.array([[0, 1.0, -1.0, 0, 0, 0, 0, 0]]), gauge=wide_gauge)
    assert held.theta[2] == pytest.approx(held.theta[1]) and held.theta[1] != 0  # a roughness prior fills what data do not see


def test_spectrum_report_and_bootstrap() -> None:
    random = np.random.default_rng(6)
    groups = [analysis.factorize(random.normal(size=(20, 4)) * [1, 1, 1, 1e-3], np.zeros(20)) for _ in range(40)]
    found = analysis.fisher_spectrum(analysis.merge(groups))
    assert found.rank() == 4 and 0 < found.decades < 0.5 and found.n_eff(1e-8) == pytest.approx(4, rel=1e-6)
    shares = found.participation({"a": [0, 1], "b": [2, 3]}, modes=4)
    assert shares["a"] == pytest.approx((0.5, 0.5)) and shares["b"] == pytest.approx((0.5, 0.5))
    spread = analysis.bootstrap(groups, draws=50, seed=1)
    assert spread.shape == (50, 4) and np.all(spread.std(axis=0) > 1e-3) and np.all(spread.std(axis=0) < 0.2)
    assert np.array_equal(spread, analysis.bootstrap(groups, draws=50, seed=1))


def test_bad_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="Row 1 of 2 holds NaN"):
        analysis.factorize(np.array([[1.0], [np.nan]]), np.zeros(2))
    with pytest.raises(ValueError, match="one target for each"):
        analysis.factorize(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="same columns"):
        analysis.merge([analysis.factorize(np.eye(2), np.zeros(2)), analysis.factorize(np.eye(3), np.zeros(3))])
    with pytest.raises(ValueError, match="no rows at all"):
        analysis.merge([])
    with pytest.raises(ValueError, match="Use their keys"):
        analysis.combine({"energy": analysis.factorize(np.eye(2), np.zeros(2))}, {"force": 1.0})
    with pytest.raises(ValueError, match="relative penalty"):
        analysis.solve(analysis.factorize(np.eye(2), np.zeros(2)), ridge=-1.0)


def test_the_face_names_what_it_offers() -> None:
    assert sorted(analysis.__all__) == sorted(analysis._HOME)
    assert all(getattr(analysis, name).__name__ == name for name in analysis.__all__)
    with pytest.raises(AttributeError, match="It offers"):
        _ = analysis.nothing


def test_few_rows_with_gaps_are_merged_whole() -> None:
    """Rows of two kinds that touch different columns, fewer than the columns: nothing of them is lost."""
    random = np.random.default_rng(4)
    first, second = np.zeros((2, 6, 12))
    first[:5, [0, 2, 3, 9]], second[:5, [1, 4, 5, 11]] = random.normal(size=(2, 5, 4))
    rows, truth = np.concatenate([first[:5], second[:5]]), random.normal(size=12)
    merged = analysis.merge([analysis.factorize(part[:5], part[:5] @ truth) for part in (first, second)])
    np.testing.assert_allclose(merged.triangle.T @ merged.triangle, rows.T @ rows, atol=1e-12)
    np.testing.assert_allclose(merged.triangle.T @ merged.rhs, rows.T @ (rows @ truth), atol=1e-12)
    assert merged.chi2(truth) < 1e-20
