"""Target openmm: a CustomNonbondedForce for sums over pairs that can be written as a formula, else a PythonForce."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openmm  # pyright: ignore[reportMissingImports]
from ase import Atoms

from composer.calculator import Calculator
from composer.errors import AlgebraError, DataError
from composer.export.formula import pair_formula
from composer.export.library import Values
from composer.export.scripts import write_script
from composer.model import E0, Model

EV = 96.48533212331002  # kJ/mol in an eV
ANGSTROM = 0.1  # nm


def openmm_force(model: Model, symbols: Sequence[str], periodic: bool = True) -> Any:
    """A force for an openmm.System whose particles are these atoms, in order.

    Arguments: model; symbols of the particles; periodic, whether the system has periodic box vectors.
    Returns: openmm.CustomNonbondedForce where the model is a sum over pairs (no E0), else openmm.PythonForce (with E0).
    Errors: DataError for a species that the model does not know.
    """
    unknown = sorted(set(symbols) - set(model.species))
    if unknown:
        raise DataError(
            f"An OpenMM force for {', '.join(unknown)} was asked for", f"The model knows {', '.join(model.species)}", "Use these"
        )
    try:
        return _pair_force(model, symbols, periodic)
    except AlgebraError:
        return _python_force(model, symbols, periodic)


def _pair_force(model: Model, symbols: Sequence[str], periodic: bool) -> Any:
    count = len(model.species)
    pairs = [(a, b) for a in range(count) for b in range(a, count)]
    formulas = {pair: pair_formula(model, *pair, distance="x") for pair in pairs}
    text = formulas[pairs[0]]
    if count > 1:
        text = _chosen(formulas, count)
    force = openmm.CustomNonbondedForce(f"{EV!r}*phi; phi={text}; x=r/{ANGSTROM!r}")
    force.addPerParticleParameter("kind")
    for symbol in symbols:
        force.addParticle([float(model.species.index(symbol))])
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic if periodic else openmm.CustomNonbondedForce.CutoffNonPeriodic)
    force.setCutoffDistance(model.cutoff * ANGSTROM)
    return force


def _chosen(formulas: dict[tuple[int, int], str], count: int) -> str:
    """One formula that takes that of the pair of species; definitions get names of their own."""
    sums, definitions = [], []
    for n, ((a, b), text) in enumerate(formulas.items()):
        main, *rest = (part.replace("v", f"p{n}v") for part in text.split("; "))
        sums.append(f"delta(min(kind1,kind2)*{count}+max(kind1,kind2)-{a * count + b})*phi{n}")
        definitions += [f"phi{n}={main}", *rest]
    return "; ".join(["+".join(sums), *definitions])


def _python_force(model: Model, symbols: Sequence[str], periodic: bool) -> Any:
    atoms = Atoms(list(symbols), positions=np.zeros((len(symbols), 3)), pbc=periodic)
    calculator = Calculator(model)

    def evaluate(state: Any) -> tuple[float, np.ndarray]:
        atoms.positions = np.asarray(state.getPositions(asNumpy=True)._value) / ANGSTROM
        if periodic:
            atoms.cell = np.asarray(state.getPeriodicBoxVectors(asNumpy=True)._value) / ANGSTROM
        atoms.calc = calculator
        return atoms.get_potential_energy() * EV, atoms.get_forces() * (EV / ANGSTROM)

    force = openmm.PythonForce(evaluate)
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force


BODY = 'force = openmm_force(model, ["SYMBOLS", "OF", "THE", "PARTICLES"], periodic=True)\n'


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the script that makes the force."""
    body = BODY.replace('["SYMBOLS", "OF", "THE", "PARTICLES"]', f"{[model.species[0]]!r} * 100")
    return write_script(folder, shown, "OpenMM", "openmm", "to_openmm", "openmm_force", body)


def check_engine(folder: Path, model: Model) -> Any:
    """The force in an OpenMM context; small cells are repeated until they are wider than two cutoffs."""
    alone = dict(zip(model.species, model.parameters[E0].reshape(-1).tolist(), strict=True))

    def engine(atoms: Atoms) -> Values:
        copies, repeats = _repeated(atoms, 2.05 * model.cutoff)
        force = openmm_force(model, copies.get_chemical_symbols(), bool(all(atoms.pbc)))
        energy, forces = _evaluated(copies, force)
        if not isinstance(force, openmm.PythonForce):
            energy += sum(alone[s] for s in copies.symbols)
        return Values(energy / repeats, forces[: len(atoms)], None)

    return engine


def _repeated(atoms: Atoms, width: float) -> tuple[Atoms, int]:
    if not all(atoms.pbc):
        return atoms, 1
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    times = np.ceil(width / heights).astype(int)
    return atoms.repeat(times), int(times.prod())


def _evaluated(atoms: Atoms, force: Any) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces (eV/Å) on the reference platform."""
    system = openmm.System()
    for _ in atoms:
        system.addParticle(1.0)
    rotation = np.eye(3)
    positions = atoms.positions
    if all(atoms.pbc):
        box, rotation = (np.asarray(m) for m in atoms.cell.standard_form())
        box = _reduced(box)
        positions = atoms.positions @ rotation.T
        system.setDefaultPeriodicBoxVectors(*(box * ANGSTROM))
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions * ANGSTROM)
    state = context.getState(getEnergy=True, getForces=True)
    forces = np.asarray(state.getForces(asNumpy=True)._value) / (EV / ANGSTROM)
    return float(state.getPotentialEnergy()._value) / EV, forces @ rotation


def _reduced(box: np.ndarray) -> np.ndarray:
    """The same lattice with the skewness that OpenMM demands."""
    box = box.copy()
    box[2] -= box[1] * round(box[2, 1] / box[1, 1])
    box[2] -= box[0] * round(box[2, 0] / box[0, 0])
    box[1] -= box[0] * round(box[1, 0] / box[0, 0])
    return box


__all__ = ["check_engine", "openmm_force", "write"]
