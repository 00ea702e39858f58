"""One trial: an expression fitted, with errors that were held out by fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis import Factor, solve, weigh
from composer.algebra import Expression
from composer.data import By
from composer.errors import ComposerError
from composer.evaluate import Errors
from composer.fit.levenberg import minimise
from composer.fit.weights import Weights
from composer.model import Model
from composer.runtime import threads
from composer.search.choice import choose
from composer.search.cost import cost
from composer.search.expansion import Expansion, Part, joined
from composer.search.noise import judged
from composer.search.sheet import scale
from composer.search.study import Study, at_home

Array = NDArray[np.float64]
RIDGE = 1e-8  # strength of the prior before folds have chosen one
BETWEEN = (1.0, 0.5, 0.2, 0.05, 0.0)  # where a fit may start, on the way from the parent to the first-order solution
CHOICES, WORTH = 3, 0.02  # of weights and strength where numbers are multiplied, and the fall of the criterion that makes one more worth it
DEAR = 0.1  # rise of the criterion that is too much for a fit that repels
FIRM = (1.0, 4.0, 16.0, 64.0)  # how firmly walls that fail are held up, one round after the other
FLOOR = 1e-6  # eV/atom, eV/Å: errors below it are alike
REFIT, LIMIT = 12, 60  # evaluations of a refit without a fold, and of a fit
RESTS = "energy", "forces", "stress"


@dataclass(frozen=True, eq=False)
class Task:
    """What a worker is asked to fit.

    Arguments: weights (None: chosen); seed; density (atoms/Å^3) at which cost is stated; start, free numbers of the model [P] (None: as
    declared) and base [P], those of the parent with what is new at zero; guess and strength, weights and strength of the prior to
    begin with where numbers are multiplied; by, what folds keep together.
    """

    study: Study
    expression: Expression
    weights: Weights | None
    seed: int
    density: float
    start: Array | None = None
    base: Array | None = None
    guess: Weights | None = None
    strength: float = RIDGE
    by: By = "group"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a fit gave, or why it failed.

    Arguments: parameters P; errors, held-out root mean squares by observable (eV/atom, eV/Å, eV/atom of V sigma/N) and train, those of
    the frames fitted; held, sums of the squared held-out ones by observable and fold; criterion, ln E + ln F held out; cost, operations for each atom and step; weights and strength chosen; method;
    theta [P] and theta_folds [folds, P] with the stress offsets last where the data have stress; failure, empty where there was none.
    """

    parameters: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    held: Mapping[str, list[float]] = field(default_factory=dict)
    train: Mapping[str, float] = field(default_factory=dict)
    criterion: float = float("inf")
    cost: float = 0.0
    weights: Mapping[str, Any] = field(default_factory=dict)
    strength: float = 0.0
    method: str = ""
    theta: Array = field(default_factory=lambda: np.zeros(0))
    theta_folds: Array = field(default_factory=lambda: np.zeros((0, 0)))
    failure: str = ""

    def record(self) -> dict[str, Any]:
        """All but the arrays, as JSON data."""
        return {n: dict(v) if isinstance(v, Mapping) else v for n, v in vars(self).items() if not n.startswith("theta")}


