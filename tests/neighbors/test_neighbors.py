"""Neighbour rows, ghosts and the sums over them, against a brute-force sum over images."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import vesin
from numpy.typing import NDArray

from composer.errors import DataError
from composer.neighbors import Batch, all_positions, build_batch, differentiable_positions, fold, needs_rebuild, update, virial
from composer.runtime import threads

Pair = tuple[int, int, int, int, int]  # i, j, S
Array = NDArray[Any]


def brute(positions: Array, cell: Array, pbc: Array, cutoff: float) -> set[Pair]:
    """All pairs closer than the cutoff, by looking at every image that could be."""
    reach = cutoff + np.linalg.norm(np.ptp(positions, axis=0))
    counts = [0, 0, 0]
    periodic = np.flatnonzero(pbc)
    if len(periodic):  # |S_k| <= reach * |k-th reciprocal vector|
        counts_periodic = np.ceil(reach * np.linalg.norm(np.linalg.pinv(cell[periodic]), axis=0)).astype(int)
        for k, count in zip(periodic, counts_periodic, strict=True):
            counts[k] = count
    found: set[Pair] = set()
    for shift in itertools.product(*(range(-count, count + 1) for count in counts)):
        d = positions[None] - positions[:, None] + np.array(shift) @ cell  # [i, j, 3]
        near = (d**2).sum(-1) < cutoff**2
        if not any(shift):
            np.fill_diagonal(near, False)
        found |= {(int(i), int(j), *shift) for i, j in zip(*near.nonzero(), strict=True)}
    return found


def pairs(batch: Batch, structure: int = 0) -> list[Pair]:
    """The rows of one structure as (i, j, S), in order, atoms counted from the start of the structure."""
    start, stop = batch.offsets[structure : structure + 2].tolist()
    out = []
    for i in range(start, stop):
        for site in batch.index[batch.first[i] : batch.first[i + 1]].tolist():
            ghost = site - batch.atoms
            j = site if ghost < 0 else int(batch.ghost_owner[ghost])
            shift = (0, 0, 0) if ghost < 0 else batch.ghost_shift[ghost].tolist()
            out.append((i - start, j - start, *shift))
    return out


def structure(seed: int, atoms: int = 8, pbc: tuple[bool, ...] = (True, True, True)) -> tuple[Array, Array, Array, Array]:
    """A random triclinic cell; every third leaves zeros in directions that are not periodic; atoms stand outside as well."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(2.0, 6.0, 3)) + rng.normal(size=(3, 3))
    positions = rng.uniform(-1.0, 1.5, (atoms, 3)) @ cell
    if seed % 3 == 0:
        cell = cell * np.array(pbc)[:, None]
    return rng.integers(0, 2, atoms), positions, cell, np.array(pbc)


RANDOM = [structure(seed, 2 + seed % 11, tuple(bool(seed >> k & 1) for k in range(3))) for seed in range(20)]
CUTOFFS = np.random.default_rng(0).uniform(2.5, 5.0, 20)
SILICON = (np.zeros(2), np.array([[0.0, 0, 0], [1.3575, 1.3575, 1.3575]]), 2.715 * (1 - np.eye(3)), np.ones(3, bool))


@pytest.mark.parametrize("number", range(20))
def test_27_rows_equal_brute_force_and_vesin_as_sets(number: int) -> None:
    species, x, cell, pbc = RANDOM[number]
    batch = build_batch([RANDOM[number]], CUTOFFS[number])
    ours = pairs(batch)
    found, shifts = vesin.NeighborList(cutoff=CUTOFFS[number], full_list=True).compute(x, cell, pbc, "PS")
    assert len(set(ours)) == len(ours)
    assert set(ours) == brute(x, cell, pbc, CUTOFFS[number])
    assert set(ours) == {(int(i), int(j), *map(int, s)) for (i, j), s in zip(found, shifts, strict=True)}
    assert batch.max_neighbors == max(batch.first.diff().tolist())
    assert batch.species.tolist() == species.tolist()


def test_27_the_random_cells_are_not_trivial() -> None:
    sizes = [len(build_batch([one], cutoff).index) for one, cutoff in zip(RANDOM, CUTOFFS, strict=True)]
    assert sum(size > 0 for size in sizes) >= 18
    assert max(sizes) > 200
    assert {tuple(one[3].tolist()) for one in RANDOM} == set(itertools.product([False, True], repeat=3))


@pytest.mark.parametrize("number", range(20))
def test_half_rows_hold_each_pair_once(number: int) -> None:
    half = pairs(build_batch([RANDOM[number]], CUTOFFS[number], half=True))
    turned = {(j, i, -a, -b, -c) for i, j, a, b, c in half}
    assert len(set(half)) == len(half) == len(turned)
    assert not set(half) & turned
    assert set(half) | turned == set(pairs(build_batch([RANDOM[number]], CUTOFFS[number])))
    assert all((a, b, c) > (0, 0, 0) for i, j, a, b, c in half if i == j)


