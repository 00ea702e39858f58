"""What to compute next: unlabelled structures ranked by what they would teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import analysis
from composer.data import Data, Frame
from composer.errors import DataError, check_whole
from composer.fisher.report import fisher
from composer.fit.rows import Problem
from composer.fit.weights import Weights
from composer.model import Model
from composer.model.structures import listed


@dataclass(frozen=True)
class Suggestion:
    """Structures of a pool in the order in which to compute them, and what each would gain; printable.

    order [n], places in the pool; gains [n], the growth of ln det of the information (D-optimal), or the fall of the summed variance of the
    targets (I-optimal), each counted after the ones before it.
    """

    order: tuple[int, ...]
    gains: tuple[float, ...]
    criterion: str

    def __str__(self) -> str:
        lines = [f"{n + 1:3d}. structure {place:5d}   gain {gain:.4g}" for n, (place, gain) in enumerate(zip(self.order, self.gains))]
        return "\n".join([f"Compute next ({self.criterion}-optimal, each after the ones before):", *lines])

    __repr__ = __str__


def suggest(
    model: Model, train: Data, pool: Sequence[Any], picks: int = 10, weights: Weights | None = None, targets: Sequence[Any] | None = None
) -> Suggestion:
    """Rank unlabelled structures by what their energies, forces and stress would teach the model.

    Greedy D-optimal design, ln det(1 + J_c H^(-1) J_c^T); with `targets` I-optimal for the energies per atom of those structures.
    Arguments: model; train, what is known; pool, structures (ASE Atoms or frames); picks; weights, noise (None: rms residuals on train);
    targets. Returns: Suggestion. Errors: DataError for an empty pool. Source: V. V. Fedorov, Theory of Optimal Experiments (1972).
    """
    check_whole("A suggestion", picks=(picks, 1))
    frames = [_labelled(s, n) for n, s in enumerate(listed(pool))]
    if not frames:
        raise DataError(f"{picks} structures of a pool were asked for", "The pool is empty", "Give a list of ase.Atoms or frames")
    report = fisher(model, train, weights)
    problem = Problem(model, frames, report.weights, report.problem.offset)
    scales = {o: 1.0 / s for o, s in report.weights.scales.items()}
    with threadpool_limits(1, "blas"):
        factors = problem.factors(problem.start(), lambda place: place)
        candidates = []
        for place in range(len(frames)):
            own = {key: f for key, f in factors.items() if key[1] == place}
            candidates.append(analysis.combine(own, {key: scales[key[0]] for key in own}))
        aims = None if targets is None else _gradients(problem, targets)
        choice = analysis.choose(report.factor, candidates, picks, targets=aims)
    return Suggestion(tuple(choice.order.tolist()), tuple(choice.gains.tolist()), "D" if targets is None else "I")


def _labelled(structure: Any, place: int) -> Frame:
    """A frame with room for the observables one would compute; their values are not read."""
    symbols = structure.get_chemical_symbols() if hasattr(structure, "get_chemical_symbols") else structure.symbols
    cell, pbc = np.asarray(structure.cell[:], dtype=float), np.asarray(structure.pbc, dtype=bool)
    stress = np.zeros((3, 3)) if pbc.all() else None
    positions = np.asarray(structure.positions, dtype=float)
    return Frame(tuple(symbols), positions, cell, pbc, 0.0, np.zeros_like(positions), stress, index=place, source="the pool")


def _gradients(problem: Problem, targets: Sequence[Any]) -> Any:
    """Derivatives of the energies per atom of target structures by the unknowns [q, K]."""
    model = problem.model
    counts = np.array([len(t.positions) for t in targets])[:, None]
    energy = model.jacobian(list(targets)).energy.cpu().numpy() * problem.slope(problem.start()) / counts
    return np.column_stack([energy, np.zeros((len(energy), int(problem.offset)))])
