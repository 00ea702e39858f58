"""Crystals as a model sees them: lattice, bulk modulus and elastic constants of phases, with error bars, beside the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from analysis.properties import Crystal, Evaluate, relax_crystal
from composer.data import Frame
from composer.errors import DataError
from composer.units import GPA

QUIET_FORCE = 0.02  # eV/Å: below it a reference structure counts as a crystal at rest
LARGEST = 16  # atoms of a cell
SHAPE = 0.08  # relative change of lengths at equal volume
DRAWS = 24  # models drawn from the covariance of the parameters
NAMES = ("energy", "volume", "a", "b", "c", "B", "C11", "C12", "C44")
UNITS = ("eV/atom", "Å^3/atom", "Å", "Å", "Å", "GPa", "GPa", "GPa", "GPa")


@dataclass(frozen=True)
class Phase:
    """One crystal: properties by name with standard deviations, and the energy of the data above their lowest phase."""

    name: str
    values: dict[str, float]
    deviations: dict[str, float]
    converged: bool
    above: float = 0.0  # eV/atom above the most stable phase of the model
    reference_above: float | None = None  # the same in the data
    reference_volume: float | None = None  # Å^3/atom of the lowest frame of the data

    stable: bool = True  # whether every strain costs energy
    kept: bool = True  # whether the crystal has kept its shape and not turned into another one

    @property
    def note(self) -> str:
        """What is to be said beside the name."""
        return (
            " (not at rest)" if not self.converged else " (turned into another)" if not self.kept else "" if self.stable else " (unstable)"
        )

    def beside(self) -> list[str]:
        """The energy above the lowest phase of the data (meV/atom) and the volume there (Å^3/atom) as texts."""
        energy, volume = self.reference_above, self.reference_volume
        return ["" if energy is None else f"{1000 * energy:.0f}", "" if volume is None else f"{volume:.3f}"]

    def value(self, name: str) -> str:
        """A property with its error bar as text."""
        if name not in self.values:
            return ""
        bar = f" ± {self.deviations[name]:.2g}" if name in self.deviations else ""
        return f"{self.values[name]:.3f}{bar}" if name in ("energy", "volume", "a", "b", "c") else f"{self.values[name]:.1f}{bar}"


@dataclass(frozen=True)
class Properties:
    """The phases of a set of data in a model; printable."""

    phases: tuple[Phase, ...]

    def __iter__(self) -> Any:
        return iter(self.phases)

    def __getitem__(self, name: str) -> Phase:
        return next(p for p in self.phases if p.name == name)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each phase, ready for JSON or a table."""
        return [
            {"phase": p.name, "converged": p.converged, "above": p.above, "reference_above": p.reference_above}
            | {"reference_volume": p.reference_volume, "stable": p.stable, "kept": p.kept, "values": p.values, "deviations": p.deviations}
            for p in self.phases
        ]

    def __str__(self) -> str:
        rows = self.cells()
        widths = [max(len(r[k]) for r in rows) for k in range(len(rows[0]))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths)).rstrip() for r in rows)

    def cells(self) -> list[list[str]]:
        """The table as texts, titles first; b is shown where it differs from a."""
        shown = [n for n in NAMES if any(n in p.values and (n != "b" or abs(p.values["b"] - p.values["a"]) > 1e-3) for p in self.phases)]
        titles = [f"{n} ({UNITS[NAMES.index(n)]})" for n in shown]
        rows = [["phase", *titles, "above lowest (meV/atom)", "in the data", "V in the data"]]
        for p in self.phases:
            rows.append([p.name + p.note, *(p.value(n) for n in shown), f"{1000 * p.above:.0f}", *p.beside()])
        return rows


def properties(model: Any, structures: Iterable[Any], covariance_root: Any = None, seed: int = 0) -> Properties:
    """Lattice lengths, bulk modulus and elastic constants (atoms relaxed at every strain) of crystals in a model.

    Arguments: model; structures, data (of every config_type the lowest crystal at rest is taken) or a list of ase.Atoms; covariance_root
    C [P, n] of the free parameters (default: the model's own, where the fit left one), from which `DRAWS` models are drawn for error bars;
    seed of the draws. Returns: Properties, in the order of the energy of the model.
    Errors: DataError when there is no crystal among the structures.
    """
    crystals = references(structures)
    if not crystals:
        raise DataError(
            "Properties of crystals were asked for",
            f"No structure is periodic in three directions, has up to {LARGEST} atoms and forces below {QUIET_FORCE} eV/Å",
            "Give a list of ase.Atoms of the crystals",
        )
    root = getattr(model, "covariance_root", None) if covariance_root is None else covariance_root
    drawn = [] if root is None else draws(model, np.asarray(root, dtype=np.float64), seed)
    ordered = sorted(crystals.items(), key=lambda item: _per_atom(item[1]))
    phases = _distinct(_phase(name, frame, model, drawn) for name, frame in ordered)
    lowest = min((p.values["energy"] for p in phases if p.converged and p.kept), default=0.0)
    data = {n: f.energy / len(f) for n, f in crystals.items() if f.energy is not None}
    phases = [_compared(p, crystals[p.name], lowest, min(data.values(), default=0.0)) for p in phases]
    return Properties(tuple(sorted(phases, key=lambda p: p.values["energy"])))


