"""The verb `fit`: from a model and data to a fitted model, with errors that were held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import Factor, group_by, sandwich_root, solve, weigh
from analysis import merge as merge_factors
from composer.calculator import shortest_distances
from composer.data import By, Data
from composer.errors import AlgebraError, DataError
from composer.evaluate import Errors, evaluate, merge
from composer.fit import first_order
from composer.fit.checking import check_data, check_species
from composer.fit.epochs import fit_epochs
from composer.fit.gaps import gaps
from composer.fit.gauges import gauges_of
from composer.fit.levenberg import Point, Step, minimise
from composer.fit.linear import Structure, structure
from composer.fit.neutrality import held, unheld
from composer.fit.path import NOTHING, choose
from composer.fit.prior import prior
from composer.fit.progress import reporter
from composer.fit.references import referenced
from composer.fit.result import Fitted
from composer.fit.rows import Problem
from composer.fit.settings import LARGE, check_settings
from composer.fit.weights import Weights
from composer.model import Model
from composer.model.totals import raw_totals

Array = NDArray[np.float64]
RIDGE = 1e-8  # strength of the prior before folds have chosen one
ROUGHLY = 1e-4  # relative fall of the cost below which a first fit, at guessed weights, ends
CLOSELY = 1e-6  # the same of the last fit
PLAUSIBLE = 0.2  # eV/atom: a larger offset of the stress is an error of the model
DOUBT = 0.5  # by how much ln E + ln F held out may exceed what folds expected of a linearised problem
LIMIT = 100  # evaluations of a fit
REFIT = 12  # evaluations of a nonlinear refit without a fold: it starts at the minimum of all frames


def fit(
    model: Model,
    train: Data,
    weights: Weights | None = None,
    method: str = "auto",
    seed: int = 0,
    references: str | Mapping[str, float] = "fit",
    folds: int = 5,
    ridge: float | None = None,
    stress_offset: bool = True,
    quiet: bool = False,
    restarts: int = 0,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    check: bool = False,
    neutrality: float | None = None,
    by: By = "group",
) -> Fitted:
    """Fit the free numbers of a model to energies, forces and stress.

    Minimises sum ((y - y_ref)/s)^2 + ridge |L theta|^2 over E/N, F and V sigma/N with targets s and a roughness prior L.
    Arguments: model, whose numbers are the start; train; weights, targets (None: those that minimise ln RMSE_E + ln RMSE_F over grouped
    folds); method "auto", "linear", "varpro" (variable projection), "lm", "lbfgs", "adam" or "newton"; seed of folds, restarts and Adam; references
    "fit" (E0 is fitted), "isolated" (from frames of one atom) or {symbol: eV}; folds, number of groups of frames held out in turn (0 for
    none); ridge, strength of the prior (None: chosen by folds); stress_offset, whether the data's stress has an error proportional to
    N/V that one number takes up (one beyond 0.2 eV/atom is refused as an error of the model); quiet; restarts from seeded random starts for nonlinear numbers; epochs, for networks: passes of Adam
    over mini-batches, or most steps of second order ("newton"), with a part of the data held out; checkpoint, a file from which stopped epochs go on; check,
    whether signs, order and units of the data are first held against a quick model, and gaps looked for; neutrality, the raw total (e) of
    learned charges of a frame that is aimed for, before their mean is taken off (None: free); by, what folds keep together, as in `Data.folds`:
    "config_type" judges by kinds of frames that were never seen, for models that must extrapolate.
    Returns: Fitted, the same for the same seed. Errors: DataError for data or settings that cannot be fitted.
    """
    check_settings(model, weights, method, seed, folds, ridge, restarts, epochs, neutrality)
    if not isinstance(train, Data):
        train = Data(train, model.species)
    check_species(model, train)
    if check:
        said = check_data(model.host, train, _quickly)
        if not quiet:
            print(said, flush=True)
    notes, report = gaps(model, train), reporter(quiet)
    for note in notes:
        report(f"fit: warning: {note}", None)
    if epochs is not None and by != "group":
        raise DataError(
            f"Epochs with by={by!r} were asked for", "Epochs hold groups of frames out", 'Write by="group", or leave epochs out'
        )
    if epochs is not None:
        return replace(fit_epochs(model, train, epochs, weights, seed, checkpoint, quiet, method=method), notes=notes).sign(train, seed)
    made = _Fit(model, train, weights, method, seed, references, folds, ridge, stress_offset, report, restarts, neutrality, by)
    fitted = replace(made.run(), notes=notes)
    if abs(fitted.stress_offset) > PLAUSIBLE:
        fitted = replace(replace(made, offset=False).run(), refused_offset=fitted.stress_offset, notes=notes)
    return fitted.sign(train, seed)


def _quickly(model: Model, data: Data) -> Model:
    """A fit to energies and forces, the large ones in proportion."""
    return fit(model, data, Weights(0.01, 0.1, None, relative=1.0), folds=0, quiet=True).model


@dataclass
class _Fit:
    """The settings of a fit and its stages."""

    model: Model
    train: Data
    weights: Weights | None
    method: str
    seed: int
    references: str | Mapping[str, float]
    folds: int
    ridge: float | None
    offset: bool
    report: Callable[[str, Step | None], None]
    restarts: int
    neutrality: float | None
    by: By = "group"

    def run(self) -> Fitted:
        problem = self.problem()
        self.report(f"fit: {problem.size} unknowns, {len(self.train)} frames, {self.chosen_method}", None)
        if self.chosen_method in ("lbfgs", "adam"):
            u, history = self.first_order(problem)
            return self.finish(problem, u, history, 0.0, None)
        u, history = problem.start(), []
        if not self.linear.all():
            u, history, held = self.best_start(problem)
            if self.decided and held is not None:
                return self.finish(problem, u, history, RIDGE if self.ridge is None else self.ridge, held)
        factors = problem.factors(u, self.label)
        strength = RIDGE if self.ridge is None else self.ridge
        if not self.decided:
            choice = choose(self.by_fold(factors), self.prior_at(problem, u), self.weights, self.ridge, gauges_of(problem, u))
            strength = choice.strength
            problem = problem.under(choice.weights)
            self.report(f"fit: prior strength {strength:.1e}, {choice.weights}", None)
        penal = self.penalty(problem, u, problem.joined(factors), strength)
        if self.linear.all():
            step = solve(problem.joined(factors), prior=penal.after(u)).theta
            history = [Step(0, float(problem.joined(factors).chi2(step)), 0.0, True)]
            return self.finish(problem, u + step, history, strength, penal, {k: f.after(step) for k, f in factors.items()})
        fitted = self.minimum(problem, u, history, strength, penal)
        if self.decided or self.ridge is not None or _score(fitted.cv) <= choice.score + DOUBT:
            return fitted
        other = self.minimum(problem, u, history, RIDGE, self.penalty(problem, u, problem.joined(factors), RIDGE))
        return min(fitted, other, key=lambda f: _score(f.cv))

    # ---- stages

    def minimum(self, problem: Problem, u: Array, history: list[Step], strength: float, penal: Factor) -> Fitted:
        """The fit from u under a penalty of a strength."""
        point, more = self.minimise(problem, u, penal, CLOSELY)
        return self.finish(problem, point.u, history + more, strength, penal)

    def minimise(self, problem: Problem, u: Array, penal: Factor, tolerance: float, limit: int = LIMIT) -> tuple[Point, list[Step]]:
        return minimise(problem, u, penal, self.linear, self.gauge(problem), tolerance, limit, self.note, self.limited)

    @cached_property
    def limited(self) -> NDArray[np.bool_]:
        """Unknowns that may have a pole at zero [K]: lengths and exponents that are their own coordinate."""
        problem = self.problem()
        curved = self.model.each(lambda entry: entry.key not in self.structure.polynomial) & problem.coordinates.plain
        return problem.columns(curved)

    def problem(self) -> Problem:
        model, active = referenced(self.model, self.train, self.references)
        weights = self.weights or Weights()
        offset = self.offset and weights.stress is not None and any(f.stress is not None for f in self.train)
        return Problem(model, self.train.frames, weights, offset, active)

    @cached_property
    def structure(self) -> Structure:
        return structure(self.model)

    @cached_property
    def linear(self) -> NDArray[np.bool_]:
        """Unknowns that enter linearly and are solved exactly [K]."""
        problem = self.problem()
        inside = self.model.each(lambda entry: entry.key in self.structure.linear)
        found = problem.columns(inside)
        if problem.offset:
            found[-1] = True
        if self.method == "linear" and not found.all():
            names = [n for n, a in zip(self.model.parameter_names, inside & problem.active, strict=True) if not a]
            raise AlgebraError(
                f"A linear fit of {self.model.expression} was asked for",
                f"{len(names)} of its numbers do not enter linearly, {names[0]} first",
                'Write method="varpro", or freeze them',
            )
        return found if self.method != "lm" or found.all() else np.zeros(len(found), dtype=bool)

    @cached_property
    def chosen_method(self) -> str:
        if self.method in ("lbfgs", "adam"):
            return self.method
        if self.method == "auto" and self.model.size > LARGE:
            return "lbfgs"
        return "linear" if self.linear.all() else "varpro" if self.linear.any() and self.method != "lm" else "lm"

    @cached_property
    def split(self) -> list[NDArray[np.intp]]:
        """Places of the frames of each fold; none where there are too few groups."""
        count = int(self.fold_of.max()) + 1
        return [np.flatnonzero(self.fold_of == fold) for fold in range(count)] if count > 1 else []

    def label(self, place: int) -> tuple[int, str]:
        return int(self.fold_of[place]), self.train[place].config_type

    @cached_property
    def fold_of(self) -> NDArray[np.intp]:
        return self.train.fold_of(self.folds, self.by, self.seed)

    def by_fold(self, factors: dict[tuple[str, Any], Factor]) -> dict[tuple[str, Any], Factor]:
        return group_by(factors, lambda key: (key[0], key[1][0]))  # type: ignore[return-value]

    def prior_at(self, problem: Problem, u: Array, around: bool = True) -> Callable[[Factor], Factor]:
        """The penalty of strength one for a factor at u; `around` u, its unknown is a step."""
        start = self.problem().start()

        def penal(factor: Factor) -> Factor:
            found = prior(problem, self.structure, factor.norms, start)
            return found.after(u) if around else found

        return penal

    def penalty(self, problem: Problem, u: Array, factor: Factor, strength: float) -> Factor:
        """All that holds the unknowns beside the data: the prior of a strength for a factor at u, and raw totals of charges."""
        found = weigh(self.prior_at(problem, u, around=False)(factor), np.sqrt(strength))
        return found if self.neutral is None else merge_factors([found, self.neutral])

    @cached_property
    def neutral(self) -> Factor | None:
        problem = self.problem()
        return None if self.neutrality is None else held(problem, problem.start(), self.neutrality)

    def gauge(self, problem: Problem) -> Callable[[Array], Array]:
        """Flat directions of the data that nothing else holds."""
        return lambda u: unheld(gauges_of(problem, u), self.neutral)

    @property
    def decided(self) -> bool:
        """Whether folds have nothing left to choose."""
        return not self.split or (self.ridge is not None and self.weights is not None)

    def best_start(self, problem: Problem) -> tuple[Array, list[Step], Factor | None]:
        """The best of the fits from the model's own numbers and from random ones, at the first guess of weights and strength.

        Returns: unknowns, steps, and the penalty where it needs no second look.
        """
        start, random = problem.start(), np.random.default_rng(self.seed)
        tolerance = CLOSELY if self.decided and self.linear.any() else ROUGHLY
        held, trials = self.first_penalty(problem, start), []
        for trial in range(1 + self.restarts):
            shift = np.where(self.linear | (trial == 0), 0.0, random.normal(scale=0.3, size=len(start)) * np.maximum(np.abs(start), 0.3))
            trials.append(self.minimise(problem, start + shift, held, tolerance))
        best, history = min(trials, key=lambda found: found[0].cost)
        return best.u, history, held if self.linear.any() else None

    def first_penalty(self, problem: Problem, u: Array) -> Factor:
        """The prior at the start, after linear numbers are solved: factors of products are seen once what they multiply is not zero."""
        strength = RIDGE if self.ridge is None else self.ridge
        held = self.penalty(problem, u, problem.factor(u), strength)
        if not self.linear.any():
            return held
        solved = self.minimise(problem, u, held, CLOSELY, limit=1)[0]
        return self.penalty(problem, u, problem.factor(solved.u), strength)

    def first_order(self, problem: Problem) -> tuple[Array, list[Step]]:
        if self.chosen_method == "lbfgs":
            return first_order.lbfgs(problem, problem.start(), report=self.note)
        return first_order.adam(problem, problem.start(), self.seed, report=self.note)

    # ---- the end

    def finish(
        self,
        problem: Problem,
        u: Array,
        history: list[Step],
        strength: float,
        penal: Factor | None,
        factors: dict[tuple[str, Any], Factor] | None = None,
    ) -> Fitted:
        model, offset = problem.at(u), self.offset_of(problem, u)
        model.domain = shortest_distances([batch for _, batch in problem.batches()], model.species)
        if factors is None and penal is not None:
            factors = problem.factors(u, self.label)
        train = evaluate(model, self.train, offset)
        cv = None
        if penal is not None and factors is not None and self.split:
            cv = self.held_out(problem, u, penal, factors)
            model.covariance_root = self.covariance_root(problem, u, penal, factors)
        shares = problem.shares(factors) if factors else {}
        self.report("", None)
        return Fitted(
            model, train, cv, history, problem.weights, strength, offset, shares, self.chosen_method, raw_totals(model, self.train.frames)
        )

    def covariance_root(self, problem: Problem, u: Array, penal: Factor, factors: dict[tuple[str, Any], Factor]) -> Array:
        """Root [P, folds] of the covariance of the free numbers at the minimum, clustered by fold."""
        folds = self.by_fold(factors)
        groups = [problem.joined({key: f for key, f in folds.items() if key[1] == number}) for number in range(len(self.split))]
        solution = solve(problem.joined(factors), prior=penal.after(u), gauge=self.gauge(problem)(u))
        root = np.zeros((self.model.size, len(groups)))
        root[problem.active] = problem.slope(u)[:, None] * sandwich_root(solution, groups, "count")[: len(u) - problem.offset]
        return root

    def held_out(self, problem: Problem, u: Array, penal: Factor, factors: dict[tuple[str, Any], Factor]) -> Any:
        """Errors of each fold by the fit to the others: exact for linear models, refitted from the minimum of all frames otherwise."""
        folds, parts = self.by_fold(factors), []
        for number, test in enumerate(self.split):
            if self.linear.all():
                rest = problem.joined({key: f for key, f in folds.items() if key[1] != number})
                found = u + solve(rest, prior=penal.after(u)).theta
            else:
                others = problem.among(np.setdiff1d(np.arange(len(self.train)), test).tolist())
                found = minimise(others, u, penal, self.linear, self.gauge(problem), ROUGHLY, REFIT, limited=self.limited)[0].u
            parts.append((test, evaluate(problem.at(found), self.train[test], self.offset_of(problem, found))))
        return merge(self.train.frames, parts)

    def offset_of(self, problem: Problem, u: Array) -> float:
        return float(u[-1]) if problem.offset else 0.0

    def note(self, step: Step) -> None:
        self.report("", step)


def _score(errors: Errors | None) -> float:
    """ln E + ln F of held-out errors (whichever there is)."""
    parts = [] if errors is None else [e.rmse * u for e, u in ((errors.energy, 1e-3), (errors.forces, 1.0)) if e is not None]
    return float(np.sum(np.log(np.maximum(parts, NOTHING))))
