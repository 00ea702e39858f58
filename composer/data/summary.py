"""The lines that reading prints: frames, species, keys, units and signs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from composer.data.consistency import force_note
from composer.data.data import Data
from composer.data.frame import Frame
from composer.data.observables import UNITS, USUAL, Keys

if TYPE_CHECKING:
    from ase import Atoms

LARGEST_STRESS = 5.0  # eV/Å^3 (800 GPa); larger numbers are in another unit
SIGNS = {"energy": "of the whole cell", "forces": "-dE/dx", "stress": "dE/dstrain / V, positive under tension"}


def summary(data: Data, keys: Keys, atoms: Sequence[Atoms]) -> str:
    """Say what was read. Arguments: data, keys that were used, atoms as they came from the files. Returns: lines of text."""
    sizes = [len(frame) for frame in data]
    sources = Counter(frame.source or "ase.Atoms" for frame in data)
    out = [f"{name}: {count} frames" for name, count in sources.items()]
    out.append(f"  species      {' '.join(data.species)}; {sum(sizes)} atoms, {min(sizes)} to {max(sizes)} in a frame")
    out.append(f"  config_type  {', '.join(f'{name} {count}' for name, count in data.config_types.items())}")
    out += [_observable(data, name, keys) for name in SIGNS]
    return "\n".join(out + [f"  note         {note}" for note in _notes(data, keys, atoms)])


def stress_sign(frames: Sequence[Frame]) -> float | None:
    """Correlate the mean normal stress with the volume per atom; it is positive if stress is positive under tension.

    Arguments: frames. Returns: the clearest correlation among the kinds that hold 5 stresses and vary by 1 % in volume, or None.
    """
    kinds: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for frame in frames:
        if frame.stress is not None and frame.volume is not None:
            kind = (frame.config_type, *sorted(set(frame.symbols)))
            kinds.setdefault(kind, []).append((frame.volume / len(frame), float(np.trace(frame.stress)) / 3))
    tables = [np.array(rows).T for rows in kinds.values() if len(rows) >= 5]
    found = [np.corrcoef(v, p)[0, 1] for v, p in tables if v.std() > 0.01 * v.mean() and p.std() > 0]
    return float(max(found, key=abs)) if found else None


def _observable(data: Data, name: str, keys: Keys) -> str:
    count = sum(getattr(frame, name) is not None for frame in data)
    used = [getattr(keys, key) for key in ((name,) if name != "stress" else ("stress", "virial")) if getattr(keys, key)]
    lacking = [frame.index for frame in data if getattr(frame, name) is None]
    absent = f"; none in frame {', '.join(map(str, lacking[:3]))}{' ...' if len(lacking) > 3 else ''}" if count and lacking else ""
    where = f"key {' and '.join(used)}, {UNITS[name]}, {SIGNS[name]}" if count else "none"
    return f"  {name:12} {count} of {len(data)} frames; {where}{absent}"


def _notes(data: Data, keys: Keys, atoms: Sequence[Atoms]) -> list[str]:
    out = []
    sign = stress_sign(data)
    if sign is not None:
        meaning = "as it should" if sign > 0 else "which is the sign of a pressure: units={'stress': '-eV/Å^3'} turns it"
        out.append(f"stress {'rises' if sign > 0 else 'falls'} with volume (correlation {sign:.2f} in the clearest kind), {meaning}")
    if max((float(np.abs(f.stress).max()) for f in data if f.stress is not None), default=0.0) > LARGEST_STRESS:
        out.append(f"a stress above {LARGEST_STRESS} eV/Å^3 was found: units={{'stress': 'GPa'}} or 'kbar'?")
    labelled = [frame.forces for frame in data if frame.forces is not None]
    if labelled and not any(forces.any() for forces in labelled):
        out.append("all forces are zero: were they computed? forces_key=... names others")
    if (note := force_note(data.frames)) is not None:
        out.append(note)
    left = sum(not one.pbc.all() and any(_has(one, key) for key in (keys.stress, keys.virial)) for one in atoms)
    if left:
        out.append(f"stress of {left} frames left out: they are not periodic in three directions")
    for name, key in asdict(keys).items():
        others = sum(not _has(one, key) and any(_has(one, usual) for usual in USUAL[name]) for one in atoms)
        if others:
            out.append(f"{others} frames keep their {name} under another key than {key!r}: not used")
    return out


def _has(one: Atoms, key: str | None) -> bool:
    return key is not None and any(place.get(key) is not None for place in (one.calc.results if one.calc else {}, one.info, one.arrays))
