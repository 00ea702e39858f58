"""The memory of this machine."""

from __future__ import annotations

import os


def installed() -> float:
    """Bytes of memory of the machine; unlimited where it does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return float("inf")
