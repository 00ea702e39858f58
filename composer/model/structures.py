"""Structures as a model takes them, and batches in the form that a kernel wants."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from composer.errors import DataError
from composer.neighbors import Batch, build_batch, overlap, update
from composer.runtime.cuda_batch import DeviceBatch

LEAST = 1e-3  # Å, between atoms of long-range sums
AnyBatch = TypeVar("AnyBatch", Batch, DeviceBatch)


def batch_of(structures: Any, species: tuple[str, ...], cutoff: float, skin: float, half: bool) -> Batch:
    """Structures (ASE Atoms, frames, or lists of them) with their neighbours within cutoff + skin (Å); `half` lists each pair once.

    Errors: DataError for what is no structure, and for species that are not known.
    """
    items = listed(structures)
    batch = build_batch([numbered(s, n, species) for n, s in enumerate(items)], cutoff, skin, half=half)
    return dataclasses.replace(batch, excluded=excluded_pairs(items))


def refuse_overlap(batch: Batch) -> None:
    """DataError where two atoms stand on top of each other and no pair is excluded: charges have no energy there."""
    pair = None if batch.excluded is not None else overlap(batch, LEAST)
    if pair is not None:
        structure = int(torch.searchsorted(batch.offsets, pair[0], right=True)) - 1
        i, j = (p - int(batch.offsets[structure]) for p in pair)
        raise DataError(
            f"The long-range energy of structure {structure} was asked for",
            f"Atoms {i} and {j} stand on top of each other",
            "Move one of them",
        )


def listed(structures: Any) -> list[Any]:
    """One structure or several (ASE Atoms, frames) as a list. Errors: DataError for what is no structure."""
    items = list(structures) if isinstance(structures, Sequence) and not isinstance(structures, str) else [structures]
    for place, item in enumerate(items):
        missing = [n for n in ("symbols", "positions", "cell", "pbc") if not hasattr(item, n)]
        if missing:
            raise DataError(
                f"Structure {place} was to be evaluated",
                f"It is of type {type(item).__name__} and has no {missing[0]}",
                "Give ase.Atoms, a frame of read_data, or a list of these; files are read by composer.read_data(path)",
            )
    return items


def excluded_pairs(structures: Sequence[Any]) -> Tensor | None:
    """Pairs of atoms [E, 2] that charges leave out: those of info["excluded"], or all of a molecule of arrays["mol-id"] (0 is none)."""
    parts, start, named = [], 0, False
    for place, structure in enumerate(structures):
        pairs, count = getattr(structure, "info", {}).get("excluded"), len(structure.positions)
        molecules = getattr(structure, "arrays", {}).get("mol-id")
        if pairs is None and molecules is not None:
            pairs = [
                pair for m in np.unique(molecules[molecules != 0]) for pair in itertools.combinations(np.flatnonzero(molecules == m), 2)
            ]
        if pairs is not None:
            named = True
            parts.append(_pairs(pairs, count, place) + start)
        start += count
    return torch.cat(parts) if named else None


def _pairs(given: Any, atoms: int, place: int) -> Tensor:
    """Pairs of atoms of one structure [E, 2]."""
    try:
        found = np.asarray(given, dtype=np.int64).reshape(-1, 2)
    except (TypeError, ValueError):
        found = np.array([[-1, -1]])
    if len(found) and (found.min() < 0 or found.max() >= atoms or bool((found[:, 0] == found[:, 1]).any())):
        raise DataError(
            f"Pairs of structure {place} were to be excluded",
            f"{given!r} are no pairs of different atoms from 0 to {atoms - 1}",
            'Write info["excluded"] = [[0, 1], [0, 2]]',
        )
    return torch.from_numpy(found)


def numbered(structure: Any, place: int, species: tuple[str, ...]) -> tuple:
    """Species numbers, positions, cell, pbc of an ASE Atoms or a frame."""
    symbols = structure.get_chemical_symbols() if hasattr(structure, "get_chemical_symbols") else list(structure.symbols)
    number = {s: n for n, s in enumerate(species)}
    unknown = sorted(set(symbols) - set(number))
    if unknown:
        raise DataError(
            f"Structure {place} holds {', '.join(unknown)}. The model knows {', '.join(species)}. Compile it with species={[*species, *unknown]}."
        )
    return (
        np.array([number[s] for s in symbols], dtype=np.int32),
        np.asarray(structure.positions, dtype=float),
        np.asarray(structure.cell[:], dtype=float),
        np.asarray(structure.pbc, dtype=bool),
    )


def matrices(voigt: Tensor) -> Tensor:
    """Symmetric matrices [..., 3, 3] from their xx, yy, zz, yz, xz, xy [..., 6]; without an index, for which the host would wait for a device."""
    xx, yy, zz, yz, xz, xy = voigt.unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).unflatten(-1, (3, 3))


def whole(batch: AnyBatch) -> AnyBatch:
    """The batch with each pair listed at both atoms."""
    if isinstance(batch, DeviceBatch) or not batch.half:
        return batch
    offsets = batch.offsets.tolist()
    pieces = [slice(a, b) for a, b in zip(offsets, offsets[1:], strict=False)]
    x, z, cells, pbc = batch.built_positions.numpy(), batch.species.numpy(), batch.built_cells.numpy(), batch.pbc.numpy()
    full = build_batch([(z[p], x[p], cells[s], pbc[s]) for s, p in enumerate(pieces)], batch.cutoff, batch.skin)
    return dataclasses.replace(update(full, batch.positions, batch.cells), excluded=batch.excluded)


def by_structure(batch: Batch, site: Tensor) -> Tensor:
    """Sums of site values [N] over the atoms of each structure [S]."""
    if batch.structures == 1:
        return site.sum().reshape(1)
    total = torch.zeros(batch.structures, dtype=torch.float64)
    home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    return total.index_add_(0, home, site)
