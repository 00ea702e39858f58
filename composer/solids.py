"""What a crystal costs to damage and how it vibrates: vacancy, surfaces, phonons, in any ASE calculator; with error bars of the fit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import surface
from ase.optimize import FIRE

from analysis.properties import relax_crystal
from composer.errors import DataError
from composer.properties import draws, evaluator

WIDTH = 10.0  # Å, least width of supercells and least thickness of slabs
VACUUM = 8.0  # Å on either side of a slab
QUIET = 0.005  # eV/Å
MOST = 400  # steps of a relaxation
EDGE = 0.01  # Å, atoms so close to a cut lie on it
RATTLE = 0.05  # Å
SHIFT = 0.01  # Å, of displaced atoms
FACES = ((1, 0, 0), (1, 1, 0), (1, 1, 1))
JOULES = 16.021766339999998  # J/m^2 in eV/Å^2
TERAHERTZ = 15.6333042  # THz in sqrt(eV/(Å^2 u)) / (2 pi)
UNITS = {"vacancy": "eV", "surface": "J/m^2", "phonon": "THz"}


@dataclass(frozen=True)
class Solid:
    """Numbers of a crystal by name, with standard deviations where the fit left a covariance; printable."""

    values: dict[str, float]
    deviations: dict[str, float]

    def __str__(self) -> str:
        lines = []
        for name, value in self.values.items():
            bar = f" ± {self.deviations[name]:.2g}" if name in self.deviations else ""
            lines.append(f"{name:20s} {value:9.3f}{bar} {UNITS[name.split()[0]]}")
        return "\n".join(lines)


def solid(model: Any, crystal: Atoms, most_draws: int = 8, seed: int = 0) -> Solid:
    """Formation energy of a vacancy (eV), surface energies (J/m^2, of faces of the given cell), lowest and highest phonon (THz).

    E_vac = E(N-1) - (N-1)/N E(N); gamma = (E_slab - n e)/(2 A); all atoms relaxed, cells kept.
    Arguments: model; crystal, whose cell and atoms first come to rest in the model; most_draws, models drawn from the covariance of the fit for error bars (0 for none); seed.
    Returns: a Solid. Errors: DataError for a structure that is not periodic in three directions.
    """
    if not all(crystal.pbc):
        raise DataError("Defects and phonons of a structure were asked for", f"Its pbc are {crystal.pbc}", "Give a crystal")
    values = _numbers(model, crystal)
    root = getattr(model, "covariance_root", None)
    others = [] if root is None else [_numbers(m, crystal) for m in draws(model, np.asarray(root), seed)[:most_draws]]
    spread = {n: float(np.sqrt(np.mean([(o[n] - v) ** 2 for o in others]))) for n, v in values.items()} if others else {}
    return Solid(values, spread)


def _numbers(model: Any, start: Atoms) -> dict[str, float]:
    calculator, crystal = model.calculator, start.copy()
    rest = relax_crystal(evaluator(model, start.get_chemical_symbols()), start.positions, start.cell.array)
    crystal.set_cell(rest.cell)
    crystal.positions = rest.positions
    frequencies = phonons(crystal, calculator)
    found = {"vacancy": vacancy(crystal, calculator)}
    found |= {f"surface {''.join(map(str, face))}": surface_energy(crystal, face, calculator) for face in FACES}
    return found | {"phonon lowest": float(frequencies.min()), "phonon highest": float(frequencies.max())}


Start = Callable[[], Any]  # makes an ASE calculator


def vacancy(crystal: Atoms, calculator: Start) -> float:
    """Formation energy of a vacancy at the first atom, eV; the atom goes to the bulk."""
    whole = crystal.repeat(repeats(crystal, WIDTH))
    whole.calc = calculator()
    energy, n = whole.get_potential_energy(), len(whole)
    del whole[0]
    return relaxed(whole, calculator) - (n - 1) / n * energy


def surface_energy(crystal: Atoms, face: tuple[int, int, int], calculator: Start) -> float:
    """Energy of a relaxed surface, J/m^2, from a slab of at least WIDTH, cut where that costs least."""
    bulk = crystal.copy()
    bulk.calc = calculator()
    per_atom = bulk.get_potential_energy() / len(bulk)
    slab = min(cuts(crystal, face), key=lambda s: _energy(s, calculator))
    area = float(np.linalg.norm(np.cross(slab.cell.array[0], slab.cell.array[1])))
    return (relaxed(slab, calculator) - len(slab) * per_atom) / (2 * area) * JOULES


def cuts(crystal: Atoms, face: tuple[int, int, int]) -> list[Atoms]:
    """Slabs with all terminations: windows of equal height inside a higher block, away from its ends."""
    period = float(surface(crystal, face, 1, periodic=True).cell[2, 2])
    layers = int(np.ceil(WIDTH / period))
    block = surface(crystal, face, layers + 3, periodic=True)
    z = block.positions[:, 2] - block.positions[:, 2].min()
    heights = np.unique(np.round(z[(z > period - EDGE) & (z < 2 * period - EDGE)], 3))
    found = []
    for low in heights:
        slab = block[(z > low - EDGE) & (z < low + layers * period - EDGE)]
        slab.center(vacuum=VACUUM, axis=2)
        found.append(slab)
    return found


def _energy(atoms: Atoms, calculator: Start) -> float:
    copy = atoms.copy()
    copy.calc = calculator()
    return float(copy.get_potential_energy())


def phonons(crystal: Atoms, calculator: Start, width: float = WIDTH) -> np.ndarray:
    """Frequencies (THz, imaginary ones negative) at the wave vectors that fit a supercell of at least `width` Å [q, 3 n].

    D(q) = sum_R Phi(0, R) exp(i q R) / sqrt(m m'), with Phi from central differences of the forces; exact at these wave vectors.
    """
    times = repeats(crystal, width)
    n = len(crystal)
    big = crystal.repeat(times)  # image by image: atom i of image R is R n + i
    big.calc = calculator()
    images = list(itertools.product(*map(range, times)))
    constants = np.empty((n, 3, len(images), n, 3))
    for i, axis in itertools.product(range(n), range(3)):
        ends = []
        for sign in (1, -1):
            moved = big.copy()
            moved.calc = big.calc
            moved.positions[i, axis] += sign * SHIFT
            ends.append(moved.get_forces())
        constants[i, axis] = (-(ends[0] - ends[1]) / (2 * SHIFT)).reshape(len(images), n, 3)
    mass = np.sqrt(crystal.get_masses())
    constants /= mass[:, None, None, None, None] * mass[None, None, None, :, None]
    found = []
    for q in images:
        phase = np.exp(2j * np.pi * (np.array(images) / np.array(times)) @ np.array(q))  # [R]
        matrix = np.einsum("iaRjb,R->iajb", constants, phase).reshape(3 * n, 3 * n)
        squares = np.linalg.eigvalsh((matrix + matrix.conj().T) / 2)
        found.append(np.sign(squares) * np.sqrt(np.abs(squares)) * TERAHERTZ)
    return np.array(found)


def relaxed(atoms: Atoms, calculator: Start) -> float:
    """The energy (eV) after the atoms have come to rest in their cell; small moves at the start take them off symmetric saddles."""
    atoms.rattle(RATTLE, seed=1)
    atoms.calc = calculator()
    with FIRE(atoms, logfile=None) as steps:  # type: ignore[arg-type]
        steps.run(fmax=QUIET, steps=MOST)
    return float(atoms.get_potential_energy())


def repeats(crystal: Atoms, width: float) -> tuple[int, int, int]:
    """How often the cell is repeated along each vector so that opposite faces are `width` Å apart."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.cell.array), axis=0)
    a, b, c = np.ceil(width / heights).astype(int)
    return int(a), int(b), int(c)
