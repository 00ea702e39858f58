"""Scales of the inputs of a network, from what the inputs are on data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from composer.codegen.program import values
from composer.ir.sums import elements
from composer.model import Model
from composer.model.structures import whole
from composer.quantities import Environment
from composer.runtime.kernel import remembered


def scaled(model: Model, frames: Sequence[Any]) -> Model:
    """The model with the scales of all terms that state their `inputs`: 1/(max - min) of each over the atoms of the frames.

    Inputs are taken at the present numbers of the model. What does not vary keeps the scale 1. Returns: a model.
    """
    labels, tables = model.expression.labels(), {}
    batch = whole(model.host.prepare(list(frames)))
    for term in model.expression.terms():
        stated = getattr(term, "inputs", lambda _: {})(Environment(model.species))
        for name, (ranges, node) in stated.items():
            parts = {str(n): part for n, part in enumerate(elements(node, tuple(ranges)).values())}
            key = f"{node.key.hex()} {' '.join(r.key for r in ranges)}"
            site = remembered("inputs", key, lambda parts=parts: values(parts), model.layout)(batch, model.flat).site
            spread = np.array([np.ptp(site[n][: batch.atoms].numpy()) for n in parts])
            known = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1.0), 1.0)
            tables[f"{labels[term.digest]}.{name}"] = known.reshape([r.size for r in ranges])
    return model.with_parameters(tables)


def scaled_first(model: Model, frames: Sequence[Any]) -> Model:
    """The scaled model where all scales, numbers that are never fitted, still are one; the model itself otherwise."""
    tables = [e for e in model.entries if e.key.startswith("fixed.")]
    fresh = bool(tables) and all(bool(np.all(model.parameters[e.name].numpy() == 1.0)) for e in tables)
    return scaled(model, frames) if fresh else model
