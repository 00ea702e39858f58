"""The compiled parts that every model shares: packing of neighbour rows, ghost positions, sums over ghosts."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from composer.runtime.build import library

_POINTER, _COUNT, _FLAG, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double

_ARGUMENTS = {
    "packing_open": [_COUNT, _COUNT, _POINTER, _POINTER, _FLAG, _POINTER],
    "packing_close": [_COUNT, _POINTER, _COUNT, _COUNT, _COUNT, _POINTER, _POINTER, _POINTER, _POINTER],
    "all_positions": [_COUNT, _COUNT, _COUNT] + [_POINTER] * 6,
    "fold": [_COUNT, _COUNT, _COUNT, _COUNT] + [_POINTER] * 4,
    "virial": [_COUNT, _COUNT, _COUNT] + [_POINTER] * 5,
    "overlap": [_COUNT, _COUNT, *[_POINTER] * 3, _REAL],
    "moved": [_COUNT, _COUNT] + [_POINTER] * 5,
}


@functools.cache
def support() -> ctypes.CDLL:
    """The library of `support.cpp`, built without fast-math so that it can see NaN.

    Errors: BackendError when it cannot be built.
    """
    source = Path(__file__).with_name("support.cpp").read_text(encoding="utf-8")
    built = library(source, fast_math=False)
    for name, arguments in _ARGUMENTS.items():
        function = getattr(built, name)
        function.argtypes = arguments
        function.restype = {"packing_open": _POINTER, "overlap": _COUNT, "moved": _FLAG}.get(name)
    return built
