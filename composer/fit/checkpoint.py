"""Checkpoints of a training: arrays and JSON in one file, replaced at once or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from composer.errors import DataError


def write_checkpoint(path: Path, key: str, state: Any) -> None:
    """Write a dataclass of arrays and plain values; `key` says which run it belongs to."""
    values = asdict(state)
    arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    notes = json.dumps({"key": key, **{k: v for k, v in values.items() if k not in arrays}})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, notes=np.frombuffer(notes.encode(), dtype=np.uint8), **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def read_checkpoint(path: Path, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values of a checkpoint. Errors: DataError for a damaged file, or one of another run."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        notes = json.loads(arrays.pop("notes").tobytes().decode())
    except Exception as error:  # numpy raises many kinds for damaged files; all mean the same
        found = "It is damaged, or no checkpoint of a fit"
        raise DataError(f"The checkpoint {path} was to be read", found, "Remove it to start anew, or name another file") from error
    if notes.pop("key") != key:
        raise DataError(
            f"The checkpoint {path} was to be read",
            "It belongs to another expression, other data or other settings",
            "Give the same ones, or remove the file to start anew",
        )
    return arrays, notes


__all__ = ["read_checkpoint", "write_checkpoint"]
