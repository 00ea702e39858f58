"""The Fisher report: factors of a model on data, asked by `analysis`, and told in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import analysis
from analysis import Factor, Solution, Spectrum
from composer.data import Data
from composer.errors import DataError
from composer.fisher import words, worth
from composer.fisher.bars import ErrorBars, error_bars
from composer.fisher.boundary import Boundary, boundary
from composer.fisher.grades import Grades, grades
from composer.fisher.worth import TermReport
from composer.fit.gauges import gauges_of
from composer.fit.linear import linear_part
from composer.fit.rows import Problem
from composer.fit.weights import Weights
from composer.model import Model
from composer.model.entries import E0

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
CLUSTERS = 300  # groups of configurations kept apart; more are gathered, whole
RIDGE = 1e-12  # relative to l_1: it holds what the data leave free, and changes nothing else


@dataclass(frozen=True, eq=False)
class FisherReport:
    """Fisher information of a model at its present numbers.

    Arguments: model; data; weights, the noise of energy (eV/atom), forces (eV/Å) and V sigma/N (eV/atom); problem, its rows; factors by
    (observable, cluster of configurations) in unknowns u [K]: logarithms of positive numbers, plain others, the stress offset last;
    gauge [K, g]. Everything else is computed when it is asked for.
    """

    model: Model
    data: Data
    weights: Weights
    problem: Problem
    factors: dict[tuple[str, int], Factor]
    gauge: Array
    cluster: NDArray[np.intp]

    # ---- factors and spectra

    @cached_property
    def factor(self) -> Factor:
        """The factor of all rows."""
        return self.problem.joined(self.factors)

    @cached_property
    def groups(self) -> list[Factor]:
        """Weighted factors of the clusters of configurations."""
        found: dict[int, dict[tuple[str, int], Factor]] = {}
        for key, factor in self.factors.items():
            found.setdefault(key[1], {})[key] = factor
        return [self.problem.joined(parts) for _, parts in sorted(found.items())]

    @cached_property
    def physical(self) -> Factor:
        """The factor in the model's own unknowns [P], the stress offset eliminated."""
        return self._physical(self.factor)

    @property
    def information(self) -> Array:
        """I = J^T W J [P, P] by the free numbers themselves, the stress offset eliminated; in units of the stated noise."""
        slope = self.slope
        return self.physical.rescale(1.0 / slope).information

    @cached_property
    def spectrum(self) -> Spectrum:
        """Spectrum of the unit-free information without gauge directions."""
        return analysis.fisher_spectrum(self.physical, self.model_gauge)

    @cached_property
    def spectra(self) -> dict[str, Spectrum]:
        """The same of all rows together and of each observable alone."""
        parts = {o: {k: f for k, f in self.factors.items() if k[0] == o} for o in self.problem.observables}
        alone = {o: analysis.fisher_spectrum(self._physical(self.problem.joined(p)), self.model_gauge) for o, p in parts.items() if p}
        return {"all": self.spectrum, **(alone if len(alone) > 1 else {})}

    @property
    def n_eff(self) -> float:
        """Effective number of directions above 1e-8 l_1."""
        return self.spectrum.n_eff(1e-8)

    @property
    def condition(self) -> float:
        """Condition number of the unit-free, gauge-free information."""
        return self.spectrum.condition

    @property
    def gauge_dimension(self) -> int:
        """Number of exact flat directions of the expression."""
        return self.spectrum.coordinates.gauge_dimension

    @property
    def unseen(self) -> list[str]:
        """Names of numbers that no row depends on."""
        return [self.names[k] for k in self.spectrum.coordinates.unseen]

    @property
    def names(self) -> list[str]:
        """Names of the free numbers [P]."""
        return self.model.parameter_names

    # ---- terms

    @cached_property
    def blocks(self) -> dict[str, list[int]]:
        """Columns of every term, by its label; E0 by itself."""
        return worth.blocks(self.model)

    @cached_property
    def terms(self) -> list[TermReport]:
        """What each term does for the fit."""
        return worth.terms(self)

    @cached_property
    def angles(self) -> Array:
        """Smallest principal angle between every two terms, in degrees [T, T]; what factors of a product share by gauge is left out."""
        return worth.angles(self.physical, self.model_gauge, list(self.blocks.values()))

    @cached_property
    def prices(self) -> dict[str, float]:
        """Wald price of removing each term: the rise of chi2 with the rest refitted, in units of the residual variance.

        What it alone multiplies goes with it. A factor is priced by a refit: what it multiplied is another thing without it.
        """
        return {name: price / float(self.solution.variance) for name, price in worth.prices(self).items()}

    # ---- statistics

    @cached_property
    def solution(self) -> Solution:
        """The linearised fit at the present numbers: its root of H^(-1) is what error bars use."""
        return analysis.solve(self.factor, RIDGE, gauge=self.gauge)

    @cached_property
    def covariance_root(self) -> Array:
        """Root C [P, n] of the clustered sandwich covariance C C^T of the free numbers: right for models that are not the truth."""
        return self.slope[:, None] * analysis.sandwich_root(self.solution, self.groups)[: self.model.size]

    @property
    def covariance(self) -> Array:
        """Clustered sandwich covariance of the free numbers [P, P]."""
        return self.covariance_root @ self.covariance_root.T

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard error of every free number, by name, in its own unit (gauge directions held)."""
        return dict(zip(self.names, np.linalg.norm(self.covariance_root, axis=1).tolist(), strict=True))

    @cached_property
    def tic_trace(self) -> float:
        """tr(H^(-1) V) over the residual variance: P for a correct model with independent rows, more for a wrong one."""
        return analysis.tic_trace(self.groups, self.solution) / float(self.solution.variance)

    def error_bars(self, structures: Sequence[Any], level: float = 0.68) -> ErrorBars:
        """Standard deviations of predicted energies (eV) and forces (eV/Å), calibrated on groups that were held out.

        Arguments: structures; level, the share of errors that one deviation is to cover. Returns: ErrorBars, coverage found included.
        """
        return error_bars(self, structures, level)

    def boundary(self) -> Boundary:
        """The simpler model at the end of the loosest direction: which numbers run away there, and the edit of the expression it stands for.

        Meant for models of tens of numbers on small data: the way takes some thousand Jacobians.
        """
        return boundary(self)

    @cached_property
    def grades(self) -> Grades:
        """Extrapolation grades of atoms by what these data hold: `report.grades(atoms)` [N], above 1 outside of them."""
        return grades(self.model, self.data.frames)

    # ---- words and pictures

    def summary(self) -> str:
        """What the data determine and what not, in plain words, with a table of terms."""
        return words.summary(self)

    __str__ = summary
    __repr__ = summary

    def plot(self) -> Figure:
        """Eigenvalues of all rows and of each observable alone; error bars by bootstrap over configurations."""
        groups = [self._physical(g) for g in self.groups]
        spread = analysis.bootstrap(groups, self.model_gauge, draws=50).std(axis=0)
        return analysis.plot_spectrum(self.spectra, {"all": spread})

    def plot_terms(self) -> Figure:
        """Angles between the terms as a heat map."""
        return analysis.plot_term_correlation(list(self.blocks), self.angles)

    # ---- inside

    @property
    def slope(self) -> Array:
        """dtheta/du of the free numbers [P]."""
        return self.problem.slope(self.problem.start())

    @property
    def model_gauge(self) -> Array:
        """Gauge directions of the model's own numbers [P, g]."""
        return self.gauge[: self.model.size]

    def _physical(self, factor: Factor) -> Factor:
        """The factor of the model's own numbers [P], the stress offset eliminated exactly."""
        if not self.problem.offset:
            return factor
        order = np.roll(np.arange(factor.parameters), 1)
        first = factor.columns(order)  # the offset stands first and takes the first row, if any row sees it
        seen = int(first.triangle.size > 0 and first.triangle[0, 0] > 0)
        return Factor(first.triangle[seen:, 1:], first.rhs[seen:], first.rss, first.rows)


