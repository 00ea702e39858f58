"""Where a crystal melts: crystal and liquid in one box at constant enthalpy and zero pressure come to the melting temperature by themselves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import make_supercell
from ase.optimize import FIRE
from tqdm import tqdm

from analysis.properties import Crystal, relax_crystal
from composer.errors import DataError
from composer.piston import RENEWAL, Box
from composer.properties import draws, evaluator
from composer.solids import phonons

USUAL = 0.0115  # k T_m / (bulk modulus times volume of an atom) of many elements
COLD, HEATING, HOTTEST = 0.5, 1.02, 20.0  # where heating starts, by how much at a time, and where it ends; times the usual temperature
SUPERHEATED = (0.5, 0.7)  # least and largest first guess over the temperature where a crystal heated fast loses its order
MELTED = 0.15  # order of what is no crystal
HELD, LOWERED = 2000, 0.85  # steps to lose the rest of the order, at this share of the temperature where that began, lest the melt boils
BOILED = 0.4  # relative change of volume that is no melting
BOTH = (0.15, 0.85)  # share of crystal in a box that holds both phases
FURTHER = 0.05  # least relative change of a guess that left one phase
SETTLING = 3 * RENEWAL  # steps in which crystal and liquid, just joined, take up a temperature
NEAR = 0.1  # relative: how close to the guess a run has to end
LEAST = 100  # atoms
ROUNDS = 8
STEPS_OF_VIBRATION = 40  # steps in the shortest period of the crystal
SAMPLES = 40  # looks at a run
BLOCKS = 5
PEAKS = 4  # reciprocal vectors that tell order
GAP = 0.5  # between crystal and liquid when they are joined, in shortest distances
SOFT, SOFTENED = 0.05, 40  # Å and steps: moves of atoms that came too close there


@dataclass(frozen=True)
class Melting:
    """Melting at zero pressure, with the deviation of blocks of the run and, where the fit left a covariance, of the parameters."""

    temperature: float  # K
    statistical: float  # K
    heat: float  # eV/atom, of fusion
    expansion: float  # volume of liquid over that of the crystal - 1
    share: float  # of crystal in the box at the end
    fit: float | None = None  # K

    def __str__(self) -> str:
        bar = "" if self.fit is None else f" ± {self.fit:.2g} (fit)"
        return (
            f"melting              {self.temperature:9.1f} ± {self.statistical:.2g} (run){bar} K\n"
            f"heat of fusion       {self.heat:9.4f} eV/atom\n"
            f"expansion            {100 * self.expansion:9.2f} %"
        )


def melt(
    model: Any, crystal: Atoms, atoms: int = 1000, steps: int = 20000, guess: float | None = None, seed: int = 0, quiet: bool = False
) -> Melting:
    """Melting temperature at zero pressure from a box of crystal and liquid whose enthalpy is constant.

    If it is too hot, crystal melts and cools the box; if it is too cold, liquid freezes and warms it. Runs start from where the last one
    has come to, until both phases are left and start and end agree. Deviation by the parameters: dT = T (<dU>_liquid - <dU>_crystal)/(heat
    of fusion), dU the change of energy per atom in models drawn from the covariance.
    Arguments: model; crystal, whose lattice has three perpendicular vectors; atoms in the box, about; steps of a run; guess, a temperature
    (K) to start from (default: from the bulk modulus, between half and 0.7 of where the crystal melts when it is heated fast); seed; quiet,
    no progress bar.
    Returns: a Melting. Cost: each run about 1.3 times atoms times steps evaluations of an atom, one to four runs.
    Errors: DataError for a crystal that does not come to rest, does not melt, or whose phases do not stay together.
    Source: J. R. Morris and X. Song, J. Chem. Phys. 116, 9352 (2002).
    """
    if atoms < LEAST or steps < SAMPLES or (guess is not None and not guess > 0):
        given = f"atoms={atoms}, steps={steps}, guess={guess} were given"
        raise DataError("A crystal was to be melted", given, f"Give atoms >= {LEAST}, steps >= {SAMPLES} and a guess in K")
    with tqdm(desc="heating", disable=True if quiet else None, leave=False, unit=" steps") as bar:
        block = _Block(model, crystal, atoms // 2, seed, bar)
        guess = block.molten(guess)
        for _ in range(ROUNDS):
            found = block.coexist(guess, steps)
            if found is not None and abs(found.temperature - guess) < NEAR * guess:
                return found
            guess = block.ended
    raise DataError(
        f"The melting temperature of {crystal.get_chemical_formula()} was asked for",
        f"After {ROUNDS} runs, the last at {guess:.0f} K, crystal and liquid are not in balance",
        "Give more atoms or more steps",
    )


class _Block:
    """A crystal of half the atoms, and what is made of it."""

    def __init__(self, model: Any, crystal: Atoms, atoms: int, seed: int, bar: Any) -> None:
        cell, rest = _at_rest(model, crystal)
        wide = (atoms / len(cell) * cell.get_volume()) ** (1 / 3)
        times = np.maximum(np.round(wide / cell.cell.lengths()).astype(int), 1)
        self.model, self.crystal, self.peaks, self.bar = model, cell.repeat(times), peaks(cell, times), bar
        self.stiffness, self.random = float(rest.bulk_modulus), np.random.default_rng(seed)
        self.timestep = 1000 / phonons(cell, model.calculator).max() * units.fs / STEPS_OF_VIBRATION  # 1000 fs in 1/THz
        self.usual = USUAL * self.stiffness * cell.get_volume() / len(cell) / units.kB
        self.liquid, self.ended = self.crystal, 0.0

    def box(self, atoms: Atoms, free: tuple[int, int, int] = (1, 1, 1)) -> Box:
        return Box(self.model, atoms, self.stiffness, self.timestep, self.random, free)

    def molten(self, guess: float | None) -> float:
        """The guess, by default a first one (K), after the crystal was heated fast until it lost its order; the melt is kept."""
        box, kelvin = self.box(self.crystal), COLD * self.usual if guess is None else guess
        while order(box.atoms, self.peaks) > MELTED:
            if kelvin > HOTTEST * self.usual:
                raise DataError("A crystal was to be melted", f"It still is one at {kelvin:.0f} K", "Give another model or crystal")
            kelvin *= HEATING
            self.run(box, RENEWAL, kelvin)
        self.run(box, HELD, LOWERED * kelvin)
        self.liquid = box.atoms
        return guess or float(np.clip(self.usual, SUPERHEATED[0] * kelvin, SUPERHEATED[1] * kelvin))

    def run(self, box: Box, steps: int, kelvin: float | None = None) -> float:
        self.bar.update(steps)
        return box.run(steps, kelvin)

    def equilibrium(self, box: Box, kelvin: float, steps: int) -> list[Atoms]:
        """Structures of the second half of a run at a temperature."""
        self.run(box, steps // 2, kelvin)
        found = []
        for _ in range(SAMPLES // 2):
            self.run(box, max(steps // SAMPLES, 1), kelvin)
            found.append(box.atoms)
        return found

    def coexist(self, kelvin: float, steps: int) -> Melting | None:
        """One run from a guess (K): what it says where both phases are left to the end, else None; `ended` is the guess to go on with."""
        self.bar.set_description_str(f"melting near {kelvin:.0f} K")
        solid, liquid = self.phases(kelvin, steps // 4)
        whole, none = (float(np.mean([order(a, self.peaks) for a in phase])) for phase in (solid, liquid))
        if none > MELTED or whole < 2 * MELTED:  # far off: one phase has turned into the other
            self.ended = kelvin * (1 + FURTHER if none > MELTED else 1 - FURTHER)
            return None
        room = float(np.mean([a.get_volume() for a in liquid]) / np.mean([a.get_volume() for a in solid])) - 1
        if room > BOILED:
            found = f"At {kelvin:.0f} K the melt takes {100 * room:.0f} % more room than the crystal"
            raise DataError("A crystal was to be melted at zero pressure", found, "Give a guess (K) nearer to the melting temperature")
        box = self.box(joined(self.model, _stretched(solid[-1], liquid[-1].cell.lengths()[:2]), liquid[-1]))
        self.run(box, SETTLING, kelvin)
        kelvins = self.balanced(box, kelvin, steps, whole)
        if kelvins is None:
            return None
        self.ended, share = float(kelvins.mean()), order(box.atoms, self.peaks) / whole
        heat = _per_atom(self.model, liquid) - _per_atom(self.model, solid)
        bar = float(kelvins.reshape(BLOCKS, -1).mean(1).std(ddof=1))  # as if of one block: they hang together, the border moves slowly
        spread = self.spread(solid, liquid, heat)
        return Melting(self.ended, bar, heat, room, share, None if spread is None else self.ended * spread)

    def phases(self, kelvin: float, steps: int) -> tuple[list[Atoms], list[Atoms]]:
        """Structures of crystal and liquid at a temperature; across z the liquid has the mean lengths of the crystal."""
        solid = self.equilibrium(self.box(self.crystal), kelvin, steps)
        across = np.mean([a.cell.lengths()[:2] for a in solid], axis=0)
        return solid, self.equilibrium(self.box(_stretched(self.liquid, across), (0, 0, 1)), kelvin, steps)

    def balanced(self, box: Box, start: float, steps: int, whole: float) -> np.ndarray | None:
        """Temperatures (K) of the second half of a run in pieces, or None where a phase was lost; `whole` is the order of a crystal."""
        kelvins = []
        for _ in range(SAMPLES):
            kelvins.append(self.run(box, max(steps // SAMPLES, 1)))
            share = order(box.atoms, self.peaks) / whole
            if not BOTH[0] < share < BOTH[1]:  # the last layers of a phase go at once and carry the temperature past the balance
                middle, frozen = (start + kelvins[-1]) / 2, share > BOTH[1]
                self.ended = max(middle, start * (1 + FURTHER)) if frozen else min(middle, start * (1 - FURTHER))
                return None
        return np.array(kelvins[SAMPLES // 2 :])

    def spread(self, solid: Sequence[Atoms], liquid: Sequence[Atoms], heat: float) -> float | None:
        """Relative deviation of the melting temperature that the covariance of the fit leaves."""
        root = getattr(self.model, "covariance_root", None)
        if root is None:
            return None
        drawn = draws(self.model, np.asarray(root), seed=0)
        moved = [_per_atom(m, liquid) - _per_atom(m, solid) - heat for m in drawn]
        return float(np.sqrt(np.mean(np.square(moved)))) / heat


def _per_atom(model: Any, frames: Sequence[Atoms]) -> float:
    """Mean energy of an atom, eV."""
    return float(model(list(frames)).energy.mean()) / len(frames[0])


def _at_rest(model: Any, crystal: Atoms) -> tuple[Atoms, Crystal]:
    """The crystal without forces and stress, in a rectangular cell."""
    rest = relax_crystal(evaluator(model, crystal.get_chemical_symbols()), crystal.positions, crystal.cell.array)
    if not (rest.converged and rest.stable):
        raise DataError(
            "A crystal was to be melted", "It does not come to rest in the model, or a strain costs no energy", "Give another crystal"
        )
    cell = crystal.copy()
    cell.set_cell(rest.cell)
    cell.positions = rest.positions
    return rectangular(cell), rest


def rectangular(crystal: Atoms) -> Atoms:
    """The smallest cell with perpendicular vectors, the longest one along z, whose faces across z cut between planes of atoms.

    Errors: DataError where there is none.
    """
    steps = np.array([h for h in itertools.product(range(-2, 3), repeat=3) if h > (0, 0, 0)])
    vectors = steps @ crystal.cell.array
    long = np.linalg.norm(vectors, axis=1)
    cosine = np.abs(vectors @ vectors.T) / np.outer(long, long) < 1e-3
    best: tuple[float, tuple[int, ...]] | None = None
    for a, b in zip(*np.nonzero(np.triu(cosine))):
        for c in np.flatnonzero(cosine[a] & cosine[b]):
            best = min(
                best or (np.inf, ()), (float(np.round(long[a] * long[b] * long[c], 6)), tuple(sorted((a, b, c), key=lambda n: long[n])))
            )
    if best is None or not all(crystal.pbc):
        found = f"Its angles are {np.round(crystal.cell.angles(), 2).tolist()}, its pbc {crystal.pbc.tolist()}"
        raise DataError("A crystal was to be melted in a rectangular box", found, "Give a crystal with three perpendicular lattice vectors")
    found = make_supercell(crystal, steps[list(best[1])])
    found.set_cell(np.diag(found.cell.lengths()), scale_atoms=True)
    heights = np.sort(found.get_scaled_positions()[:, 2])
    room = np.diff(heights, append=heights[0] + 1)
    found.positions[:, 2] -= (heights + room / 2)[room.argmax()] * found.cell.lengths()[2]
    found.wrap()
    return found


def joined(model: Any, solid: Atoms, liquid: Atoms) -> Atoms:
    """Crystal below, liquid above; atoms that are too close at the two borders are moved apart."""
    gap = GAP * float(np.min(solid.get_all_distances(mic=True) + 1e9 * np.eye(len(solid))))
    below, above = solid.copy(), liquid.copy()
    for half in (below, above):
        half.wrap()
    height = below.cell.lengths()[2] + gap
    above.positions[:, 2] += height
    box = below + above
    box.set_cell(np.diag([*below.cell.lengths()[:2], height + above.cell.lengths()[2] + gap]))
    box.calc = model.calculator()
    with FIRE(box, logfile=None, maxstep=SOFT) as steps:  # type: ignore[arg-type]
        steps.run(fmax=0.0, steps=SOFTENED)
    box.calc = None
    return box


def _stretched(atoms: Atoms, across: np.ndarray) -> Atoms:
    """The same with other lengths along x and y."""
    found = atoms.copy()
    found.set_cell(np.diag([*across, atoms.cell.lengths()[2]]), scale_atoms=True)
    return found


def peaks(cell: Atoms, times: np.ndarray) -> np.ndarray:
    """The shortest reciprocal vectors across z with which the crystal scatters, as whole numbers of its repeated cell [PEAKS, 3]."""
    vectors = np.array([(h, k, 0) for h, k in itertools.product(range(-4, 5), repeat=2) if (h, k) > (0, 0)])
    seen = np.abs(np.exp(2j * np.pi * cell.get_scaled_positions() @ vectors.T).mean(0)) > 0.5
    vectors = vectors[seen]
    shortest = np.argsort(np.linalg.norm(vectors @ cell.cell.reciprocal(), axis=1), kind="stable")
    return vectors[shortest[:PEAKS]] * times


def order(atoms: Atoms, vectors: np.ndarray) -> float:
    """Mean amplitude of scattering by an atom: 1 for a perfect crystal, near 0 for a liquid, the share of crystal in between for both."""
    phases = 2j * np.pi * atoms.get_scaled_positions(wrap=False) @ vectors.T  # [atoms, vectors]
    return float(np.abs(np.exp(phases).mean(0)).mean())


__all__ = ["Melting", "joined", "melt", "order", "peaks", "rectangular"]
