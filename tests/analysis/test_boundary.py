"""Acceptance test 21, on arrays: geodesics of small models to their edges."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import analysis

Array = NDArray[np.float64]
TIMES, NOISE = np.linspace(0.1, 4.0, 60), 0.02


def decays(z: Array) -> Array:
    """J of (a exp(-k t) + b exp(-l t)) / noise by ln a, ln k, ln b, ln l."""
    a, k, b, l = np.exp(z)
    first, second = a * np.exp(-k * TIMES), b * np.exp(-l * TIMES)
    return np.stack([first, -k * TIMES * first, second, -l * TIMES * second], axis=1) / NOISE


def along(jacobian: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """Second derivative along v by a central difference."""
    return lambda z, v: (jacobian(z + 1e-4 * v) @ v - jacobian(z - 1e-4 * v) @ v) / 2e-4


def predictions(z: Array) -> Array:
    a, k, b, l = np.exp(z)
    return (a * np.exp(-k * TIMES) + b * np.exp(-l * TIMES)) / NOISE


def test_fisher_21_one_of_two_nearly_equal_exponentials_goes() -> None:
    start = np.log([1.0, 1.0, 0.05, 1.5])
    found = analysis.geodesic(decays, along(decays), start)
    assert found.stopped in ("fast", "far")
    running = found.running(np.ones(4, dtype=bool))
    assert next(iter(running.items())) == (1, -1.0)  # the first rate runs to 0, and with it what it decays
    assert found.path[-1, 0] - start[0] < -3.0 and abs(found.path[-1, 3]) < 0.1 and not found.meeting([(1, 3)])
    speed = np.linalg.norm(found.velocity, axis=1)
    assert speed[-1] > 5 * speed[0]
    # a geodesic has one speed in the space of predictions, so that its length there is that of its time: the way is no longer than needed
    through = [np.linalg.norm(decays(z) @ v) for z, v in zip(found.path, found.velocity, strict=True)]
    assert max(through) < 2 * min(through)
    assert np.linalg.norm(predictions(found.path[-1]) - predictions(start)) < 1.0  # of the noise of one datum


def test_the_other_side_and_numbers_that_meet() -> None:
    ways = [analysis.geodesic(decays, along(decays), np.log([1.0, 1.0, 0.05, 1.5]), side=side).velocity[0] for side in (1, -1)]
    assert ways[0] == pytest.approx(-ways[1])
    path = np.array([[0.0, 1.0, 2.0], [0.0, 0.4, 0.5]])
    made = analysis.Geodesic(path, np.ones_like(path), "fast")
    assert made.meeting([(1, 2)]) and not made.meeting([(0, 1)]) and not made.meeting([(1, 2), (0, 1)]) and not made.meeting([])


def test_directions_that_change_nothing_are_no_edge() -> None:
    def product(z: Array) -> Array:  # a b exp(-k t): a and b share their scale
        value = np.exp(z[0] + z[1] - np.exp(z[2]) * TIMES) / NOISE
        return np.stack([value, value, -np.exp(z[2]) * TIMES * value], axis=1)

    flat = np.array([[1.0], [-1.0], [0.0]])
    found = analysis.geodesic(product, along(product), np.zeros(3), gauge=lambda z: flat)
    assert np.abs(found.path[:, 0] - found.path[:, 1]).max() < 1e-6
    with pytest.raises(ValueError, match="No row depends"):
        analysis.geodesic(lambda z: np.zeros((5, 2)), lambda z, v: np.zeros(5), np.zeros(2))
