"""Target c: potential.c and potential.h."""

from __future__ import annotations

import tempfile
from pathlib import Path

from composer.export.c_source import c_header, c_source
from composer.export.check import worst
from composer.export.library import Library, build_library
from composer.export.structures import random_structures
from composer.model import Model


def write(model: Model, folder: Path, shown: str) -> str:
    """Write potential.c and, with the numbers of the comparison in its first comment, potential.h."""
    (folder / "potential.c").write_text(c_source(model))
    (folder / "potential.h").write_text(c_header(model, {}))
    found = worst(check_engine(folder, model), model, random_structures(model.species))
    (folder / "potential.h").write_text(c_header(model, found))
    return f"Build with: cc -O3 -march=native -ffast-math -c {shown}/potential.c; the interface is explained in {shown}/potential.h"


def check_engine(folder: Path, model: Model) -> Library:
    """potential.c built as portable C and loaded."""
    with tempfile.TemporaryDirectory() as place:  # a loaded library needs its file no more
        build_library(folder / "potential.c", Path(place, "potential.so"), portable=True)
        return Library(Path(place, "potential.so"), model)
