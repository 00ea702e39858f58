"""Speed of the compiled kernels against LAMMPS and against eager torch, on one thread.

Forces: the model call on a prepared Batch (energy, forces, virial) / LAMMPS's own Pair time, equal pairs within the same cutoff and skin.
Training: gradient of a loss on energy and forces for all parameters / eager double backward.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from benchmarks import models, peers_lammps, peers_torch, resources, searching, systems
from benchmarks.timing import Row, Timer, cpu, interleave, wall

SKIN = 1.0  # Å, on both sides
LEAST_STEPS = 50  # of LAMMPS, in all rounds of a case
MANY_BODY_BAR = 0.6 if "avx512f" in cpu()[1] else 0.7

MODELS: dict[str, Callable[[], Any]] = {
    "LJ 4000 / lj/cut": models.lennard_jones,
    "EAM 4000 / eam/alloy": models.embedded_atom,
    "SW 4096 / sw": models.stillinger_weber,
    "Tersoff 4096 / tersoff": models.tersoff,
    "ThreeBody 75, Mo 4032 / snap 31": models.three_body,
}
"""The composer model of each case, by name; a case that is absent prints its peer alone."""


@dataclass(frozen=True)
class ForceCase:
    """A crystal, the LAMMPS style to beat, and how many steps make one sample."""

    name: str
    atoms: Callable[[], Atoms]
    style: Callable[[], peers_lammps.Style]
    bar: float
    steps: int = 50


@dataclass(frozen=True)
class TrainingCase:
    """A crystal and the hand-written energy whose training gradient is the peer; `model` names the entry of MODELS."""

    name: str
    model: str
    atoms: Callable[[], Atoms]
    energy: peers_torch.Energy
    parameters: Mapping[str, float]
    cutoff: float
    triplets: bool = False
    bar: float = 0.2


def mo_snap() -> peers_lammps.Style:
    """Return the published 31-coefficient SNAP of molybdenum from the shared benchmark data."""
    shared = Path(os.environ.get("COMPOSER_SHARED", Path(__file__).parents[2] / "shared"))
    return peers_lammps.snap(shared / "data" / "mlearn" / "snap" / "Mo_snap")


FORCES = (
    ForceCase("LJ 4000 / lj/cut", systems.argon, peers_lammps.lj, 1.0),
    ForceCase("EAM 4000 / eam/alloy", systems.copper, peers_lammps.eam, MANY_BODY_BAR),
    ForceCase("SW 4096 / sw", systems.silicon, peers_lammps.sw, MANY_BODY_BAR),
    ForceCase("Tersoff 4096 / tersoff", systems.silicon, peers_lammps.tersoff, MANY_BODY_BAR),
    ForceCase("ThreeBody 75, Mo 4032 / snap 31", systems.molybdenum, mo_snap, 0.1, steps=6),
)

TRAINING = (
    TrainingCase("LJ 4000 gradient / eager", FORCES[0].name, systems.argon, peers_torch.lj, systems.LJ, systems.LJ_CUTOFF),
    TrainingCase("EAM 4000 gradient / eager", FORCES[1].name, systems.copper, peers_torch.eam, systems.EAM, systems.EAM_CUTOFF),
    TrainingCase("SW 4096 gradient / eager", FORCES[2].name, systems.silicon, peers_torch.sw, systems.SW, systems.SW_CUTOFF, True),
    TrainingCase(
        "Tersoff 4096 gradient / eager", FORCES[3].name, systems.silicon, peers_torch.tersoff, systems.TERSOFF, systems.TERSOFF_CUTOFF, True
    ),
)


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """Measure the cases whose name contains `only`, one row each."""
    torch.set_num_threads(1)
    for case in FORCES:
        if only.lower() in case.name.lower():
            yield force_row(case, repeats)
    for case in TRAINING:
        if only.lower() in case.name.lower():
            yield training_row(case, repeats)
    yield from resources.rows(only, repeats)
    yield from searching.rows(only, repeats)


def force_row(case: ForceCase, repeats: int) -> Row:
    """Time one force call of the model against the Pair time of one step of LAMMPS."""
    atoms = case.atoms()
    steps = max(case.steps, math.ceil(LEAST_STEPS / repeats))
    with peers_lammps.Anchor(atoms, case.style(), SKIN) as anchor:
        timers: dict[str, Timer] = {"peer": lambda: anchor.pair_seconds(steps)}
        if case.name in MODELS:
            timers["ours"] = model_forces(MODELS[case.name](), atoms, steps)
        note = (
            f"LAMMPS lists {anchor.listed / len(atoms):.1f} neighbours per atom, skin {SKIN} Å, {steps} steps in each of {repeats} rounds"
        )
        return _row(case.name, interleave(timers, repeats), case.bar, note)


def training_row(case: TrainingCase, repeats: int) -> Row:
    """Time the parameter gradient of the model against eager double backward."""
    atoms = case.atoms()
    theta, e = peers_torch.parameters(case.parameters), peers_torch.edges(atoms, case.cutoff, case.triplets)
    x = torch.from_numpy(atoms.positions)
    energy, force = peers_torch.forces(case.energy, x, theta, e)
    targets = (1.01 * energy.detach(), 0.9 * force)
    timers = {"peer": wall(lambda: peers_torch.training_gradient(case.energy, x, theta, e, *targets))}
    if case.model in MODELS:
        timers["ours"] = model_gradient(MODELS[case.model](), atoms, targets)
    note = f"the peer has {len(e.center) / len(atoms):.1f} edges and {len(e.first) / len(atoms):.1f} ordered triplets per atom, no skin"
    return _row(case.name, interleave(timers, repeats), case.bar, note)


def model_forces(model: Any, atoms: Atoms, calls: int) -> Timer:
    """Return a timer of the public call on a prepared Batch: energy, forces and stress."""
    batch = model.prepare([atoms], skin=SKIN)
    return wall(lambda: model(batch), calls)


def model_gradient(model: Any, atoms: Atoms, targets: tuple[torch.Tensor, torch.Tensor]) -> Timer:
    """Return a timer of d loss / d parameters through the autograd seam, for the loss of `peers_torch`."""
    batch = model.prepare([atoms], skin=SKIN)
    values = {name: value.detach().clone().requires_grad_(True) for name, value in model.parameters.items()}

    def gradient() -> object:
        result = model.call(batch, batch.positions, batch.cells, values)
        loss = peers_torch.loss(result.energy.sum(), result.forces, *targets)
        return torch.autograd.grad(loss, list(values.values()), allow_unused=True)

    return wall(gradient, 5)


def _row(name: str, seconds: Mapping[str, float], bar: float, note: str) -> Row:
    ours = seconds.get("ours")
    return Row(name, None if ours is None else ours * 1e3, seconds["peer"] * 1e3, bar, "ms", note)
