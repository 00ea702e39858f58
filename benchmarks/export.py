"""Exported models in LAMMPS against its own styles: whole steps of molecular dynamics, processes, drift, and the way there.

python -m benchmarks export --json export.json
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.build
import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from benchmarks import models, peers_lammps, systems
from benchmarks.peers_lammps import Style
from benchmarks.timing import Row, interleave
from composer.export import export

STEPS = 50  # of one timed piece
TEMPERATURE = 300.0


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """Measure the cases whose name contains `only`, one row each."""
    for name, measure in CASES.items():
        if only.lower() in name.lower():
            yield measure(name, repeats)


class Dynamics:
    """Constant-energy dynamics at 300 K in LAMMPS with one pair style; a timer of whole steps."""

    def __init__(self, atoms: Atoms, style: Style, skin: float = 2.0) -> None:
        self.atoms = atoms
        self.lammps, _ = peers_lammps.open_box(atoms, style.elements)
        with tempfile.TemporaryDirectory() as folder:
            for name, text in style.files.items():
                Path(folder, name).write_text(text)
            for command in style.commands:
                self.lammps.command(command.replace("{folder}", folder))
        masses = [f"mass {n + 1} {atomic_masses[atomic_numbers[s]]}" for n, s in enumerate(style.elements)]
        self.lammps.commands_string("\n".join(masses))
        self.lammps.commands_string(
            f"""neighbor {skin} bin
neigh_modify every 1 delay 0 check yes
velocity all create {TEMPERATURE} 4928459 mom yes rot no
fix 1 all nve
timestep 0.001
thermo 1000000
run 0"""
        )

    def step(self) -> float:
        """Seconds of one step, from a piece of STEPS steps with all rebuilds of lists in it."""
        start = time.perf_counter()
        self.lammps.command(f"run {STEPS} pre no post no")
        return (time.perf_counter() - start) / STEPS


def exported(model: Any, folder: str) -> Style:
    """The LAMMPS lines of a model that is exported to `folder`."""
    export(model, folder, target="lammps")
    lines = (Path(folder) / "potential.lmp").read_text().splitlines()
    return Style(model.species, tuple(lines[2:]))


def whole_step(atoms: Atoms, model: Any, native: Style, bar: float | None) -> Callable[[str, int], Row]:
    """A case: a whole step with the exported model / with the native style."""

    def measure(name: str, repeats: int) -> Row:
        with tempfile.TemporaryDirectory() as folder:
            ours, peer = Dynamics(atoms, exported(model(), folder)), Dynamics(atoms, native)
            times = interleave({"ours": ours.step, "peer": peer.step}, repeats)
        note = f"{len(atoms)} atoms, one process, NVE at {TEMPERATURE:g} K, skin 2 Å, lists rebuilt as needed"
        return Row(name, times["ours"] * 1e3, times["peer"] * 1e3, bar, "ms", note)

    return measure


def _crystal(name: str, structure: str, a: float, cells: tuple[int, int, int]) -> Atoms:
    return ase.build.bulk(name, structure, a=a, cubic=True) * cells


CASES: dict[str, Callable[[str, int], Row]] = {
    "SW, 32,000 atoms, MD step / native": whole_step(
        _crystal("Si", "diamond", 5.431, (20, 20, 10)), models.stillinger_weber, peers_lammps.sw(), 0.8
    ),
    "EAM, 32,000 atoms, MD step / native": whole_step(
        _crystal("Cu", "fcc", 3.615, (20, 20, 20)), models.embedded_atom, peers_lammps.eam(), 0.8
    ),
}
