"""How many threads the kernels use."""

from __future__ import annotations

import os

from composer.errors import BackendError

_count: int | None = None


def set_threads(count: int) -> None:
    """Use `count` threads in all kernels of this process (default: OMP_NUM_THREADS, else the cores of the machine)."""
    global _count
    if not isinstance(count, int) or count < 1:
        raise BackendError(f"{count!r} threads were asked for. The number must be a whole number >= 1. Write composer.set_threads(2).")
    _count = count


def count() -> int:
    """The number of threads in use."""
    if _count is not None:
        return _count
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else len(os.sched_getaffinity(0))
