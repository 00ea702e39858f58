"""Penalised least squares for many strengths of the prior at the price of one, and the choice of weights and strength by folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg as sla
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis import Factor, combine, coordinates
from composer.fit.weights import Weights

Array = NDArray[np.float64]
Factors = Mapping[tuple[str, Any], Factor]
STRENGTHS = 10.0 ** np.arange(-14.0, 1.1, 0.5)  # of the prior, relative to what the data say
LADDER = 10.0 ** np.arange(0.5, 3.6, 0.5)  # weights of energies beside forces, s_F / s_E in 1/Å
STRESS = (10.0, 30.0, 100.0)  # targets of V sigma / N beside those of energies
NOTHING = 1e-12  # held-out error that counts as none
SLACK = 0.02  # of the score, given away for a tighter stress


def path(factor: Factor, prior: Factor, strengths: Array, gauge: Array | None = None) -> Array:
    """Minima u [strengths, K] of |J u - b|^2 + strength |L (u - goal)|^2, by one generalised singular value decomposition.

    With Q T = [R; sqrt(s_0) L] and R T^(-1) = U C V^T, every strength is a division by C^2 + s/s_0 S^2, where C^2 + S^2 = 1.
    Source: P. C. Hansen, Rank-Deficient and Discrete Ill-Posed Problems (1998), 2.1.2 and 4.
    """
    frame = coordinates(factor, gauge, prior)
    data, held = frame.reduce(factor.triangle), frame.reduce(prior.triangle)  # [K, K'], [Q, K']
    # unknowns are a step from zero in the complement of the gauge; the goal is seen through its rows alone
    middle = float(np.sqrt(strengths.min() * strengths.max()))
    triangle = np.asarray(np.linalg.qr(np.concatenate([data, np.sqrt(middle) * held]), mode="r"), dtype=np.float64)
    inverse = _inverse(triangle)
    left, cosines, right = np.linalg.svd(data @ inverse, full_matrices=False)
    basis = inverse @ right.T  # [K', K'']
    sines = held @ basis  # [Q, K''], columns orthogonal
    towards, pull = cosines * (left.T @ factor.rhs), sines.T @ prior.rhs
    share = np.sum(sines**2, axis=0)
    weight = cosines**2 + np.outer(strengths, share)  # [strengths, K'']
    x = (towards + np.outer(strengths, pull)) / np.where(weight > 0, weight, np.inf)
    return np.array([frame.expand(basis @ row) for row in x])


def _inverse(triangle: Array) -> Array:
    """Inverse of a triangular matrix, or its pseudo-inverse where a direction is neither seen nor held."""
    size = np.abs(np.diagonal(triangle))
    if triangle.shape[0] == triangle.shape[1] and size.min(initial=np.inf) > 1e-14 * size.max(initial=0.0):
        return np.asarray(sla.solve_triangular(triangle, np.eye(len(triangle))))
    return np.asarray(np.linalg.pinv(triangle, rcond=1e-14), dtype=np.float64)


@dataclass(frozen=True)
class Choice:
    """What the folds chose: weights, strength of the prior, and the held-out root mean squares by observable (eV/atom, eV/Å, eV/atom)."""

    weights: Weights
    strength: float
    errors: dict[str, float]

    @property
    def score(self) -> float:
        """ln E + ln F (whichever there is)."""
        return float(np.sum([np.log(max(self.errors[o], NOTHING)) for o in ("energy", "forces") if o in self.errors]))


def choose(
    folds: Factors,
    prior: Callable[[Factor], Factor],
    weights: Weights | None,
    strength: float | None,
    gauge: Array | None = None,
) -> Choice:
    """Choose what was left open by errors held out from grouped folds.

    Arguments: folds, factors by (observable, fold), divided by shapes alone; prior, the penalty of strength one for a factor; weights, or
    None to minimise ln RMSE_E + ln RMSE_F over a ladder of targets; strength of the prior, or None to choose it too (by the weighted
    held-out chi2 where weights are given). Returns: Choice.
    """
    strengths = STRENGTHS if strength is None else np.array([strength])
    observables = list(dict.fromkeys(o for o, _ in folds))
    trials = [weights] if weights is not None else _ladder(observables)
    found: list[tuple[float, Weights, float, dict[str, float]]] = []
    with threadpool_limits(1, "blas"):
        for trial in trials:
            errors, counts = _held_out(folds, prior, trial, strengths, gauge)
            score = _score(errors, counts, trial, weights is not None)
            at = _sparing(score)
            found.append((float(score[at]), trial, float(strengths[at]), {o: float(r[at]) for o, r in errors.items()}))
    best = min(found, key=lambda trial: trial[0])
    alike = [t for t in found if t[1].energy == best[1].energy and t[0] <= best[0] + (SLACK if weights is None else 0.0)]
    _, chosen, strength_, errors_ = min(alike, key=lambda trial: trial[1].stress or 0.0)
    return Choice(chosen if weights is not None else _stated(chosen, errors_), strength_, errors_)


def _held_out(
    folds: Factors, prior: Callable[[Factor], Factor], weights: Weights, strengths: Array, gauge: Array | None
) -> tuple[dict[str, Array], dict[str, int]]:
    """Held-out root mean square of every observable [strengths], in the shape of the weights, and the number of its rows."""
    scale = {key: 1.0 / weights.scales[key[0]] for key in folds}
    penal = prior(combine(folds, scale))
    squares: dict[str, Array] = {o: np.zeros(len(strengths)) for o, _ in folds}
    counts = dict.fromkeys(squares, 0)
    for left_out in dict.fromkeys(fold for _, fold in folds):
        rest = {key: f for key, f in folds.items() if key[1] != left_out}
        u = path(combine(rest, {k: scale[k] for k in rest}), penal, strengths, gauge)
        for (observable, fold), factor in folds.items():
            if fold == left_out:
                squares[observable] += _chi2(factor, u)
                counts[observable] += factor.rows
    return {o: np.sqrt(squares[o] / counts[o]) for o in squares}, counts


def _chi2(factor: Factor, u: Array) -> Array:
    return np.sum((factor.triangle @ u.T - factor.rhs[:, None]) ** 2, axis=0) + factor.rss


def _score(found: dict[str, Array], counts: dict[str, int], weights: Weights, stated: bool) -> Array:
    if stated:
        return np.log(np.sum([counts[o] * (found[o] / weights.scales[o]) ** 2 for o in found], axis=0))
    judged = [o for o in ("energy", "forces") if o in found] or list(found)
    return np.sum([np.log(np.maximum(found[o], NOTHING)) for o in judged], axis=0)


def _sparing(score: Array, slack: float = 2e-3) -> int:
    """The strongest prior whose score (a logarithm) is within `slack` of the best: stronger ones extrapolate better."""
    return int(np.flatnonzero(score <= score.min() + slack)[-1])


def _ladder(observables: Sequence[str]) -> list[Weights]:
    """Trial weights at a force target of 0.1 eV/Å."""
    there = {o: o in observables for o in ("energy", "forces", "stress")}
    plain = Weights(0.01 if there["energy"] else None, 0.1 if there["forces"] else None, 0.01 if there["stress"] else None)
    ratios = LADDER if {"energy", "forces"} <= set(observables) else [10.0]
    energies = [0.1 / ratio for ratio in ratios]
    stresses = STRESS if "stress" in observables and len(observables) > 1 else (1.0,)
    return [replace(plain, energy=e if plain.energy else None, stress=e * s if plain.stress else None) for e in energies for s in stresses]


def _stated(weights: Weights, errors: dict[str, float]) -> Weights:
    """The same ratios with targets of the size of the held-out force errors."""
    first = "forces" if "forces" in errors else next(iter(errors))
    factor = max(errors[first], NOTHING) / weights.scales[first]
    return replace(weights, **{o: s * factor for o, s in weights.scales.items()})
