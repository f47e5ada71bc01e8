"""Features tell their rows."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces import Gene, SearchSpace, SearchSpaceError, get_space, list_spaces, rows_of_features


def test_features_of_every_space_come_back_as_their_rows() -> None:
    for name in list_spaces():
        space = get_space(name)
        rows = space.sample(300, np.random.default_rng(0))
        np.testing.assert_array_equal(rows_of_features(space, space.features(rows)), rows)
        np.testing.assert_array_equal(rows_of_features(space, space.features(rows).astype(np.float64)), rows)


def test_aliases_and_single_choices() -> None:
    space = SearchSpace(
        "odd",
        [
            Gene("only", (4,)),
            Gene("on", (0, 1)),
            Gene(
                "op", ("a", "b", "same as a"), kind="categorical", aliases={"same as a": "a"}, active_when={"on": [1]}
            ),
        ],
    )
    rows = space.canonical(np.array([[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 1, 2]]))
    np.testing.assert_array_equal(rows_of_features(space, space.features(rows)), rows)


def test_what_is_not_of_the_space_is_refused() -> None:
    space = get_space("mobilenetv3-tiny")
    X = space.features(space.sample(3, np.random.default_rng(0)))
    with pytest.raises(SearchSpaceError, match=r"are they of another space"):
        rows_of_features(space, X[:, 1:])
    with pytest.raises(SearchSpaceError, match="not features of networks"):
        rows_of_features(space, X + 0.25)
