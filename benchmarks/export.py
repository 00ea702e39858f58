"""Exported models in LAMMPS against its own styles: whole steps of molecular dynamics, processes, drift, and the way there.

python -m benchmarks export --json export.json
"""

from __future__ import annotations

import os
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

import composer
from benchmarks import models, peers_lammps
from benchmarks.accuracy import snap_style
from benchmarks.peers_lammps import Style
from benchmarks.sets import SETS
from benchmarks.timing import Row, independent_speedup, interleave
from composer.export import export
from composer.export.lammps_engine import Lammps

STEPS = 50  # of one timed piece
TEMPERATURE = 300.0


def rows(only: str = "", repeats: int = 9, model: str = "") -> Iterator[Row]:
    """Measure the cases whose name contains `only`, one row each; `model`, the file of a searched model."""
    for name, measure in (CASES | {"winner, MD step / snap": winner_step(model)}).items():
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
atom_modify sort 1000 0
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
    return Style(model.species, tuple(lines[1:]))


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


def winner_step(path: str) -> Callable[[str, int], Row]:
    """A case: a whole step with a searched model / with the SNAP of its data set, which has the published settings."""

    def measure(name: str, repeats: int) -> Row:
        if not path:
            return Row(name, None, None, 0.2, "ms", "not measured: give --model FILE, the model file of a search")
        model = composer.read_model(path)
        case = next(c for c in SETS if c.elements == model.species)
        atoms = ase.build.bulk(case.elements[0], case.crystal[0], a=case.crystal[1], cubic=True) * (10, 10, 10)
        with tempfile.TemporaryDirectory() as folder:
            ours, peer = Dynamics(atoms, exported(model, folder)), Dynamics(atoms, snap_style(case.peer()))
            times = interleave({"ours": ours.step, "peer": peer.step}, repeats)
        note = f"{len(atoms)} atoms, {model.expression}, P = {model.size}, cutoffs {model.cutoff:g} and {case.peer().cutoff:g} Å"
        return Row(name, times["ours"] * 1e3, times["peer"] * 1e3, 0.2, "ms", note)

    return measure


PARALLEL = """units metal
atom_style atomic
read_data {folder}/{data}
mass 1 28.0855
plugin load {folder}/composerplugin.so
pair_style composer {folder}/potential.txt
pair_coeff * * Si
velocity all create 300 11 loop all
fix 1 all nve
timestep 0.001
neigh_modify delay 0 every 1 check yes
thermo 100
run 100
write_dump all custom {folder}/dump.{run} id xu yu zu fx fy fz modify sort id format float %.15g
"""


