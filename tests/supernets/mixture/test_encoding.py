"""phi tells networks apart."""

from __future__ import annotations

import numpy as np
import pytest
from mixture_nets import make_net

from search_spaces import Gene, SearchSpace, get_space, list_spaces
from supernets import SupernetError
from supernets.mixture import make_encoding, register_encoding


def _awkward() -> SearchSpace:
    return SearchSpace(
        "awkward",
        [
            Gene("zero", (0, 1, 2)),
            Gene("kind", ("a", "b"), kind="categorical"),
            Gene("close", (1_000_000_000, 1_000_000_001)),
            Gene("same", (1, 2, 3), aliases={3: 2}, active_when={"kind": ["b"]}),
            Gene("negative.0", (-1, 4)),
            Gene("negative.1", (2, 4)),
        ],
    )


SPACES = {
    **{name: (lambda name=name: get_space(name)) for name in list_spaces()},
    **{name: (lambda name=name: make_net(name, None).space) for name in ("bert", "bart", "timm_eva", "llama")},
    "awkward": _awkward,
}


@pytest.mark.parametrize("encoding", ["fine", "one-hot"])
@pytest.mark.parametrize("name", SPACES)
def test_different_networks_have_different_features(name: str, encoding: str) -> None:
    space = SPACES[name]()
    rng = np.random.default_rng(0)
    rows = space.sample(min(300, space.n_distinct), rng)
    neighbours = [rows]
    for column, n in enumerate(space.n_choices):  # what one gene alone changes
        moved = rows[:20].copy()
        moved[:, column] = (moved[:, column] + rng.integers(1, max(2, n), len(moved))) % n
        neighbours.append(moved)
    distinct = np.unique(space.canonical(np.concatenate(neighbours)), axis=0)
    features = make_encoding(encoding, space)(distinct)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert features.min() >= 0
    assert features.max() <= 1
    assert len(np.unique(features, axis=0)) == len(distinct)


def test_equal_networks_have_equal_features() -> None:
    space = _awkward()
    rows = space.encode([{"zero": 0, "kind": "b", "close": 1_000_000_000, "same": 2, "negative.0": 4, "negative.1": 2}])
    other = rows.copy()
    other[0, space.column("same")] = 2  # the alias
    for name in ("fine", "one-hot", "average"):
        encode = make_encoding(name, space)
        assert np.array_equal(encode(rows), encode(other))


def test_averages_are_the_papers() -> None:
    """Depth by its largest value, and the mean over the active layers by the largest width."""
    genes = [Gene("depth", (1, 2, 3))]
    for i in range(3):
        genes.append(Gene(f"ffn.{i}", (512, 1024, 2048), active_when={"depth": [d for d in (1, 2, 3) if d > i]}))
    space = SearchSpace("mt", genes)
    a = space.encode([{"depth": 2, "ffn.0": 512, "ffn.1": 2048, "ffn.2": 512}])
    b = space.encode([{"depth": 2, "ffn.0": 2048, "ffn.1": 512, "ffn.2": 512}])
    encode = make_encoding("average", space)
    np.testing.assert_allclose(encode(a), [[2 / 3, (512 + 2048) / 2 / 2048]], rtol=1e-6)
    assert np.array_equal(encode(a), encode(b))  # why the fine form is the default
    assert not np.array_equal(make_encoding("fine", space)(a), make_encoding("fine", space)(b))
    assert make_encoding("constant", space)(a).tolist() == [[0.5]]


def test_names() -> None:
    with pytest.raises(SupernetError, match="did you mean 'fine'"):
        make_encoding("fin", _awkward())
    with pytest.raises(SupernetError, match="registered already"):
        register_encoding("fine")(lambda space: make_encoding("constant", space))
