"""How 1/r^p is split into a short-range and a smooth part, V_SR(r) + V_LR(r): two entries with one face. No torch.

Kernels know two kinds by their numbers: the Gaussian, and any that two polynomials of finite reach state. One more of these is a class here with
the properties of `Gaussian`, and a line in `candidates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import Chebyshev, Legendre, Polynomial

from composer.ops.bounds import SHARE, band_limit, spacing, wave_cutoff, width

FINEST = 1e-11  # the polynomials are good to rounding times exp(band limit/4)


@dataclass(frozen=True)
class Gaussian:
    """V_LR(r) = P(p/2, r^2/(2 sigma^2))/r^p for any p > 0, sigma in Å; sigma = 0 leaves the whole of 1/r^p to V_SR."""

    p: float
    sigma: float

    @property
    def width(self) -> float:
        """sigma (Å) where vhat_LR goes as exp(-sigma^2 k^2/2), exactly or nearly."""
        return self.sigma

    @property
    def reach(self) -> float:
        """r (Å) beyond which V_LR is 1/r^p; here to eight digits."""
        return 6 * self.sigma

    @property
    def band(self) -> float:
        """k (1/Å) beyond which vhat_LR is zero."""
        return math.inf

    @property
    def tables(self) -> None:
        """Nothing, or coefficients [2, terms], lowest first: V_LR(r) in 2 (r/reach)^2 - 1, Å^-1, and vhat k^2/(4 pi) in 2 (k/band)^2 - 1."""
        return None

    @property
    def own(self) -> float:
        """V_LR(0), Å^-p: what an ion must not feel of itself."""
        return 1 / (math.gamma(self.p / 2 + 1) * (2 * self.sigma**2) ** (self.p / 2)) if self.sigma else 0.0

    @property
    def background(self) -> float:
        """vhat_LR(0) for p > 3, minus the neutralising background for p < 3: the coefficient of Q/V in phi, Å^(3-p)."""
        if self.p == 3 or not self.sigma:
            return 0.0
        return math.pi**1.5 * (2 * self.sigma**2) ** ((3 - self.p) / 2) / math.gamma(self.p / 2) * 2 / (self.p - 3)

    def waves(self, rho: float, error: float) -> float:
        """k (1/Å) beyond which waves are given up, for a density (1/Å^3) and a relative force error."""
        return wave_cutoff(self.sigma, rho, error)

    def spacing(self, rho: float, error: float, order: int) -> float:
        """Distance of the points of a mesh (Å) of an order, for a density (1/Å^3) and a relative force error."""
        return spacing(self.sigma, rho, error, order)

    def words(self) -> str:
        return f"sigma {self.sigma:.3g} Å"


@dataclass(frozen=True)
class Prolate:
    """V_LR(r) = Phi(r)/r, Phi' = psi(r/reach)/(C0 reach), vhat_LR(k) = 4 pi/k^2 psi(k/band)/psi(0), band = c/reach.

    psi is the zeroth prolate spheroidal function of band limit c and C0 its integral over [0, 1]: of all functions that vanish beyond the
    reach (Å), the one with least beyond the band. p = 1. Source: D. Slepian and H. O. Pollak, Bell Syst. Tech. J. 40, 43 (1961); J. Liang et
    al., arXiv 2505.09727.
    """

    reach: float
    c: float
    p: float = 1.0

    @property
    def band(self) -> float:
        return self.c / self.reach

    @property
    def width(self) -> float:
        return self.reach / math.sqrt(self.c)

    @cached_property
    def psi(self) -> Legendre:
        """psi on [-1, 1] over C0, by the eigenproblem in normalised Legendre polynomials of even degree n."""
        n = 2.0 * np.arange(20 + math.ceil(self.c / 2))
        matrix = np.diag(n * (n + 1) + self.c**2 * (2 * n * (n + 1) - 1) / ((2 * n + 3) * (2 * n - 1)))
        m = n[:-1]
        beside = self.c**2 * (m + 1) * (m + 2) / ((2 * m + 3) * np.sqrt((2 * m + 1) * (2 * m + 5)))
        vector = np.linalg.eigh(matrix + np.diag(beside, 1) + np.diag(beside, -1))[1][:, 0]
        series = np.zeros(2 * len(n) - 1)
        series[::2] = vector * np.sqrt(n + 0.5)
        return Legendre(series / series[0])

    @cached_property
    def own(self) -> float:
        return float(self.psi(0.0)) / self.reach

    @cached_property
    def background(self) -> float:
        second = 1 / 3 + 2 / 15 * self.psi.coef[2]  # int_0^1 t^2 psi
        return -2 * math.pi * self.reach**2 * float(second)

    @cached_property
    def tables(self) -> np.ndarray:
        integral, start = self.psi.integ(), float(self.psi(0.0))
        terms = math.ceil(3.5 + 0.65 * self.c)  # good to a thousandth of psi(1), the error of the split itself
        return np.stack(
            [even_polynomial(lambda t: integral(t) / t / self.reach, terms), even_polynomial(lambda t: self.psi(t) / start, terms)]
        )

    def waves(self, rho: float, error: float) -> float:
        return self.band

    def spacing(self, rho: float, error: float, order: int) -> float:
        return min(spacing(self.width, rho, error, order, self.c), 0.9 * math.pi / self.band)

    def words(self) -> str:
        return f"prolate, band limit {self.c:.3g}"


Split = Gaussian | Prolate


def even_polynomial(function: Callable[[np.ndarray], np.ndarray], terms: int) -> np.ndarray:
    """Coefficients [terms], lowest first, in w = 2 t^2 - 1 of an even function of t on [0, 1]."""
    series = Chebyshev.interpolate(lambda w: function(np.sqrt((w + 1) / 2)), terms - 1)
    return series.convert(kind=Polynomial).coef


def candidates(p: float, cutoff: float, rho: float, accuracy: float, only: str) -> list[Split]:
    """The splits that keep an accuracy with a cutoff (Å) in real space at a density (1/Å^3); `only` "gaussian", "prolate" or "auto"."""
    found: list[Split] = []
    if only != "prolate":
        found.append(Gaussian(p, width(cutoff, rho, accuracy * SHARE)))
    if only != "gaussian" and p == 1 and accuracy >= FINEST:
        found.append(Prolate(cutoff, band_limit(cutoff, rho, accuracy * SHARE)))
    return found
