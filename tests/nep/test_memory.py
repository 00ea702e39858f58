"""T8 of `theory/nep.md`: memory of a training step, as its arrays are allocated; no clock, no size of a process."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import torch
from ase.build import bulk
from torch.profiler import ProfilerActivity, profile

import composer
from composer.data import Frame
from composer.fit.adam import Adam
from composer.fit.loss import slope
from composer.fit.training import Recipe
from composer.runtime.kernel import BLOCKS
from terms import NEP

EACH = 700  # bytes for each atom, of 10 kB that are allowed
COPIES = BLOCKS + 4  # of the numbers: gradients of blocks of atoms, whatever their number, and their sum


def peak(work: Callable[[], object]) -> int:
    """Bytes that torch and NumPy hold at most, each by its own account, while something runs."""
    tracemalloc.start()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    by_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    held = torch.tensor([e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]).cumsum(0)
    return int(held.max()) + by_numpy


def test_t8_memory_for_each_atom_does_not_depend_on_the_numbers() -> None:
    """A step of Adam on 512 and 1728 atoms, with 97 and with 1,131 numbers: so much for each atom, and so much for each number."""
    for neurons in (6, 100):
        term = NEP(cutoff=(5, 4), n_max=(2, 2), basis=(4, 4), l_max=(2, 0, 0), neurons=neurons)
        model = composer.compile(term, ["Si"], quiet=True)
        for repeats in (4, 6):
            atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeats, repeats, repeats)
            atoms.rattle(0.05, seed=0)
            forces = model(atoms).forces.numpy()
            work = Adam(model, [Frame(tuple(atoms.symbols), atoms.positions, atoms.cell[:], atoms.pbc, 0.0, 0.5 * forces)], [], Recipe())

            def step(work: Adam = work) -> None:
                slope(work.model, work.batches[0][1], work.misses(work.model, work.batches[0], 1)[0])

            peak(step)  # takes what is made once
            taken = peak(step)
            assert 100 * len(atoms) < taken < EACH * len(atoms) + 8 * COPIES * len(model.flat), (len(atoms), model.size, taken)
