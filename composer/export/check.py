"""Comparison of an engine with its model, by the same rule at export and in `composer.validate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from composer.codegen.program import walk
from composer.errors import BackendError
from composer.export.library import Values
from composer.model import Model

Engine = Callable[[Any], Values]

FLOOR = 1e-3  # eV per atom, eV/Å, eV: below it differences count as they are, not relative


def model_values(model: Model, structure: Any) -> Values:
    """What the model says about one structure."""
    found = model(structure)
    return Values(float(found.energy), found.forces.numpy(), found.virial[0].numpy(), found.energies.numpy())


def reads_neighbours(model: Model) -> bool:
    """Whether an atom needs fields of its neighbours, for which these need their own."""
    return any(n.op == "near" for n in walk([model.node]))


def differences(theirs: Values, ours: Values) -> dict[str, float]:
    """Largest difference of energy, forces, virial and (where given) site energies, relative to the largest number of its kind."""
    atoms = len(ours.forces)
    found = {
        "energy": abs(theirs.energy - ours.energy) / max(abs(ours.energy), FLOOR * atoms),
        "forces": relative(theirs.forces, ours.forces),
    }
    if theirs.virial is not None and ours.virial is not None:
        found["virial"] = relative(theirs.virial, ours.virial)
    if theirs.energies is not None and ours.energies is not None:
        found["site energies"] = relative(theirs.energies, ours.energies)
    return found


def worst(engine: Engine, model: Model, structures: Iterable[Any]) -> dict[str, float]:
    """The largest differences over structures."""
    found: dict[str, float] = {}
    for structure in structures:
        for name, value in differences(engine(structure), model_values(model, structure)).items():
            found[name] = value if np.isnan(value) else max(found.get(name, 0.0), value)
            if np.isnan(value):
                return found
    return found


def demand(found: dict[str, float], bar: float, target: str) -> None:
    """Refuse an export whose engine differs from the model by more than the bar. Errors: BackendError."""
    broken = {n: v for n, v in found.items() if not v <= bar}
    if broken:
        said = ", ".join(f"{name} by {value:.1e}" for name, value in broken.items())
        raise BackendError(
            f"The export to {target} was compared with its model on random structures",
            f"It differs in {said}; {bar:g} is allowed. No file was written",
            "Look at the model's parameters for numbers that are extreme, and report the expression",
        )


def relative(theirs: np.ndarray, ours: np.ndarray) -> float:
    """The largest difference of two arrays over the largest number of ours."""
    return float(np.abs(theirs - ours).max(initial=0.0) / max(np.abs(ours).max(initial=0.0), FLOOR))
