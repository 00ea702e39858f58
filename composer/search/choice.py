"""Weights and strength of the prior, chosen by folds, beside rows that belong to no fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis import Factor
from composer.fit.path import LADDER, STRENGTHS, STRESS, path
from composer.fit.weights import Weights
from composer.search.expansion import Factors, joined
from composer.search.sheet import CORE

Array = NDArray[np.float64]
SPARING = 2e-3  # of the criterion: of strengths that are as good, the strongest extrapolates best


def choose(factors: Factors, prior: Callable[[Factor], Factor], weights: Weights | None, gauge: Array) -> tuple[Weights, float]:
    """The weights (those given, or those that minimise ln RMSE_E + ln RMSE_F held out) and the strength that the folds choose.

    As `composer.fit.path.choose`, for factors among which some are in every fit and in no error. Arguments: factors by
    (observable, fold); prior, the penalty of strength one for a factor; weights or None; gauge [K, g].
    """
    data = {key: f for key, f in factors.items() if key != CORE}
    best: tuple[float, Weights, float, dict[str, float]] | None = None
    for trial in [weights] if weights is not None else ladder(list(dict.fromkeys(o for o, _ in data))):
        found = _held_out(factors, data, prior, trial, gauge)
        score = _score(found, trial, weights is not None)
        at = int(np.flatnonzero(score <= score.min() + SPARING)[-1])
        if best is None or score[at] < best[0]:
            best = float(score[at]), trial, float(STRENGTHS[at]), {o: float(r[at]) for o, r in found.items()}
    assert best is not None
    return best[1] if weights is not None else stated(best[1], best[3]), best[2]


def ladder(observables: Sequence[str]) -> list[Weights]:
    """Trial weights at a force target of 0.1 eV/Å."""
    there = {o: o in observables for o in ("energy", "forces", "stress")}
    plain = Weights(0.01 if there["energy"] else None, 0.1 if there["forces"] else None, 0.01 if there["stress"] else None)
    energies = [0.1 / ratio for ratio in LADDER] if there["energy"] and there["forces"] else [0.01]
    stresses = STRESS if there["stress"] and len(observables) > 1 else (1.0,)
    return [
        replace(plain, energy=e if there["energy"] else None, stress=e * s if there["stress"] else None) for e in energies for s in stresses
    ]


def stated(weights: Weights, errors: dict[str, float]) -> Weights:
    """The same ratios with targets of the size of the held-out force errors."""
    first = "forces" if "forces" in errors else next(iter(errors))
    factor = max(errors[first], 1e-12) / weights.scales[first]
    return replace(weights, **{o: s * factor for o, s in weights.scales.items()})


def _score(found: dict[str, Array], weights: Weights, given: bool) -> Array:
    if given:
        return np.log(np.sum([(found[o] / weights.scales[o]) ** 2 for o in found], axis=0) + 1e-300)
    judged = [o for o in ("energy", "forces") if o in found] or list(found)
    return np.sum([np.log(found[o] + 1e-12) for o in judged], axis=0)


def _held_out(factors: Factors, data: Factors, prior: Callable[[Factor], Factor], weights: Weights, gauge: Array) -> dict[str, Array]:
    """Held-out root mean square of every observable [strengths]."""
    penal = prior(joined(factors, weights))
    squares: dict[str, Array] = {o: np.zeros(len(STRENGTHS)) for o, _ in data}
    rows = dict.fromkeys(squares, 0)
    for left_out in sorted({fold for _, fold in data}):
        rest = joined({key: f for key, f in factors.items() if key[1] != left_out}, weights)
        u = path(rest, penal, STRENGTHS, gauge)  # [strengths, K]
        for (observable, fold), factor in data.items():
            if fold == left_out:
                squares[observable] += np.sum((factor.triangle @ u.T - factor.rhs[:, None]) ** 2, axis=0) + factor.rss
                rows[observable] += factor.rows
    return {o: np.sqrt(squares[o] / rows[o]) for o in squares}
