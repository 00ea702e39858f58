"""Whether the energies, forces and stresses of a set can be those of one energy surface, in one set of units, seen by a quick model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from composer.data import Data, Frame
from composer.data.consistency import force_note
from composer.errors import DataError
from composer.evaluate import VOIGT
from composer.fit.linear import linear_part
from composer.fit.scaling import scaled_first
from composer.model import Model
from composer.units import GPA, convert

Array = NDArray[np.float64]
LEARNED = 40  # frames that the quick model is fitted to
NEAR = 1.4  # factor within which a ratio is that of two units
CLEAR = 0.3  # share of the squares that a straight line must explain before it judges all frames,
ALIKE = {"forces": 0.8, "stress": 0.85}  # one frame
WRONG = 2.5  # factor beyond which the scale of stresses is no error of the quick model
HUGE = 3e4  # eV/atom: beyond it a virial is what some codes write where there is none
STEP = 1e-4  # of the finite strains
STRESSES = "Stresses were to be learned"
NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")
UNITS = {
    "energy": {u: convert(1.0, "eV", u) for u in ("Ha", "Ry", "kcal/mol", "kJ/mol", "meV")},
    "forces": {"the other sign": -1.0} | {u: convert(1.0, "eV/Å", u) for u in ("Ha/bohr", "Ry/bohr", "kcal/mol/Å", "meV/Å")},
    "stress": {"the other sign": -1.0, "GPa": GPA, "-GPa": -GPA, "kbar": 10 * GPA, "-kbar": -10 * GPA},
}


@dataclass(frozen=True)
class Line:
    """y = scale x: the ratio of the sizes with the sign of the correlation, and the share of the squares that a line explains."""

    scale: float
    share: float

    @classmethod
    def of(cls, x: Array, y: Array) -> Line:
        xx, yy, xy = (float(np.sum(a * b)) for a, b in ((x, x), (y, y), (x, y)))
        return cls(float(np.sign(xy) * np.sqrt(yy / xx)), xy**2 / (xx * yy)) if min(xx, yy) > 0 else NONE


NONE = Line(1.0, 0.0)


def check_data(model: Model, data: Data, learn: Callable[[Model, Data], Model]) -> str:
    """Look for wrong signs, orders of components, units and gaps, in the data alone and beside a quick model.

    The quick model is the model with what enters it linearly fitted to energies and forces of some frames; its stress is a finite strain of its energy.
    Arguments: model; data; learn, fits the free numbers of a model to energies and forces. Returns: what was found to be right. Errors: DataError
    that names the frames.
    """
    _complete(data)
    _refuse(data, "energy", _energies(data))
    chosen = np.sort(np.random.default_rng(0).permutation(len(data))[:LEARNED])
    start = scaled_first(model, data[chosen].frames)
    part = linear_part(start)
    quick = learn(part if part.size > len(model.species) else start, data[chosen])
    said = _forces(quick, data)
    if note := force_note(data.frames):
        raise DataError(
            "Energies and forces of one surface were to be learned", note[0].upper() + note[1:], "Read the data again with units={...}"
        )
    return f"check: {said}\ncheck: {_stresses(quick, data)}"


def check_species(model: Model, data: Data) -> None:
    """Errors: DataError that names the frames with elements that the model does not know."""
    if foreign := [f for f in data if not set(f.symbols) <= set(model.species)]:
        others = sorted({s for f in foreign for s in f.symbols} - set(model.species))
        asked = f"A fit of a model of {', '.join(model.species)} was asked for"
        advice = f"Compile it with species={[*model.species, *others]}, or leave these frames out"
        raise DataError(asked, f"{', '.join(others)} stands in {_named(foreign)}", advice)


def _complete(data: Data) -> None:
    """Stresses of all periodic frames or of none, and no numbers that stand for none."""
    periodic = [f for f in data if f.periodic]
    missing = [f for f in periodic if f.stress is None]
    if missing and len(missing) < len(periodic):
        found = f"{len(missing)} of {len(periodic)} periodic frames have no virial or stress: {_named(missing)}"
        raise DataError(STRESSES, found, "Add them, leave these frames out, or give a weight of stress=None")
    if odd := [f for f in periodic if f.stress is not None and np.abs(_virial(f)).max() > HUGE]:
        found = f"Virials beyond {HUGE:g} eV/atom stand in {_named(odd)}: a mark of what is missing?"
        raise DataError(STRESSES, found, "Remove the virial of these frames")


def _energies(data: Data) -> Array:
    """E over what the composition says, by frame; NaN where that tells nothing. The mean of absolute errors is least: few frames do not move it."""
    counts = np.array([[f.symbols.count(s) / len(f) for s in data.species] for f in data])
    energy = np.array([np.nan if f.energy is None else f.energy / len(f) for f in data])
    known = np.isfinite(energy)
    if not known.any():
        return energy
    weight = np.ones(int(known.sum()))
    for _ in range(50):
        each = np.linalg.lstsq(weight[:, None] * counts[known], weight * energy[known], rcond=None)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(energy[known] - counts[known] @ each), 1e-3))
    said = counts @ each
    return np.where(np.abs(said) > 0.1, energy / np.where(said == 0, 1.0, said), np.nan)


def _forces(quick: Model, data: Data) -> str:
    frames = [f for f in data if f.forces is not None]
    judged = _one_unit(data, "forces", frames, [quick([f]).forces.numpy() for f in frames], [np.asarray(f.forces) for f in frames])
    return f"{judged} of {len(frames)} frames have forces like those of a quick model, in one unit"


def _stresses(quick: Model, data: Data) -> str:
    frames = [f for f in data if f.stress is not None]
    if not frames:
        return "no frame has a stress or virial"
    x, y = np.array([strained(quick, f) for f in frames]), np.array([_virial(f) for f in frames])
    for side in (x, y):
        side[:, :3] -= np.median(side[:, :3])  # what all frames share may be an error of the data's stress, or of the quick model
    line, volumes = Line.of(x, y), np.array([[-(f.volume or 1.0)] for f in frames])
    if (found := _order(x, y)) is not None:
        raise DataError(
            STRESSES, f"They agree with a quick model as {found}, not as {' '.join(NAMES)}", "Write the virial as 9 numbers in rows"
        )
    judged = _one_unit(data, "stress", frames, list(x), list(y))
    if line.share < CLEAR:
        return f"stresses are not judged: a quick model explains {line.share:.0%} of them"
    if not 1 / WRONG < line.scale < WRONG:
        fits = [u for u, f in UNITS["stress"].items() if _near(line.scale, f)]
        by_volume = Line.of(x, y / volumes)
        fits += ["a virial under the name of a stress"] if by_volume.share > CLEAR and 1 / WRONG < by_volume.scale < WRONG else []
        found = f"Those of all {len(frames)} frames are {line.scale:.3g} times the strain derivative of a quick model's energy"
        advice = "Read them with units={'stress': '-eV/Å^3'} for the other sign, {'stress': 'kbar'} for another unit"
        raise DataError(STRESSES, found + (f": {' or '.join(fits)}?" if fits else ""), advice)
    return (
        f"stresses are {line.scale:.2f} times the strain derivatives of a quick model, which explains {line.share:.0%} of those of "
        f"{len(frames)} frames and judges {judged} by themselves"
    )


def _one_unit(data: Data, observable: str, frames: list[Frame], quick: list[Array], given: list[Array]) -> int:
    """The number of frames that a line through the quick model's numbers explains. Errors: DataError for those that have another unit or sign."""
    least = 0.1 * np.median([np.sum(x**2) for x in quick])
    lines = [Line.of(x, y) if np.sum(x**2) > least else NONE for x, y in zip(quick, given, strict=True)]
    sure = {id(f): line.scale for f, line in zip(frames, lines, strict=True) if line.share > ALIKE[observable]}
    if len(sure) > 2:
        middle = float(np.median(list(sure.values())))
        _refuse(data, observable, np.array([sure.get(id(f), np.nan) / middle for f in data]))
    return len(sure)


