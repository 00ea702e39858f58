"""Dividing a set for tests and for cross-validation: whole groups, every kind of frame on both sides, nothing left to chance.

The order in which groups are dealt is that of sha256(seed, content), so the same content and seed give the same division on every
machine and for any order of the frames, and a set that grows keeps most of its division.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from composer.data.frame import Frame
from composer.errors import DataError


@dataclass(frozen=True)
class Unit:
    """Frames that stay together.

    Arguments: members (places of the frames), kind (the config_type of most of them, "" when no other unit has it), order (of dealing).
    """

    members: tuple[int, ...]
    kind: str
    order: str


def units(frames: Sequence[Frame], labels: Sequence[object], stratify: bool, seed: int) -> list[Unit]:
    """Gather frames with equal labels, in the order of dealing.

    Arguments: frames, labels [frames], stratify (keep kinds apart), seed. Returns: units, sorted by their order.
    """
    gathered: dict[object, list[int]] = {}
    for place, label in enumerate(labels):
        gathered.setdefault(label, []).append(place)
    kinds = [_kind([frames[place].config_type for place in members]) for members in gathered.values()]
    number = Counter(kinds)
    made = []
    for kind, members in zip(kinds, gathered.values(), strict=True):
        order = hashlib.sha256(f"{seed} {min(frames[place].hash for place in members)}".encode()).hexdigest()
        made.append(Unit(tuple(members), kind if stratify and number[kind] > 1 else "", order))
    return sorted(made, key=lambda unit: (unit.order, unit.members))


def _kind(config_types: list[str]) -> str:
    names = Counter(config_types)
    return min(names, key=lambda name: (-names[name], name))


def choose(dealt: Sequence[Unit], share: float) -> list[int]:
    """Choose a share of every kind, by the number of frames, in the order of dealing.

    A kind keeps at least one unit; what rounding leaves over in one kind, up to half a frame, is carried to the next.
    Arguments: dealt (units in order), share (0 to 1). Returns: sorted places of the chosen frames.
    """
    chosen: list[int] = []
    carried = 0.0
    for kind in sorted({unit.kind for unit in dealt}):
        members = [unit for unit in dealt if unit.kind == kind]
        wanted = carried + share * sum(len(unit.members) for unit in members)
        for unit in members[:-1]:
            if wanted >= len(unit.members) / 2:
                chosen += unit.members
                wanted -= len(unit.members)
        carried = min(max(wanted, -0.5), 0.5)
    return sorted(chosen)


def deal(dealt: Sequence[Unit], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal units to k folds, each to the fold that has least of its kind, then least of all.

    Arguments: dealt (units in order), k. Returns: k pairs of sorted places (train, test); every frame is tested once.
    Errors: DataError for k < 2 or fewer than k units.
    """
    if not 2 <= k <= len(dealt):
        raise DataError(
            f"{k} folds were asked for",
            f"The set holds {len(dealt)} groups of frames that may be separated",
            f"Ask for 2 to {len(dealt)} folds, or use by='frame'",
        )
    tests: list[list[int]] = [[] for _ in range(k)]
    kinds = [Counter[str]() for _ in range(k)]
    for unit in sorted(dealt, key=lambda unit: -len(unit.members)):  # large ones first; sorting keeps the order of equals
        fold = min(range(k), key=lambda f: (kinds[f][unit.kind], len(tests[f]), f))
        tests[fold] += unit.members
        kinds[fold][unit.kind] += len(unit.members)
    everything = np.arange(sum(map(len, tests)))
    return [(np.setdiff1d(everything, test), np.sort(np.array(test, int))) for test in tests]
