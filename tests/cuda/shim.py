"""CUDA text as C++: the same kernels, thread after thread, on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from composer.runtime.build import library
from composer.runtime.launch import Launch

WORDS = Path(__file__).with_name("shim.h").read_text()
RUN = """
extern "C" void run_{0}(const {1}* a, int blocks, int threads) {{
  gridDim.x = blocks, blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) {0}(*a);
}}
"""


def shim(source: str, names: Sequence[str]) -> list[Launch]:
    """Compile CUDA text with the C++ compiler; a launch runs all threads, one after the other."""
    arguments = "ListArgs" if "struct ListArgs" in source else "Args"
    text = WORDS + source.replace('extern "C" __global__', "__global__") + "".join(RUN.format(n, arguments) for n in names)
    built = library(text, openmp=False, fast_math=False, extra=("-O0",))
    return [partial(_run, getattr(built, f"run_{n}")) for n in names]


def _run(function: Callable[..., None], args: ctypes.Structure, blocks: int, threads: int) -> None:
    function(ctypes.byref(args), blocks, threads)
