"""Long-range sums on the GPU of this machine, in plain torch and float32 (acceptance 38 of long range): perturbed rock salt at a force error of 1e-4."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch

from benchmarks import peers_longrange
from benchmarks.gpu_place import Place
from benchmarks.longrange import Salt, asked, error
from benchmarks.timing import Row
from composer import longrange


@cache
def ions(n: int, device: str) -> tuple[Callable[[], object], int, str]:
    """A call that gives potentials, energy, forces and virial of 8 n^3 ions on the device; their number, and how they are summed."""
    x, q, h = Salt(n).tensors()
    exact = longrange.prepare(x, h, accuracy=1e-8).evaluate(x, q, h).forces.numpy()
    accuracy = asked(exact, q, h)
    x, q, h = x.to(device, torch.float32), q.to(device), h.to(device)
    sums = longrange.prepare(x, h, accuracy=accuracy, net="background", plain=True)
    found = error(sums.evaluate(x, q, h).forces.double().cpu().numpy(), exact)
    return lambda: sums.evaluate(x, q, h), len(q), f"{sums.describe().splitlines()[1].strip()}, error {found:.1e}"


def ions_row(n: int, here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Milliseconds of a call."""
    call, count, how = ions(min(n, here.cells), here.device)
    time = here.seconds(call, repeats, 5)
    return Row(name, time * 1e3, None, bar, unit, f"{count} ions, {time / count * 1e9:.1f} ns each; {how}")


def graph_row(n: int, here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """Milliseconds of a call that was captured once and is replayed."""
    call, count, how = ions(min(n, here.cells), here.device)
    time, eager = here.seconds(here.captured(call), repeats, 50), here.seconds(call, repeats, 5)
    return Row(name, time * 1e3, None, bar, unit, f"{count} ions, {eager * 1e3:.2f} ms without a graph; {how}")


def torch_pme_row(n: int, here: Place, name: str, bar: float | None, unit: str, repeats: int) -> Row:
    """The same ions by torch-pme, in float64, with forces and virial by autograd."""
    if not peers_longrange.present("torchpme"):
        raise FileNotFoundError("torch-pme is not installed: pip install torch-pme")
    x, q, side = Salt(min(n, here.cells)).arrays()
    mesh = 2 ** math.ceil(math.log2(side))
    with torch.device(here.device):
        peer = peers_longrange.TorchPme(x, q, side, min(10.0, side / 2), 0.3305, 5, mesh)
        time = here.seconds(peer, repeats, 1)
    ours = here.seconds(ions(min(n, here.cells), here.device)[0], repeats, 1)
    return Row(name, time * 1e3, ours * 1e3, bar, unit, f"P3M, 5 nodes, mesh {mesh}, cutoff 10 Å; the peer is ours")
