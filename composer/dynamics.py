"""Whether a model can be trusted to run: repulsion at short distance, crystals that resist compression, steady dynamics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from composer.errors import DataError

TOUCHING = 0.75  # times the sum of covalent radii: below it atoms must push each other apart
UNSEEN = 0.85  # times the shortest distance of the data: the same, where that is less
CLOSEST = 0.3  # times the sum of covalent radii: where scans begin
COLLAPSED = 0.5  # times the sum of covalent radii: closer than that, dynamics has failed
STEPS = 46  # of a scan of dimers or trimers
COMPRESSED = (*np.linspace(0.6, 0.8, 21).tolist(), 1.0)  # volumes of compression scans, over the volume of the crystal
DRIFT = 2.0  # meV/atom of NVE energy that may be lost or won in 10 ps
TOO_HOT = 5.0  # times the temperature of the bath


@dataclass(frozen=True)
class Verdict:
    """Whether a check was passed, with the reason where it was not; true if it was."""

    passed: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True, eq=False)
class Scan:
    """Structures on the way to where atoms touch: each of `near` must lie higher in energy than the one of `far` at the same place.

    Arguments: frames; near, far, places of frames [n]; failure, what is told of the frame where that is not so.
    """

    frames: Sequence[Atoms]
    near: NDArray[np.intp]
    far: NDArray[np.intp]
    failure: Callable[[Atoms], str]


def scans(species: Sequence[str], seen: Mapping[str, float], crystals: Iterable[Any] = ()) -> list[Scan]:
    """Dimers, trimers and crystals that are pressed together.

    Dimers of all pairs and trimers (linear and triangular) of all kinds from 0.3 to 0.75 of the sum of covalent radii, or to 0.85 of the shortest
    distance that was seen, where it is less: the energy must fall with distance all the way. Crystals at 0.6 to 0.8 of their volume: the same, and at 0.8 it must not lie below that at 1.0.
    Arguments: species; seen, shortest distances (Å) by pair "A-B"; crystals, ase.Atoms or frames.
    """
    named = [(f"the dimer {a}-{b}", _dimers(a, b, _limit(seen, (a, b)))) for a, b in itertools.combinations_with_replacement(species, 2)]
    for kinds in itertools.combinations_with_replacement(species, 3):
        named += [
            (f"the {shape} trimer {'-'.join(kinds)}", _trimers(kinds, shape, _limit(seen, kinds))) for shape in ("linear", "triangular")
        ]
    steps = np.arange(STEPS)

    def told(name: str) -> Callable[[Atoms], str]:
        return lambda frame: f"{name} is not repulsive at {frame.get_distance(0, 1):.2f} Å"

    return [Scan(frames, steps[:-1], steps[1:], told(name)) for name, frames in named] + [_compression(c) for c in crystals]


def repulsive(model: Any, species: Sequence[str] | None = None, crystals: Iterable[Any] = ()) -> Verdict:
    """Whether atoms push each other apart at short distance, and crystals resist compression: the `scans`.

    Arguments: model, whose `domain` has the shortest distances of its data, where it knows them; species (default: all of the model);
    crystals, ase.Atoms or frames. Returns: a Verdict whose reason names the first scan that failed.
    """
    known = tuple(model.species if species is None else species)
    for scan in scans(known, getattr(model, "domain", {}), crystals):
        energy = model(scan.frames).energy.numpy()
        bad = scan.far[~(energy[scan.near] > energy[scan.far])]
        if not np.isfinite(energy).all() or bad.size:
            return Verdict(False, scan.failure(scan.frames[int(bad[-1]) if bad.size else int(np.argmin(np.isfinite(energy)))]))
    return Verdict(True)


def _scale(a: str, b: str) -> float:
    return float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])


def _limit(seen: Mapping[str, float], kinds: Sequence[str]) -> float:
    """Up to where a scan goes, in sums of covalent radii: a bond that the data show is not forbidden."""
    known = [(a, b, seen[f"{a}-{b}"]) for a in set(kinds) for b in set(kinds) if f"{a}-{b}" in seen]
    return max(min([TOUCHING, *(UNSEEN * r / _scale(a, b) for a, b, r in known)]), 1.1 * CLOSEST)


def _dimers(a: str, b: str, limit: float) -> list[Atoms]:
    return [Atoms([a, b], [[0, 0, 0], [r, 0, 0]]) for r in np.linspace(CLOSEST, limit, STEPS) * _scale(a, b)]


def _trimers(kinds: Sequence[str], shape: str, limit: float) -> list[Atoms]:
    """Three atoms whose neighbours all are the same fraction of their sum of radii apart, from near to far."""
    a, b, c = kinds
    ab, bc, ac = _scale(a, b), _scale(b, c), _scale(a, c)
    x = (ab**2 + ac**2 - bc**2) / (2 * ab)
    corner = [x, np.sqrt(max(ac**2 - x**2, 0.0)), 0.0] if shape == "triangular" else [ab + bc, 0.0, 0.0]
    return [Atoms([a, b, c], f * np.array([[0, 0, 0], [ab, 0, 0], corner])) for f in np.linspace(CLOSEST, limit, STEPS)]


def _compression(crystal: Any) -> Scan:
    atoms = crystal if isinstance(crystal, Atoms) else crystal.atoms()
    frames = []
    for volume in COMPRESSED:
        frame = atoms.copy()
        frame.set_cell(atoms.cell.array * np.cbrt(volume), scale_atoms=True)
        frames.append(frame)
    name, steps = atoms.info.get("config_type", atoms.get_chemical_formula()), np.arange(len(frames))
    return Scan(frames, steps[:-1], steps[1:], lambda _: f"{name} does not resist compression to {COMPRESSED[0]:.1f} of its volume")


def survives(
    model: Any,
    atoms: Any,
    temperature: float = 300.0,
    ps: float = 10.0,
    ensemble: Literal["nve", "nvt"] = "nve",
    timestep: float = 1.0,
    seed: int = 0,
    drift: float = DRIFT,
) -> Verdict:
    """Whether dynamics runs without collapse, explosion or drift of the energy.

    Arguments: model; atoms (ase.Atoms or a frame); temperature (K) of the Langevin bath in NVT; in NVE velocities of twice that are given,
    because half goes into the positions; ps (picoseconds); ensemble; timestep (fs); seed of velocities and bath; drift, largest change of
    the NVE energy (meV/atom in 10 ps, in proportion for longer runs).
    Returns: a Verdict; its reason names what happened and when. Errors: DataError for an unknown ensemble.
    """
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import Stationary, thermalize_momenta
    from ase.md.verlet import VelocityVerlet

    from composer.calculator import Calculator

    if ensemble not in ("nve", "nvt"):
        raise DataError(f"Dynamics in {ensemble!r} was asked for", "Known are nve and nvt", "Write ensemble='nve'")
    system: Atoms = atoms.copy() if isinstance(atoms, Atoms) else atoms.atoms()
    random = np.random.default_rng(seed)
    system.calc = Calculator(model)
    thermalize_momenta(system, 2 * temperature if ensemble == "nve" else temperature, rng=random)
    if len(system) > 1:
        Stationary(system)
    step = timestep * units.fs
    bath = {"temperature_K": temperature, "friction": 0.01 / units.fs, "rng": random, "fixcm": False}
    run = VelocityVerlet(system, step) if ensemble == "nve" else Langevin(system, step, **bath)
    return _follow(system, run, ensemble, temperature, round(1000 * ps / timestep), timestep, drift)


def _follow(system: Atoms, run: Any, ensemble: str, temperature: float, steps: int, timestep: float, drift: float) -> Verdict:
    import warnings

    from composer.calculator import ExtrapolationWarning

    start: float | None = None
    every = max(1, min(50, steps))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ExtrapolationWarning)
        for done in range(0, steps + 1, every):
            when = f"after {done * timestep / 1000:.2f} ps"
            try:
                verdict = _steady(system, temperature if ensemble == "nvt" else np.inf, when)
                if not verdict:
                    return verdict
                total = 1000 * system.get_total_energy() / len(system)  # meV/atom
                start = total if start is None else start
                allowed = drift * max(1.0, steps * timestep / 10_000)
                if ensemble == "nve" and not abs(total - start) < allowed:
                    return Verdict(False, f"the energy drifted by {total - start:.1f} meV/atom {when}")
                if done < steps:
                    run.run(min(every, steps - done))
            except DataError as error:
                return Verdict(False, f"positions could not be followed {when}: {error.found or error}")
    return Verdict(True)


def _steady(system: Atoms, temperature: float, when: str) -> Verdict:
    """Finite, no hotter than a bath of `temperature` allows, and without two atoms in one place."""
    if not np.isfinite(system.positions).all() or not np.isfinite(system.get_forces()).all():
        return Verdict(False, f"positions or forces became infinite {when}")
    if not system.get_temperature() < TOO_HOT * temperature + 200.0:
        return Verdict(False, f"the temperature rose to {system.get_temperature():.0f} K {when}")
    close = _closest(system)
    return Verdict(True) if close is None else Verdict(False, f"{close} {when}")


def _closest(system: Atoms) -> str | None:
    """What to say of two atoms that have collapsed onto each other, or None."""
    from ase.neighborlist import neighbor_list

    kinds = sorted(set(system.symbols))
    limits = {(a, b): COLLAPSED * _scale(a, b) for a in kinds for b in kinds}
    i, j, d = neighbor_list("ijd", system, limits)
    if not len(d):
        return None
    worst = int(np.argmin(d))
    return f"{system.symbols[i[worst]]} and {system.symbols[j[worst]]} came as close as {d[worst]:.2f} Å"
