"""Looking at data before anything is fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from composer.data.distances import pairs
from composer.data.frame import Frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REACH, BIN = 6.0, 0.05  # Å, of the histogram of distances
FENCE, FEWEST = 3.0, 8  # interquartile ranges beyond the quartiles (Tukey); kinds with fewer frames are not judged
LISTED = 5  # lines of a list that are printed


@dataclass(frozen=True, eq=False)
class Inspection:
    """What is in a set; printing it gives a page, `.plot()` a figure.

    Arguments: frames, groups (label of each frame), shortest (pair of symbols: (Å, frame)), edges (Å) [bins+1], distances (pair of
    symbols: number in each bin), duplicates (frames of one configuration), energy_outliers and force_outliers ((frame, interquartile
    ranges beyond the quartile)), curves (config_type: (Å^3/atom [m], eV/atom [m], mean normal stress in eV/Å^3 or NaN [m])),
    missing (observable: frames).
    """

    frames: tuple[Frame, ...]
    groups: np.ndarray
    shortest: dict[tuple[str, str], tuple[float, Frame]]
    edges: np.ndarray
    distances: dict[tuple[str, str], np.ndarray]
    duplicates: list[list[Frame]]
    energy_outliers: list[tuple[Frame, float]]
    force_outliers: list[tuple[Frame, float]]
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    missing: dict[str, list[Frame]]

    def __str__(self) -> str:
        kinds = sorted({frame.config_type for frame in self.frames})
        repeats = len(self.frames) - int(self.groups.max() + 1)
        out = [
            f"{len(self.frames)} frames, {len(self.frames) - repeats} configurations ({repeats} frames repeat another), {len(kinds)} kinds"
        ]
        out += [f"shortest {a}-{b}: {d:.3f} Å in {frame.name}" for (a, b), (d, frame) in self.shortest.items()]
        out += [f"missing {name}: {len(found)} frames ({found[0].name}, ...)" for name, found in self.missing.items() if found]
        for title, outliers in (("energy", self.energy_outliers), ("forces", self.force_outliers)):
            out += _listed(
                f"outliers in {title}", [f"{f.name}, {f.config_type}: {z:.1f} interquartile ranges outside" for f, z in outliers]
            )
        out += _listed("repeated configurations", [", ".join(frame.name for frame in same) for same in self.duplicates])
        return "\n".join(
            out + ["energy against volume: kind, frames, volume Å^3/atom, energy eV/atom, mean normal stress eV/Å^3"] + self._curves()
        )

    def _curves(self) -> list[str]:
        return [
            f"  {kind:18} {len(v):5d}  {_range(v, 2):>16}  {_range(e, 3):>18}  {_range(s[np.isfinite(s)], 3):>18}"
            for kind, (v, e, s) in self.curves.items()
        ]

    def plot(self) -> Figure:
        """Draw distances by pair, energy and stress against volume, and largest force against energy, one colour for each kind."""
        from composer.data.picture import draw

        return draw(self)


def inspect(frames: Sequence[Frame], groups: np.ndarray) -> Inspection:
    """Look at a set. Arguments: frames, groups (label of each frame). Returns: Inspection."""
    edges = np.arange(0.0, REACH + BIN / 2, BIN)
    shortest, distances = _distances(frames, edges)
    same = [[frames[place] for place in np.flatnonzero(groups == label).tolist()] for label in range(int(groups.max()) + 1)]
    energies = cohesion(frames)
    return Inspection(
        frames=tuple(frames),
        groups=groups,
        shortest=shortest,
        edges=edges,
        distances=distances,
        duplicates=[members for members in same if len(members) > 1],
        energy_outliers=_outliers(frames, lambda place: energies[place]),
        force_outliers=_outliers(frames, lambda place: largest_force(frames[place]), np.log),
        curves=_volume_curves(frames, energies),
        missing={name: [f for f in frames if getattr(f, name) is None] for name in ("energy", "forces", "stress")},
    )


def cohesion(frames: Sequence[Frame]) -> np.ndarray:
    """Energy per atom less the mean of its composition, so that sets of several species can be compared.

    Equation: (E - sum_s n_s e_s) / n, e_s by least squares; with one species or one composition E / n. Arguments: frames.
    Returns: (eV/atom) [frames], NaN where the energy is missing.
    """
    species = sorted({symbol for frame in frames for symbol in frame.symbols})
    fractions = np.array([[frame.symbols.count(s) / len(frame) for s in species] for frame in frames])
    energies = np.array([np.nan if frame.energy is None else frame.energy / len(frame) for frame in frames])
    known = np.isfinite(energies)
    if len(species) == 1 or not known.any() or np.ptp(fractions[known], axis=0).max() < 1e-12:
        return energies
    return energies - fractions @ np.linalg.lstsq(fractions[known], energies[known], rcond=None)[0]


def largest_force(frame: Frame) -> float:
    """Largest force on an atom (eV/Å); NaN where forces are missing or vanish by symmetry."""
    if frame.forces is None:
        return np.nan
    force = float(np.linalg.norm(frame.forces, axis=1).max())
    return force if force > 1e-3 else np.nan


def _distances(
    frames: Sequence[Frame], edges: np.ndarray
) -> tuple[dict[tuple[str, str], tuple[float, Frame]], dict[tuple[str, str], np.ndarray]]:
    species = sorted({symbol for frame in frames for symbol in frame.symbols})
    shortest: dict[tuple[str, str], tuple[float, Frame]] = {}
    histogram = {pair: np.zeros(len(edges) - 1, int) for pair in combinations_with_replacement(species, 2)}
    for frame in frames:
        kinds = np.searchsorted(species, frame.symbols)
        first, second, distance = pairs(frame, REACH)
        low, high = np.minimum(kinds[first], kinds[second]), np.maximum(kinds[first], kinds[second])
        for a, b in {(int(a), int(b)) for a, b in zip(low, high, strict=True)}:
            found, pair = distance[(low == a) & (high == b)], (species[a], species[b])
            histogram[pair] += np.histogram(found, edges)[0]
            if pair not in shortest or found.min() < shortest[pair][0]:
                shortest[pair] = (float(found.min()), frame)
    return dict(sorted(shortest.items())), histogram


def _outliers(
    frames: Sequence[Frame], value: Callable[[int], float], scale: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> list[tuple[Frame, float]]:
    """Frames of a kind outside Tukey's fences; quartiles are not misled by a kind that holds two temperatures."""
    out = []
    for kind in sorted({frame.config_type for frame in frames}):
        places = [place for place, frame in enumerate(frames) if frame.config_type == kind and np.isfinite(value(place))]
        if len(places) < FEWEST:
            continue
        values = scale(np.array([value(place) for place in places]))
        low, high = np.quantile(values, [0.25, 0.75])
        beyond = np.maximum(low - values, values - high) / max(high - low, 1e-3)
        out += [(frames[place], float(z)) for place, z in zip(places, beyond, strict=True) if z > FENCE]
    return sorted(out, key=lambda found: -found[1])


def _volume_curves(frames: Sequence[Frame], energies: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for frame, energy in zip(frames, energies, strict=True):
        if frame.volume is not None and np.isfinite(energy):
            stress = np.nan if frame.stress is None else float(np.trace(frame.stress)) / 3
            rows.setdefault(frame.config_type, []).append((frame.volume / len(frame), energy, stress))
    tables = {kind: np.array(sorted(found)).T for kind, found in rows.items()}
    return {kind: (table[0], table[1], table[2]) for kind, table in tables.items()}


def _range(values: np.ndarray, digits: int) -> str:
    return f"{values.min():.{digits}f} .. {values.max():.{digits}f}" if len(values) else "-"


def _listed(title: str, lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [f"{title}: {len(lines) or 'none'}", *(f"  {line}" for line in lines[:LISTED]), *more]
