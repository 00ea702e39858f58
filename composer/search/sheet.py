"""Sheets: weighted rows of many columns at once, factored by observable and fold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis import Factor, factorize, merge
from composer.data import Frame
from composer.evaluate import VOIGT
from composer.fit.weights import Weights
from composer.neighbors import Batch
from composer.search.columns import OFFSET, REFERENCE, Columns, Key, Order
from composer.search.leaf import Observables
from composer.search.polynomial import leaves as leaves_of
from composer.search.polynomial import polynomial as written_out
from composer.search.study import Study, at_home

Array = NDArray[np.float64]
CORE = ("core", -1)  # rows that belong to no fold and to no error
SHARE, LEAST = 0.15, 1.0  # of the core's fall between two steps of a scan, and eV, that fitted terms may add


@dataclass(frozen=True, eq=False)
class Sheet:
    """Factors by (observable, fold) whose columns are those of the keys; their right-hand sides are empty.

    Keys that gave numbers that are not finite are `broken`: their columns are zero.
    """

    place: Mapping[Key, NDArray[np.intp]]
    factors: Mapping[tuple[str, int], Factor]
    broken: frozenset[Key] = frozenset()

    def select(
        self, columns: Sequence[int] | NDArray[np.intp], goal: Mapping[Key, float], matrix: Array | None = None
    ) -> dict[tuple[str, int], Factor]:
        """Factors of some columns (times a matrix [columns, K], if one is given) towards a combination of single columns."""
        index = np.asarray(columns, dtype=int)
        found = {}
        for key, factor in self.factors.items():
            rows = factor.triangle[:, index]
            rhs = sum((n * factor.triangle[:, self.place[k][0]] for k, n in goal.items()), start=np.zeros(len(rows)))
            made = factorize(rows if matrix is None else rows @ matrix, rhs)
            found[key] = Factor(made.triangle, made.rhs, made.rss, factor.rows)
        return found


def sheet(study: Study, order: Order, mapper: Any = map) -> Sheet:
    """The columns of an order over all data; `mapper` (as `map`) may spread the chunks."""
    numbers = range(len(study.pieces))
    parts = list(mapper(_of_chunk, itertools.repeat(study), itertools.repeat(order), numbers))
    found: dict[tuple[str, int], list[Factor]] = {}
    for part, _ in parts:
        for key, factor in part.items():
            found.setdefault(key, []).append(factor)
    with threadpool_limits(1, "blas"):
        factors, broken = {key: merge(found[key]) for key in sorted(found)}, frozenset(k for _, lost in parts for k in lost)
        if study.core is not None:
            factors[CORE] = _of_scans(at_home(study), order, broken)
        return Sheet(_place(study, order), factors, broken)


def _place(study: Study, order: Order) -> dict[Key, NDArray[np.intp]]:
    """Where the columns of each key stand."""
    found, start = {}, 0
    for key in order.keys:
        width = _width(study, order, key)
        found[key] = np.arange(start, start + width)
        start += width
    return found


def _width(study: Study, order: Order, key: Key) -> int:
    if key in order.wanted:
        return len(order.wanted[key])
    match key:
        case ("E0",):
            return len(study.species)
        case ("block", _, leaf):
            return study.leaves[order.leaves[leaf]].size
        case ("tensor", monomial):
            return int(np.prod([max(study.leaves[order.leaves[leaf]].size, 1) for leaf in monomial]))
    return 1


def _of_chunk(study: Study, order: Order, number: int) -> tuple[dict[tuple[str, int], Factor], frozenset[Key]]:
    """Factors of one chunk by (observable, fold), and the keys whose numbers are not finite."""
    study = at_home(study)
    places, batch = study.pieces[number], study.batches[number]
    with threadpool_limits(1, "blas"):
        chunk = Columns(study, order, places, batch)
        columns = [chunk.of(key) for key in order.keys]
        broken = frozenset(k for k, c in zip(order.keys, columns, strict=True) if not all(np.isfinite(a).all() for a in c))
        columns = [Observables(*map(np.zeros_like, c)) if k in broken else c for k, c in zip(order.keys, columns, strict=True)]
        whole = Observables(*(np.concatenate([c[n] for c in columns], axis=-1) for n in range(3)))
        fold = int(study.fold[places[0]])
        rows = _rows([study.data[p] for p in places], batch, whole, study.weights, order.keys, _place(study, order))
        return {(o, fold): factorize(r, np.zeros(len(r))) for o, r in rows.items() if len(r)}, broken


def _of_scans(study: Study, order: Order, broken: frozenset[Key]) -> Factor:
    """Rows that keep the fitted part small where atoms come closer than in the data, so that the core repels there.

    For neighbours of a scan, E(r) - E(r') of the whole model shall be that of the core, within a share of it and a floor.
    """
    batch, following = study.scans
    kept = np.flatnonzero(following != np.arange(len(following)))
    energies = _energies(study, order, batch, broken)
    assert study.core is not None
    core = Columns(study, Order((), leaves_of(study.core)), [], batch).energies(("fixed", written_out(study.core)))[:, 0]
    energies[:, _place(study, order)[REFERENCE][0]] = core
    falls = energies[kept] - energies[following[kept]]
    width = SHARE * np.abs(core[kept] - core[following[kept]]) + LEAST
    return factorize(falls / width[:, None], np.zeros(len(kept)))


def walls(study: Study, order: Order) -> Array:
    """By how much (eV/atom) each column rises on the ways on which the energy of a winner must rise [n, columns]; none without a core."""
    if study.core is None:
        return np.zeros((0, sum(len(p) for p in _place(study, order).values())))
    batch, near, far = study.walls
    energies = _energies(study, order, batch, frozenset()) / np.diff(batch.offsets.numpy())[:, None]
    return energies[near] - energies[far]


def _energies(study: Study, order: Order, batch: Batch, broken: frozenset[Key]) -> Array:
    """Energies [S, columns] of structures that are in no data; zero where they are not finite, and for E0, which no difference holds."""
    chunk, place = Columns(study, order, [], batch), _place(study, order)
    energies = np.zeros((batch.structures, sum(len(p) for p in place.values())))
    for key in order.keys:
        if key[0] in ("fixed", "block", "tensor"):
            found = chunk.energies(key) if key not in broken else np.zeros(1)
            energies[:, place[key]] = np.where(np.isfinite(found), found, 0.0)
    return energies


def _rows(
    frames: list[Frame], batch: Batch, whole: Observables, weights: Weights, keys: tuple[Key, ...], place: Mapping[Key, Any]
) -> dict[str, Array]:
    """Rows [m, C] by observable, divided by the shapes of their targets; frames without an observable have none."""
    bounds, found = batch.offsets.numpy(), {o: [np.zeros((0, whole.energy.shape[-1]))] for o in weights.scales}
    for s, frame in enumerate(frames):
        n, atoms = len(frame), slice(bounds[s], bounds[s + 1])
        for o in weights.scales:
            if getattr(frame, o) is None:
                continue
            if o == "energy":
                rows, reference = whole.energy[s : s + 1] / n, np.array([frame.energy]) / n  # type: ignore[operator]
            elif o == "forces":
                rows, reference = whole.forces[atoms].reshape(3 * n, -1), frame.forces.ravel()  # type: ignore[union-attr]
            else:
                rows, reference = -whole.virial[s][VOIGT] / n, (frame.stress * frame.volume)[VOIGT] / n  # type: ignore[operator]
            rows = np.array(rows)
            for key, value in ((REFERENCE, reference), (OFFSET, np.repeat([1.0, 0.0], 3) if o == "stress" else np.zeros(len(rows)))):
                if key in keys:
                    rows[:, place[key][0]] = value
            found[o].append((rows.T / weights.shape(o, frame)).T)
    return {o: np.concatenate(parts) for o, parts in found.items()}


def scale(weights: Weights, observable: str) -> float:
    """The target by which rows of an observable are divided; rows of the core have theirs inside."""
    return weights.scales.get(observable, 1.0)
