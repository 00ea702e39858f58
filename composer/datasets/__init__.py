"""Sets of reference data that ship with the package; see README.md in this folder for origin, settings and licence."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the shipped sets, for `composer.read_data(name)`."""
    return sorted(path.name for path in FOLDER.glob("*.xyz.xz"))


def find(name: str) -> Path | None:
    """Path of a shipped set, or None. Arguments: name, for example "silicon.xyz.xz" or "silicon"."""
    return next((FOLDER / known for known in names() if name in (known, known.split(".")[0])), None)
