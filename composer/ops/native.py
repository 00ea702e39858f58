"""The compiled sums of `kernels/`, called on tensors."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from composer.codegen.cpp import SPECIAL
from composer.ops.sites import Moves, Sites, Values, zeros
from composer.ops.splits import Split
from composer.runtime import threads
from composer.runtime.build import library

PARTS = ("splits", "waves", "slab", "pairs", "mesh", "calls")  # of one translation unit, in this order
_P, _I, _D = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double


class _Split(ctypes.Structure):
    """A split in numbers, with the cutoff of a sum (Å in real space, 1/Å in k space)."""

    _fields_ = (*((n, _D) for n in ("p", "sigma", "cutoff", "reach", "band")), ("near", _P), ("far", _P), ("terms", _I))


def _numbers(split: Split, cutoff: float) -> _Split:
    if split.tables is None:
        return _Split(split.p, split.width, cutoff)
    near, far = split.tables  # kept by the split
    return _Split(split.p, 0.0, cutoff, split.reach, split.band, near.ctypes.data, far.ctypes.data, len(near))


_TENSORS = ("x", "xd", "h", "hd", "u", "ud", "phi", "phid", "gx", "gxd", "gh", "ghd")


class _Call(ctypes.Structure):
    _fields_ = (
        [("split", _Split)]
        + [(n, _I) for n in ("structures", "order", "slopes", "threads")]
        + [("offsets", _P)]
        + [(n, _P) for n in _TENSORS]
        + [("constant", _D), ("own", _D)]
        + [(n, _P) for n in ("size", "mesh", "meshd", "strain", "straind", "ghost_offsets", "first", "index", "owner", "shift", "open", "length", "nodes", "weights", "lines")]
    )  # fmt: skip


@functools.cache
def compiled() -> ctypes.CDLL:
    """The library, built on first use."""
    folder = Path(__file__).with_name("kernels")
    built = library(SPECIAL + "\n".join((folder / f"{part}.cpp").read_text(encoding="utf-8") for part in PARTS))
    for name in ("ewald", "direct", "short_range", "slab_cell", "slab", "mesh_influence", "mesh_spread", "mesh_gather"):
        getattr(built, name).argtypes, getattr(built, name).restype = [ctypes.POINTER(_Call)], None
    built.split_values.argtypes, built.split_values.restype = [ctypes.POINTER(_Split), _I, _I, _P, _P], None
    built.spline_values.argtypes, built.spline_values.restype = [_I, _D, _P, _P], None
    return built


@dataclass
class Call:
    """Calls on one set of arguments, which are kept alive; with moves everything carries a derivative."""

    split: Split
    sites: Sites
    u: Tensor
    moves: Moves | None
    slopes: bool
    cutoff: float = 0.0
    order: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        s, m = self.sites, self.moves
        given = {"x": s.x, "h": s.h, "u": self.u} | ({} if m is None else {"xd": m.x, "hd": m.h, "ud": m.u})
        self.arguments = _Call(
            split=_numbers(self.split, self.cutoff), structures=s.structures, order=self.order, slopes=int(self.slopes),
            threads=threads.count(), constant=self.split.background, own=self.split.own,
        )  # fmt: skip
        self.point(offsets=s.offsets.contiguous(), **{n: _dense(t) for n, t in given.items()})

    def point(self, **tensors: Tensor) -> None:
        """Let arguments of the call be these tensors, which are kept alive."""
        self.tensors |= tensors
        for name, tensor in tensors.items():
            setattr(self.arguments, name, tensor.data_ptr())

    @functools.cached_property
    def outputs(self) -> tuple[Values, Values | None]:
        """What the functions of the library add to: zeros at first."""
        return zeros(self.sites), None if self.moves is None else zeros(self.sites)

    def run(self, name: str, values: Values | None = None, along: Values | None = None) -> tuple[Values, Values | None]:
        """Call a function of the library; what it adds to may be given."""
        if values is not None:
            self.outputs = values, along
        values, along = self.outputs
        self.point(phi=values.phi, gx=values.x, gh=values.h)
        if along is not None:
            self.point(phid=along.phi, gxd=along.x, ghd=along.h)
        getattr(compiled(), name)(ctypes.byref(self.arguments))
        return self.outputs


def split_values(split: Split, kind: int, at: np.ndarray) -> np.ndarray:
    """V_LR(r), V_SR(r) or vhat_LR(k) for kind 0, 1, 2 and their slopes by r^2 or k^2 for 3, 4, 5, at r (Å) or k (1/Å)."""
    at = np.ascontiguousarray(at, float)
    out = np.empty_like(at)
    compiled().split_values(ctypes.byref(_numbers(split, 0.0)), kind, at.size, at.ctypes.data, out.ctypes.data)
    return out


def spline_values(order: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and their slopes [order] of an atom that stands a fraction of the spacing beyond a mesh point."""
    weights, slopes = np.empty(order), np.empty(order)
    compiled().spline_values(order, fraction, weights.ctypes.data, slopes.ctypes.data)
    return weights, slopes


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 and tensor.is_contiguous() else tensor.detach().to(torch.float64).contiguous()
