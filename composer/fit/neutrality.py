"""Raw totals of learned charges in a fit: rows that draw them to zero, and what they are in the end.

A mean that is taken off is shared by all atoms of a structure: two far fragments stay additive where the raw total of each is zero, and the data
of one composition do not tell the totals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis import Factor, factorize
from composer.errors import DataError
from composer.fit.rows import Problem
from composer.model.totals import totals

Array = NDArray[np.float64]


def held(problem: Problem, u: Array, target: float) -> Factor:
    """The penalty sum_s (Q_s/target)^2 over the raw totals Q_s (e) of the frames, linear about the unknowns u [K]; exact for linear charges.

    Errors: DataError where the model learns no charges.
    """
    model, rows, goals = problem.at(u), [], []
    for total in totals(model):
        found = total.rows(problem.frames, len(model.flat))[:, model.free.numpy()][:, problem.active] * problem.slope(u)
        found = np.column_stack([found, np.zeros((len(found), int(problem.offset)))])
        rows.append(found / target)
        goals.append((found @ u - total.of(problem.frames)) / target)
    if not rows:
        raise DataError("A fit with neutrality was asked for", "The model learns no charges", "Leave neutrality out")
    return replace(factorize(np.concatenate(rows), np.concatenate(goals)), rows=0)


def unheld(directions: Array, factor: Factor | None) -> Array:
    """The gauge directions [K, g] that a penalty does not see."""
    if factor is None or not directions.size:
        return directions
    seen = np.linalg.norm(factor.triangle @ directions, axis=0) > 1e-9 * np.linalg.norm(factor.triangle)
    return directions[:, ~seen]