def run(task: Task) -> Outcome:
    """Fit a task; a fit that cannot be done is an outcome with its reason. One thread."""
    threads.set_threads(1)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"):
            found = _run(replace(task, study=at_home(task.study)))
    except (ComposerError, FloatingPointError, ValueError, ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
        return Outcome(failure=f"{type(error).__name__}: {error}")
    if not np.isfinite(found.criterion) or not np.isfinite(found.theta).all():
        return Outcome(failure="the fit gave numbers that are not finite")
    return found


def _run(task: Task) -> Outcome:
    expansion = Expansion(task.study, task.expression)
    spent = cost(expansion.model, task.density)
    return replace(_expanded(task, expansion) if expansion.possible else _fused(task, expansion.model), cost=spent)


def _expanded(task: Task, expansion: Expansion) -> Outcome:
    study = expansion.study
    weights, strength = task.weights or task.guess or study.weights, task.strength
    u = np.zeros(expansion.size) if expansion.linear else _minimum(expansion, _start(task, expansion, weights), weights, strength, 1e-6)
    fits = [] if expansion.linear else [_fit(expansion, u, weights, strength)]
    for _ in range(CHOICES if len(study.folds) > 1 else 0):
        last = criterion(fits[-1].errors) if fits else np.inf
        fits.append(_fit(expansion, u, *_choice(task, expansion, u)))
        if expansion.linear or criterion(fits[-1].errors) > last - WORTH:
            break
        u = fits[-1].theta  # folds choose again where the problem was linearised better
    fit = min(fits or [_fit(expansion, u, weights, strength)], key=lambda f: criterion(f.errors))
    method = "linear" if expansion.linear else "variable projection"
    return replace(_repelling(expansion, fit), method=method)


def _choice(task: Task, expansion: Expansion, u: Array) -> tuple[Weights, float]:
    """Weights and strength of the prior that folds choose for the problem linearised at u."""

    def penal(factor: Factor) -> Factor:
        return expansion.penal(factor.norms).after(u)

    return choose(expansion.steps(u), penal, task.weights, expansion.gauge(u))


def _fit(expansion: Expansion, u: Array, weights: Weights, strength: float) -> Outcome:
    """The fit from u under stated weights and strength, with errors held out by fold."""
    u = _minimum(expansion, u, weights, strength, 1e-8)
    return _judged(expansion, u, weights, strength, np.zeros(len(expansion.walls)))


def _judged(expansion: Expansion, u: Array, weights: Weights, strength: float, held: Array) -> Outcome:
    """The outcome of a fit that ended at u with walls held up, with errors held out by fold."""
    study, several = expansion.study, len(expansion.study.folds) > 1
    folds = []
    for fold in study.folds if several else []:
        folds.append(_minimum(expansion, u, weights, strength, 1e-5, frozenset(study.folds) - {fold}, REFIT, held))
    train = _errors([expansion.squares(u)])
    squares = [{k: v for k, v in expansion.squares(uf).items() if k[1] == fold} for fold, uf in zip(study.folds, folds, strict=False)]
    errors = _errors(squares) if several else train
    by_fold = {o: [s[o, fold][0] if (o, fold) in s else 0.0 for fold, s in zip(study.folds, squares, strict=False)] for o in judged(errors)}
    theta_folds = np.array(folds).reshape(-1, len(u))
    return Outcome(expansion.model.size, errors, by_fold, train, criterion(errors), 0.0, asdict(weights), strength, "", u, theta_folds)


def _repelling(expansion: Expansion, free: Outcome) -> Outcome:
    """A fit near the free one in which atoms that are pressed together repel, if there is one with errors that are about as low.

    Walls that fail are held up, and more firmly where they fail again.
    """
    weights, u, held = Weights(**free.weights), free.theta, np.zeros(len(expansion.walls))
    for firm in FIRM:
        failing = expansion.failing(u)
        if not failing.any():
            break
        held[failing] = firm
        u = _minimum(expansion, u, weights, free.strength, 1e-5, None, REFIT, held)
    if not held.any() or expansion.failing(u).any():
        return free
    found = _judged(expansion, u, weights, free.strength, held)
    return found if found.criterion < free.criterion + DEAR else free


def _minimum(
    expansion: Expansion,
    u: Array,
    weights: Weights,
    strength: float,
    tolerance: float,
    folds: frozenset[int] | None = None,
    limit: int = LIMIT,
    held: Array | None = None,
) -> Array:
    """The minimum from u over some folds with walls held up, under the penalty that belongs to all data at u."""
    whole = joined(expansion.steps(u), weights)
    penal = weigh(expansion.penal(whole.norms), float(np.sqrt(strength)))
    kept = frozenset(expansion.study.folds) if folds is None else folds
    part = Part(expansion, weights, kept, np.zeros(len(expansion.walls)) if held is None else held)
    if expansion.linear:
        return u + solve(part.factor(u), prior=penal.after(u), gauge=expansion.gauge(u)).theta
    point = minimise(part, u, penal, _exact(expansion), expansion.gauge, tolerance, limit)[0]
    return point.u


def _exact(expansion: Expansion) -> NDArray[np.bool_]:
    """Unknowns that are solved exactly: those of leaves of which no two are multiplied, the largest first."""
    clash = {frozenset((a, b)) for m, _ in expansion.monomials for a in m for b in m if a != b or m.count(a) > 1}
    chosen: list[str] = []
    for digest in sorted(expansion.leaves, key=lambda d: (-expansion.leaves[d].size, d)):
        if all(frozenset((digest, other)) not in clash for other in (*chosen, digest)):
            chosen.append(digest)
    found = np.ones(expansion.size, dtype=bool)
    for digest in expansion.leaves:
        if digest not in chosen:
            found[expansion.places[digest]] = False
    return found


def _start(task: Task, expansion: Expansion, weights: Weights) -> Array:
    """The start, or the best point between it and the parent: a first-order solution may go too far."""
    end = expansion.model.theta.numpy() if task.start is None else task.start
    begin = end if task.base is None else task.base
    points = [np.concatenate([begin + t * (end - begin), np.zeros(int(expansion.study.offset))]) for t in BETWEEN]

    def cost(u: Array) -> float:
        found = sum(square / scale(weights, key[0]) ** 2 for key, (square, _) in expansion.squares(u).items())
        return found if np.isfinite(found) else np.inf

    return min(points, key=cost)


def _fused(task: Task, model: Model) -> Outcome:
    """A fit by kernels compiled for the whole expression."""
    from composer.fit.fitting import fit

    if task.start is not None:
        model = model.with_parameters(torch.from_numpy(task.start))
    fitted = fit(model, task.study.data, task.weights, seed=task.seed, folds=len(task.study.folds), quiet=True, by=task.by)
    shown = {o: {"energy": 1e-3, "forces": 1.0} for o in ("cv", "train")}
    errors, train = (
        {o: f * getattr(e, o).rmse for o, f in shown[n].items() if getattr(e, o)}
        for n, e in (("cv", fitted.cv or fitted.train), ("train", fitted.train))
    )
    theta = np.concatenate([fitted.model.theta.numpy(), [fitted.stress_offset] * task.study.offset])
    held = {} if fitted.cv is None else {o: _by_fold(fitted.cv, o, task.study) for o in judged(errors)}
    return Outcome(model.size, errors, held, train, criterion(errors), 0.0, asdict(fitted.weights), fitted.ridge, fitted.method, theta)


def criterion(errors: Mapping[str, float]) -> float:
    """ln E + ln F of root mean squares (whichever there is)."""
    return float(np.sum([np.log(max(errors[o], FLOOR)) for o in judged(errors)]))


def _by_fold(errors: Errors, observable: str, study: Study) -> list[float]:
    """Sums of squared errors by fold of the study."""
    squares = np.bincount(study.fold[errors.frame[observable]], errors.error(observable) ** 2, minlength=len(study.folds))
    return squares[study.folds].tolist()


def _errors(squares: list[dict[tuple[str, int], tuple[float, int]]]) -> dict[str, float]:
    found = {}
    for observable in RESTS:
        parts = [v for s in squares for (o, _), v in s.items() if o == observable]
        if parts:
            found[observable] = float(np.sqrt(sum(p[0] for p in parts) / sum(p[1] for p in parts)))
    return found


def model_of(expression: Expression, study: Study, theta: Array) -> Model:
    """The model of an outcome."""
    model = Model(expression, study.species)
    model = model.with_parameters(torch.from_numpy(np.ascontiguousarray(theta[: model.size])))
    model.domain = study.shortest
    return model
