"""Splits of 1/r as tables: the prolate one, and a third that a test makes (acceptance 8, 9, 39, 40)."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import pytest
import torch
from scipy import special

from composer import longrange
from composer.ops import dense
from composer.ops.native import split_values
from composer.ops.plan import best, plan
from composer.ops.short import Short, neighbors
from composer.ops.sites import Sites
from composer.ops.smooth import Smooth
from composer.ops.splits import Gaussian, Prolate, Split, even_polynomial
from tests.longrange.systems import F64, melt_force, random_cell, rms, salt

NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)
T, DT = (NODES + 1) / 2, WEIGHTS / 2


@pytest.mark.parametrize("c", [4.0, 13.0, 25.0])
def test_the_prolate_split(c: float) -> None:
    """Acceptance 8: psi is scipy's, both parts make 1/r, the spectrum, V_LR(0) and the background are integrals over Phi'."""
    split = Prolate(7.0, c)
    psi = special.pro_ang1(0, 0, c, T)[0]
    psi /= DT @ psi
    assert np.abs(split.psi(T) - psi).max() < 1e-9 * psi.max()  # scipy is good to ten digits
    r, good = np.linspace(0.05, 8.0, 40), 1e-2 * float(split.psi(1.0))  # the tables are good to a fraction of psi(1)
    smooth, short = (split_values(split, kind, r) for kind in (0, 1))
    assert np.abs((smooth + short) * r - 1).max() < 3e-15
    assert np.abs(short[r >= 7.0]).max() == 0
    for at in (1.0, 5.0):
        inside = at * T / 7.0
        assert abs(at * split_values(split, 0, np.array([at]))[0] - at / 7.0 * DT @ split.psi(inside)) < good
    for k in (0.1, 0.9 * split.band):
        wanted = 4 * math.pi / k**2 * float(DT @ (psi * np.cos(7.0 * k * T)))
        assert abs(split_values(split, 2, np.array([k]))[0] - wanted) < good * 4 * math.pi / k**2
    assert abs(split.own * 7.0 - float(split.psi(0.0))) < 1e-12
    assert abs(split.background + 2 * math.pi * 49 * float(DT @ (T**2 * psi))) < 1e-8
    for kind, at in ((0, 0.5 * 7.0**2), (2, 0.5 * split.band**2)):
        h = 1e-5 * at
        near = [split_values(split, kind, np.array([math.sqrt(at + s * h)]))[0] for s in (1, -1)]
        assert abs((near[0] - near[1]) / (2 * h) / split_values(split, kind + 3, np.array([math.sqrt(at)]))[0] - 1) < 1e-6


def test_sums_do_not_know_the_split() -> None:
    """Acceptance 9: a charged triclinic cell, against the dense sum; slabs and single molecules against the Gaussian."""
    x, q, cell = random_cell()
    options = {"net": "background", "accuracy": 1e-10, "method": "ewald"}
    found = longrange.potential(x, q, cell, split="prolate", **options)
    wanted = dense.potential(x, q, cell)
    assert float((found - wanted).abs().max()) < 1e-9 * float(wanted.abs().max())
    flat = [longrange.potential(x, q, cell, split=s, periodic=[True, True, False], **options) for s in ("gaussian", "prolate")]
    assert float((flat[0] - flat[1]).abs().max()) < 1e-8 * float(flat[0].abs().max())
    alone = Sites(x, torch.zeros(1, 3, 3, dtype=F64), torch.zeros(1, 3, dtype=torch.bool), torch.tensor([0, len(x)]))
    split = Prolate(4.0, 15.0)
    both = Smooth(split, 1e-5)(alone, q)[0].phi + Short(split, 4.0, neighbors(alone, 4.0))(alone, q)[0].phi
    assert float((both - dense.direct(x, q)).abs().max()) < 1e-12 * float(both.abs().max())


def test_a_third_of_the_waves_suffices() -> None:
    """Acceptance 39: at a cutoff of 8 Å and a measured force error of 1e-4, at most 1/3 of the waves of the Gaussian."""
    x, q, cell = salt(5)
    exact = longrange.prepare(x, cell, accuracy=1e-10, method="mesh", cutoff=9.0).evaluate(x, q).forces
    rows = tuple(map(tuple, cell.tolist()))
    waves = {}
    for split, accuracy in (("gaussian", 1.6e-4), ("prolate", 1.6e-4)):
        options = {"accuracy": accuracy, "method": "ewald", "cutoff": 8.0, "split": split}
        error = rms(longrange.prepare(x, cell, **options).evaluate(x, q).forces - exact) / rms(exact)
        assert 7e-5 < error < 1.3e-4, (split, error)
        chosen = best(rows, len(q), 1.0, accuracy, "ewald", 8.0, split=split)[1]
        waves[split] = plan(rows, len(q), chosen, accuracy, "ewald").cutoff ** 3
    assert waves["prolate"] < waves["gaussian"] / 3


class KaiserBessel:
    """A split that the library does not have: Phi'(r) as I0(b sqrt(1 - (r/reach)^2)), whose transform is sinh(y)/y, y^2 = b^2 - (k reach)^2."""

    p, reach, b = 1.0, 8.0, 16.0
    band, width = b / reach, reach / math.sqrt(b)
    own = float(special.iv(0, b) * b / math.sinh(b) / reach)
    background = -2 * math.pi * reach**2 * float(DT @ (T**2 * special.iv(0, b * np.sqrt(1 - T**2)))) * b / math.sinh(b)

    @cached_property
    def tables(self) -> np.ndarray:
        b, norm = self.b, self.b / math.sinh(self.b)

        def inside(t: np.ndarray) -> np.ndarray:  # Phi(t)/t
            return (special.iv(0, b * np.sqrt(1 - (t[:, None] * T) ** 2)) @ DT) * norm / self.reach

        def spectrum(t: np.ndarray) -> np.ndarray:
            y = b * np.sqrt(1 - t**2)
            return np.sinh(y) / y * norm

        return np.stack([even_polynomial(inside, 24), even_polynomial(spectrum, 24)])

    def waves(self, rho: float, error: float) -> float:
        return self.band

    def spacing(self, rho: float, error: float, order: int) -> float:
        return 1.0

    def words(self) -> str:
        return "Kaiser-Bessel"


def test_one_more_split_needs_no_kernel() -> None:
    """Acceptance 40: a class with tables is summed over k and on a mesh by the kernels that there are."""
    x, q, cell = salt(3)
    exact = longrange.prepare(x, cell, accuracy=1e-11).evaluate(x, q)
    sites = Sites(x, cell[None], torch.ones(1, 3, dtype=torch.bool), torch.tensor([0, len(x)]))
    split: Split = KaiserBessel()
    short = Short(split, split.reach, neighbors(sites, split.reach))(sites, q)[0]
    for options in (("ewald",), ("mesh", 6, (24, 24, 24))):
        smooth = Smooth(split, 1e-5, *options)(sites, q)[0]
        assert rms((short.x + smooth.x) / 2 + exact.forces) < 1e-4 * melt_force(q, cell), options
        assert abs(float(q @ (short.phi + smooth.phi)) / 2 - float(exact.energy)) < 1e-4 * abs(float(exact.energy))
    assert Gaussian(1.0, 1.0).tables is None
