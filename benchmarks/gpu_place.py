"""Where the benchmarks of GPUs run: a device, its clock and its graphs. On the CPU (in tests) the same rows run small, with a given builder."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from benchmarks.timing import Row
from composer.model import Model
from composer.model.device import DeviceModel
from composer.runtime.launch import Builder


@dataclass(frozen=True)
class Place:
    """A device for kernels; build compiles them (None: NVRTC); crystals have at most so many cells along an edge."""

    device: str = "cuda"
    build: Builder | None = None
    cells: int = 1000

    @property
    def missing(self) -> str:
        """Why nothing can be measured here, if so."""
        return "no GPU: torch finds none" if self.device == "cuda" and not torch.cuda.is_available() else ""

    @property
    def name(self) -> str:
        """What the device is."""
        if self.device == "cpu":
            return "CPU"
        card = torch.cuda.get_device_properties(0)
        return f"{card.name}, {card.multi_processor_count} multiprocessors, {card.total_memory / 2**30:.0f} GiB"

    def model(self, model: Model, deterministic: bool = False) -> DeviceModel:
        """The model on the device, in float32."""
        return DeviceModel(model, self.device, "float32", deterministic, self.build)

    def numbers(self, many: int, few: int = 64) -> int:
        """`many`, or few where a CPU stands in."""
        return many if self.device == "cuda" else min(many, few)

    def seconds(self, work: Callable[[], object], repeats: int, inner: int = 5) -> float:
        """Median seconds of `work` on the device, by its events."""
        found = []
        for round_ in range(repeats + 1):
            clock = self._events() if self.device == "cuda" else _wall()
            for _ in range(inner):
                work()
            if round_:
                found.append(clock() / inner)
            else:
                clock()
        return statistics.median(found)

    def _events(self) -> Callable[[], float]:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()

        def read() -> float:
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3

        return read

    def captured(self, step: Callable[[], object]) -> Callable[[], object]:
        """The replay of a step that was captured in a CUDA graph; the step itself on a CPU."""
        if self.device == "cpu":
            return step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def forget(self) -> bool:
        """Give memory back that no tensor holds; whether the device still answers."""
        if self.device == "cuda":
            try:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
            except RuntimeError:  # after an illegal access nothing works in this process
                return False
        return True


@cache
def copy_rate(here: Place) -> float:
    """Bytes read and written in a second by a copy of 2 GB."""
    a = torch.empty(here.numbers(2**29), device=here.device)
    b = torch.empty_like(a)
    return 2 * a.nbytes / here.seconds(lambda: b.copy_(a), 5)


def matrix_rate(here: Place, repeats: int) -> tuple[float, int]:
    """Operations in a second of a product of float32 matrices, and their size."""
    size = here.numbers(8192)
    a = torch.randn(size, size, device=here.device)
    return 2 * size**3 / here.seconds(lambda: a @ a, repeats), size


def elsewhere(row: Row, repeats: int, seconds: float) -> Row:
    """The row, measured by a process of its own within so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks", "gpu", "--only", f"={row.case}", "--repeats", str(repeats), "--json", str(path)]
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=seconds).stderr
        except subprocess.TimeoutExpired:
            said = f"no time is left, {seconds:.0f} s"
        if not path.exists():
            return replace(row, note=f"in a process of its own: {said.strip().rpartition(chr(10))[2]}")
        found = json.loads(path.read_text())
        (numbers,) = found["rows"]
        note = f"{found['notes'][row.case]}; in a process of its own"
        return replace(row, ours=numbers["ours"], peer=numbers["peer"], note=note)


def side_by_side(works: Sequence[Callable[[], object]]) -> list[float]:
    """Do all of them, on as many threads as there are cores; the seconds of each, also of one that fails."""

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        with suppress(Exception):
            work()
        return time.perf_counter() - start

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(seconds, works))


def _wall() -> Callable[[], float]:
    start = time.perf_counter()
    return lambda: time.perf_counter() - start


__all__ = ["Place", "copy_rate", "elsewhere", "matrix_rate", "side_by_side"]
