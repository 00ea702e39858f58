"""Properties of crystals from energies, forces and stresses: equilibrium, bulk modulus, elastic constants with relaxed atoms.

A model is any function `evaluate(positions [K, n, 3], cells [K, 3, 3]) -> energy [K], forces [K, n, 3], stress [K, 3, 3]` in eV, eV/Å and
eV/Å^3 (stress positive under tension, dE/dstrain / V) for K copies of one crystal at once. Cell vectors are rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .factors import FloatArray

Evaluate = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]]

GPA = 160.2176634  # GPa in one eV/Å^3
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
STRAIN, MOVE = 1e-4, 1e-3  # steps of finite differences: without unit, Å


@dataclass(frozen=True)
class Crystal:
    """A crystal without forces and stress, and how it answers to strain."""

    positions: FloatArray  # Å [n, 3]
    cell: FloatArray  # Å [3, 3], rows
    energy: float  # eV
    stiffness: FloatArray  # C [6, 6] in eV/Å^3, Voigt order xx yy zz yz xz xy, atoms relaxed at every strain
    clamped: FloatArray  # C [6, 6] in eV/Å^3 with atoms that follow the strain
    steps: int
    converged: bool

    @property
    def volume(self) -> float:
        """Volume of the cell (Å^3)."""
        return abs(float(np.linalg.det(self.cell)))

    @property
    def bulk_modulus(self) -> float:
        """V d^2E/dV^2 under hydrostatic pressure (eV/Å^3): 1 / sum of the compliances S_ab, a, b = xx, yy, zz."""
        return float(1.0 / np.linalg.inv(self.stiffness)[:3, :3].sum())

    @property
    def stable(self) -> bool:
        """Whether every strain costs energy."""
        return bool(np.linalg.eigvalsh(self.stiffness).min() > 0)

    @property
    def cubic(self) -> tuple[float, float, float] | None:
        """C11, C12, C44 (eV/Å^3) if the tensor has cubic form along x, y, z within 2 %, else None."""
        c = self.stiffness
        c11, c12, c44 = c[:3, :3].trace() / 3, (c[:3, :3].sum() - c[:3, :3].trace()) / 6, c[3:, 3:].trace() / 3
        form = np.zeros((6, 6))
        form[:3, :3] = c12
        form[np.arange(3), np.arange(3)] = c11
        form[np.arange(3, 6), np.arange(3, 6)] = c44
        return (float(c11), float(c12), float(c44)) if np.abs(c - form).max() < 0.02 * np.abs(form).max() else None


def relax_crystal(evaluate: Evaluate, positions: ArrayLike, cell: ArrayLike, tolerance: float = 1e-5, most: int = 60) -> Crystal:
    """Bring forces and stress of a crystal to zero by Newton steps that keep its symmetry, and take its stiffness there.

    Equations: with strain e (Voigt) and displacements u, x = (x0 + u)(1 + e); H the second derivatives of E by (e, u), finite differences
    of stress and forces; C = (H_ee - H_eu H_uu^+ H_ue) / V.
    Arguments: evaluate; positions (Å) [n, 3]; cell (Å) [3, 3]; tolerance on forces (eV/Å) and on stress times volume per atom (eV);
    most, steps. Returns: a Crystal, `converged` False where the steps did not suffice. A saddle that symmetry protects is a solution too.
    Source: the response of atoms to strain as in M. Born and K. Huang, Dynamical Theory of Crystal Lattices (1954).
    """
    x, box = np.array(positions, dtype=np.float64), np.array(cell, dtype=np.float64)
    for step in range(most + 1):
        energy, slope = _slope(evaluate, x, box)
        calm = max(np.abs(slope[6:]).max(), np.abs(slope[:6]).max() / len(x)) < tolerance
        if step == most or calm:
            break
        strain, moves = _newton(_curvature(evaluate, x, box), slope)
        x, box = _deformed(x, box, strain, moves)
    stiffness, clamped = _stiffness(_curvature(evaluate, x, box), abs(float(np.linalg.det(box))))
    return Crystal(x, box, energy, stiffness, clamped, step, bool(calm))


def equation_of_state(evaluate: Evaluate, positions: ArrayLike, cell: ArrayLike, scales: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Volumes (Å^3) and energies (eV) of a crystal whose lengths are scaled, atoms at fixed fractions. Arguments: scales of length [K]."""
    factor = np.asarray(scales, dtype=np.float64)[:, None, None]
    cells = factor * np.asarray(cell, dtype=np.float64)
    energy, _, _ = evaluate(factor * np.asarray(positions, dtype=np.float64), cells)
    return np.abs(np.linalg.det(cells)), energy


