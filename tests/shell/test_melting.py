"""Melting by coexistence: argon, whose Lennard-Jones crystal melts at 0.69 epsilon/k = 83 K."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from ase import Atoms

from composer.errors import DataError
from composer.melting import _Box, melt, order, peaks
from composer.model import Model
from terms import LennardJones


def crystal() -> Atoms:
    return ase.build.bulk("Ar", "fcc", a=5.3, cubic=True)


@pytest.fixture(scope="module")
def argon() -> Model:
    model = Model(LennardJones(cutoff=7.5), ["Ar"]).with_parameters({"LennardJones.epsilon": 0.01034, "LennardJones.sigma": 3.4})
    model.covariance_root = 0.01 * np.diag(model.theta.numpy())  # 1 % of each number
    return model


def test_order_is_one_in_a_crystal_and_small_in_a_liquid() -> None:
    times = np.array([3, 3, 6])
    vectors = peaks(crystal(), times)
    box = crystal().repeat(times)
    box.positions += [0.3, 0.1, -0.2]  # it does not matter where the crystal stands
    assert order(box, vectors) == pytest.approx(1.0, abs=1e-12)
    box.positions[:, :] = np.random.default_rng(0).uniform(0, 1, (len(box), 3)) @ box.cell.array
    assert order(box, vectors) < 0.15


def test_argon_freezes_below_its_melting_point_and_melts_above(argon: Model) -> None:
    box = _Box(argon, crystal(), 250, 1200, 0)
    mixed = box.half_liquid(250.0)
    assert 0.4 < order(mixed, box.peaks) < 0.9
    assert box.freezes(mixed, 60.0) and not box.freezes(mixed, 130.0)
    found = box.result(60.0, 110.0)
    assert 0.004 < found.heat < 0.02  # eV/atom; argon: 0.0122
    assert found.deviation is not None and 0.2 < found.deviation < 5.0  # 1 % of epsilon moves the melting point by 1 %
    assert "85 ± 25 K" in str(found)


def test_what_cannot_be_melted_is_refused(argon: Model) -> None:
    with pytest.raises(DataError, match="Give an orthorhombic crystal"):
        melt(argon, ase.build.bulk("Ar", "fcc", a=5.3), (60.0, 100.0))
    with pytest.raises(DataError, match="a range with a lower end"):
        melt(argon, crystal(), (200.0, 300.0), atoms=100, steps=200, resolution=0.35)
