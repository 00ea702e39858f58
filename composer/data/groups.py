"""Which frames are the same configuration: copies, symmetry-equivalent strains, supercells, or frames that say they belong together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import gcd

import numpy as np
from scipy.spatial import KDTree

from composer.data.distances import nearest
from composer.data.frame import Frame

ENERGY = 1e-4  # eV/atom
VOLUME = 1e-4  # relative
DISTANCE = 2e-3  # Å, of the mean and the spread of any neighbour distance
NEIGHBORS, CUTOFF = 40, 6.0  # how far a fingerprint looks: neighbours of each species, Å
NAMES = ("group", "trajectory")  # keys of info by which frames say that they belong together


def fingerprint(frame: Frame) -> np.ndarray:
    """Describe a structure by its neighbour distances.

    Equation: mean and standard deviation over the atoms a of min(distance to the k-th nearest b, cutoff), for every ordered pair
    of species (a, b). It is continuous and the same for rotated, mirrored, translated, renumbered and repeated structures.
    Arguments: frame. Returns: (Å) [pairs of species, 2, NEIGHBORS].
    """
    symbols = sorted(set(frame.symbols))
    shells = [nearest(frame, a, b, NEIGHBORS, CUTOFF) for a in symbols for b in symbols]
    return np.array([(shell.mean(0), shell.std(0)) for shell in shells])


def groups(frames: Sequence[Frame]) -> np.ndarray:
    """Number the configurations of a set; equal numbers mean the same configuration.

    Two frames are joined when composition (up to a repetition), volume and energy per atom (within 1e-4 relative, 1e-4 eV) and fingerprint
    (within 2e-3 Å) agree, or when `info` gives both the same "group" or "trajectory"; joining is transitive. An energy that is
    missing is not compared. Arguments: frames. Returns: labels [frames], counted from 0 in the order of first appearance.
    """
    parent = list(range(len(frames)))
    for a, b in _stated(frames) + _alike(frames):
        low, high = sorted((_root(parent, a), _root(parent, b)))
        parent[high] = low
    roots = [_root(parent, a) for a in range(len(frames))]
    return np.searchsorted(np.unique(roots), roots)


def _root(parent: list[int], a: int) -> int:
    while parent[a] != a:
        parent[a] = a = parent[parent[a]]
    return a


def _stated(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """Pairs (first of its name, frame) for names that the frames carry themselves."""
    first: dict[tuple[str, str], int] = {}
    named = [(a, (key, str(frame.info[key]))) for a, frame in enumerate(frames) for key in NAMES if key in frame.info]
    return [(first.setdefault(name, a), a) for a, name in named]


def _alike(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """Pairs of frames with equal geometry; fingerprints are made only for frames that agree in all the rest."""
    prints: dict[int, np.ndarray] = {}
    out = []
    for members in _by_composition(frames):
        for p, q in _near([frames[a] for a in members]):
            a, b = members[p], members[q]
            for c in (a, b):
                if c not in prints:
                    prints[c] = fingerprint(frames[c])
            if np.abs(prints[a] - prints[b]).max() < DISTANCE:
                out.append((a, b))
    return out


def _near(frames: Sequence[Frame]) -> list[tuple[int, int]]:
    """Pairs of frames of one composition that agree in volume, and in energy where both have one."""
    known = np.array([frame.energy is not None for frame in frames])
    volume = np.array([np.log(frame.volume / len(frame)) if frame.volume else 0.0 for frame in frames]) / VOLUME
    energy = np.array([0.0 if frame.energy is None else frame.energy / len(frame) for frame in frames]) / ENERGY
    labelled = np.flatnonzero(known)
    near = [(int(labelled[p]), int(labelled[q])) for p, q in _close(np.stack([volume, energy], 1)[known])]
    return near + ([] if known.all() else [(p, q) for p, q in _close(volume[:, None]) if not (known[p] and known[q])])


def _close(points: np.ndarray) -> list[tuple[int, int]]:
    return sorted(KDTree(points).query_pairs(1.0, p=np.inf)) if len(points) else []


def _by_composition(frames: Sequence[Frame]) -> list[list[int]]:
    kinds: dict[tuple[object, ...], list[int]] = {}
    for a, frame in enumerate(frames):
        counts = frame.composition
        divisor = reduce(gcd, counts.values()) if frame.periodic else 1  # a molecule is not a repetition of a smaller one
        kinds.setdefault((frame.pbc.tobytes(), *((s, c // divisor) for s, c in counts.items())), []).append(a)
    return list(kinds.values())
