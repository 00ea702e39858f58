"""Whether energies, forces and stresses of a set can be those of one energy surface, judged by pairs of frames that nearly agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice

import numpy as np

from composer.data.frame import Frame
from composer.units import convert

MOVED, STRAINED = 0.4, 0.05  # Å and relative: further apart, the trapezoid rule is no judge
TRIED, FEWEST = 400, 10  # pairs looked at in each kind of frame, and pairs needed for a judgement
CLEAR = 0.6  # share of the squares that the line must explain
APART = 2.5  # factor beyond which units are wrong: atoms shaken by 0.15 Å make the trapezoid rule overrate the work by 1.5
NEAR = 1.8  # factor within which a scale is that of a unit, for the same reason
UNITS = {"forces": ("Ha/bohr", "Ry/bohr", "kcal/mol/Å", "meV/Å"), "energy": ("Ha", "Ry", "kcal/mol", "meV")}


def force_scale(frames: Sequence[Frame]) -> tuple[float, int] | None:
    """How much larger changes of energy are than the work of the forces, and the number of pairs of frames that tell.

    Between two frames a and b of one kind, E_b - E_a = -s (F_a + F_b)·dx/2 + t (V_a s_a + V_b s_b):strain/2 by the trapezoid rule; s is
    1 where energies and forces belong together. What t takes up is taken off, and s is the ratio of the sizes of the rest, not a slope:
    the error of the rule lies in the work. Arguments: frames. Returns: (s, pairs), or None where too few pairs are close or no line
    goes through them.
    """
    kinds: dict[tuple[object, ...], list[Frame]] = {}
    for frame in frames:
        if frame.energy is not None and frame.forces is not None:
            kinds.setdefault((frame.config_type, frame.symbols, tuple(frame.pbc)), []).append(frame)
    rows = np.array([row for same in kinds.values() for row in _pairs(same)]).reshape(-1, 3)
    rows = rows[np.abs(rows[:, 1]) > 1e-2 * np.abs(rows[:, 1]).max(initial=1e-6)]  # by symmetry forces often do nothing
    if len(rows) < FEWEST or np.abs(rows[:, 0]).max() < 1e-6:  # eV
        return None
    strained = rows[:, 2] / max(np.linalg.norm(rows[:, 2]), 1e-300)
    change, work = (rows[:, :2] - np.outer(strained, strained @ rows[:, :2])).T
    sizes, product = np.linalg.norm(change) * np.linalg.norm(work), float(change @ work)
    if product**2 <= CLEAR * sizes**2:
        return None
    return float(np.sign(product) * np.linalg.norm(change) / np.linalg.norm(work)), len(rows)


def force_note(frames: Sequence[Frame]) -> str | None:
    """What `force_scale` says against the units or the sign of energies and forces, in words; None where there is nothing to say."""
    found = force_scale(frames)
    if found is None or 1 / APART < found[0] < APART:
        return None
    scale, count = found
    said = f"energies change by {scale:.3g} times what the forces do (from {count} pairs of close frames): "
    if scale < 0:
        return said + "the forces have the wrong sign? units={'forces': '-eV/Å'} turns it"
    off = {f"units={{'{name}': '{unit}'}}": _off(scale, name, unit) for name in UNITS for unit in UNITS[name]}
    likely = [unit for unit in sorted(off, key=off.__getitem__) if off[unit] < NEAR]
    return said + ("try " + " or ".join(likely) if likely else "look at their units and keys")


def _off(scale: float, name: str, unit: str) -> float:
    """The factor, at least 1, between a scale and that of a unit."""
    factor = convert(1.0, unit, "eV/Å" if name == "forces" else "eV")
    return float(np.exp(abs(np.log(scale / (factor if name == "forces" else 1 / factor)))))


def _pairs(frames: Sequence[Frame]) -> Iterator[tuple[float, float, float]]:
    """Change of energy, work of the forces and work of the stress (eV) between frames that are close to each other."""
    for a, b in islice(combinations(frames, 2), TRIED):
        moved, strain = b.positions - a.positions, np.zeros((3, 3))
        if a.periodic:
            strain = np.linalg.solve(a.cell, b.cell) - np.eye(3)
            share = b.positions @ np.linalg.inv(b.cell) - a.positions @ np.linalg.inv(a.cell)
            moved = (share - np.round(share)) @ (a.cell + b.cell) / 2
        if np.abs(moved).max() > MOVED or np.abs(strain).max() > STRAINED:
            continue
        stresses = [(0.0 if f.volume is None else f.volume) * f.stress for f in (a, b) if f.stress is not None]
        if np.abs(strain).max() < 1e-8 or len(stresses) == 2:
            work = -0.5 * float(np.sum((a.forces + b.forces) * moved))  # type: ignore[operator]
            yield (b.energy or 0.0) - (a.energy or 0.0), work, 0.5 * float(np.sum(sum(stresses) * strain)) if stresses else 0.0
