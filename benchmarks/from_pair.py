"""What a search reaches from a pair term alone in ten processor minutes, beside the linear model of 75 numbers.

`python -m benchmarks from_pair --only Mo`: three seeds; both sides are judged by the same folds of the training frames, and no test file is opened.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import composer
from benchmarks.sets import SETS, Case
from benchmarks.timing import Row
from composer.algebra import Expression
from composer.data import Data
from composer.search import Trial
from composer.search.vocabulary import lengths
from terms import ZBL, Pair, ThreeBody

CUTOFF = {"Mo": 5.2, "Si": 5.0}  # Å, of the baseline
MINUTES, SEEDS = 10.0, (0, 1, 2)


def rows(only: str = "", repeats: int = 9) -> Iterator[Row]:
    """One row for each set and seed: the geometric mean of held-out energy and force errors, ours over the baseline."""
    for case in [c for c in SETS if c.name in CUTOFF and only.lower() in c.name.lower()]:
        if case.missing:
            yield Row(f"{case.name} from a pair", None, None, None, "", case.missing)
            continue
        train = case.training()
        for seed in SEEDS:
            yield _row(case, train, seed)


def _row(case: Case, train: Data, seed: int) -> Row:
    cutoff, workers = CUTOFF[case.name], min(2, os.cpu_count() or 1)
    inner = round(lengths(train).shortest, 2)  # as the default words of a search start
    core = ZBL(inner=round(0.5 * inner, 2), outer=inner)
    pair, angles = Pair(cutoff=cutoff, n_max=14, inner=inner), ThreeBody(cutoff=cutoff, n_max=4, l_max=5, inner=inner)
    baseline = _first(train, core + pair + angles, seed)
    found = composer.search(
        train,
        start=core + Pair(cutoff=cutoff, n_max=8, inner=inner),
        budget=1000,
        seconds=60 * MINUTES / workers,
        seed=seed,
        executor=workers,
        quiet=True,
    )
    best = found.winner
    note = f"E {best.energy:.3g} meV/atom and F {best.forces:.3g} eV/Å against {baseline.energy:.3g} and {baseline.forces:.3g}, held out by the same folds; "
    note += f"P = {best.parameters}, {len(found.trials)} trials, {best.expression}"
    return Row(f"{case.name} from a pair, seed {seed} / linear 75", _mean(best), _mean(baseline), 1.0, "", note)


def _first(train: Data, expression: Expression, seed: int) -> Trial:
    """The fit of a given expression, as a search judges it."""
    return composer.search(train, [*expression.terms()], start=expression, budget=1, seed=seed, quiet=True).trials[0]


def _mean(trial: Trial) -> float:
    """Geometric mean of the held-out errors, (eV/atom eV/Å)^(1/2)."""
    return math.exp(trial.criterion / 2)
