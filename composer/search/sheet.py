"""Sheets: weighted rows of many columns at once, factored by observable and fold, from kernels of leaves alone.

A column is named by what it is: ("reference",), ("offset",), ("E0",), ("fixed", polynomial), ("block", polynomial, leaf) or
("tensor", monomial). A block holds the observables of m x_k for the k free numbers of a leaf x with a multiplier m whose leaves stand at
their present numbers; a tensor holds those of all products of the free numbers of its leaves.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from analysis import Factor, factorize, merge
from composer.algebra import Expression
from composer.data import Data, Frame
from composer.evaluate import VOIGT, chunks
from composer.fit.weights import Weights
from composer.neighbors import Batch, build_batch
from composer.search.cover import Leaves
from composer.search.leaf import Leaf, Observables
from composer.search.polynomial import Polynomial
from composer.search.polynomial import leaves as leaves_of
from composer.search.polynomial import polynomial as written_out
from composer.search.scans import short_scans, shortest

Array = NDArray[np.float64]
Key = tuple[Any, ...]
REFERENCE, OFFSET, E0 = ("reference",), ("offset",), ("E0",)
CORE = ("core", -1)  # rows that belong to no fold and to no error
SHARE, LEAST = 0.15, 1.0  # of the core's fall between two steps of a scan, and eV, that fitted terms may add
CHUNK = 4000  # atoms of a chunk; chunks depend on the data alone


@dataclass(frozen=True, eq=False)
class Study:
    """Data of a search, divided into folds, with the shapes of its weights and the covers of its vocabulary; travels to workers.

    Arguments: data; weights (their shapes alone enter rows); fold of every frame [frames]; covers; cutoff (Å) of the neighbour lists;
    core, what repels at short distance where the data say nothing (None: no rows of scans).
    """

    data: Data
    weights: Weights
    fold: NDArray[np.intp]
    covers: tuple[Expression, ...]
    cutoff: float
    core: Expression | None = None

    @cached_property
    def hash(self) -> str:
        text = "\n".join(
            [self.data.hash, repr(self.weights), repr(self.fold.tolist()), repr([c.canonical for c in self.covers]), repr(self.cutoff)]
        )
        text += "" if self.core is None else self.core.canonical
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def species(self) -> tuple[str, ...]:
        return tuple(self.data.species)

    @cached_property
    def offset(self) -> bool:
        """Whether the stress of the data may have a constant error, which one number takes up."""
        return self.weights.stress is not None and any(f.stress is not None for f in self.data)

    @cached_property
    def folds(self) -> list[int]:
        return sorted(set(self.fold.tolist()))

    @cached_property
    def pieces(self) -> list[list[int]]:
        """Places of the frames of every chunk; a chunk lies in one fold."""
        found = []
        for fold in self.folds:
            places = np.flatnonzero(self.fold == fold)
            found += [[int(places[k]) for k in chunk] for chunk in chunks([self.data[int(p)] for p in places], CHUNK)]
        return found

    @cached_property
    def leaves(self) -> Leaves:
        return Leaves(self.species, self.covers)  # type: ignore[arg-type]

    @cached_property
    def batches(self) -> list[Batch]:
        """The prepared neighbours of every chunk, with rows of one length so that they share kernels."""
        found = [self._prepared([self.data[p] for p in places]) for places in self.pieces]
        most = max(batch.max_neighbors for batch in found)
        return [replace(batch, max_neighbors=most) for batch in found]

    def _prepared(self, structures: Sequence[Any]) -> Batch:
        kinds = {s: n for n, s in enumerate(self.species)}
        items = [
            (np.array([kinds[x] for x in s.symbols], dtype=np.int32), np.array(s.positions), np.array(s.cell), np.array(s.pbc))
            for s in structures
        ]
        return build_batch(items, self.cutoff)

    @cached_property
    def shortest(self) -> dict[str, float]:
        """Shortest distances (Å) of the data by pair."""
        return shortest(self.data)

    @cached_property
    def scans(self) -> tuple[Batch, NDArray[np.intp]]:
        """Dimers and trimers below the shortest distances of the data, and for each the place of the next wider one (itself: none)."""
        structures, following = [], []
        for scan in short_scans(self.data):
            following += [len(structures) + min(n + 1, len(scan) - 1) for n in range(len(scan))]
            structures += scan
        return replace(self._prepared(structures), max_neighbors=self.batches[0].max_neighbors), np.array(following)

    def __reduce__(self) -> tuple:
        return Study, (self.data, self.weights, self.fold, self.covers, self.cutoff, self.core), {"hash": self.hash}


@dataclass(frozen=True)
class Order:
    """Columns wanted: their keys, which columns of each block (all where it is not named), the leaves and their present numbers."""

    keys: tuple[Key, ...]
    leaves: Mapping[str, Expression]
    theta: Mapping[str, Array] = field(default_factory=dict)
    wanted: Mapping[Key, tuple[int, ...]] = field(default_factory=dict)


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


_studies: dict[str, Study] = {}


def at_home(study: Study) -> Study:
    """The study as this process knows it: neighbours and kernels are prepared once."""
    if study.hash not in _studies:
        _studies.clear()
        _studies[study.hash] = study
    return _studies[study.hash]


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
        chunk = _Columns(study, order, places, batch)
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
    chunk, place = _Columns(study, order, [], batch), _place(study, order)
    energies = np.zeros((batch.structures, sum(len(p) for p in place.values())))
    for key in order.keys:
        if key[0] in ("fixed", "block", "tensor"):
            found = chunk.of(key).energy if key not in broken else np.zeros(1)
            energies[:, place[key]] = np.where(np.isfinite(found), found, 0.0)
    assert study.core is not None
    core = _Columns(study, Order((), leaves_of(study.core)), [], batch).of(("fixed", written_out(study.core))).energy[:, 0]
    energies[:, place[REFERENCE][0]] = core
    falls = energies[kept] - energies[following[kept]]
    width = SHARE * np.abs(core[kept] - core[following[kept]]) + LEAST
    return factorize(falls / width[:, None], np.zeros(len(kept)))


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


class _Columns:
    """Observables of the columns of an order on one chunk."""

    def __init__(self, study: Study, order: Order, places: list[int], batch: Batch) -> None:
        self.study, self.order, self.places, self.batch = study, order, places, batch
        self._values: dict[str, Array] = {}

    def of(self, key: Key) -> Observables:
        match key:
            case ("E0",):
                return self._counts()
            case ("fixed", polynomial):
                return self._fixed(polynomial)
            case ("block", polynomial, leaf):
                return self._block(polynomial, leaf, self.order.wanted.get(key))
            case ("tensor", monomial):
                return self._tensor(monomial)
        return self._empty(1)

    def leaf(self, digest: str) -> Leaf:
        return self.study.leaves[self.order.leaves[digest]]

    def theta(self, digest: str) -> Array:
        return self.order.theta.get(digest, self.leaf(digest).start)

    def value(self, polynomial: Polynomial) -> Array:
        """A polynomial at every site [N]."""
        total = np.zeros(self.batch.atoms)
        for monomial, number in polynomial.terms:
            part = np.full(self.batch.atoms, number)
            for digest in monomial:
                if digest not in self._values:
                    self._values[digest] = self.leaf(digest).values(self.batch, self.theta(digest))
                part = part * self._values[digest]
            total += part
        return total

    def _empty(self, width: int) -> Observables:
        atoms, structures = self.batch.atoms, self.batch.structures
        return Observables(np.zeros((structures, width)), np.zeros((atoms, 3, width)), np.zeros((structures, 3, 3, width)))

    def _counts(self) -> Observables:
        found = self._empty(len(self.study.species))
        for s, p in enumerate(self.places):
            found.energy[s] = [self.study.data[p].symbols.count(x) for x in self.study.species]
        return found

    def _fixed(self, polynomial: Polynomial) -> Observables:
        found = self._empty(1)
        found.energy[:, 0] = self._by_structure(self.value(polynomial))
        for digest in polynomial.leaves:
            forces, virial = self.leaf(digest).push(self.batch, self.value(polynomial.derivative(digest)), self.theta(digest))
            found.forces[:, :, 0] += forces
            found.virial[:, :, :, 0] += virial
        return found

    def _block(self, multiplier: Polynomial, digest: str, wanted: tuple[int, ...] | None) -> Observables:
        leaf, constant = self.leaf(digest), multiplier.constant
        seeds = self.value(multiplier) if constant is None else np.ones(self.batch.atoms)
        found = leaf.observables(self.batch, seeds, self.theta(digest))
        chosen = np.arange(leaf.size) if wanted is None else np.array(wanted, dtype=int)
        found = Observables(*(a[..., chosen] * (1.0 if constant is None else constant) for a in found))
        if constant is None:
            columns = leaf.columns(self.batch, self.theta(digest))[:, chosen]  # [N, p]
            for other in multiplier.leaves:
                slope = self.value(multiplier.derivative(other))
                for k in range(len(chosen)):
                    forces, virial = self.leaf(other).push(self.batch, slope * columns[:, k], self.theta(other))
                    found.forces[:, :, k] += forces
                    found.virial[:, :, :, k] += virial
        return found

    def _tensor(self, monomial: tuple[str, ...]) -> Observables:
        """All products of the free numbers of the leaves, the last leaf fastest."""
        parts = [self.leaf(d) for d in monomial]
        columns = [p.columns(self.batch, p.start) if p.size else p.values(self.batch, p.start)[:, None] for p in parts]
        widths = [c.shape[1] for c in columns]
        found = self._empty(int(np.prod(widths)))
        for chosen in np.ndindex(*widths):
            place = int(np.ravel_multi_index(chosen, widths))
            found.energy[:, place] = self._by_structure(np.prod([c[:, k] for c, k in zip(columns, chosen, strict=True)], axis=0))
        forces, virial = found.forces.reshape(-1, 3, *widths), found.virial.reshape(-1, 3, 3, *widths)
        for n, part in enumerate(parts):
            others = [range(w) if k != n else (None,) for k, w in enumerate(widths)]
            for chosen in itertools.product(*others):
                seeds = np.prod(
                    [np.ones(self.batch.atoms), *(c[:, k] for c, k in zip(columns, chosen, strict=True) if k is not None)], axis=0
                )
                index = tuple(slice(None) if k is None else k for k in chosen)
                f, w = self._by_leaf(part, seeds)
                forces[(slice(None), slice(None), *index)] += f
                virial[(slice(None), slice(None), slice(None), *index)] += w
        return found

    def _by_leaf(self, leaf: Leaf, seeds: Array) -> tuple[Array, Array]:
        """Forces [N, 3, p] and virials [S, 3, 3, p] of the functions of a leaf; p = 1 where it has no free number."""
        if leaf.size:
            found = leaf.observables(self.batch, seeds, leaf.start)
            return found.forces, found.virial
        forces, virial = leaf.push(self.batch, seeds, leaf.start)
        return forces[..., None], virial[..., None]

    def _by_structure(self, site: Array) -> Array:
        return np.add.reduceat(site, self.batch.offsets.numpy()[:-1])


def scale(weights: Weights, observable: str) -> float:
    """The target by which rows of an observable are divided; rows of the core have theirs inside."""
    return weights.scales.get(observable, 1.0)


def union(orders: Iterable[tuple[Key, Iterable[int]]]) -> dict[Key, tuple[int, ...]]:
    """Which columns of each block are wanted by any of many."""
    found: dict[Key, set[int]] = {}
    for key, places in orders:
        found.setdefault(key, set()).update(places)
    return {key: tuple(sorted(places)) for key, places in found.items()}
