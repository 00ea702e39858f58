"""The crystals that are measured and the published numbers that both sides use."""

from collections.abc import Mapping

import ase.build
import numpy as np
from ase import Atoms

LJ: Mapping[str, float] = {"epsilon": 0.0103, "sigma": 3.405}
"""Argon: eV, Å."""
LJ_CUTOFF = 8.5

EAM: Mapping[str, float] = {"b": 2.0, "length": 2.556, "A": 1.2, "B": 0.02, "depth": 0.15, "alpha": 1.6}
"""Analytic copper: rho = sum exp(-b (r - length)) fc, F = -A sqrt(rho) + B rho, phi = depth (m^2 - 2 m) fc, m = exp(-alpha (r - length)),
fc = (1 - (r / cutoff)^2)^3; eV, Å."""
EAM_CUTOFF = 6.0

SW: Mapping[str, float] = {
    "epsilon": 2.1683,
    "sigma": 2.0951,
    "lambda": 21.0,
    "gamma": 1.20,
    "A": 7.049556277,
    "B": 0.6022245584,
    "cos0": -1 / 3,
}
"""Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), silicon, with p = 4 and q = 0; eV, Å."""
SW_REACH = 1.80  # cutoff in units of sigma
SW_CUTOFF = SW_REACH * SW["sigma"]

TERSOFF: Mapping[str, float] = {
    "A": 3264.7,
    "B": 95.373,
    "lambda1": 3.2394,
    "lambda2": 1.3258,
    "lambda3": 1.3258,
    "beta": 0.33675,
    "n": 22.956,
    "c": 4.8381,
    "d": 2.0417,
    "cos0": 0.0,
}
"""Tersoff, Phys. Rev. B 37, 6991 (1988), silicon, with m = 3 and gamma = 1; eV, Å."""
TERSOFF_INNER, TERSOFF_CUTOFF = 2.8, 3.2  # R - D and R + D


def argon(cells: int = 10, amplitude: float = 0.15, seed: int = 1) -> Atoms:
    """Return fcc argon, 4 cells^3 atoms, each moved by up to `amplitude` Å along every axis."""
    return _shaken(ase.build.bulk("Ar", "fcc", a=5.26, cubic=True) * (cells, cells, cells), amplitude, seed)


def copper(cells: int = 10, amplitude: float = 0.1, seed: int = 1) -> Atoms:
    """Return shaken fcc copper, 4 cells^3 atoms."""
    return _shaken(ase.build.bulk("Cu", "fcc", a=3.615, cubic=True) * (cells, cells, cells), amplitude, seed)


def silicon(cells: int = 8, amplitude: float = 0.1, seed: int = 1) -> Atoms:
    """Return shaken diamond silicon, 8 cells^3 atoms; an amplitude of 0.35 Å puts pairs where Tersoff switches off."""
    return _shaken(ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * (cells, cells, cells), amplitude, seed)


def molybdenum(cells: tuple[int, int, int] = (12, 12, 14), amplitude: float = 0.1, seed: int = 1) -> Atoms:
    """Return shaken bcc molybdenum, two atoms in each of the cells (4032 by default)."""
    return _shaken(ase.build.bulk("Mo", "bcc", a=3.17, cubic=True) * cells, amplitude, seed)


def _shaken(atoms: Atoms, amplitude: float, seed: int) -> Atoms:
    atoms.positions += np.random.default_rng(seed).uniform(-amplitude, amplitude, atoms.positions.shape)
    return atoms
