"""Real spherical harmonics as polynomials, and the coefficients that couple three of them."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from composer.quantities import NeighborAtom, Node
from terms import radial


def direction(j: NeighborAtom) -> tuple[Node, Node, Node]:
    """Unit vector from the site to j; shorter than one below 0.1 Å, so that overlapping atoms stay finite."""
    inverse = 1 / radial.above(j.r, 0.1)
    x, y, z = j.d
    return x * inverse, y * inverse, z * inverse


def harmonics(u: tuple[Node, Node, Node], l_max: int) -> list[list[Node]]:
    """Real harmonics Y[l][m + l] of a unit vector, with sum_m Y_lm(u) Y_lm(v) = P_l(u.v) (Schmidt's normalisation).

    Y_lm = N_lm Q_l|m|(z) times Re or Im of (x + iy)^|m|, Q by (l - m) Q_lm = (2l - 1) z Q_{l-1,m} - (l + m - 1) Q_{l-2,m}.
    """
    x, y, z = u
    one = 1 + 0 * z
    real, imaginary = [one], [0 * z]
    for _ in range(l_max):
        real, imaginary = [*real, x * real[-1] - y * imaginary[-1]], [*imaginary, x * imaginary[-1] + y * real[-1]]
    q: dict[tuple[int, int], Node] = {}
    for m in range(l_max + 1):
        q[m, m] = one * math.prod(range(1, 2 * m, 2))
        for l in range(m + 1, l_max + 1):
            q[l, m] = ((2 * l - 1) * z * q[l - 1, m] - (l + m - 1) * q.get((l - 2, m), 0 * z)) * (1 / (l - m))
    return [[_one(l, m, q, real, imaginary) for m in range(-l, l + 1)] for l in range(l_max + 1)]


def _one(l: int, m: int, q: dict[tuple[int, int], Node], real: list[Node], imaginary: list[Node]) -> Node:
    if m == 0:
        return q[l, 0]
    norm = math.sqrt(2 * math.factorial(l - abs(m)) / math.factorial(l + abs(m)))
    return norm * (q[l, abs(m)] * (real[m] if m > 0 else imaginary[-m]))


@cache
def gaunt(l1: int, l2: int, l3: int) -> tuple[tuple[int, int, int, float], ...]:
    """Non-zero (i1, i2, i3, g) with g = (2 l3 + 1)/(4 pi) times the integral of Y_l1 Y_l2 Y_l3 over the sphere; i = m + l.

    sum g Y_l1(u) Y_l2(u) Y_l3(v) = w P_l3(u.v), w = (2 l3 + 1) times the square of the 3j symbol (l1 l2 l3; 0 0 0), at most one.
    """
    import numpy as np

    degree = l1 + l2 + l3
    z, weight = np.polynomial.legendre.leggauss(degree // 2 + 1)  # exact for polynomials of this degree
    angle = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    ring = np.sqrt(1 - z[:, None] ** 2)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), z[:, None] + 0 * angle])  # [3, z, angle]
    y1, y2, y3 = (_values(points.reshape(3, -1), l) for l in (l1, l2, l3))
    table = np.einsum("ap,bp,cp,p->abc", y1, y2, y3, np.repeat(weight, degree + 1) / (2 * (degree + 1))) * (2 * l3 + 1)
    return tuple((int(a), int(b), int(c), float(table[a, b, c])) for a, b, c in np.argwhere(np.abs(table) > 1e-12))


def _values(points: Any, l: int) -> Any:
    """Harmonics of one l at unit vectors, numpy [3, P] -> [2l + 1, P]."""
    import numpy as np

    x, y, z = points
    ladder = np.array([(x + 1j * y) ** m for m in range(l + 1)])
    q = [_legendre(l, m, z) * math.sqrt((1 if m == 0 else 2) * math.factorial(l - m) / math.factorial(l + m)) for m in range(l + 1)]
    return np.array([q[-m] * ladder[-m].imag for m in range(-l, 0)] + [q[m] * ladder[m].real for m in range(l + 1)])


def _legendre(l: int, m: int, z: Any) -> Any:
    """The m-th derivative of the Legendre polynomial P_l at z."""
    from numpy.polynomial import legendre

    coefficients = legendre.legder([0.0] * l + [1.0], m) if m else [0.0] * l + [1.0]
    return legendre.legval(z, coefficients)