def fisher(model: Model, data: Data, weights: Weights | None = None, stress_offset: bool = True, parameters: str = "all") -> FisherReport:
    """Fisher information of a model's free numbers on data.

    I = J^T W J with J by exact differentiation and W = 1/noise^2, as triangular factors by observable and configuration.
    Arguments: model, at the numbers in question; data; weights, the noise of each observable (None: the root mean square residuals
    of this model on these data); stress_offset, whether an offset of the data's stress is eliminated; parameters, "all", or
    "last layer" for those alone that enter linearly, the others held (cheap for networks).
    Returns: FisherReport. Errors: DataError for data without observables, and for a last layer where nothing enters linearly.
    """
    if parameters not in ("all", "last layer"):
        raise DataError(
            f"The information of parameters={parameters!r} was asked for", 'Known are "all" and "last layer"', "Use one of these"
        )
    if parameters == "last layer":
        model = linear_part(model)
        if not any(e.free for e in model.entries if e.key != E0):
            found = f"Nothing in {model.expression} enters linearly"
            raise DataError("The information of the last layer of a model was asked for", found, 'Write parameters="all"')
    if not isinstance(data, Data):
        data = Data(data, model.species)
    offset = stress_offset and any(f.stress is not None for f in data) and (weights is None or weights.stress is not None)
    problem = Problem(model, data.frames, weights or Weights(), offset)
    cluster = clusters(data)
    with threadpool_limits(1, "blas"):
        factors = problem.factors(problem.start(), lambda place: int(cluster[place]))
    if weights is None:
        problem.weights = noise(factors, problem)
    return FisherReport(model, data, problem.weights, problem, factors, gauges_of(problem, problem.start()), cluster)  # type: ignore[arg-type]


def clusters(data: Data) -> NDArray[np.intp]:
    """Cluster of every frame: its group of equal configurations; beyond `CLUSTERS` groups, whole groups are gathered."""
    labels = data.groups
    if len(np.unique(labels)) <= CLUSTERS:
        return np.asarray(labels)
    out = np.zeros(len(data), dtype=int)
    for number, (_, members) in enumerate(data.folds(CLUSTERS)):
        out[members] = number
    return out


def noise(factors: dict[tuple[str, Any], Factor], problem: Problem) -> Weights:
    """The root mean square residual of each observable as its target (from rows of plain shape)."""
    found: dict[str, float] = {}
    for observable in problem.observables:
        own = [f for key, f in factors.items() if key[0] == observable]
        mean = sum(float(f.chi2(np.zeros(f.parameters))) for f in own) / sum(f.rows for f in own)
        found[observable] = max(float(np.sqrt(mean)), 1e-6)  # an exact model still has a finite noise
    if not found:
        raise DataError("The Fisher information of data was asked for", "No frame has an observable", "Give labelled data")
    return Weights(found.get("energy"), found.get("forces"), found.get("stress"))
