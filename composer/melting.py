"""Where a crystal melts: crystal and liquid side by side at constant temperature and pressure, and which of the two grows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin
from ase.md.nptberendsen import Inhomogeneous_NPTBerendsen

from analysis.properties import relax_crystal
from composer.errors import DataError
from composer.properties import draws, evaluator

HOT = 2.0  # times the highest temperature: where half of the box is melted
ROOM = 1.15  # times the volume of the crystal: where a liquid forms fast
FRICTION, HEAT_BATH, PRESSURE_BATH = 0.02, 100.0, 500.0  # 1/fs, fs, fs
PIECES = 20  # of a run, after each of which its order is looked at
PEAKS = 6  # reciprocal vectors that tell order


@dataclass(frozen=True)
class Melting:
    """Melting at zero pressure: the crystal grew at `low` and shrank at `high` (K); heat of fusion (eV/atom); K that the fit leaves open."""

    low: float
    high: float
    heat: float
    deviation: float | None = None

    @property
    def temperature(self) -> float:
        """The middle, K."""
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        bar = "" if self.deviation is None else f" ± {self.deviation:.0f} (fit)"
        return f"melting   {self.temperature:.0f} ± {(self.high - self.low) / 2:.0f} K (between two runs){bar}; heat of fusion {self.heat:.3f} eV/atom"


def melt(
    model: Any, crystal: Atoms, between: tuple[float, float], atoms: int = 500, steps: int = 5000, resolution: float = 0.05, seed: int = 0
) -> Melting:
    """Melting temperature by coexistence: in a box that is half crystal and half liquid, the stable phase grows.

    dT = T (<dU>_liquid - <dU>_crystal)/(heat of fusion) for models drawn from the covariance of the fit gives the deviation.
    Arguments: model; crystal, an orthorhombic cell; between, two temperatures (K) around the answer; atoms of the box, at least; steps of each
    run; resolution, relative width of the answer; seed. Cost: about 2 + log2(width of `between`/resolution) runs, for 500 atoms and an
    embedded atom half a minute each; the box is small, and one run can err near the answer: expect 5 %.
    Returns: a Melting. Errors: DataError when crystal or liquid is stable over the whole range. Source: J. R. Morris et al., Phys. Rev. B 49,
    3109 (1994).
    """
    low, high = between
    if not all(crystal.pbc) or not crystal.cell.orthorhombic or not 0 < low < high:
        found = f"It has pbc {crystal.pbc} and angles {crystal.cell.angles()}, the range is {between} K"
        raise DataError("A crystal was to be melted", found, "Give an orthorhombic crystal and (low, high) in K")
    box = _Box(model, crystal, atoms, steps, seed)
    mixed = box.half_liquid(HOT * high)
    while high - low > resolution * (low + high) / 2:
        middle = (low + high) / 2
        low, high = (middle, high) if box.freezes(mixed, middle) else (low, middle)
    if low == between[0] or high == between[1]:
        phase, word = ("liquid", "lower") if low == between[0] else ("crystal", "higher")
        raise DataError(
            f"Melting between {between[0]:g} and {between[1]:g} K was looked for",
            f"The {phase} grew at all temperatures that were tried",
            f"Give a range with a {word} end",
        )
    return box.result(low, high)


class _Box:
    """A crystal in a box twice as long as wide, and runs that start from it."""

    def __init__(self, model: Any, crystal: Atoms, atoms: int, steps: int, seed: int) -> None:
        rest = relax_crystal(evaluator(model, crystal.get_chemical_symbols()), crystal.positions, crystal.cell.array)
        cell = crystal.copy()
        cell.set_cell(rest.cell)
        cell.positions = rest.positions
        self.model, self.steps, self.stiffness, self.seed = model, steps, float(rest.bulk_modulus), seed
        lengths = np.linalg.norm(rest.cell, axis=1)
        wide = (atoms / len(cell) / 2 * np.prod(lengths)) ** (1 / 3)
        times = np.maximum(np.ceil(np.array([wide, wide, 2 * wide]) / lengths - 1e-6).astype(int), 1)
        self.crystal, self.peaks = cell.repeat(times), peaks(cell, times)
        self.timestep = min(2.0, 0.35 * float(np.sqrt(cell.get_masses().min()))) * units.fs

    def half_liquid(self, hot: float) -> Atoms:
        """The upper half stretched, as liquids need more room, and melted at a temperature (K) while the lower one is held."""
        atoms, middle = self.crystal.copy(), self.crystal.cell[2, 2] / 2
        above = np.maximum(atoms.positions[:, 2] - middle, 0.0)
        atoms.positions[:, 2] += (ROOM - 1) * above
        atoms.cell[2, 2] += (ROOM - 1) * middle
        atoms.set_constraint(FixAtoms(mask=above == 0.0))
        self.langevin(atoms, hot)
        atoms.set_constraint()
        return atoms

    def langevin(self, atoms: Atoms, kelvin: float) -> None:
        random = np.random.default_rng(self.seed)
        atoms.calc = self.model.calculator()
        _warm(atoms, kelvin, random)
        Langevin(atoms, self.timestep, temperature_K=kelvin, friction=FRICTION / units.fs, fixcm=False, rng=random).run(self.steps // 4)

    def dynamics(self, start: Atoms, kelvin: float) -> Any:
        """Constant temperature and zero pressure; every length of the box has its own way."""
        atoms = start.copy()
        atoms.calc = self.model.calculator()
        _warm(atoms, kelvin, np.random.default_rng(self.seed))
        return Inhomogeneous_NPTBerendsen(
            atoms,
            timestep=self.timestep,
            temperature_K=kelvin,
            pressure_au=0.0,
            taut=HEAT_BATH * units.fs,
            taup=PRESSURE_BATH * units.fs,
            compressibility_au=1 / self.stiffness,
        )

    def freezes(self, start: Atoms, kelvin: float) -> bool:
        """Whether the crystal grows."""
        run, found = self.dynamics(start, kelvin), []
        for _ in range(PIECES):
            run.run(self.steps // PIECES)
            found.append(order(run.atoms, self.peaks))
        settled = found[PIECES // 2 :]  # before, the box takes up the new temperature
        return bool(np.polyfit(range(len(settled)), settled, 1)[0] > 0)

    def result(self, low: float, high: float) -> Melting:
        """Heat of fusion from a run of either phase, and the deviation from the models that the fit would as well have given."""
        kelvin = (low + high) / 2
        liquid = self.crystal.copy()
        self.langevin(liquid, HOT * high)
        solid_frames, liquid_frames = (self.frames(start, kelvin) for start in (self.crystal, liquid))
        energy = [_per_atom(self.model, frames) for frames in (solid_frames, liquid_frames)]
        heat = energy[1] - energy[0]
        root = getattr(self.model, "covariance_root", None)
        drawn = [] if root is None else draws(self.model, np.asarray(root), self.seed)
        moved = [_per_atom(m, liquid_frames) - _per_atom(m, solid_frames) - heat for m in drawn]
        return Melting(low, high, heat, kelvin * float(np.sqrt(np.mean(np.square(moved)))) / heat if drawn else None)

    def frames(self, start: Atoms, kelvin: float) -> list[Atoms]:
        """Structures of the second half of a run."""
        run = self.dynamics(start, kelvin)
        run.run(self.steps // 2)
        found = []
        for _ in range(PIECES // 2):
            run.run(self.steps // PIECES)
            found.append(run.atoms.copy())
        return found


def _warm(atoms: Atoms, kelvin: float, random: np.random.Generator) -> None:
    """Give the atoms velocities of a temperature, and the whole none."""
    p = random.standard_normal((len(atoms), 3)) * np.sqrt(atoms.get_masses() * units.kB * kelvin)[:, None]
    atoms.set_momenta(p - p.mean(0))


def _per_atom(model: Any, frames: Sequence[Atoms]) -> float:
    return float(model(list(frames)).energy.mean()) / len(frames[0])


def peaks(cell: Atoms, times: np.ndarray) -> np.ndarray:
    """The shortest reciprocal vectors with which the crystal scatters, as whole numbers of its repeated cell [PEAKS, 3]."""
    vectors = np.array([h for h in itertools.product(range(-2, 3), repeat=3) if h > (0, 0, 0)])
    seen = np.abs(np.exp(2j * np.pi * cell.get_scaled_positions() @ vectors.T).mean(0)) > 0.5
    vectors = vectors[seen]
    shortest = np.argsort(np.linalg.norm(vectors @ cell.cell.reciprocal(), axis=1), kind="stable")
    return vectors[shortest[:PEAKS]] * times


def order(atoms: Atoms, vectors: np.ndarray) -> float:
    """Mean amplitude of scattering by an atom: 1 for a perfect crystal, near 0 for a liquid, in between for a box that holds both."""
    phases = 2j * np.pi * atoms.get_scaled_positions() @ vectors.T  # [atoms, vectors]
    return float(np.abs(np.exp(phases).mean(0)).mean())
