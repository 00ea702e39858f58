"""Interleaved timing on one pinned thread, and the row that states a result.

Importing this module fixes the number of OpenMP threads, so it must come before numpy, torch and LAMMPS.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # idle threads must not spin on the core that is measured

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

Timer = Callable[[], float]
"""Does some work and returns its seconds per evaluation, by its own clock."""


@dataclass(frozen=True)
class Row:
    """One measured line: `ratio` = ours / peer and should be at most `bar`; without a peer, `ours` should be.

    `ours` and `peer` are in `unit`. Any of the three numbers may be None: not measured, no peer, no bar.
    """

    case: str
    ours: float | None
    peer: float | None
    bar: float | None
    unit: str
    note: str = ""  # what a reader must know beside the numbers: lists, settings

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None if there is nothing to compare."""
        value = self.ratio if self.peer is not None else self.ours
        return None if value is None or self.bar is None else value <= self.bar

    def as_json(self) -> dict[str, Any]:
        return {"case": self.case, "ours": self.ours, "peer": self.peer, "ratio": self.ratio, "bar": self.bar, "unit": self.unit}


def wall(work: Callable[[], object], inner: int = 1) -> Timer:
    """Return a timer that runs `work` `inner` times and reads the wall clock."""

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(inner):
            work()
        return (time.perf_counter() - start) / inner

    return seconds


@contextmanager
def one_core() -> Iterator[None]:
    """Keep the calling thread on one core, where the system can; threads started inside inherit it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})  # the last core: the first serves most interrupts
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def interleave(timers: Mapping[str, Timer], repeats: int = 9, pin: bool = True) -> dict[str, float]:
    """Return the median seconds of each timer over `repeats` rounds.

    In every round each timer runs once, so that a slow phase of the machine meets all of them; one round before warms up.
    """
    samples: dict[str, list[float]] = {name: [] for name in timers}
    with one_core() if pin else nullcontext():
        for timer in timers.values():
            timer()
        for _ in range(repeats):
            for name, timer in timers.items():
                samples[name].append(timer())
    return {name: statistics.median(values) for name, values in samples.items()}


@cache
def cpu() -> tuple[str, frozenset[str]]:
    """Return the name of the processor and its feature flags, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, frozenset((facts.get("flags") or facts.get("Features") or "").split())


def independent_speedup(threads: int = 2, repeats: int = 9) -> float:
    """Return how much faster `threads` threads finish work that shares nothing: what the machine itself can reach now."""
    import numpy as np

    def work() -> None:
        x = np.linspace(0.0, 1.0, 8192)  # fits the first cache; numpy releases the interpreter lock inside each call
        for _ in range(400):
            np.sin(x, out=x)

    def together() -> None:
        team = [Thread(target=work) for _ in range(threads)]
        for member in team:
            member.start()
        for member in team:
            member.join()

    seconds = interleave({"one": wall(work), "many": wall(together)}, repeats, pin=False)
    return threads * seconds["one"] / seconds["many"]
