"""Dividing: nothing is lost, nothing leaks, every kind is on both sides, and content and seed alone decide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.data import Data, Frame, read_data
from composer.errors import DataError

kinds = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=12, max_size=60)


def made(rows):
    """Frames of one atom; `group` is stated, energies differ."""
    return Data(
        Frame(("Si",), [[0, 0, 0]], energy=float(place), config_type=kind, info={"group": f"{kind}{group}"}, index=place)
        for place, (kind, group) in enumerate(rows)
    )


def contents(data):
    return sorted(frame.hash for frame in data)


@settings(max_examples=60, deadline=None)
@given(kinds, st.integers(0, 5), st.integers(2, 5))
def test_folds(rows, seed, k):
    data = made(rows)
    if len(set(data.groups)) < k:
        with pytest.raises(DataError, match=f"{k} folds"):
            data.folds(k, seed=seed)
        return
    folds = data.folds(k, seed=seed)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(len(data)))
    for train, test in folds:
        assert len(test) and np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(data)))
        assert not set(data.groups[train]) & set(data.groups[test])
    for kind, total in data.config_types.items():  # balanced up to one group
        counts = [sum(data[place].config_type == kind for place in test.tolist()) for _, test in folds]
        largest = max(np.bincount(data.groups[[frame.config_type == kind for frame in data]]))
        assert max(counts) - min(counts) <= largest and sum(counts) == total
    again = [test.tolist() for _, test in made(rows).folds(k, seed=seed)]
    assert again == [test.tolist() for _, test in folds]


@settings(max_examples=60, deadline=None)
@given(kinds, st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.5]), st.randoms(use_true_random=False))
def test_split(rows, seed, share, random):
    data = made(rows)
    try:
        train, test = data.split(share, seed=seed)
    except DataError:
        assert len(set(data.groups)) < 4 or share * len(data) < max(np.bincount(data.groups))
        return
    assert contents(data) == sorted(contents(train) + contents(test)) and len(train) and len(test)
    assert not {frame.info["group"] for frame in train} & {frame.info["group"] for frame in test}
    largest = max(np.bincount(data.groups))
    for kind, total in data.config_types.items():
        assert abs(test.config_types.get(kind, 0) - share * total) <= largest + 0.5
    order = list(range(len(data)))
    random.shuffle(order)
    assert contents(data[order].split(share, seed=seed)[1]) == contents(test)


def test_by_frame_and_by_config_type():
    data = made([("abc"[n % 3], n // 6) for n in range(60)])
    train, test = data.split(0.2, by="frame")
    assert len(test) == 12 and test.config_types == dict.fromkeys(test.config_types, 4)
    assert {frame.info["group"] for frame in train} & {frame.info["group"] for frame in test}
    left_out = [{data[place].config_type for place in test.tolist()} for _, test in data.folds(3, by="config_type")]
    assert sorted(map(sorted, left_out)) == [["a"], ["b"], ["c"]]
    train, test = data.split(0.34, by="config_type")
    assert len(test.config_types) == 1 and not set(train.config_types) & set(test.config_types)


def test_seed_and_growth():
    data = made([("a", n) for n in range(50)])
    tests = [contents(data.split(0.2, seed=seed)[1]) for seed in range(4)]
    assert len({tuple(test) for test in tests}) == 4
    grown = contents(made([("a", n) for n in range(52)]).split(0.2)[1])
    assert len(set(grown) & set(tests[0])) >= 9  # a set that grows keeps its division


@pytest.mark.parametrize("wrong", [0.0, 1.0, -1, 3])
def test_wrong_share(wrong):
    with pytest.raises(DataError, match="between 0 and 1"):
        made([("a", 1), ("a", 2)]).split(wrong)


def test_wrong_requests():
    one = made([("a", 1)] * 5)
    with pytest.raises(DataError, match="leave nothing to choose"):
        one.split(0.5)
    with pytest.raises(DataError, match="5 folds.*1 groups"):
        one.folds(5)
    with pytest.raises(DataError, match="by 'atom'"):
        one.split(0.5, by="atom")  # type: ignore[arg-type]


def test_kinds_of_one_frame_are_divided_together():
    data = Data(Frame(("Si",), [[0, 0, 0]], energy=float(n), config_type=f"k{n}") for n in range(20))
    assert len(data.split(0.2)[1]) == 4 and [len(test) for _, test in data.folds(5)] == [4] * 5


def test_the_shipped_set():
    data = read_data("silicon.xyz.xz", quiet=True)
    train, test = data.split(test=0.2, by="group", seed=0)
    assert abs(len(test) - 0.2 * len(data)) <= 2
    assert set(train.config_types) == set(data.config_types) and set(test.config_types) <= set(train.config_types)
    for kind, total in data.config_types.items():
        assert abs(test.config_types.get(kind, 0) - 0.2 * total) <= 1.5
