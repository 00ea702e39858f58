"""Which simpler model stands at the end of the sloppiest direction (manifold boundary approximation, in a light form)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from analysis import Geodesic, geodesic, solve
from composer.fisher.edits import edits
from composer.fit.fitting import fit
from composer.fit.gauges import gauges_of
from composer.fit.linear import structure
from composer.fit.rows import Problem
from composer.model import Model

if TYPE_CHECKING:
    from composer.fisher.report import FisherReport

Array = NDArray[np.float64]
STEP = 1e-4  # of the differences of Jacobians, in units of a velocity of size one
RISE = 0.01  # of chi2, below which a simpler model is as good
MOST = 3  # edits that are tried


@dataclass(frozen=True, eq=False)
class Boundary:
    """The edge that the sloppiest direction leads to, and the edit of the expression that stands for it; printable.

    Arguments: running, by the name of a number whether it runs to "0" or "infinity"; held, products of powers of them that stay; kind,
    "merge", "drop", "freeze" or "" for none; text, the edit in words; model, the edited one refitted (None where there is no edit);
    rise of chi2 as a share of it; geodesic, the path in logarithms of positive numbers.
    """

    running: dict[str, str]
    held: tuple[str, ...]
    kind: str
    text: str
    model: Model | None
    rise: float
    geodesic: Geodesic | None

    @property
    def proposed(self) -> bool:
        """Whether the simpler model is as good: chi2 rises by less than 1 %."""
        return self.model is not None and self.rise < RISE

    def __str__(self) -> str:
        if self.model is None:
            return self.text
        runs = ", ".join(f"{name} -> {end}" for name, end in self.running.items()) or "two like terms become one"
        held = f"; what stays is {', '.join(self.held)}" if self.held else ""
        verdict = "Proposed" if self.proposed else "Not as good"
        return (
            f"The loosest direction leads to an edge of the model: {runs}{held}.\n"
            f"{verdict}: {self.text}, with {self.model.size} numbers left; refitted, chi2 changes by {self.rise:+.2%}.\n"
            f"E = E0 + {self.model.expression}"
        )

    __repr__ = __str__


def boundary(report: FisherReport) -> Boundary:
    """Follow the geodesic to the edge, and price the edits that it stands for by refits.

    Both sides of the loosest direction are followed where the first gives no model that is as good.
    theta'' = -(J^T J + Lambda)^(-1) J^T A_vv in logarithms of positive numbers; A_vv is a central difference of exact Jacobians times v.
    """
    model = report.model
    free = [e.key for e in model.entries if e.free and model.layout.slots[e.key].size]
    if set(free) <= structure(model).linear:
        return _none("Every number enters linearly: such a model has no edge. The prices of its terms say what may go.")
    before = min(_chi2(report, model), _chi2(report, _refitted(report, model)))  # the fit may have had other weights than the report
    first = _edge(report, 1, before)
    return first if first.proposed else min(first, _edge(report, -1, before), key=lambda found: (not found.proposed, found.rise))


def _refitted(report: FisherReport, model: Model) -> Model:
    return fit(model, report.data, report.weights, folds=0, ridge=1e-14, stress_offset=report.problem.offset, quiet=True).model


def _edge(report: FisherReport, side: int, before: float) -> Boundary:
    """The edge on one side, with the best edit; `before`, the chi2 of the model at its best."""
    model, path = report.model, _path(report, side)
    logarithm = _logarithm(report)
    shares = path.running(logarithm)
    names = [*model.parameter_names, "the stress offset"]
    running = {names[p]: "infinity" if share > 0 else "0" for p, share in shares.items()}
    base = next((p for p in shares if logarithm[p]), next(iter(shares)))  # the others beside the fastest number of a term
    held = tuple(f"{names[p]} * {names[base]}^{-share / shares[base]:.2g}" for p, share in shares.items() if p != base)
    best = _none("The end of the loosest direction stands for no edit of the expression.")
    for edit in islice(edits(model, report.problem.theta(path.path[-1]), path, list(shares)), MOST):
        found = _refitted(report, edit.model)
        rise = _chi2(report, found) / before - 1.0
        if rise < best.rise:
            best = Boundary(running, held, edit.kind, edit.text, found, rise, path)
        if best.proposed:
            break
    return best


def _none(text: str) -> Boundary:
    return Boundary({}, (), "", text, None, np.inf, None)


def _path(report: FisherReport, side: int) -> Geodesic:
    problem, scales = report.problem, report.problem.weights.scales

    def jacobian(u: Array) -> Array:
        return torch.cat([r.matrix / scales[r.observable] for r in problem.rows(u)]).cpu().numpy()

    def curvature(u: Array, v: Array) -> Array:
        h = STEP / max(float(np.abs(v / unit).max()), 1e-300)
        return (jacobian(u + h * v) @ v - jacobian(u - h * v) @ v) / (2 * h)

    start, logarithm = problem.start(), _logarithm(report)
    norms = np.linalg.norm(jacobian(start), axis=0)
    natural = np.maximum(np.abs(start), 1.0 / np.maximum(norms, 1e-300))
    unit = np.where(logarithm, 1.0, np.inf if logarithm.any() else natural)  # plain numbers follow where logarithms lead
    return geodesic(jacobian, curvature, start, unit, partial(gauges_of, problem) if report.gauge.shape[1] else None, side)


def _logarithm(report: FisherReport) -> NDArray[np.bool_]:
    """Unknowns that are logarithms [K]."""
    return np.concatenate([~report.problem.coordinates.plain, np.zeros(int(report.problem.offset), dtype=bool)])


def _chi2(report: FisherReport, model: Model) -> float:
    """Chi2 of a model at its numbers; the offset of the data's stress is at its best."""
    problem = Problem(model, report.data.frames, report.weights, report.problem.offset)
    factor = problem.factor(problem.start())
    return float(solve(factor.columns([factor.parameters - 1])).chi2 if problem.offset else factor.chi2(np.zeros(factor.parameters)))
