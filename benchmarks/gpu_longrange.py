"""Long-range sums on the GPU of this machine, in plain torch and float32 (acceptance 38 of long range): perturbed rock salt at a force error of 1e-4."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.longrange import Salt, asked, error
from benchmarks.timing import Row
from composer import longrange

DEVICE = "cuda"
Seconds = Callable[[Callable[[], object], int, int], float]


def ions(n: int) -> tuple[Callable[[], object], int, str]:
    """A call that gives potentials, energy, forces and virial of 8 n^3 ions on the device; their number, and how they are summed."""
    x, q, h = Salt(n).tensors()
    exact = longrange.prepare(x, h, accuracy=1e-8).evaluate(x, q, h).forces.numpy()
    accuracy = asked(exact, q, h)
    x, q, h = x.to(DEVICE, torch.float32), q.to(DEVICE), h.to(DEVICE)
    sums = longrange.prepare(x, h, accuracy=accuracy, net="background", plain=True)
    found = error(sums.evaluate(x, q, h).forces.double().cpu().numpy(), exact)
    return lambda: sums.evaluate(x, q, h), len(q), f"{sums.describe().splitlines()[1].strip()}, error {found:.1e}"


def ions_row(n: int, seconds: Seconds, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Milliseconds of a call."""
    call, count, how = ions(n)
    time = seconds(call, repeats, 5)
    return Row(name, time * 1e3, None, bar, unit, f"{count} ions, {time / count * 1e9:.1f} ns each; {how}")


def graph_row(n: int, seconds: Seconds, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Milliseconds of a call that was captured once and is replayed."""
    call, count, how = ions(n)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    time, eager = seconds(graph.replay, repeats, 50), seconds(call, repeats, 5)
    return Row(name, time * 1e3, None, bar, unit, f"{count} ions, {eager * 1e3:.2f} ms without a graph; {how}")