def processes(name: str, repeats: int) -> Row:
    """Time of 100 steps with two processes / one, and the largest difference of the last frames.

    Beside it what the two cores reach now: two jobs that know nothing of each other, half of the atoms each.
    """
    atoms = _crystal("Si", "diamond", 5.431, (20, 20, 20))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        export(models.stillinger_weber(), folder, target="lammps")
        ase.io.write(folder / "data", atoms, format="lammps-data", specorder=["Si"])
        ase.io.write(folder / "half", _crystal("Si", "diamond", 5.431, (20, 20, 10)), format="lammps-data", specorder=["Si"])
        timers = {f"{n}": (lambda n=n: _loop_time(_started(folder, f"{n}", ranks=n))) for n in (1, 2)}
        timers["apart"] = lambda: max(map(_loop_time, [_started(folder, f"half{n}", "half") for n in (1, 2)]))
        times = interleave(timers, max(repeats // 3, 1), pin=False)
        one, two = (_frame(folder / f"dump.{n}") for n in (1, 2))
    apart = float((np.abs(two - one) / np.abs(one).max(0)).max())
    note = f"{len(atoms)} atoms, NVE; the last frames differ by {apart:.1e} (positions and forces, relative); "
    note += f"two jobs with half of the atoms each, apart: {times['apart'] / times['1']:.2f}; work that shares nothing runs {independent_speedup():.2f} times as fast"
    return Row(name, times["2"], times["1"], 0.6, "s", note)


def _started(folder: Path, run: str, data: str = "data", ranks: int = 1) -> subprocess.Popen[str]:
    (folder / f"in.{run}").write_text(PARALLEL.format(folder=folder, run=run, data=data))
    start = [f"{sys.prefix}/bin/mpiexec", "-n", str(ranks)] if ranks > 1 else []
    command = [*start, f"{sys.prefix}/bin/lmp", "-in", str(folder / f"in.{run}"), "-log", "none", "-nocite"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _loop_time(job: subprocess.Popen[str]) -> float:
    said = job.communicate()[0]
    found = re.search(r"Loop time of (\S+)", said)
    if found is None:
        raise ValueError(f"The log of LAMMPS was asked for its loop time. It says:\n{said[-2000:]}\nCheck the LAMMPS version.")
    return float(found[1])


def _frame(path: Path) -> np.ndarray:
    rows = path.read_text().rpartition("ITEM: ATOMS")[2].splitlines()[1:]
    return np.array([row.split() for row in rows], dtype=float)


def drift(name: str, repeats: int) -> Row:
    """Slope of the energy over 10,000 steps of 1 fs at 300 K through LAMMPS."""
    with tempfile.TemporaryDirectory() as folder:
        model = models.stillinger_weber()
        style = exported(model, folder)
        atoms = _crystal("Si", "diamond", 5.431, (3, 3, 3))
        slope = Lammps(model.species, style.commands).drift(atoms, steps=10_000, temperature=2 * TEMPERATURE)
    return Row(name, abs(slope), None, 1e-6, "eV/atom/ps", f"{len(atoms)} atoms, from 600 K at a minimum: 300 K afterwards")


COLD = """
import composer, terms
from composer.export import export
model = composer.compile(terms.ZBL() + terms.Pair(cutoff=6.0) + terms.ThreeBody(cutoff=4.5) * (1 + terms.Density(cutoff=5.0)), ["Si"], quiet=True)
model.save("model.composer")
"""


def cold(name: str, repeats: int) -> Row:
    """Seconds from a model file to the first step in LAMMPS, with no library in any cache: composer export, then lmp."""
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "COMPOSER_CACHE": f"{place}/cache", "PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run([sys.executable, "-c", COLD], cwd=place, env=environment, check=True)
        ase.io.write(Path(place, "data"), _crystal("Si", "diamond", 5.431, (4, 4, 4)), format="lammps-data", specorder=["Si"])
        text = "units metal\natom_style atomic\nread_data data\nmass 1 28.0855\ninclude nb/potential.lmp\nfix 1 all nve\nrun 1\n"
        Path(place, "in.md").write_text(text)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "composer.cli", "export", "model.composer", "nb"],
            cwd=place,
            env=environment,
            check=True,
            capture_output=True,
        )
        subprocess.run([f"{sys.prefix}/bin/lmp", "-in", "in.md"], cwd=place, env=environment, check=True, capture_output=True)
        spent = time.perf_counter() - start
    return Row(name, spent, None, 60.0, "s", "ZBL + pair + three-body * (1 + density), kernels, library, plugin, checks and the first step")


CASES: dict[str, Callable[[str, int], Row]] = {
    "SW, 32,000 atoms, MD step / native": whole_step(
        _crystal("Si", "diamond", 5.431, (20, 20, 10)), models.stillinger_weber, peers_lammps.sw(), 0.8
    ),
    "EAM, 32,000 atoms, MD step / native": whole_step(
        _crystal("Cu", "fcc", 3.615, (20, 20, 20)), models.embedded_atom, peers_lammps.eam(), 0.8
    ),
    "MPI, 64,000 atoms, 100 steps, 2 processes / 1": processes,
    "drift, 10,000 steps": drift,
    "expression to LAMMPS, cold": cold,
}
