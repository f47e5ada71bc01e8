from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nassearch.errors import DataError
from nassearch.tasks.splits import SPLITS, make_splits

NO_SIZES = dict.fromkeys(SPLITS)


def names(n: int) -> list[str]:
    return [f"c{i}" for i in range(n)]


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(4, 60), min_size=2, max_size=8),
    n_test=st.integers(0, 30),
    seed=st.integers(0, 2**31),
)
def test_disjoint_stratified_and_every_class_in_each(counts: list[int], n_test: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    labels = np.concatenate([pool, rng.integers(0, len(counts), n_test)])
    splits = make_splits(labels, names(len(counts)), NO_SIZES, n_test=n_test, seed=seed)

    rows = np.concatenate([splits[name] for name in SPLITS])
    assert len(np.unique(rows)) == len(rows)
    assert set(rows) == set(range(len(labels)))
    if n_test:
        assert (splits["report"] >= len(pool)).all()
        assert (rows[: -len(splits["report"])] < len(pool)).all()
    for name in SPLITS[: 3 if n_test else 4]:
        assert set(labels[splits[name]]) == set(range(len(counts)))


def test_shares_of_classes_are_kept_to_one_image() -> None:
    labels = np.repeat(np.arange(3), [600, 300, 100])
    splits = make_splits(labels, names(3), {**NO_SIZES, "search": 200, "report": 111, "calibration": 50, "train": 500})
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 500,
        "calibration": 50,
        "search": 200,
        "report": 111,
    }
    for rows in splits.values():
        exact = len(rows) * np.array([0.6, 0.3, 0.1])
        assert (abs(np.bincount(labels[rows]) - exact) <= 1.5).all()


def test_another_seed_is_another_split_and_the_same_seed_the_same() -> None:
    labels = np.tile(np.arange(4), 50)
    first, again, other = (make_splits(labels, names(4), NO_SIZES, seed=s)["search"] for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_fixed_values_so_that_other_machines_agree() -> None:
    splits = make_splits(np.tile(np.arange(2), 10), names(2), NO_SIZES, seed=0)
    assert {name: rows.tolist() for name, rows in splits.items()} == {
        "train": [8, 9, 18, 5, 0, 17, 6, 15, 11, 2],
        "calibration": [16, 7],
        "search": [3, 14, 10, 13],
        "report": [4, 19, 12, 1],
    }


def test_too_few_images_says_which_class_and_how_many() -> None:
    with pytest.raises(DataError, match=r"class 'c1' has 1 image; at least 4 are needed, one for each of train"):
        make_splits(np.array([0] * 40 + [1]), names(2), NO_SIZES)


def test_all_size_faults_come_together() -> None:
    with pytest.raises(DataError) as raised:
        make_splits(np.tile(np.arange(5), 10), names(5), {**NO_SIZES, "train": 60, "search": 3})
    assert len(raised.value.faults) == 2
    assert "search=3 is fewer than the 5 classes; give at least 5" in str(raised.value)
    assert "but there are 50; add images or give fewer" in str(raised.value)


def test_report_larger_than_the_test_set() -> None:
    with pytest.raises(DataError, match="report=30 images are asked for but the test set has 10"):
        make_splits(np.tile(np.arange(2), 50), names(2), {**NO_SIZES, "report": 30}, n_test=10)


def test_one_class() -> None:
    with pytest.raises(DataError, match=r"only one class \('c0'\)"):
        make_splits(np.zeros(100, dtype=np.int64), names(1), NO_SIZES)
