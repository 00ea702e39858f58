"""All neighbours of an expression ranked from one pass over the data, without fitting any of them.

A neighbour is expanded to first order at the numbers of its parent, with what is new at amplitude zero: its columns are blocks m x_k of
leaves with frozen multipliers. For sums of linear terms that is exact. The linear problem is solved without each fold in turn, under
the weights and the strength of the prior of the parent, so that what is predicted is the change of the held-out criterion itself; the
fall of the penalised chi2 (Rao's score gain; for a removal minus Wald's price) is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg as sla
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis import Factor
from composer.algebra import Expression
from composer.errors import AlgebraError
from composer.fit.weights import Weights
from composer.model import Model
from composer.runtime import threads
from composer.search.columns import E0, OFFSET, REFERENCE, Key, Order
from composer.search.expansion import roughness
from composer.search.inherit import inherited, put
from composer.search.leaf import Leaf
from composer.search.moves import Move
from composer.search.noise import Held, margin
from composer.search.plan import Bank, Plan, columns_of, known, order, plan
from composer.search.sheet import Sheet, scale, sheet
from composer.search.study import Study
from composer.search.trial import criterion

Array = NDArray[np.float64]
STRENGTHS = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)  # of the prior, of which a neighbour may have the best


@dataclass(frozen=True, eq=False)
class Parent:
    """A fitted expression whose neighbours are asked for (None before the first): weights and strength of its fit, numbers by leaf."""

    expression: Expression
    weights: Weights
    strength: float
    numbers: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A neighbour with what is expected of it: change of the held-out criterion, fall of chi2, number of parameters, start for its fit, margin beyond which the change counts."""

    move: Move
    change: float
    gain: float
    parameters: int
    start: Array
    margin: float


def rank(study: Study, parent: Parent, moves: Sequence[Move], bank: Bank, largest: int, mapper: Any = map) -> list[Proposal]:
    """Proposals for all moves whose neighbour has at most `largest` numbers, the best predicted change first."""
    stay = plan(study, parent.expression, parent.numbers, study.leaves.of(parent.expression))
    plans, count = [], {}
    for move in moves:
        try:
            leaves = study.leaves.of(move.expression)
            size = len(study.species) + _size(leaves)
            if size <= largest:
                plans.append((move, _planned(study, parent, stay, move, leaves)))
                count[move] = size
        except AlgebraError:
            continue
    static = [bank.holds(stay)] + [bank.holds(p) for _, p in plans]
    inside, outside = [p for p, s in zip(plans, static[1:]) if s], [p for p, s in zip(plans, static[1:]) if not s]
    found = []
    for group, whole in ((inside, True), (outside, False)):
        if group:
            # the parent stands beside its neighbours on the same columns: its own error is predicted like theirs
            one = bank.sheet() if whole and static[0] else sheet(study, _joint(study, parent, [stay, *(p for _, p in group)]), mapper)
            wanted = bank.wanted if whole and static[0] else columns_of([stay, *(p for _, p in group)])
            found += _predict(study, parent, stay, group, one, wanted, count)
    return sorted(found, key=lambda p: (p.change, p.move.expression.canonical))


def _planned(study: Study, parent: Parent, stay: Plan, move: Move, leaves: Mapping[str, Leaf]) -> Plan:
    """The plan of a neighbour; a tie is a constraint on the columns of the parent itself."""
    if not move.ties:
        return plan(study, move.expression, parent.numbers, leaves)
    found = {leaf.digest: leaf for leaf, _, _ in stay.blocks}
    if not all(new in found and old in found and found[new].linear for new, old in move.ties):
        raise AlgebraError(
            f"{move.text} was to be ranked", "A tie of numbers that are not linear has no price of first order", "Leave it out"
        )
    return replace(stay, expression=move.expression, ties=move.ties)


def _size(leaves: Mapping[str, Leaf]) -> int:
    return sum({e.key: leaf.model.layout.slots[e.key].size for leaf in leaves.values() for e in leaf.entries}.values())


def _joint(study: Study, parent: Parent, plans: Sequence[Plan]) -> Order:
    leaves = {d: e for made in plans for d, e in known(study, made).items()}
    return order(study, columns_of(plans), leaves, parent.numbers)


def _predict(
    study: Study,
    parent: Parent,
    stay: Plan,
    group: list[tuple[Move, Plan]],
    one: Sheet,
    wanted: Mapping[Key, tuple[int, ...]],
    count: Mapping[Move, int],
) -> list[Proposal]:
    """Predicted changes of a group of neighbours on one sheet."""
    now = _linear(study, parent, stay, one, wanted)

    def proposal(item: tuple[Move, Plan]) -> Proposal | None:
        move, made = item
        if one.broken & set(made.keys):
            return None
        try:
            then = _linear(study, parent, made, one, wanted)
        except np.linalg.LinAlgError:
            return None
        start = _start(study, parent, made, then.solution)
        change, gain = then.criterion - now.criterion, now.chi2 - then.chi2
        sure = margin(now.held, then.held)
        return Proposal(move, change, gain, count[move], start, sure) if np.isfinite([change, gain]).all() else None

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads.count()) as pool:
        return [p for p in pool.map(proposal, group) if p is not None]


@dataclass(frozen=True, eq=False)
class _Linear:
    """Held-out squares (whose criterion is) and penalised chi2 and solution of a linear problem."""

    criterion: float
    held: Held
    chi2: float
    solution: Array


