"""Melting of a crystal: a box of two phases comes to the melting temperature of the potential by itself."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from ase import Atoms, units

from composer.errors import DataError
from composer.melting import joined, melt, order, peaks, rectangular
from composer.model import Model
from composer.piston import Box
from terms import LennardJones, Morse

EPSILON, STIFFNESS = 0.01034, 0.016  # eV, eV/Å^3


@pytest.fixture(scope="module")
def argon() -> Model:
    """With a covariance of 1 % of epsilon alone."""
    model = Model(LennardJones(cutoff=8.5), ["Ar"]).with_parameters({"LennardJones.epsilon": EPSILON, "LennardJones.sigma": 3.4})
    names = model.parameter_names
    root = np.zeros((len(names), 1))
    root[next(n for n, name in enumerate(names) if name.startswith("LennardJones.epsilon"))] = 0.01 * EPSILON
    model.covariance_root = root
    return model


def crystal() -> Atoms:
    return ase.build.bulk("Ar", "fcc", a=5.3)


def test_pistons_keep_the_enthalpy_and_a_bath_its_temperature(argon: Model) -> None:
    """Half the step, a quarter of the error after the same time; in a bath the mean temperature is that of the bath, and there is no pressure."""
    numbers = {"Morse.depth": EPSILON, "Morse.width": 1.6, "Morse.length": 3.8}
    smooth, errors = Model(Morse(cutoff=7.0), ["Ar"]).with_parameters(numbers), []
    for step in (12.0, 6.0):
        box = Box(smooth, rectangular(crystal()).repeat((4, 4, 3)), STIFFNESS, step * units.fs, np.random.default_rng(0))
        box.weight = 2e5  # the same pistons for both steps
        box.warm(60.0)
        start, lengths = box.enthalpy, box.lengths.copy()
        box.run(round(600 / step))
        errors.append(abs(box.enthalpy - start))
        assert np.abs(box.lengths - lengths).max() > 0.1
    assert errors[1] < 0.4 * errors[0] < 0.4 * 0.02 * len(box.x) * units.kB * 60.0
    box = Box(argon, rectangular(crystal()).repeat((4, 4, 3)), STIFFNESS, 10 * units.fs, np.random.default_rng(0))
    box.run(500, 40.0)
    kelvins, pressures = [], []
    for _ in range(100):
        kelvins.append(box.run(10, 40.0))
        pressures.append(((box.mass * box.v**2).sum() + box.virial.sum()) / 3 / np.prod(box.lengths))
    assert np.mean(kelvins) == pytest.approx(40.0, rel=0.05)
    assert abs(np.mean(pressures)) < 0.02 * STIFFNESS


def test_dynamics_that_explodes_is_one_clear_error(argon: Model) -> None:
    box = Box(argon, rectangular(crystal()).repeat((4, 4, 3)), STIFFNESS, 10 * units.fs, np.random.default_rng(0))
    box.weight = 1e-3
    box.warm(60.0)
    with pytest.raises(DataError, match="more than a factor of 3"):
        box.run(50)


def test_rectangular_cells_and_the_order_of_what_fills_them() -> None:
    cell = rectangular(crystal())
    np.testing.assert_allclose(cell.cell.lengths(), [5.3 / np.sqrt(2)] * 2 + [5.3])
    assert len(cell) == 2 and 0 < cell.get_scaled_positions()[:, 2].min() < cell.get_scaled_positions()[:, 2].max() < 0.9
    assert rectangular(ase.build.bulk("Mg", "hcp", a=3.2, c=5.2)).cell.orthorhombic
    times = np.array([5, 5, 4])
    box, vectors = cell.repeat(times), peaks(cell, times)
    box.positions += [0.3, 0.1, -0.2]  # it does not matter where the crystal stands
    assert order(box, vectors) == pytest.approx(1.0, abs=1e-12)
    liquid = box.copy()
    liquid.set_scaled_positions(np.random.default_rng(0).uniform(0, 1, (len(box), 3)))
    assert order(liquid, vectors) < 0.15


def test_borders_of_joined_halves_are_no_collisions(argon: Model) -> None:
    cell = rectangular(crystal()).repeat((4, 4, 3))
    shaken = cell.copy()
    shaken.rattle(0.3, seed=0)
    both = joined(argon, cell, shaken)
    assert len(both) == 2 * len(cell) and both.cell.orthorhombic
    assert both.get_all_distances(mic=True)[~np.eye(len(both), dtype=bool)].min() > 2.8


def test_argon_melts_where_its_potential_says(argon: Model) -> None:
    """Full Lennard-Jones melts at 0.694 epsilon/k (Mastny and de Pablo, J. Chem. Phys. 127, 104504 (2007)); cut at 2.5 sigma some 10 % below."""
    found = melt(argon, crystal(), atoms=600, steps=2400, guess=72.0, quiet=True)
    assert 0.56 < found.temperature * units.kB / EPSILON < 0.69
    assert 1.0 < found.heat / EPSILON < 1.6
    assert 0.1 < found.expansion < 0.3
    assert found.fit == pytest.approx(0.01 * found.temperature, rel=0.5)  # all energies, hence temperatures, are proportional to epsilon
    assert f"{found.temperature:.1f} ±" in str(found) and "(fit) K" in str(found)


def test_what_cannot_be_melted_is_refused(argon: Model) -> None:
    skew = Atoms("Ar", cell=[[3.8, 0, 0], [1.3, 3.6, 0], [0.7, 1.9, 3.3]], pbc=True)
    with pytest.raises(DataError, match="three perpendicular lattice vectors"):
        rectangular(skew)
    with pytest.raises(DataError, match="Give another crystal"):
        melt(argon, ase.build.bulk("Ar", "sc", a=3.6), quiet=True)
    with pytest.raises(DataError, match="atoms >= 100"):
        melt(argon, crystal(), atoms=10, quiet=True)