def _slope(evaluate: Evaluate, x: FloatArray, box: FloatArray) -> tuple[float, FloatArray]:
    """Energy and its derivatives by strain (Voigt, shear counted once) and displacements, [6 + 3 n]."""
    energy, forces, stress = evaluate(x[None], box[None])
    return float(energy[0]), _gradients(forces, stress, np.array([abs(np.linalg.det(box))]))[0]


def _gradients(forces: FloatArray, stress: FloatArray, volume: FloatArray) -> FloatArray:
    voigt = np.stack([(stress[:, a, b] + stress[:, b, a]) / 2 for a, b in VOIGT], axis=1)  # [K, 6]
    return np.concatenate([voigt * volume[:, None], -forces.reshape(len(forces), -1)], axis=1)


def _curvature(evaluate: Evaluate, x: FloatArray, box: FloatArray) -> FloatArray:
    """Second derivatives [6 + 3 n, 6 + 3 n] of the energy by strain and displacements, from central differences of all at once."""
    size = 6 + x.size
    steps = np.array([STRAIN] * 6 + [MOVE] * x.size)
    moved = [_deformed(x, box, sign * h * _unit(6, k), sign * h * _unit(x.size, k - 6)) for k, h in enumerate(steps) for sign in (1, -1)]
    cells = np.array([b for _, b in moved])
    _, forces, stress = evaluate(np.array([p for p, _ in moved]), cells)
    slopes = _gradients(forces, stress, np.abs(np.linalg.det(cells))).reshape(size, 2, size)
    matrix = (slopes[:, 0] - slopes[:, 1]) / (2 * steps[:, None])
    return (matrix + matrix.T) / 2


def _unit(size: int, k: int) -> FloatArray:
    unit = np.zeros(size)
    if 0 <= k < size:
        unit[k] = 1.0
    return unit


def _deformed(x: FloatArray, box: FloatArray, strain: FloatArray, moves: FloatArray) -> tuple[FloatArray, FloatArray]:
    e = np.eye(3)
    for (a, b), value in zip(VOIGT, strain):
        e[a, b] += value if a == b else value / 2
        e[b, a] += 0.0 if a == b else value / 2
    return (x + moves.reshape(x.shape)) @ e, box @ e


def _newton(curvature: FloatArray, slope: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Strain [6] and displacements [3 n] of a step downhill; at most 3 % and 0.1 Å."""
    scale = np.sqrt(np.maximum(np.abs(np.diag(curvature)), 1e-3))
    values, vectors = np.linalg.eigh(curvature / np.outer(scale, scale))
    kept = np.abs(values) > 1e-6 * np.abs(values).max()  # translations have none
    along = vectors[:, kept].T @ (slope / scale)
    step = -(vectors[:, kept] @ (along / np.abs(values[kept]))) / scale
    step *= min(1.0, 0.03 / max(np.abs(step[:6]).max(), 1e-300), 0.1 / max(np.abs(step[6:]).max(), 1e-300))
    return step[:6], step[6:]


def _stiffness(curvature: FloatArray, volume: float) -> tuple[FloatArray, FloatArray]:
    """Stiffness with relaxed and with clamped atoms, [6, 6] each, eV/Å^3."""
    clamped = curvature[:6, :6]
    answer = np.linalg.pinv(curvature[6:, 6:], rcond=1e-6, hermitian=True) @ curvature[6:, :6]
    return (clamped - curvature[:6, 6:] @ answer) / volume, clamped / volume