def _linear(study: Study, parent: Parent, made: Plan, one: Sheet, wanted: Mapping[Key, tuple[int, ...]]) -> _Linear:
    columns, spans = [*one.place[E0], *(one.place[OFFSET] if study.offset else [])], {}
    for leaf, key, places in made.blocks:
        spans[leaf.digest] = np.arange(len(columns), len(columns) + len(places))
        columns += one.place[key][np.searchsorted(wanted[key], places)].tolist()
    matrix, spans = _joining(len(columns), spans, made.ties)
    factors = one.select(columns, {REFERENCE: 1.0, made.fixed: -1.0}, matrix)
    parts = [(leaf, spans[leaf.digest]) for leaf, _, _ in made.blocks if leaf.digest in spans]
    scales = {k: scale(parent.weights, k[0]) for k in factors}
    norms = np.sqrt(sum(np.sum((f.triangle / scales[k]) ** 2, axis=0) for k, f in factors.items()))
    root = roughness([(leaf, p) for leaf, p in parts if len(p) == leaf.size], norms).triangle

    def reduced(left_out: int | None) -> Array:
        kept = [np.column_stack([f.triangle, f.rhs]) / scales[k] for k, f in factors.items() if k[1] != left_out]
        return np.asarray(np.linalg.qr(np.concatenate(kept), mode="r"))

    strengths = [parent.strength] if made.expression == parent.expression else sorted({parent.strength, *STRENGTHS})
    everyone = reduced(None)
    without = {fold: reduced(fold) if len(study.folds) > 1 else everyone for fold in study.folds}
    helds = [_held_out(factors, {fold: _solve(r, np.sqrt(s) * root) for fold, r in without.items()}) for s in strengths]
    scores = [_criterion(factors, held) for held in helds]
    best = int(np.argmin(scores))
    x = _solve(everyone, np.sqrt(parent.strength) * root)
    rest = sum(float(f.rss) / scales[k] ** 2 for k, f in factors.items())
    chi2 = float(np.sum((everyone[:, :-1] @ x - everyone[:, -1]) ** 2) + parent.strength * np.sum((root @ x) ** 2)) + rest
    return _Linear(scores[best], helds[best], chi2, _solve(everyone, np.sqrt(strengths[best]) * root))


def _joining(
    size: int, spans: dict[str, NDArray[np.intp]], ties: Sequence[tuple[str, str]]
) -> tuple[Array | None, dict[str, NDArray[np.intp]]]:
    """The matrix [columns, K] that adds columns of tied leaves to those they are tied to (None: no ties), and the places of the rest."""
    if not ties:
        return None, spans
    onto = np.arange(size)
    for new, old in ties:
        onto[spans[new]] = spans[old]
    kept, index = np.unique(onto, return_inverse=True)
    return np.eye(len(kept))[index], {digest: index[span] for digest, span in spans.items() if digest not in dict(ties)}


def _held_out(factors: Mapping[tuple[str, int], Factor], by_fold: Mapping[int, Array]) -> dict[str, list[float]]:
    """Squared residuals of every fold at the solution without it, by observable and fold."""
    found: dict[str, list[float]] = {o: [0.0] * len(by_fold) for o, fold in factors if fold in by_fold}
    places = {fold: n for n, fold in enumerate(by_fold)}
    for (observable, fold), factor in factors.items():
        if fold in by_fold:
            found[observable][places[fold]] = float(factor.chi2(by_fold[fold]))
    return found


def _criterion(factors: Mapping[tuple[str, int], Factor], held: Held) -> float:
    """The criterion of held-out squares."""
    rows = {o: sum(f.rows for (name, _), f in factors.items() if name == o) for o in held}
    return criterion({o: float(np.sqrt(np.sum(squares) / rows[o])) for o, squares in held.items()})


def _solve(reduced: Array, penal: Array) -> Array:
    """Least squares of reduced rows [R | b] and a penalty towards zero, by QR."""
    full = np.asarray(np.linalg.qr(np.concatenate([reduced, np.column_stack([penal, np.zeros(len(penal))])]), mode="r"))
    size = reduced.shape[1] - 1
    triangle, rhs = full[:size, :size], full[:size, size]
    diagonal, norms = np.abs(np.diagonal(triangle)), np.linalg.norm(triangle, axis=0)
    if len(diagonal) == size and np.all(diagonal > 1e-13 * norms):
        return np.asarray(sla.solve_triangular(triangle, rhs))
    scale = np.where(norms > 0, norms, 1.0)
    return np.linalg.lstsq(triangle / scale, rhs, rcond=1e-13)[0] / scale


def _start(study: Study, parent: Parent, made: Plan, solution: Array) -> Array:
    """Free numbers of the neighbour's model [P] from those of the parent and the solution."""
    model = Model(made.expression, study.species)
    flat = model.flat.numpy().copy()
    flat[model.free.numpy()] = inherited(study, made.expression, parent.numbers, solution[: len(study.species)])
    begin = len(study.species) + study.offset
    for leaf, _, places in made.blocks:
        if leaf.digest in dict(made.ties):
            continue
        part = solution[begin : begin + len(places)]
        begin += len(places)
        if leaf.linear:
            put(model, flat, leaf, part)
    return flat[model.free.numpy()]
