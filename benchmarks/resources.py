"""What the kernels cost beside plain force calls: Jacobians, many small cells, memory, threads, compiling, importing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.build
import numpy as np
from ase import Atoms

from benchmarks import hand_written, models, peers_lammps, systems
from benchmarks.timing import Row, independent_speedup, interleave, one_core, wall
from composer.runtime.threads import set_threads

SCRIPT = """
import time
from terms import ZBL, Density, Pair, ThreeBody
from composer.model import Model
import ase.build, torch
atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True)
expr = ZBL() + Pair(cutoff=6.0, n_max=10) + ThreeBody(cutoff=4.5, n_max=4, l_max=5) * (1 + Density(cutoff=5.0, n_max=2))
start = time.perf_counter()
model = Model(expr, ["Si"])
model.build(model.prepare(atoms))
print(time.perf_counter() - start)
"""
IMPORT = "import time; start = time.perf_counter(); import composer; print(time.perf_counter() - start)"


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """Measure the cases whose name contains `only`, one row each."""
    for name, measure in CASES.items():
        if only.lower() in name.lower():
            yield measure(name, repeats)


def unseen(name: str, repeats: int) -> Row:
    """A bond-order term with two cutoffs and three species / the same by hand in C++."""
    model = hand_written.model()
    batch = model.prepare([hand_written.crystal()], skin=0.5)
    call = hand_written.by_hand(model, batch)
    times = interleave({"ours": wall(lambda: model(batch), 5), "peer": wall(call, 5)}, repeats)
    return Row(name, times["ours"] * 1e3, times["peer"] * 1e3, 2.0, "ms", f"{batch.atoms} atoms, same list, same compiler and flags")


def jacobian(name: str, repeats: int) -> Row:
    """Jacobian of energy, forces and virial by P = 75 numbers / P force calls."""
    model = models.three_body()
    batch = model.prepare([systems.molybdenum((8, 8, 8))], skin=0.5)
    times = interleave({"ours": wall(lambda: model.jacobian(batch)), "peer": wall(lambda: model(batch), 5)}, repeats)
    return Row(name, times["ours"] * 1e3, times["peer"] * 1e3 * model.size, 0.25, "ms", f"{batch.atoms} atoms, P = {model.size}")


def small_cells(name: str, repeats: int) -> Row:
    """Time per atom: 200 structures of 50 atoms in one Batch / 10,000 atoms in one structure."""
    model = models.embedded_atom()
    cell = ase.build.bulk("Cu", "fcc", a=3.615) * (5, 5, 2)
    many = [_shaken(cell, seed) for seed in range(200)]
    small, large = model.prepare(many, skin=0.5), model.prepare([_shaken(cell * (5, 4, 10), 0)], skin=0.5)
    times = interleave({"ours": wall(lambda: model(small), 5), "peer": wall(lambda: model(large), 5)}, repeats)
    per_atom = {k: times[k] / n * 1e9 for k, n in (("ours", small.atoms), ("peer", large.atoms))}
    return Row(name, per_atom["ours"], per_atom["peer"], 1.2, "ns/atom", f"EAM copper; {small.ghosts} and {large.ghosts} ghosts")


def memory(name: str, repeats: int) -> Row:
    """Peak memory of an energy and force call on a million atoms above inputs and outputs."""
    model = models.lennard_jones()
    batch = model.prepare([systems.argon(63)], skin=0.5)
    model(model.prepare([systems.argon(4)], skin=0.5))  # kernels are built before the measurement
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    result = model(batch)
    outputs = 8 * (result.energy.numel() + result.forces.numel() + result.virial.numel())
    extra = (_resident("VmHWM") - before - outputs) / batch.atoms
    return Row(name, extra, None, 200.0, "bytes/atom", f"{batch.atoms} atoms, {batch.ghosts} ghosts, {batch.index.numel()} listed pairs")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def threads(name: str, repeats: int) -> Row:
    """Time on two threads / one thread, against what work that shares nothing reaches on this machine in the same run."""
    model = models.stillinger_weber()
    batch = model.prepare([systems.silicon(23)], skin=1.0)

    def on(count: int) -> Callable[[], object]:
        def call() -> object:
            set_threads(count)
            return model(batch)

        return call

    times = interleave({"one": wall(on(1), 2), "two": wall(on(2), 2)}, repeats, pin=False)
    set_threads(1)
    reached = independent_speedup(2, repeats)
    note = f"{batch.atoms} atoms; two threads take {times['two'] / times['one']:.3f} of one, independent work {1 / reached:.3f}"
    return Row(name, times["two"] / times["one"], 1 / reached, 1.15, "t2/t1", note)


def older_processor(name: str, repeats: int) -> Row:
    """Stillinger-Weber built for any x86-64 processor since 2009 / LAMMPS sw."""
    atoms = systems.silicon()
    os.environ["COMPOSER_MARCH"] = "x86-64-v2"
    try:
        model = models.stillinger_weber()
        batch = model.prepare([atoms], skin=1.0)
        model(batch)
    finally:
        del os.environ["COMPOSER_MARCH"]
    with peers_lammps.Anchor(atoms, peers_lammps.sw(), 1.0) as anchor:
        times = interleave({"ours": wall(lambda: model(batch), 20), "peer": lambda: anchor.pair_seconds(20)}, repeats)
    return Row(name, times["ours"] * 1e3, times["peer"] * 1e3, None, "ms", "no bar; -march=x86-64-v2")


def compiling(name: str, repeats: int) -> Row:
    """All kernels of the script's expression from nothing: symbolic work, code and compiler."""
    with tempfile.TemporaryDirectory() as folder:
        return Row(name, _seconds(SCRIPT, folder), None, 10.0, "s", "forces, energies, parameters, gradient, tangent, columns; all cores")


def cached(name: str, repeats: int) -> Row:
    """The same from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        _seconds(SCRIPT, folder)
        return Row(name, min(_seconds(SCRIPT, folder) for _ in range(3)), None, 0.2, "s", "a new process")


def importing(name: str, repeats: int) -> Row:
    return Row(name, float(np.median([_seconds(IMPORT, "") for _ in range(5)])), None, 0.5, "s", "no torch until it is needed")


def _seconds(script: str, cache: str) -> float:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])} | ({"COMPOSER_CACHE": cache} if cache else {})
    with one_core() if not cache else tempfile.TemporaryDirectory():
        run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return float(run.stdout)


def _shaken(atoms: Atoms, seed: int) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).uniform(-0.1, 0.1, atoms.positions.shape)
    return atoms


CASES: dict[str, Callable[[str, int], Row]] = {
    "unseen bond order, 3 species / by hand": unseen,
    "SW 4096, x86-64-v2 build / sw": older_processor,
    "Jacobian P = 75 / P force calls": jacobian,
    "200 x 50 atoms / 10,000 atoms": small_cells,
    "two threads, SW 100k / one thread": threads,
    "kernels of the script, cold": compiling,
    "kernels of the script, from cache": cached,
    "import composer": importing,
    "memory, LJ 1,000,000": memory,
}
