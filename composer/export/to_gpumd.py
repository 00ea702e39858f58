"""Target gpumd: one file nep.txt, which GPUMD, calorine and NEP_CPU read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from composer.export.check import Engine, model_values
from composer.export.nep import read_nep, write_nep
from composer.model import Model

FILE = "nep.txt"


def write(model: Model, folder: Path, shown: str) -> str:
    """Write nep.txt."""
    write_nep(model, folder / FILE)
    return f"GPUMD, in run.in: potential {shown if shown.endswith('.txt') else f'{shown}/{FILE}'}"


def check_engine(folder: Path, model: Model) -> Engine:
    """The file as it is read again, with its 8 digits."""
    again: Any = read_nep(folder / FILE)
    return lambda structure: model_values(again, structure)
