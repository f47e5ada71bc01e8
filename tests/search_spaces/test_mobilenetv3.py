from __future__ import annotations

import numpy as np
import pytest

from search_spaces import UnknownSpace, get_space, list_spaces, mobilenetv3_space, register_space, space_summary
from search_spaces.errors import SearchSpaceError


@pytest.mark.parametrize("name", ["ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2"])
def test_ofa_space_is_the_published_one(name: str) -> None:
    space = get_space(name)
    assert len(space.genes) == 45
    assert space.n_genotypes == 3**45
    # A unit of 2, 3 or 4 blocks of 9 kinds: 9^2 + 9^3 + 9^4 = 7371; five units.
    assert space.n_distinct == 7371**5
    assert [len(space.groups[g]) for g in ("ks", "e", "d")] == [20, 20, 5]
    largest = space.decode(space.largest[None])[0]
    assert (largest["ks.0"], largest["e.19"], largest["d.4"]) == (7, 6, 4)


def test_depth_switches_the_last_blocks_of_its_own_unit_off() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    row = space.encode([{"ks": [7] * 20, "e": [6] * 20, "d": [4, 2, 4, 4, 4]}])
    off = [g.name for g, on in zip(space.genes, space.active(row)[0], strict=True) if not on]
    assert off == ["ks.6", "ks.7", "e.6", "e.7"]


def test_tiny_space_has_width_and_resolution() -> None:
    space = get_space("mobilenetv3-tiny")
    assert {g.role for g in space.genes} == {"kernel", "expand", "depth", "width", "resolution"}
    per_stage = sum(6**d for d in (1, 2, 3))
    widths, resolutions = (len(space.genes[space.column(g)].choices) for g in ("width", "resolution"))
    assert space.n_distinct == per_stage**3 * widths * resolutions


def test_registry() -> None:
    assert list_spaces("ofa-*") == ["ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2"]
    assert all(space_summary(n) for n in list_spaces())
    with pytest.raises(UnknownSpace, match="did you mean 'mobilenetv3-tiny'"):
        get_space("mobilenet-tiny")
    with pytest.raises(SearchSpaceError, match="registered already"):
        register_space("mobilenetv3-tiny")(lambda: get_space("mobilenetv3-tiny"))


def test_features_of_the_landmarks_differ_in_every_searched_gene() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    X = space.features(np.stack([space.largest, space.smallest]))
    assert X.shape == (2, 45 * 3 + 45)
    assert (X[0] != X[1]).sum() > 45


def test_single_widths_and_resolutions_are_kept() -> None:
    space = mobilenetv3_space(
        "s", stages=1, kernel_sizes=(3,), expand_ratios=(2,), depths=(1, 2), widths=(0.5,), resolutions=(12,)
    )
    arch = space.decode(space.smallest[None])[0]
    assert (arch["width"], arch["resolution"], space.n_distinct) == (0.5, 12, 2)
