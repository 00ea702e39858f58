"""Exact flat directions of a model: rescalings of factors that leave every energy as it is."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import null_space

from composer.algebra import Expression, Function, Product, Sum, Term
from composer.fit.rows import Problem
from composer.ir.nodes import Node
from composer.model import Entry, Model
from composer.quantities import Environment, rows

Array = NDArray[np.float64]


def gauges(model: Model) -> Array:
    """Null vectors of the Jacobian that follow from the expression, as columns [P, g] at the present parameters.

    A term whose amplitude numbers are multiplied by exp(t x) scales by exp(t x). Exponents x are a gauge when every product of factors
    keeps its value: all parts of a sum scale alike, arguments of functions and the whole do not scale. The null space of these
    linear conditions is taken for each species of the site by itself where the tables allow it (a product of two factors then has one gauge
    for each species). Column: x theta over the amplitude numbers of each term.
    """
    index, exponents = _exponents(model.expression, model.species)
    out = np.zeros((len(model.flat), exponents.shape[2]))
    for entry in model.entries:
        slot = model.layout.slots[entry.key]
        if slot.size and entry.term in index and _is_amplitude(entry, model):
            values = model.flat[slot.offset : slot.offset + slot.size].numpy().reshape(slot.rows, -1)
            scale = exponents[index[entry.term]][_site_of_row(entry.per, len(model.species))]  # [rows, g]
            out[slot.offset : slot.offset + slot.size] = (values[:, :, None] * scale[:, None, :]).reshape(slot.size, -1)
    return _tidy(np.hstack([out, _own(model)])[model.free.numpy()])


def gauges_of(problem: Problem, u: Array) -> Array:
    """The same in the unknowns of a fit, at u [K, g]."""
    directions = gauges(problem.at(u))[problem.active] / problem.slope(u)[:, None]
    return np.concatenate([directions, np.zeros((int(problem.offset), directions.shape[1]))])


def _own(model: Model) -> Array:
    """Flat directions inside terms that state them, where all of the numbers concerned are free [P all, g]."""
    columns: list[Array] = []
    for term in model.expression.terms():
        entries = {e.key.rpartition(".")[2]: e for e in model.entries if e.term == term.digest}
        slots = {name: model.layout.slots[e.key] for name, e in entries.items()}
        tables = {n: model.flat[s.offset : s.offset + s.size].numpy().reshape(s.rows, *s.shape) for n, s in slots.items()}
        for change in term.flat_directions(tables):
            if all(entries[name].free for name in change):
                column = np.zeros(len(model.flat))
                for name, values in change.items():
                    column[slots[name].offset : slots[name].offset + slots[name].size] = values.ravel()
                columns.append(column)
    return np.array(columns).reshape(len(columns), len(model.flat)).T


@lru_cache(maxsize=64)
def _exponents(expression: Expression, symbols: tuple[str, ...]) -> tuple[dict[str, int], Array]:
    """Number of each scalable term by digest, and the exponents of its gauges [terms, species of the site, g]."""
    terms = [t for t in expression.terms() if _scalable(t)]
    index = {t.digest: n for n, t in enumerate(terms)}
    conditions: list[Array] = []
    whole = _degree(expression, index, conditions)
    alike = np.kron(np.array([*conditions, whole]), np.eye(len(symbols)))  # unknowns: [terms, species of the site]
    shared = [np.kron(np.eye(len(terms))[n], row) for n, t in enumerate(terms) if not _by_site(t, symbols) for row in _equal(len(symbols))]
    found = null_space(np.array([*alike, *shared])) if terms else np.zeros((0, 0))
    found[np.abs(found) < 1e-14] = 0.0
    return index, found.reshape(len(terms), len(symbols), found.shape[1])


def _degree(expression: Expression, index: dict[str, int], conditions: list[Array]) -> Array:
    """How an expression scales, as weights of the terms' exponents [terms]; what must be zero goes to `conditions`."""
    if isinstance(expression, Term):
        unit = np.zeros(len(index))
        for inner in (t for operand in expression.operands for t in operand.terms()):  # what a term is made of does not scale it
            if inner.digest in index:
                conditions.append(np.eye(len(index))[index[inner.digest]])
        if expression.digest in index:
            unit[index[expression.digest]] = 1.0
        return unit
    if isinstance(expression, Product):
        return np.sum([n * _degree(base, index, conditions) for base, n in expression.factors], axis=0)
    inner = [_degree(operand, index, conditions) for operand in expression.operands]
    if isinstance(expression, Sum):
        conditions += [part - inner[0] for part in inner[1:]]
        return inner[0]
    if isinstance(expression, Function):
        conditions.append(inner[0])
    return np.zeros(len(index))


def _scalable(term: Term) -> bool:
    amplitudes = [n for n, p in term.params().items() if p.amplitude]
    return bool(amplitudes) and not set(amplitudes) & set(dict(term.fixed))


def _is_amplitude(entry: Entry, model: Model) -> bool:
    term = next(t for t in model.expression.terms() if t.digest == entry.term)
    return term.params()[entry.key.rpartition(".")[2]].amplitude


def _by_site(term: Term, symbols: tuple[str, ...]) -> bool:
    """Whether rows of all amplitude tables belong to one species of the site, and no scalar of a neighbour is read."""
    per = {p.per for p in term.params().values() if p.amplitude}
    return not per & {"model", "pair"} and not _reads_neighbors(term.site(Environment(symbols)))


def _reads_neighbors(node: Node) -> bool:
    seen: set[Node] = set()
    pending = [node]
    while pending:
        node = pending.pop()
        if node.op == "near":
            return True
        if node not in seen:
            seen.add(node)
            pending.extend(node.args)
    return False


def _site_of_row(per: str, species: int) -> NDArray[np.intp]:
    """Species of the site of each row of a table (any, where rows do not depend on it)."""
    count = rows(per, species)
    return np.zeros(count, int) if per in ("model", "pair") else np.repeat(np.arange(species), count // species)


def _equal(count: int) -> Array:
    return np.eye(count)[1:] - np.eye(count)[0]


def _tidy(columns: Array) -> Array:
    lengths = np.linalg.norm(columns, axis=0)
    return columns[:, lengths > 0] / lengths[lengths > 0]
