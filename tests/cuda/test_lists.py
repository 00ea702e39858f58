"""Lists of neighbours made by CUDA text, run by the shim, against those of the CPU (vesin)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from composer.errors import DataError
from composer.neighbors import Batch, build_batch
from composer.runtime.cuda_batch import DeviceBatch, device_batch
from tests.cuda.shim import shim

Pair = tuple[int, int, int, int, int]


def pairs_of(batch: Batch) -> list[Pair]:
    """(i, j, shift) of every entry, sorted."""
    owner = torch.cat([torch.arange(batch.atoms), batch.ghost_owner.long()])
    shift = torch.cat([torch.zeros(batch.atoms, 3, dtype=torch.int32), batch.ghost_shift])
    i = torch.repeat_interleave(torch.arange(batch.atoms), batch.first.diff())
    s = batch.index.long()
    return sorted(map(tuple, torch.cat([i[:, None], owner[s][:, None], shift[s]], 1).tolist()))


def listed(batch: DeviceBatch) -> list[Pair]:
    """The same of a batch on a device, whose atoms are wrapped."""
    out = []
    for i, (first, count) in enumerate(zip(batch.first.tolist(), batch.count.tolist(), strict=True)):
        s = batch.index[first : first + count * batch.stride : batch.stride].long()
        shift = (batch.shift[s] - batch.shift[i]).tolist()
        out += [(i, j, *n) for j, n in zip(batch.owner[s].tolist(), shift, strict=True)]
    return sorted(out)


def structures(seed: int) -> list[tuple]:
    """Up to three structures in oblique cells, some far smaller than the cutoff, some open, with atoms outside of their cell."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(rng.integers(1, 4)):
        size = int(rng.integers(1, 30))
        cell = np.eye(3) * rng.uniform(2, 12) + rng.normal(size=(3, 3))
        found.append((rng.integers(0, 2, size), rng.uniform(-1, 2, size=(size, 3)) @ cell, cell, rng.random(3) < 0.7))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_list_holds_the_pairs_that_vesin_finds(seed: int) -> None:
    given, cutoff = structures(seed), float(np.random.default_rng(seed).uniform(2, 6))
    expected, found = build_batch(given, cutoff, 0.5), device_batch(given, cutoff, 0.5, "cpu", shim)
    assert len(expected.index)
    assert listed(found) == pairs_of(expected)
    assert found.max_neighbors == expected.max_neighbors
    assert int(found.look()) == 0


def test_atoms_that_move_less_than_half_the_skin_keep_the_list_and_others_do_not() -> None:
    given = structures(3)
    batch = device_batch(given, 4.0, 1.0, "cpu", shim)
    direction = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    for step, stale in ((0.49, 0), (0.51, 1), (float("nan"), 1)):
        positions = batch.built.clone()
        positions[-1] += step * direction
        assert int(batch.moved_to(positions).look()) == stale


def test_a_cell_that_changes_uses_up_the_skin() -> None:
    rng = np.random.default_rng(0)
    cell = 12.0 * np.eye(3)
    batch = device_batch([(np.zeros(20, np.int32), rng.uniform(0, 12, (20, 3)), cell, np.ones(3, bool))], 4.0, 1.0, "cpu", shim)
    for scale, stale in ((0.999, 0), (0.7, 1)):
        assert int(batch.moved_to(scale * batch.built, scale * batch.built_cells).look()) == stale
    sheared = batch.built_cells.clone()
    sheared[0, 1, 0] += 0.2
    moved = batch.moved_to(batch.built @ torch.linalg.inv(batch.built_cells[0]) @ sheared[0], sheared)
    assert int(moved.look()) == 0
    assert listed(moved.rebuilt()) == pairs_of(
        build_batch([(np.zeros(20, np.int32), moved.positions.numpy(), sheared[0].numpy(), np.ones(3, bool))], 4.0, 1.0)
    )


def test_a_gas_in_a_large_box_takes_little_memory() -> None:
    x = np.random.default_rng(0).uniform(0, 1e6, (10, 3))
    x[1] = x[0] + 1.0
    batch = device_batch([(np.zeros(10, np.int32), x, np.zeros((3, 3)), np.zeros(3, bool))], 4.0, 1.0, "cpu", shim)
    assert listed(batch) == [(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)]


def test_positions_of_another_shape_are_refused() -> None:
    batch = device_batch(structures(0), 4.0, 1.0, "cpu", shim)
    with pytest.raises(DataError, match="positions"):
        batch.moved_to(batch.positions[1:])
