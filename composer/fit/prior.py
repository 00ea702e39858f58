"""The prior of a fit: smooth functions are likelier than rough ones, by one strength for the whole model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis import Factor, penalty
from composer.fit.linear import Structure
from composer.fit.rows import Problem
from composer.model import E0, Entry, Model

Array = NDArray[np.float64]
PLAIN = 1e-3  # share of the plain size beside the roughness, so that smooth directions are held too


def prior(problem: Problem, structure: Structure, norms: Array, goal: Array) -> Factor:
    """Penalty of strength one, |L (u - goal)|^2 over the unknowns [K].

    L^T L holds for every table and row of species the roughness matrix that its term states (the identity where it states none), times a
    number such that its trace is that of the data's information over the same columns: a strength is relative to what the data say.
    Numbers that enter polynomially are drawn to zero, others (lengths, exponents, logarithms) to `goal`. E0 and the stress offset
    are free. Arguments: norms [K], column norms of the weighted Jacobian; goal [K], where the others are drawn to.
    """
    model, blocks = problem.model, []
    place = np.full(len(model.flat), -1)  # of the flat numbers among the unknowns
    place[np.flatnonzero(model.free.numpy())[problem.active]] = np.arange(np.count_nonzero(problem.active))
    target = np.array(goal, dtype=np.float64)
    for entry in model.entries:
        slot = model.layout.slots[entry.key]
        if entry.key == E0 or slot.size == 0 or place[slot.offset] < 0:
            continue
        columns = place[slot.offset : slot.offset + slot.size].reshape(slot.rows, -1)  # [rows, size]
        if entry.key in structure.polynomial and not entry.positive and entry.bounds is None:
            target[columns] = 0.0
        root = penalty_root(model, entry, columns.shape[1])
        amount = np.sum(norms[columns] ** 2) / (slot.rows * np.sum(root**2))
        for row in columns:
            block = np.zeros((len(root), problem.size))
            block[:, row] = np.sqrt(amount) * root
            blocks.append(block)
    rows = np.concatenate(blocks) if blocks else np.zeros((0, problem.size))
    return penalty(rows, target)


def penalty_root(model: Model, entry: Entry, size: int) -> Array:
    """L [size, size] with L^T L the roughness of a table's row, or the identity."""
    term = next(t for t in model.expression.terms() if t.digest == entry.term)
    offered = getattr(term, "roughness", None)
    matrix = dict(offered()).get(entry.key.rpartition(".")[2]) if offered and not entry.positive else None
    if matrix is None:
        return np.eye(size)
    values, vectors = np.linalg.eigh(np.asarray(matrix, dtype=np.float64))
    floor = PLAIN * values.mean()
    return np.sqrt(np.maximum(values, 0.0) + floor)[:, None] * vectors.T
