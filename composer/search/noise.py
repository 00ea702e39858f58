"""Whether a difference of held-out errors is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Held = Mapping[str, Sequence[float]]  # sums of squared held-out errors, by observable and then by fold
SLACK = 1e-3  # of the criterion: less is no gain, whatever the noise
SURE, TRIFLE = 2.0, 0.02  # standard errors, and the difference of the criterion, beyond either of which a difference counts


def judged(observables: Mapping[str, object]) -> list[str]:
    """The observables of the criterion: energy and forces, or whichever there are."""
    return [o for o in ("energy", "forces") if o in observables] or list(observables)


def noise(first: Held, second: Held) -> float:
    """Standard error of the difference of two criteria on the same folds, by a bootstrap over folds to first order.

    A criterion is sum_o ln(sum_k q_ok) / 2 with q the squares of fold k; a fold moves the difference of two by half of the difference of
    its shares in them, x_k = sum_o (q_ok / sum q_o - q'_ok / sum q'_o) / 2, and K clusters of a sum have the variance
    K / (K - 1) sum_k x_k^2. Zero where fewer than two folds are known. Source: B. Efron, Ann. Statist. 7, 1 (1979).
    """
    shares = [[np.asarray(h[o]) / max(float(np.sum(h[o])), 1e-300) for o in judged(h)] for h in (first, second)]
    if not all(shares) or min(len(s) for s in (*shares[0], *shares[1])) < 2:
        return 0.0
    apart = 0.5 * (np.sum(shares[0], axis=0) - np.sum(shares[1], axis=0))  # [folds]
    return float(np.sqrt(len(apart) / (len(apart) - 1) * np.sum(apart**2)))


def margin(first: Held, second: Held) -> float:
    """What a difference of two criteria must exceed to count: beyond noise, or more than a trifle."""
    return max(SLACK, min(SURE * noise(first, second), TRIFLE))