def test_half_rows_are_balanced() -> None:
    one = (np.zeros(400), np.random.default_rng(3).uniform(0, 16, (400, 3)), 16 * np.eye(3), [True] * 3)
    full, half = (build_batch([one], 5.0, half=half).first.diff().double() for half in (False, True))
    assert half.sum() * 2 == full.sum()
    assert torch.allclose(half[:200].sum() / half.sum(), torch.tensor(0.5, dtype=torch.float64), atol=0.05)
    assert half.max() < 0.85 * full.max()


@pytest.mark.parametrize(
    "case",
    [
        (np.zeros(1), np.array([[0.3, 0.1, 7.0]]), 2.5 * np.eye(3), np.ones(3, bool), 7.5),
        (np.zeros(1), np.zeros((1, 3)), np.array([[2.0, 0, 0], [1.9, 1.5, 0], [0.7, -0.9, 2.2]]), np.ones(3, bool), 6.0),
        (*SILICON, 8.0),
        (*structure(7, 6, (True, False, True)), 6.0),
        (*structure(9, 6, (False, False, True)), 6.0),
        (np.zeros(3), np.array([[0.0, 0, 0], [50.0, 0, 0], [0, 0, 1.5]]), np.zeros((3, 3)), np.zeros(3, bool), 6.0),
    ],
    ids=["one atom, cutoff 3 cells", "one atom, triclinic", "silicon", "slab", "wire", "molecule"],
)
def test_13_a_sum_over_rows_equals_a_brute_force_sum(case: tuple[Array, Array, Array, Array, float]) -> None:
    species, x, cell, pbc, cutoff = case
    batch = build_batch([(species, x, cell, pbc)], cutoff)
    sites = all_positions(batch)
    centre = torch.repeat_interleave(torch.arange(batch.atoms), batch.first.diff())
    ours = torch.exp(-(sites[batch.index.long()] - sites[centre]).norm(dim=1)).sum().item()
    near = [x[j] + np.array(shift) @ cell - x[i] for i, j, *shift in brute(x, cell, pbc, cutoff)]
    assert ours > 0
    assert ours == pytest.approx(np.exp(-np.linalg.norm(near, axis=1)).sum(), rel=1e-12)


def test_a_batch_equals_its_structures_one_by_one() -> None:
    isolated = (np.zeros(1), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, bool))
    empty = (np.zeros(0), np.zeros((0, 3)), np.eye(3), np.ones(3, bool))
    many = [RANDOM[7], isolated, SILICON, empty, RANDOM[12], isolated]
    batch = build_batch(many, 4.0)
    assert (batch.structures, batch.sites) == (6, batch.atoms + batch.ghosts)
    for number, one in enumerate(many):
        assert pairs(batch, number) == pairs(build_batch([one], 4.0))
    assert batch.offsets.tolist() == [0, *np.cumsum([len(one[0]) for one in many])]
    homes = torch.bucketize(batch.ghost_owner.long(), batch.offsets[1:], right=True)
    assert torch.equal(torch.bincount(homes, minlength=6).cumsum(0), batch.ghost_offsets[1:])
    assert batch.first[-1] == len(batch.index)


def test_rows_and_ghosts_are_sorted_and_unique() -> None:
    batch = build_batch(RANDOM, 4.0)
    for i in range(batch.atoms):
        assert bool((batch.index[batch.first[i] : batch.first[i + 1]].diff() > 0).all())
    ghosts = [(owner, *shift) for owner, shift in zip(batch.ghost_owner.tolist(), batch.ghost_shift.tolist(), strict=True)]
    assert ghosts == sorted(set(ghosts))
    assert [t.dtype for t in (batch.index, batch.first, batch.ghost_owner, batch.species)] == [
        torch.int32,
        torch.int64,
        torch.int32,
        torch.int32,
    ]


def test_no_structures_and_no_neighbours() -> None:
    nothing = build_batch([], 4.0)
    assert (nothing.structures, nothing.sites, nothing.max_neighbors, len(nothing.index)) == (0, 0, 0, 0)
    alone = build_batch([(np.zeros(1), np.zeros((1, 3)), 9 * np.eye(3), [True] * 3)], 4.0)
    assert (alone.first.tolist(), alone.ghosts, alone.max_neighbors) == ([0, 0], 0, 0)


def energy(batch: Batch, sites: torch.Tensor) -> torch.Tensor:
    centre = torch.repeat_interleave(torch.arange(batch.atoms), batch.first.diff())
    r = (sites[batch.index.long()] - sites[centre]).norm(dim=1)
    return (torch.exp(-r) * (r - batch.cutoff) ** 2).sum()