def references(structures: Iterable[Any]) -> dict[str, Frame]:
    """The lowest crystal at rest of every config_type of the data, or each given ase.Atoms by its formula."""
    found: dict[str, Frame] = {}
    if not isinstance(structures, Iterable):
        raise DataError(
            "Properties of crystals were asked for", f"A {type(structures).__name__} was given", "Give data or a list of ase.Atoms"
        )
    for place, one in enumerate(structures):
        frame = one if isinstance(one, Frame) else _frame(one, place)
        if not frame.periodic or len(frame) > LARGEST or (frame.forces is not None and np.abs(frame.forces).max() > QUIET_FORCE):
            continue
        name = frame.config_type
        if name not in found or _per_atom(frame) < _per_atom(found[name]):
            found[name] = frame
    return found


def _frame(atoms: Any, place: int) -> Frame:
    name = atoms.info.get("config_type", f"{atoms.get_chemical_formula()} {place}")
    return Frame(tuple(atoms.symbols), atoms.positions, atoms.cell[:], atoms.pbc, config_type=str(name), index=place)


def _per_atom(frame: Frame) -> float:
    return frame.energy / len(frame) if frame.energy is not None else np.inf


def evaluator(model: Any, symbols: Sequence[str]) -> Evaluate:
    """The function of positions [K, n, 3] and cells [K, 3, 3] that `analysis.properties` works with, one batch for each call."""

    def evaluate(positions: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frames = [_Structure(tuple(symbols), x, c) for x, c in zip(positions, cells)]
        found = model(frames)
        return found.energy.numpy(), found.forces.numpy().reshape(positions.shape), found.stress.numpy()

    return evaluate


@dataclass(frozen=True)
class _Structure:
    """What a batch needs of a crystal; a frame would check what is known to be right."""

    symbols: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray
    pbc: tuple[bool, bool, bool] = (True, True, True)


def _phase(name: str, frame: Frame, model: Any, draws: Sequence[Any]) -> Phase:
    crystal = relax_crystal(evaluator(model, frame.symbols), frame.positions, frame.cell)
    values = _values(crystal)
    asked = draws if crystal.stable and crystal.converged else []  # from a saddle, a drawn model may run anywhere
    others = [relax_crystal(evaluator(m, frame.symbols), crystal.positions, crystal.cell) for m in asked]
    spread = [_values(c, crystal) for c in others if c.converged]
    spread = [s for s in spread if s.keys() == values.keys()]  # a draw in which the phase has lost its symmetry says nothing
    enough = len(spread) > len(asked) // 2
    deviations = {n: float(np.sqrt(np.mean([(s[n] - v) ** 2 for s in spread]))) for n, v in values.items()} if enough else {}
    return Phase(name, values, deviations, crystal.converged, stable=crystal.stable, kept=_kept(frame, crystal))


def _kept(frame: Frame, crystal: Crystal) -> bool:
    """Whether the shape of the cell (lengths at equal volume) has changed by less than SHAPE."""
    stretch = np.linalg.svd(np.linalg.solve(frame.cell, crystal.cell), compute_uv=False)
    return bool(np.abs(np.log(stretch) - np.log(stretch).mean()).max() < SHAPE)


def _values(crystal: Crystal, like: Crystal | None = None) -> dict[str, float]:
    """Properties by name; `like` is the crystal whose lattice a drawn model has changed."""
    atoms, lengths = len(crystal.positions), np.linalg.norm(crystal.cell, axis=1)
    values = {"energy": crystal.energy / atoms, "volume": crystal.volume / atoms}
    if crystal.cubic is None:
        return values | dict(zip("abc", map(float, lengths))) | {"B": crystal.bulk_modulus * GPA}
    length = _cubic_length(crystal) if like is None else _cubic_length(like) * (crystal.volume / like.volume) ** (1 / 3)
    constants = {name: c * GPA for name, c in zip(("C11", "C12", "C44"), crystal.cubic)}
    return values | {"a": float(length), "B": (constants["C11"] + 2 * constants["C12"]) / 3} | constants


def _cubic_length(crystal: Crystal) -> float:
    """Length of the conventional cubic cell: the least multiple of lattice vectors along x."""
    inverse = np.linalg.inv(crystal.cell)
    along = np.array([1.0, 0.0, 0.0]) @ inverse  # fractions of a step of 1 Å along x
    for times in np.arange(1, 9) / np.abs(along).max():
        if np.abs(times * along - np.round(times * along)).max() < 1e-2:
            return float(times)
    return float(np.linalg.norm(crystal.cell, axis=1).min())


def _compared(phase: Phase, frame: Frame, lowest: float, data_lowest: float) -> Phase:
    reference = None if frame.energy is None else frame.energy / len(frame) - data_lowest
    volume = None if frame.volume is None or frame.energy is None else frame.volume / len(frame)
    return replace(phase, above=phase.values["energy"] - lowest, reference_above=reference, reference_volume=volume)


def _distinct(phases: Iterable[Phase]) -> list[Phase]:
    """The phases without those that have relaxed to an earlier one."""
    kept: list[Phase] = []
    for phase in phases:
        same = (all(abs(phase.values[n] - k.values[n]) < 1e-4 for n in ("energy", "volume")) for k in kept)
        if not any(same):
            kept.append(phase)
    return kept


def draws(model: Any, root: np.ndarray, seed: int) -> list[Any]:
    """Models with parameters theta + C z, z standard normal; positive ones change by the factor exp((C z)/theta) and stay positive."""
    random = np.random.default_rng(seed)
    theta = model.theta.numpy()
    positive = model.each(lambda entry: entry.positive) & (theta > 0)
    drawn = []
    for _ in range(DRAWS):
        change = root @ random.standard_normal(root.shape[1])
        scaled = theta * np.exp(np.clip(change / np.where(positive, theta, 1.0), -20, 20))
        drawn.append(model.with_parameters(torch.from_numpy(np.where(positive, scaled, theta + change))))
    return drawn
