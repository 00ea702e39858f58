"""Errors of a model on data: energy per atom, forces and stress, overall, by kind of frame and for the worst frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from composer.data import Data, Frame
from composer.errors import DataError
from composer.units import GPA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from composer.model import Model

Array = NDArray[np.float64]
UNITS = {"energy": "meV/atom", "forces": "eV/Å", "stress": "GPa"}
CHUNK = 20_000  # atoms evaluated at once
NOTHING = 1e-5  # meV/atom, eV/Å or GPa
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


@dataclass(frozen=True)
class Score:
    """Errors of one observable: count of numbers, rmse, mae, p95 (95th percentile of |error|), rmse of the worst frame and its place."""

    count: int
    rmse: float
    mae: float
    p95: float
    worst: float
    worst_frame: int


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of a model on S frames, in meV/atom, eV/Å and GPa; printable.

    Arguments: kinds [S], the config_type of each frame; names [S]; reference and predicted, numbers by observable [n]; frame, the place
    of the frame of each number [n]. Forces and stress count by component (3 for each atom, 6 for each stress).
    """

    kinds: tuple[str, ...]
    names: tuple[str, ...]
    reference: dict[str, Array]
    predicted: dict[str, Array]
    frame: dict[str, NDArray[np.intp]]
    note: str = field(default="", compare=False)

    @property
    def energy(self) -> Score | None:
        """Score of energies (meV/atom), None where no frame has one."""
        return self.scores.get("energy")

    @property
    def forces(self) -> Score | None:
        """Score of force components (eV/Å)."""
        return self.scores.get("forces")

    @property
    def stress(self) -> Score | None:
        """Score of stress components (GPa)."""
        return self.scores.get("stress")

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Scores by observable."""
        return self._scored(np.ones(len(self.kinds), dtype=bool))

    @cached_property
    def by_config_type(self) -> dict[str, dict[str, Score]]:
        """Scores by config_type and observable."""
        kinds = np.array(self.kinds)
        return {kind: self._scored(kinds == kind) for kind in dict.fromkeys(self.kinds)}

    def error(self, observable: str) -> Array:
        """Predicted minus reference [n] of an observable."""
        return self.predicted[observable] - self.reference[observable]

    def by_frame(self, observable: str) -> Array:
        """Root mean square error of every frame [S]; NaN where the frame lacks the observable."""
        count = np.bincount(self.frame[observable], minlength=len(self.kinds)).astype(float)
        total = np.bincount(self.frame[observable], weights=self.error(observable) ** 2, minlength=len(self.kinds))
        return np.sqrt(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))

    def plot(self) -> Figure:
        """Parity plots, coloured by config_type."""
        from analysis import plot_parity

        labels = {o: f"{o} ({UNITS[o]})" for o in self.scores}
        groups = {label: [self.kinds[f] for f in self.frame[o]] for o, label in labels.items()}
        return plot_parity({label: (self.reference[o], self.predicted[o]) for o, label in labels.items()}, groups)

    def _scored(self, chosen: NDArray[np.bool_]) -> dict[str, Score]:
        return {o: _score(self.error(o)[inside], self.frame[o][inside]) for o in UNITS if (inside := chosen[self.frame[o]]).any()}

    def __str__(self) -> str:
        shown = [o for o in UNITS if o in self.scores]
        lines = [" " * 26 + "".join(f"{f'{o} {UNITS[o]}':>30s}" for o in shown)]
        lines.append(f"{'config_type':18s}{'frames':>8s}" + "".join(f"{'RMSE':>12s}{'MAE':>9s}{'95 %':>9s}" for _ in shown))
        for kind, scores in {"all": self.scores, **(self.by_config_type if len(set(self.kinds)) > 1 else {})}.items():
            frames = len(self.kinds) if kind == "all" else self.kinds.count(kind)
            lines.append(f"{kind[:17]:18s}{frames:8d}" + "".join(_cells(scores.get(o)) for o in shown))
        worst = [(o, self.scores[o]) for o in shown]
        lines += [
            f"worst {o}: {s.worst:.4g} {UNITS[o]} (RMSE of its numbers) in {self.names[s.worst_frame]}, {self.kinds[s.worst_frame]}"
            for o, s in worst
        ]
        return "\n".join(lines + ([self.note] if self.note else []))

    __repr__ = __str__


def evaluate(model: Model, data: Data | Sequence[Any], stress_offset: float = 0.0) -> Errors:
    """Errors of a model on data.

    Arguments: model; data, frames with what was computed for them; stress_offset (eV/atom), a constant error of the data's stress,
    proportional to N/V: it is added to the model's stress before the comparison, and never to the model.
    Returns: Errors (printable). Errors: DataError for no frames or none with an observable.
    """
    frames = data if isinstance(data, Data) else Data(data)
    found: dict[str, list[tuple[int, Array, Array]]] = {o: [] for o in UNITS}
    for places in chunks(frames):
        result = model([frames[p] for p in places])
        for observable, place, reference, predicted in _compare([frames[p] for p in places], result, stress_offset):
            found[observable].append((places[place], reference, predicted))
    if not any(found.values()):
        raise DataError(
            "The errors of a model were asked for",
            f"None of the {len(frames)} frames has an energy, forces or stress",
            "Give labelled data",
        )
    return _errors(list(frames), found)


def merge(frames: Sequence[Frame], parts: Iterable[tuple[Sequence[int], Errors]]) -> Errors:
    """Errors of frames from those of disjoint parts: pairs (places of the part's frames, its errors)."""
    found: dict[str, list[tuple[int, Array, Array]]] = {o: [] for o in UNITS}
    for places, errors in parts:
        for o in UNITS:
            for local in np.unique(errors.frame[o]):
                inside = errors.frame[o] == local
                found[o].append((int(places[local]), errors.reference[o][inside], errors.predicted[o][inside]))
    return _errors(list(frames), {o: sorted(rows, key=lambda row: row[0]) for o, rows in found.items()})


def chunks(frames: Sequence[Frame], atoms: int = CHUNK) -> Iterator[list[int]]:
    """Places of frames in consecutive chunks of at most `atoms` atoms (one frame at least): they depend on the data alone."""
    chunk: list[int] = []
    held = 0
    for place, frame in enumerate(frames):
        if chunk and held + len(frame.positions) > atoms:
            yield chunk
            chunk, held = [], 0
        chunk.append(place)
        held += len(frame.positions)
    if chunk:
        yield chunk


def _compare(frames: Sequence[Frame], result: Any, offset: float) -> Iterator[tuple[str, int, Array, Array]]:
    """Observable, place, reference [n] and predicted [n] of every labelled frame of a batch."""
    energy, forces, virial = (t.cpu().numpy() for t in (result.energy, result.forces, result.virial))
    bounds = result.batch.offsets.tolist()
    for s, frame in enumerate(frames):
        n = len(frame.symbols)
        if frame.energy is not None:
            yield "energy", s, np.array([1000 * frame.energy / n]), energy[s : s + 1] * (1000 / n)
        if frame.forces is not None:
            yield "forces", s, frame.forces.ravel(), forces[bounds[s] : bounds[s + 1]].ravel()
        if frame.stress is not None and frame.volume is not None:
            stress = (-virial[s] + offset * n * np.eye(3)) / frame.volume
            yield "stress", s, frame.stress[VOIGT] * GPA, stress[VOIGT] * GPA


def _errors(frames: Sequence[Frame], found: dict[str, list[tuple[int, Array, Array]]]) -> Errors:
    def joined(o: str, which: int) -> Array:
        return np.concatenate([np.zeros(0), *(row[which] for row in found[o])])  # type: ignore[list-item]

    place = {o: np.concatenate([np.zeros(0, int), *(np.full(len(row[1]), row[0]) for row in found[o])]) for o in UNITS}
    kinds, names = tuple(f.config_type for f in frames), tuple(f.name for f in frames)
    return Errors(kinds, names, {o: joined(o, 1) for o in UNITS}, {o: joined(o, 2) for o in UNITS}, place)


def _score(error: Array, frame: NDArray[np.intp]) -> Score:
    places, member = np.unique(frame, return_inverse=True)
    by_frame = np.sqrt(np.bincount(member, weights=error**2) / np.bincount(member))
    worst, size = int(np.argmax(by_frame)), np.abs(error)
    return Score(
        len(error),
        float(np.sqrt(np.mean(error**2))),
        float(size.mean()),
        float(np.quantile(size, 0.95)),
        float(by_frame[worst]),
        int(places[worst]),
    )


def _cells(score: Score | None) -> str:
    rmse, mae, p95 = ("-", "-", "-") if score is None else map(brief, (score.rmse, score.mae, score.p95))
    return f"{rmse:>12s} {mae:>8s} {p95:>8s}"


def brief(error: float) -> str:
    """An error in four digits; what symmetry alone makes small is zero."""
    return f"{error:.4g}" if not abs(error) < NOTHING else "0"
