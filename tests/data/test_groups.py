"""Symmetry-equivalent and related frames share a group; others do not."""

import numpy as np
import pytest
from ase.build import bulk, make_supercell, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from composer.data import read_data
from composer.data.distances import nearest, pairs
from composer.data.frame import Frame


def labelled(atoms, per_atom=-5.0, **info):
    atoms.info.update(energy=per_atom * len(atoms), **info)
    return atoms


def strained(strain):
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return labelled(atoms)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equivalent_structures(seed):
    rng = np.random.default_rng(seed)
    first = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    first.positions += rng.normal(0, 0.1, first.positions.shape)
    turned = first.copy()
    turned.positions += rng.normal(0, 2, 3)  # unwrapped too
    turned.positions += rng.integers(-2, 3, (len(first), 3)) @ first.cell.array
    matrix = Rotation.random(rng=rng).as_matrix() * rng.choice([-1, 1])
    turned.set_cell(turned.cell.array @ matrix)
    turned.positions = turned.positions @ matrix
    turned = turned[rng.permutation(len(turned))]
    larger = make_supercell(first, [[1, 1, 0], [0, 1, 0], [0, 1, 2]])
    other = first.copy()
    other.positions[0, 0] += 0.05
    labels = read_data([labelled(a) for a in (first, turned, larger, other)], quiet=True).groups
    assert labels.tolist() == [0, 0, 0, 1]


def test_equivalent_strains():
    shear, e = np.zeros((3, 3)), 0.02
    shear[0, 1] = shear[1, 0] = e
    frames = [strained(np.diag([e, 0, 0])), strained(np.diag([0, e, 0])), strained(np.diag([0, 0, -e])), strained(shear), strained(-shear)]
    assert read_data(frames, quiet=True).groups.tolist() == [0, 0, 1, 2, 2]


def test_energy_separates_what_geometry_does_not():
    left, right = labelled(bulk("Cu")), labelled(bulk("Cu"), -5.001)
    assert read_data([left, right], quiet=True).groups.tolist() == [0, 1]
    del right.info["energy"]
    assert read_data([left, right], quiet=True).groups.tolist() == [0, 0]


def test_stated_groups():
    frames = [labelled(bulk("Cu", a=3.5 + 0.1 * n)) for n in range(5)]
    for n, name in ((0, "a"), (3, "a"), (1, "b")):
        frames[n].info["group"] = name
    frames[3].info["trajectory"] = frames[4].info["trajectory"] = "hot"
    assert read_data(frames, quiet=True).groups.tolist() == [0, 1, 2, 0, 0]


def test_molecules_are_not_supercells():
    dimer, far = molecule("H2"), molecule("H2")
    far.positions += [40, 0, 0]
    assert read_data([labelled(dimer.copy()), labelled(dimer + far)], quiet=True).groups.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "repeats"), [("Si", 40), ("Li", 15), ("Mo", 0), ("Cu", 74)]
)  # counted in SOURCES.md by atoms, energy and volume: 40, 15, 0; Cu 68 within 1e-4 eV of the cell, here of an atom
def test_mlearn(shared, name, repeats):
    data = read_data(shared / "mlearn" / f"{name}_train.xyz.xz", quiet=True)
    assert len(data) - len(set(data.groups)) == repeats
    for _, test in data.folds(5):
        assert not set(data.groups[test]) & set(np.delete(data.groups, test))


def test_mlearn_test_frames_that_repeat_training_frames(shared):
    """SOURCES.md: Cu 11 of 13 Elastic test frames have an equal training frame."""
    data = read_data([shared / "mlearn" / f"Cu_{part}.xyz.xz" for part in ("train", "test")], quiet=True)
    train = set(data.groups[:262])
    kinds = [frame.config_type for frame, group in list(zip(data, data.groups, strict=True))[262:] if group in train]
    assert len(kinds) >= 11 and set(kinds) == {"Elastic"}


@pytest.mark.parametrize("name", ["Nb", "Mo"])
def test_monbtaw(shared, name):
    data = read_data(shared / "monbtaw" / f"{name}_train.xyz.xz", quiet=True)
    assert len(data) - len(set(data.groups)) == 90
    repeated = np.flatnonzero(np.bincount(data.groups) > 1)
    assert {frame.config_type for frame, group in zip(data, data.groups, strict=True) if group in repeated} == {f"{name}_Elastic"}


@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 1, 0), (0, 1, 0), (0, 0, 0)])
def test_distances_are_those_of_a_sum_over_images(pbc):
    rng = np.random.default_rng(1)
    cell = np.diag([1.5, 2.5, 4.0]) + rng.normal(0, 0.3, (3, 3))
    frame = Frame(("A", "B", "A"), rng.uniform(-5, 5, (3, 3)), cell * np.array(pbc)[:, None], np.array(pbc, bool))
    shifts = np.stack(np.meshgrid(*(np.arange(-12, 13) * p for p in pbc), indexing="ij"), -1).reshape(-1, 3)
    shifts = np.unique(shifts, axis=0) @ frame.cell
    vectors = frame.positions[None, :, None] - frame.positions[:, None, None] + shifts  # [i, j, image, 3]
    brute = np.linalg.norm(vectors, axis=-1)
    first, second, distance = pairs(frame, 4.0)
    for i in range(3):
        for j in range(3):
            expected = np.sort(brute[i, j][(brute[i, j] < 4.0) & (brute[i, j] > 1e-9)])
            assert np.allclose(np.sort(distance[(first == i) & (second == j)]), expected)
    expected = np.sort(np.concatenate([brute[1, 0], brute[1, 2]]))[:5]
    expected = np.minimum(np.append(expected, [9.0] * 5)[:5], 4.0)
    assert np.allclose(nearest(frame, "B", "A", 5, 4.0)[0], expected)
