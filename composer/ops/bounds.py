"""Bounds on the error of long-range sums, inverted: widths, cutoffs and spacings that keep an accuracy. Plain numbers, no torch.

Errors are r.m.s. forces relative to MELT q^2 rho^(2/3), about the force in a molten salt of mean square charge q^2 and number density
rho (1/Å^3). Source: J. Kolafa and J. W. Perram, Mol. Simul. 9, 351 (1992); M. Deserno and C. Holm, J. Chem. Phys. 109, 7694 (1998).
"""

from __future__ import annotations

import math

MELT = 0.3
SHARE = math.sqrt(0.5)  # of the error for either part
# Error of a mesh of spacing h, fitted to measurements on cubic and triclinic salts: sqrt(alpha rho^(-1/3)) a (alpha h)^P exp(b (alpha h)^2)
# by order, and for a prolate split, whose spectrum ends, (c/13)^1.2 of it with alpha = sqrt(c/2)/reach.
MESH_ERROR = {4: (0.16, 0.0), 5: (0.08, 1.0), 6: (0.044, 1.8), 7: (0.023, 3.6), 8: (0.015, 5.5)}
BAND_MESH_ERROR = {4: (0.18, -1.2), 5: (0.058, 0.55), 6: (0.029, 1.3), 7: (0.0135, 2.75), 8: (0.0075, 4.0)}


def width(cutoff: float, rho: float, error: float) -> float:
    """sigma (Å) for a cutoff (Å) in real space: error = (2/MELT) / sqrt(rc rho^(1/3)) exp(-rc^2/(2 sigma^2))."""
    ratio = math.log(2 / MELT / math.sqrt(cutoff * rho ** (1 / 3)) / error)
    return cutoff / math.sqrt(2 * max(ratio, 0.5))


def wave_cutoff(sigma: float, rho: float, error: float) -> float:
    """k (1/Å) beyond which waves are given up: error = (2/MELT) sqrt(8/pi) sqrt(alpha rho^(-1/3)/x) exp(-x^2), k = 2 alpha x."""
    alpha = 1 / (math.sqrt(2) * sigma)
    x = 1.0
    for _ in range(20):
        x = math.sqrt(max(math.log(2 / MELT * math.sqrt(8 / math.pi * alpha * rho ** (-1 / 3) / x) / error), 0.25))
    return 2 * alpha * x


def spacing(sigma: float, rho: float, error: float, order: int, c: float = 0.0) -> float:
    """Distance of the points of a mesh (Å) of B-splines of an order; c of a prolate split, 0 for a Gaussian of width sigma (Å)."""
    alpha = 1 / (math.sqrt(2) * sigma)
    (a, b), y = (BAND_MESH_ERROR if c else MESH_ERROR)[order], 0.3
    a *= (c / 13) ** 1.2 if c else 1.0
    for _ in range(30):
        y = min((error / (a * math.sqrt(alpha * rho ** (-1 / 3))) * math.exp(-b * y * y)) ** (1 / order), 1.0)
    return y / alpha


def band_limit(reach: float, rho: float, error: float) -> float:
    """c of a prolate split for its reach (Å): error = (4/MELT) sqrt(pi c / (reach rho^(1/3))) exp(-c).

    The force of all waves beyond c/reach: int_band^inf (vhat k^2/4 pi)^2 dk is 1 - lambda = 4 sqrt(pi c) exp(-2 c) of the whole integral. Source: W. H. J.
    Fuchs, J. Math. Anal. Appl. 9, 317 (1964), for the eigenvalue lambda.
    """
    c = 8.0
    for _ in range(20):
        c = max(math.log(4 / MELT * math.sqrt(math.pi * c / (reach * rho ** (1 / 3))) / error), 3.0)
    return c
