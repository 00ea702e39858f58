"""What each term of a model is worth on data: shares, angles, prices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import analysis
from analysis import Factor
from composer.algebra import Constant, Expression, Function, Product, Sum, Term
from composer.fit.gauges import gauges_of
from composer.fit.levenberg import minimise
from composer.fit.linear import structure
from composer.model import Entry, Model

if TYPE_CHECKING:
    from composer.fisher.report import FisherReport

Array = NDArray[np.float64]
RIDGE = 1e-12  # relative to l_1: it holds what the data leave free, and changes nothing else
ROUGHLY, REFIT = 1e-4, 12  # relative fall of chi2 at which the refit without a factor ends, and most evaluations of it


@dataclass(frozen=True)
class TermReport:
    """One term: its numbers, effective ones, share of the trace, shares in the stiffest and sloppiest modes, price, nearest other term.

    price is the rise of chi2 (in units of the residual variance) when its amplitudes are set to zero and the rest is refitted, None for
    a term without amplitudes; angle (degrees) is the smallest between its columns and those of `nearest`: below 1 the two are redundant.
    """

    name: str
    parameters: int
    effective: float
    trace: float
    stiff: float
    sloppy: float
    price: float | None
    nearest: str
    angle: float


def terms(report: FisherReport) -> list[TermReport]:
    """The report of every term, E0 first."""
    factor, columns = report.physical, report.blocks
    effective = analysis.term_dof(factor, analysis.solve(factor, RIDGE, gauge=report.model_gauge), columns)
    modes, names, seen = report.spectrum.participation(columns), list(columns), factor.norms > 0
    out = []
    for n, (name, own) in enumerate(columns.items()):
        others = np.where(np.arange(len(names)) == n, np.inf, report.angles[n])
        nearest = int(np.argmin(others)) if len(names) > 1 else n
        trace = float(np.count_nonzero(seen[own]) / max(np.count_nonzero(seen), 1))
        angle = float(others[nearest]) if nearest != n else 90.0
        out.append(TermReport(name, len(own), effective[name], trace, *modes[name], report.prices.get(name), names[nearest], angle))
    return out


def angles(factor: Factor, gauge: Array, columns: list[list[int]]) -> Array:
    """Smallest principal angle in degrees between every two blocks of columns [T, T], beyond the gauge directions they share."""
    out = np.zeros((len(columns), len(columns)))
    for a, b in combinations(range(len(columns)), 2):
        found = analysis.principal_angles(factor, columns[a], columns[b])[_shared(gauge, columns[a], columns[b]) :]
        out[a, b] = out[b, a] = found.min(initial=90.0)
    return out


def prices(report: FisherReport) -> dict[str, float]:
    """Rise of chi2 when a term is removed, with what it alone multiplies, and the rest refitted.

    By Wald, exact for linear numbers; a factor beside which something stays is priced by a refit, for what it multiplied has other columns
    without it.
    """
    model, labels = report.model, report.model.expression.labels()
    polynomial = structure(model).polynomial
    amplitudes, everything = blocks(model, lambda e: e.key in polynomial), blocks(model)
    theta, found = model.theta.numpy(), {}
    factor = report.physical.rescale(1.0 / report.slope)
    for term in model.expression.terms():
        name = labels[term.digest]
        if name in amplitudes:
            left = {t.digest for t in without(model.expression, term).terms()}
            gone = [c for digest, label in labels.items() if digest not in left for c in everything.get(label, [])]
            alone = np.zeros(len(theta))
            alone[amplitudes[name]] = theta[amplitudes[name]]
            if _multiplies(model, term, left):
                found[name] = _refitted(report, theta - alone, gone)
            else:
                found[name] = analysis.wald_prices(factor, alone, {name: gone})[name]
    return found


def _multiplies(model: Model, term: Term, left: set[str]) -> bool:
    """Whether plain amplitudes of a term are multiplied with free numbers of terms that stay."""
    kept = {e.key for e in model.entries if e.term in left and e.free and model.layout.slots[e.key].size}
    own = {e.key: e for e in model.entries if e.term == term.digest}
    pairs = [pair for pair in structure(model).products if pair & own.keys() and pair & kept]
    return bool(pairs) and not any(e.positive or e.bounds is not None for e in own.values())


def _refitted(report: FisherReport, theta: Array, gone: list[int]) -> float:
    """Rise of chi2 from the present numbers to the minimum that is reached from others [P], some of which are left out of the fit."""
    kept = np.ones(len(theta), dtype=bool)
    kept[gone] = False
    problem = report.problem.fixing(theta, kept)
    start, keys = problem.start(), structure(report.model).linear
    linear = problem.columns(report.model.each(lambda entry: entry.key in keys))
    linear[len(linear) - problem.offset :] = True
    held = analysis.penalty(analysis.ridge_prior(problem.factor(start), RIDGE))
    found = minimise(problem, start, held, linear, partial(gauges_of, problem), ROUGHLY, REFIT)[0]
    return max(found.cost - float(report.physical.chi2(np.zeros(len(theta)))), 0.0)


def without(expression: Expression, term: Term) -> Expression:
    """The expression with a term set to zero."""
    if expression == term:
        return Constant(0.0)
    if isinstance(expression, Sum):
        return Sum.of([(f, without(part, term)) for f, part in expression.parts])
    if isinstance(expression, Product):
        return Product.of([b for base, n in expression.factors for b in [without(base, term)] * n])
    if isinstance(expression, Function):
        inner = without(expression.argument, term)
        return Function(expression.function, inner) if inner.terms() else Constant(0.0)
    return expression


def blocks(model: Model, wanted: Callable[[Entry], bool] = lambda entry: True) -> dict[str, list[int]]:
    """Columns of the free numbers by the label of their term, for entries that are wanted."""
    labels = model.expression.labels()
    number = np.cumsum(model.free.numpy()) - 1
    found: dict[str, list[int]] = {}
    for entry in model.entries:
        slot = model.layout.slots[entry.key]
        if entry.free and slot.size and wanted(entry):
            found.setdefault(labels.get(entry.term, entry.name), []).extend(number[slot.offset : slot.offset + slot.size].tolist())
    return found


def _shared(gauge: Array, first: list[int], second: list[int]) -> int:
    """Number of gauge directions that live on two blocks of columns alone, on both of them."""
    outside = np.setdiff1d(np.arange(len(gauge)), [*first, *second])
    inside = gauge[:, np.linalg.norm(gauge[outside], axis=0) < 1e-10 * np.maximum(np.linalg.norm(gauge, axis=0), 1e-300)]
    both = inside[:, inside[first].any(axis=0) & inside[second].any(axis=0)]
    return int(np.linalg.matrix_rank(both)) if both.size else 0