def strained(model: Model, frame: Frame) -> Array:
    """dE/dstrain of a periodic frame per atom by central differences [6], eV, in the order of `NAMES`."""
    moved = []
    for a, b in zip(*VOIGT, strict=True):
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * STEP
            strain[b, a] += 0.5 * sign * STEP
            moved.append(Frame(frame.symbols, frame.positions @ strain, frame.cell @ strain, frame.pbc))
    energy = model(moved).energy.numpy().reshape(6, 2)
    return (energy[:, 0] - energy[:, 1]) / (2 * STEP * len(frame))


def _order(x: Array, y: Array) -> str | None:
    """Another order of the last three components (or of the first three) that explains far more than the one that is meant, in words."""
    for part in (slice(3, 6), slice(0, 3)):
        shares = {p: Line.of(x[:, part], y[:, part][:, list(p)]).share for p in permutations(range(3))}
        best = max(shares, key=lambda p: shares[p])
        if shares[best] > max(CLEAR, 2 * shares[0, 1, 2]):
            names = NAMES[part]
            placed = {p: names[n] for n, p in enumerate(best)}  # component p of the data is what the model calls names[n]
            order = [placed[n] for n in range(3)]
            return " ".join([*NAMES[:3], *order] if part.start else [*order, *NAMES[3:]])
    return None


def _refuse(data: Data, observable: str, ratios: Array) -> None:
    """Errors: DataError that names the frames whose numbers, over those of the others, are a ratio of two units."""
    for unit, factor in UNITS[observable].items():
        if odd := [f for f, r in zip(data, ratios, strict=True) if _near(r, factor)]:
            found = f"Those of {_named(odd)} are {factor:.3g} times what the other frames have: {unit}?"
            advice = "Read these frames by themselves with units={...}, or leave them out"
            raise DataError(f"One unit and sign of {observable} was expected in all frames", found, advice)


def _near(ratio: float, factor: float) -> bool:
    near = 2.0 if factor == -1 else NEAR  # a sign needs no exact size
    return bool(np.isfinite(ratio)) and ratio * factor > 0 and 1 / near < ratio / factor < near


def _virial(frame: Frame) -> Array:
    """V sigma / N [6], eV."""
    assert frame.stress is not None and frame.volume is not None
    return frame.stress[VOIGT] * frame.volume / len(frame)


def _named(frames: Sequence[Frame]) -> str:
    """The first frames by name, and how many more."""
    return ", ".join(f.name for f in frames[:4]) + (f" and {len(frames) - 4} more" if len(frames) > 4 else "")
