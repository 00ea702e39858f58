"""Reading the arguments of a long-range sum: shapes, cells, powers and what is refused."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from composer.errors import DataError
from composer.ops.sites import Sites
from composer.ops.splits import FINEST

F64 = torch.float64


def read_sites(positions: Tensor, cell: Tensor | None, periodic: Any, offsets: Tensor | None) -> Sites:
    """The sites that arguments of `prepare` state, on the host; DataError where these are no tensors, or shapes do not fit."""
    for name, given in (("positions", positions), ("cell", cell)):
        if not isinstance(given, Tensor) and (name == "positions" or given is not None):
            raise DataError(
                "A long-range sum was asked for",
                f"The {name} are of the type {type(given).__name__}",
                f"Pass torch.tensor({name}, dtype=torch.float64)",
            )
    if positions.dim() != 2 or positions.shape[1] != 3:
        raise DataError("A long-range sum was asked for", f"Positions have the shape {list(positions.shape)}", "Pass [atoms, 3]")
    offsets = torch.tensor([0, len(positions)]) if offsets is None else torch.as_tensor(offsets, dtype=torch.int64, device="cpu")
    count = len(offsets) - 1
    if count < 1 or int(offsets[0]) != 0 or int(offsets[-1]) != len(positions) or bool((offsets.diff() < 0).any()):
        raise DataError(
            "A long-range sum over several structures was asked for",
            f"The offsets {offsets.tolist()} do not divide {len(positions)} atoms",
            "Pass offsets that rise from 0 to the number of atoms",
        )
    pbc = torch.as_tensor(cell is not None if periodic is None else periodic, dtype=torch.bool, device="cpu")
    pbc = pbc.expand(count, 3).contiguous() if pbc.dim() < 2 else pbc
    h = torch.zeros(count, 3, 3, dtype=F64) if cell is None else cell.detach().to("cpu", F64)
    if h.numel() != 9 * count:
        raise DataError(
            f"A long-range sum over {count} structures was asked for", f"The cell has the shape {list(h.shape)}", f"Pass [{count}, 3, 3]"
        )
    return Sites(positions.detach().to("cpu", F64).contiguous(), h.reshape(count, 3, 3).contiguous(), pbc, offsets)


def check(sites: Sites, p: float, method: str, accuracy: float, split: str, net: str, given: Tensor) -> None:
    """DataError for options and numbers with which no sum can be made; `given` are the positions as they came."""
    if not 0 < p < math.inf:
        raise DataError(f"The sum of 1/r^{p} was asked for", "The power must be above zero", "Write p=1 for charges, p=6 for dispersion")
    if method not in ("auto", "direct", "ewald", "mesh"):
        raise DataError(f"The method {method!r} was asked for", "Known are auto, direct, ewald and mesh", 'Write method="auto"')
    if split not in ("auto", "gaussian", "prolate") or (split == "prolate" and (p != 1 or accuracy < FINEST)):
        raise DataError(
            f"The split {split!r} of 1/r^{p:g} was asked for at an accuracy of {accuracy:g}",
            f"Known are auto, gaussian, and prolate for p = 1 and accuracies from {FINEST:g}",
            'Write split="auto"',
        )
    if net not in ("warn", "background", "refuse"):
        raise DataError(f"net={net!r} was asked for", "Known are warn, background and refuse", 'Write net="background"')
    least = 1e-14 if given.dtype == F64 else 1e-6
    if not least <= accuracy <= 0.1:
        raise DataError(
            f"A relative accuracy of {accuracy} was asked for",
            f"With positions in {str(given.dtype).removeprefix('torch.')} it lies between {least:g} and 0.1",
            "Ask for one within, or pass float64",
        )
    if not bool(torch.isfinite(sites.x).all()):
        atom = int(torch.isfinite(sites.x).all(1).int().argmin())
        raise DataError(
            "A long-range sum was asked for", f"Atom {atom} stands at {sites.x[atom].tolist()}", "Give all atoms finite positions"
        )
    for s in range(sites.structures):
        axes = sites.h[s][sites.pbc[s]]
        sizes = torch.linalg.svdvals(axes) if len(axes) and bool(torch.isfinite(axes).all()) else None
        if len(axes) and (sizes is None or not float(sizes[-1]) > 1e-8 * float(sizes[0])):
            raise DataError(
                "A long-range sum over a periodic structure was asked for",
                f"The periodic vectors of structure {s} span no volume: {sites.h[s].tolist()}",
                "Give it a cell, or leave the cell out",
            )
        if len(axes) == 1 and (not p >= 1 or split == "prolate"):
            raise DataError(
                f"The sum of 1/r^{p:g} over a wire was asked for with split={split!r}",
                "Wires (one periodic direction) are known for p >= 1 and the Gaussian split",
                'Write split="auto", or give the cell three periodic directions with enough vacuum',
            )
        if len(axes) == 2 and p != 1 and not p > 3:
            raise DataError(
                f"The sum of 1/r^{p:g} over a slab was asked for",
                "Slabs (two periodic directions) are known for p = 1 and p > 3",
                "Give the cell a third periodic direction with enough vacuum",
            )


def volume_cell(sites: Sites, s: int) -> Tensor:
    """The cell, with open directions of a slab or wire closed around its atoms: what densities refer to."""
    h, axes = sites.h[s].clone(), sites.h[s][sites.pbc[s]]
    x = sites.x[sites.offsets[s] : sites.offsets[s + 1]]
    normals = torch.linalg.svd(axes)[2][len(axes) :]  # of the periodic line or plane, [open, 3]
    for axis, normal in zip((~sites.pbc[s]).nonzero().flatten().tolist(), normals):
        z = x @ normal
        h[axis] = normal * (float(z.max() - z.min()) + 2.0 if len(z) else 2.0)
    return h