def test_ghost_positions_and_their_transposes() -> None:
    """fold is the transpose of all_positions; the virial is minus the derivative by strain."""
    batch = build_batch([one for one in RANDOM if len(one[0]) > 1], 4.0)
    strain = torch.zeros(batch.structures, 3, 3, dtype=torch.float64, requires_grad=True)
    home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    cells = batch.cells + batch.cells @ strain
    x = batch.positions + torch.einsum("na,nab->nb", batch.positions, strain[home])
    x.retain_grad()
    sites = differentiable_positions(batch, x, cells)
    sites.retain_grad()
    assert torch.allclose(all_positions(batch), sites.detach(), rtol=0, atol=1e-13)
    at_fixed_cell = batch.positions.clone().requires_grad_()
    energy(batch, differentiable_positions(batch, at_fixed_cell, batch.cells)).backward()
    energy(batch, sites).backward()
    assert sites.grad is not None and strain.grad is not None and at_fixed_cell.grad is not None
    forces = -sites.grad
    assert forces.abs().max() > 0.1
    assert torch.allclose(fold(batch, forces), -at_fixed_cell.grad, rtol=1e-12, atol=1e-12)
    assert torch.allclose(virial(batch, sites, forces), -strain.grad, rtol=1e-11, atol=1e-11)


def test_fold_carries_columns_and_large_sums_are_exact() -> None:
    rng = np.random.default_rng(1)
    batch = build_batch([(np.zeros(9000), rng.uniform(0, 60, (9000, 3)), 60 * np.eye(3), [True] * 3), SILICON], 3.0)
    values = torch.from_numpy(rng.normal(size=(batch.sites, 3, 2)))
    expected = values[: batch.atoms].clone()
    expected.index_add_(0, batch.ghost_owner.long(), values[batch.atoms :])
    assert torch.allclose(fold(batch, values), expected, rtol=0, atol=1e-13)
    assert torch.allclose(fold(batch, values[:, 0, 0]), expected[:, 0, 0], rtol=0, atol=1e-13)
    x, f = all_positions(batch), values[:, :, 0].contiguous()
    home = torch.cat([torch.repeat_interleave(torch.arange(2), cut.diff()) for cut in (batch.offsets, batch.ghost_offsets)])
    for number in range(2):
        expected = x[home == number].T @ f[home == number]
        assert torch.allclose(virial(batch, x, f)[number], expected, rtol=0, atol=1e-9)


def test_the_list_is_complete_as_long_as_no_rebuild_is_asked() -> None:
    rng = np.random.default_rng(5)
    asked = []
    for trial in range(120):
        _, x, cell, pbc = one = structure(trial + 1, 6, tuple(bool(trial >> k & 1) for k in range(3)))
        batch = build_batch([one], 3.0, skin=1.0)
        size = rng.choice([0.02, 0.1, 0.3])
        deform = np.eye(3) + size * rng.normal(size=(3, 3)) * rng.integers(0, 2) / 4
        new_cell, new_x = cell @ deform, x @ deform + size * rng.normal(size=x.shape) + rng.normal(size=3)
        rebuild = needs_rebuild(batch, torch.from_numpy(new_x), torch.from_numpy(new_cell[None]))
        asked.append(rebuild)
        if not rebuild:
            assert brute(new_x, new_cell, pbc, 3.0) <= set(pairs(batch))
    assert 20 < sum(asked) < 100


def test_rebuild_at_half_the_skin() -> None:
    x = np.array([[0.0, 0, 0], [3.9, 0, 0]])
    batch = build_batch([(np.zeros(2), x, 20 * np.eye(3), [True] * 3)] * 2, 3.0, skin=1.0)
    towards = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]] * 2, dtype=torch.float64) * torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert not needs_rebuild(batch, batch.positions)
    assert not needs_rebuild(batch, batch.positions + 0.499 * towards)
    assert needs_rebuild(batch, batch.positions + 0.501 * towards)
    assert not needs_rebuild(batch, batch.positions + 5.0)  # drift brings no pair closer
    assert not needs_rebuild(batch, batch.positions * 0.9, batch.cells * 0.9)
    assert needs_rebuild(batch, batch.positions * 0.7, batch.cells * 0.7)
    for broken in (float("nan"), float("inf")):
        assert needs_rebuild(batch, batch.positions.where(batch.positions == 0, broken))
        assert needs_rebuild(batch, batch.positions, batch.cells * broken)


