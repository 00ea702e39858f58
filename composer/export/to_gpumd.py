"""Target gpumd: one file nep.txt, which GPUMD, calorine and NEP_CPU read."""

from __future__ import annotations

from pathlib import Path

from composer.export.check import Engine, model_values
from composer.export.nep import contents, read_nep
from composer.export.nepfile import said, text
from composer.model import Model

FILE = "nep.txt"


def write(model: Model, folder: Path, shown: str) -> str:
    """Write nep.txt."""
    found = contents(model)
    (folder / FILE).write_text(text(found))
    return f"{said(found)}\nGPUMD, in run.in: potential {shown if shown.endswith('.txt') else f'{shown}/{FILE}'}"


def check_engine(folder: Path, model: Model) -> Engine:
    """The file as it is read again, with its 8 digits."""
    again = read_nep(folder / FILE)
    return lambda structure: model_values(again, structure)
