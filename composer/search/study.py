"""The data of a search, divided into folds and chunks, with their neighbours prepared once in each process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from composer.algebra import Expression
from composer.data import Data, Frame
from composer.dynamics import scans
from composer.evaluate import chunks
from composer.fit.weights import Weights
from composer.model.structures import excluded_pairs
from composer.neighbors import Batch, build_batch
from composer.search.cover import Leaves
from composer.search.scans import lowest, short_scans, shortest

CHUNK = 4000  # atoms of a chunk; chunks depend on the data alone
SAMPLE = 30_000  # atoms of the largest set that is ranked on as a whole


@dataclass(frozen=True, eq=False)
class Study:
    """Data of a search, divided into folds, with the shapes of its weights and the covers of its vocabulary; travels to workers.

    Arguments: data; weights (their shapes alone enter rows); fold of every frame [frames]; covers; cutoff (Å) of the neighbour lists;
    core, what repels at short distance where the data say nothing (None: no rows of scans); most, neighbours of a site that rows have
    room for at least.
    """

    data: Data
    weights: Weights
    fold: NDArray[np.intp]
    covers: tuple[Expression, ...]
    cutoff: float
    core: Expression | None = None
    most: int = 0

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
    def sample(self) -> Study:
        """The study of a part of the data, on which to rank: whole groups, every config_type in its share; itself where the data are few."""
        atoms = sum(len(f) for f in self.data)
        if atoms <= SAMPLE:
            return self
        part = self.data.split(test=SAMPLE / atoms, by="group", seed=0)[1]
        place = {id(f): n for n, f in enumerate(self.data)}
        fold = self.fold[[place[id(f)] for f in part]]
        if set(fold.tolist()) != set(self.folds) or part.species != self.data.species:
            return self
        return replace(self, data=part, fold=fold, most=self.batches[0].max_neighbors)

    @cached_property
    def leaves(self) -> Leaves:
        return Leaves(self.species, self.covers)  # type: ignore[arg-type]

    @cached_property
    def batches(self) -> list[Batch]:
        """The prepared neighbours of every chunk, with rows of one length so that they share kernels."""
        found = [self._prepared([self.data[p] for p in places]) for places in self.pieces]
        pressed = [self._walls[0]] if self.core is not None else []
        most = max(self.most, *(batch.max_neighbors for batch in (*found, *pressed)))
        return [replace(batch, max_neighbors=most) for batch in found]

    def _prepared(self, structures: Sequence[Any]) -> Batch:
        kinds = {s: n for n, s in enumerate(self.species)}
        items = [
            (np.array([kinds[x] for x in s.symbols], dtype=np.int32), np.array(s.positions), np.array(s.cell), np.array(s.pbc))
            for s in structures
        ]
        return replace(build_batch(items, self.cutoff), excluded=excluded_pairs(structures))

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
        return self._free(structures), np.array(following)

    @cached_property
    def crystal(self) -> Frame | None:
        """What must resist compression and survive dynamics, if the data have one."""
        return lowest(self.data)

    @cached_property
    def _walls(self) -> tuple[Batch, NDArray[np.intp], NDArray[np.intp]]:
        """Structures that are pressed together, and which of them must lie above which."""
        found = scans(self.species, self.shortest, [] if self.crystal is None else [self.crystal])
        starts = np.cumsum([0, *(len(scan.frames) for scan in found)])
        near, far = (np.concatenate([s + places for s, places in zip(starts, each)]) for each in zip(*((x.near, x.far) for x in found)))
        return self._free([frame for scan in found for frame in scan.frames]), near, far

    @cached_property
    def walls(self) -> tuple[Batch, NDArray[np.intp], NDArray[np.intp]]:
        """Structures of the checks that a winner must pass, with rows as long as those of all batches, and which must lie above which."""
        batch, near, far = self._walls
        return replace(batch, max_neighbors=self.batches[0].max_neighbors), near, far

    def _free(self, structures: Sequence[Any]) -> Batch:
        """Prepared structures in which no atoms are bonded."""
        return replace(self._prepared(structures), excluded=torch.zeros(0, 2, dtype=torch.int64))

    def __reduce__(self) -> tuple:
        return Study, (self.data, self.weights, self.fold, self.covers, self.cutoff, self.core, self.most), {"hash": self.hash}


_studies: dict[str, Study] = {}


def at_home(study: Study) -> Study:
    """The study as this process knows it: neighbours and kernels are prepared once. Two are kept, of all data and of their sample."""
    if study.hash not in _studies:
        for old in list(_studies)[:-1]:
            del _studies[old]
        _studies[study.hash] = study
    return _studies[study.hash]
