"""Energies of isolated atoms: fitted, taken from the data, or given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from composer.data import Data
from composer.errors import DataError
from composer.model import E0, Model


def referenced(model: Model, data: Data, references: str | Mapping[str, float]) -> tuple[Model, NDArray[np.bool_]]:
    """The model with its E0 set, and which of its free numbers are to be fitted [P].

    Arguments: references "fit" (E0 is fitted), "isolated" (the mean energy of frames that hold one atom and do not repeat) or
    {symbol: eV}. Errors: DataError where an element has no reference.
    """
    active = np.ones(model.size, dtype=bool)
    if isinstance(references, str) and references == "fit":
        return model, active
    energies = references if isinstance(references, Mapping) else isolated(data, references)
    missing = [s for s in model.species if s not in energies]
    if missing:
        raise DataError(
            f"Reference energies of {', '.join(model.species)} were asked for",
            f"None was found for {', '.join(missing)}",
            'Write references={"Si": -0.8}, add isolated atoms to the data, or references="fit"',
        )
    active[: len(model.species)] = False  # E0 stands first
    return model.with_parameters({E0: [float(energies[s]) for s in model.species]}), active


def isolated(data: Data, references: str) -> dict[str, float]:
    """Mean energy (eV) of the frames that are one atom alone, by symbol."""
    if references != "isolated":
        raise DataError(f"References {references!r} were asked for", 'Known are "fit", "isolated" and a dict', 'Write references="fit"')
    found: dict[str, list[float]] = {}
    for frame in data:
        if len(frame.symbols) == 1 and not frame.pbc.any() and frame.energy is not None:
            found.setdefault(frame.symbols[0], []).append(frame.energy)
    return {symbol: float(np.mean(values)) for symbol, values in found.items()}
