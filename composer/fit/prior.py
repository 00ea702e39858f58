"""The prior of a fit: smooth functions are likelier than rough ones, and like for unlike species, by one strength for the whole model."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
from numpy.typing import NDArray

from analysis import Factor, penalty
from composer.fit.linear import Structure
from composer.fit.rows import Problem
from composer.model import E0, Entry, Model
from composer.quantities import PER, row, rows

Array = NDArray[np.float64]
PLAIN = 1e-3  # share of the plain size beside the roughness, so that smooth directions are held too
ALIKE = 0.999  # correlation of the numbers of two species
OWN = 1e-4  # share of a row of species that no other row knows


def prior(problem: Problem, structure: Structure, norms: Array, goal: Array) -> Factor:
    """Penalty of strength one, |L (u - goal)|^2 over the unknowns [K].

    L^T L holds for every table the roughness matrix that its term states (the identity where it states none), times the inverse of the
    correlation of its rows of species, times a number such that the trace for a row without others is that of the data's information over
    the same columns: a strength is relative to what the data say. Numbers that enter polynomially are drawn to zero, others (lengths,
    exponents, logarithms) to `goal`, and where the data do not tell species apart, all to what the data say of the others. E0 and the
    stress offset are free. Arguments: norms [K], column norms of the weighted Jacobian; goal [K], where the others are drawn to.
    """
    model, blocks = problem.model, [np.zeros((0, problem.size))]
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
        blocks.append(held(penalty_root(model, entry, columns.shape[1]), columns, norms))
    return penalty(np.concatenate(blocks), target)


def held(root: Array, columns: NDArray[np.intp], norms: Array) -> Array:
    """The rows [rows * size, K] by which a root holds the numbers at `columns` [rows, size], as strong as the data of norms [K]."""
    block = np.zeros((len(root), len(norms)))
    block[:, columns.ravel()] = np.sqrt(np.sum(norms[columns] ** 2) / len(columns)) * root
    return block


def penalty_root(model: Model, entry: Entry, size: int) -> Array:
    """L [rows * size, rows * size] with L^T L the inverse correlation of a table's rows times the roughness of each (trace 1), or the identity."""
    term = next(t for t in model.expression.terms() if t.digest == entry.term)
    offered = getattr(term, "roughness", None)
    matrix = dict(offered()).get(entry.key.rpartition(".")[2]) if offered and not entry.positive else None
    values, vectors = np.linalg.eigh(np.eye(size) if matrix is None else np.asarray(matrix, dtype=np.float64))
    stiff = np.maximum(values, 0.0) + PLAIN * values.mean()
    return np.kron(apart(entry.per, len(model.species)), np.sqrt(stiff / stiff.sum())[:, None] * vectors.T)


@cache
def apart(per: str, species: int) -> Array:
    """Inverse root [rows, rows] of the correlation of the rows of a table: 1 for a row that stands alone.

    Two species correlate by ALIKE, two rows by the product over their species, averaged over the orders that a row does not know, and
    OWN is a row's own: a pair is drawn to the mean of what its two species are elsewhere.
    """
    count, kinds = rows(per, species), np.array(list(itertools.product(range(species), repeat=PER[per])), dtype=int)
    if per == "unlike triplet":
        kinds = kinds[kinds[:, 1] != kinds[:, 2]]
    if not count:
        return np.zeros((0, 0))
    of = np.array([row(per, species, *map(int, k)) for k in kinds])
    first = kinds[[int(np.argmax(of == r)) for r in range(count)]]  # one order of each row
    both = np.prod(np.where(first[:, None] == kinds[None], 1.0, ALIKE), axis=2)  # [rows, orders]
    likeness = both @ (np.eye(count)[of] / np.bincount(of))
    size = np.sqrt(np.diagonal(likeness))
    values, vectors = np.linalg.eigh((1 - OWN) * likeness / np.outer(size, size) + OWN * np.eye(count))
    return (vectors / np.sqrt(values)) @ vectors.T
