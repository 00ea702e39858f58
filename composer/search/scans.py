"""Dimers and trimers closer than the data: where a model must repel although no frame says so."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from composer.data import Data, Frame
from composer.data.distances import pairs

Array = NDArray[np.float64]
NEAREST, WIDEST, STEPS = 0.3, 0.95, 16  # distances of a scan, in units of the shortest of the data
REACH = 3.5  # Å within which shortest distances are looked for


@dataclass(frozen=True)
class Few:
    """A few atoms in the void."""

    symbols: tuple[str, ...]
    positions: Array
    cell: tuple[tuple[float, ...], ...] = ((0.0,) * 3,) * 3
    pbc: tuple[bool, ...] = (False,) * 3


def shortest(data: Data) -> dict[str, float]:
    """Shortest distance (Å) of every pair of species that comes within reach, as "A-B" in the order of the species."""
    place, found = {s: n for n, s in enumerate(data.species)}, dict[str, float]()
    for frame in data:
        first, second, distance = pairs(frame, REACH)
        kinds = np.array([place[s] for s in frame.symbols])
        ordered = kinds[first] <= kinds[second]
        code = kinds[first][ordered] * len(place) + kinds[second][ordered]
        for number in np.unique(code):
            name = "-".join(data.species[n] for n in divmod(int(number), len(place)))
            found[name] = min(found.get(name, np.inf), float(distance[ordered][code == number].min()))
    return dict(sorted(found.items()))


def closest(data: Data) -> dict[tuple[str, str], float]:
    """Shortest distance (Å) of every pair in the order of the species; a pair that never meets has the mean of its own kinds."""
    known = shortest(data)
    found = {}
    for a, b in itertools.combinations_with_replacement(data.species, 2):
        alike = [known.get(f"{x}-{x}", REACH) for x in (a, b)]
        found[a, b] = known.get(f"{a}-{b}", float(np.mean(alike)))
    return found


def lowest(data: Data) -> Frame | None:
    """The periodic frame of lowest energy for each atom, among those of the composition that occurs most."""
    frames = [f for f in data if f.periodic and f.energy is not None]
    shares = [tuple(round(c / len(f), 6) for c in (f.symbols.count(s) for s in data.species)) for f in frames]
    if not frames:
        return None
    most = max(sorted(set(shares)), key=shares.count)
    return min((f for f, s in zip(frames, shares, strict=True) if s == most), key=lambda f: (f.energy or 0.0) / len(f))


def short_scans(data: Data) -> list[list[Few]]:
    """Scans of dimers, linear and triangular trimers of all kinds, from near to wide."""
    length = closest(data)
    steps = np.linspace(NEAREST, WIDEST, STEPS)
    scans = [_scan(pair, [[0, 0, 0], [r, 0, 0]], steps) for pair, r in length.items()]
    for a, b, c in itertools.combinations_with_replacement(data.species, 3):
        ab, bc, ac = length[a, b], length[b, c], length[a, c]
        x = (ab**2 + ac**2 - bc**2) / (2 * ab)
        corner = [x, np.sqrt(max(ac**2 - x**2, 0.0)), 0.0]
        scans += [_scan((a, b, c), [[0, 0, 0], [ab, 0, 0], third], steps) for third in ([ab + bc, 0.0, 0.0], corner)]
    return scans


def _scan(symbols: tuple[str, ...], positions: Sequence[Sequence[float]], steps: Iterable[float]) -> list[Few]:
    return [Few(symbols, step * np.array(positions, dtype=float)) for step in steps]