def test_a_moved_batch_shares_the_list_and_remembers_where_it_was_built() -> None:
    batch = build_batch([SILICON, RANDOM[3]], 4.0, skin=0.5)
    step = 0.15 * torch.sin(torch.arange(3.0 * batch.atoms, dtype=torch.float64)).reshape(-1, 3)
    first = update(batch, batch.positions + step)
    second = update(first, first.positions + step, batch.cells * 1.001)
    assert second.index is batch.index and second.built_positions is batch.positions
    assert torch.equal(second.cells, batch.cells * 1.001)
    assert not needs_rebuild(batch, first.positions)
    assert needs_rebuild(first, second.positions)  # measured from where the list was built
    assert torch.allclose(all_positions(second), differentiable_positions(second, second.positions, second.cells), atol=1e-13)


def test_a_batch_does_not_share_memory_with_its_input() -> None:
    x = SILICON[1].copy()
    batch = build_batch([(SILICON[0], x, SILICON[2], SILICON[3])], 4.0)
    x += 1
    assert torch.equal(batch.positions, torch.from_numpy(SILICON[1]))


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("far", [1e3, 1e5, 1e8, 1e12])
def test_an_atom_far_away_is_no_trouble_or_refused(pbc: tuple[bool, bool, bool], far: float) -> None:
    x = np.array([[0.0, 0, 0], [0, 0, 1.5], [0, 0, far]])
    one = (np.zeros(3), x, np.diag([3.0, 3.0, 3.0 if pbc[2] else 0.0]), np.array(pbc))
    try:
        found = pairs(build_batch([one], 4.0))
    except DataError as error:
        assert far >= 1e5 and any(pbc) and "spreads over" in str(error)
    else:
        assert {(0, 1, 0, 0, 0), (1, 0, 0, 0, 0)} <= set(found)
        if not any(pbc):
            assert len(found) == 2


def test_crystals_in_skewed_cells() -> None:
    """The same lattice in cells that are ever more oblique has the same number of neighbours."""
    species, x, cell, pbc = SILICON
    for skew in (1, 4, 20):
        oblique = np.array([[1, 0, 0], [skew, 1, 0], [-skew, skew, 1]]) @ cell
        batch = build_batch([(species, x, oblique, pbc)], 6.0)
        assert batch.first.diff().tolist() == build_batch([SILICON], 6.0).first.diff().tolist()


def test_the_same_input_gives_the_same_batch() -> None:
    one, two = (build_batch(RANDOM, 4.0, half=True) for _ in range(2))
    assert torch.equal(one.index, two.index) and torch.equal(one.ghost_shift, two.ghost_shift)


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).uniform(0, 40, (5000, 3))
    results = []
    for count in (1, 4):
        monkeypatch.setattr(threads, "_count", count)
        batch = build_batch([(np.zeros(5000), x, 40 * np.eye(3), [True] * 3), *RANDOM], 4.0)
        sites = all_positions(batch)
        results.append((batch.index, sites, fold(batch, sites.sin()), virial(batch, sites, sites.sin())))
    assert all(torch.equal(one, four) for one, four in zip(*results, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_positions_that_are_not_finite_are_refused(value: float) -> None:
    bad = SILICON[1].copy()
    bad[1, 2] = value
    with pytest.raises(DataError, match=r"structure 1 .*Atom 1 stands at"):
        build_batch([SILICON, (SILICON[0], bad, SILICON[2], SILICON[3])], 4.0)


@pytest.mark.parametrize(
    "cell", [np.zeros((3, 3)), np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0]]), np.diag([5, 5, np.nan]), np.diag([5, 5, np.inf])]
)
def test_cells_without_volume_are_refused(cell: Array) -> None:
    with pytest.raises(DataError, match=r"structure 1 .*do not span a volume"):
        build_batch([SILICON, (np.zeros(1), np.zeros((1, 3)), cell, [True] * 3)], 4.0)


def test_other_bad_input_is_refused() -> None:
    for cutoff, skin in ((0.0, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (3.0, -0.1)):
        with pytest.raises(DataError, match="must be > 0"):
            build_batch([SILICON], cutoff, skin)
    species, x, cell, pbc = SILICON
    for wrong in ((np.zeros(3), x, cell, pbc), (species, x[:, :2], cell, pbc), (species, x, np.ones(3), pbc), (species, x, cell, True)):
        with pytest.raises(DataError, match=r"Structure 1 .*have the shapes \[.*Pass \[n\], \[n, 3\]"):
            build_batch([SILICON, wrong], 4.0)
    batch = build_batch([SILICON], 4.0)
    with pytest.raises(DataError, match=r"Pass \[2, 3\]"):
        update(batch, torch.zeros(3, 3))
    with pytest.raises(DataError, match=r"Pass \[1, 3, 3\]"):
        all_positions(batch, batch.positions, torch.zeros(3, 3))
