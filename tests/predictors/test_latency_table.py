"""Tables of block latencies: sums, files, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors import LatencySetting, LatencyTable, describe_device, load_predictor, make_predictor
from predictors.errors import LatencyTableError
from predictors.latency_table import Slot, Timing
from search_spaces import Gene, SearchSpace

SETTING = LatencySetting.parse("cpu:eager,threads=1")


def small_space() -> SearchSpace:
    return SearchSpace(
        "small",
        [
            Gene("d", (1, 2, 3)),
            *(Gene(f"k.{i}", (3, 5, 7), active_when={"d": [d for d in (1, 2, 3) if d > i]}) for i in range(3)),
            Gene("w", (16, 32)),
        ],
    )


def small_table(*, measured: bool = True) -> LatencyTable:
    """A stem without genes, and three slots of which the later ones may be empty; 1 + 6 distinct blocks."""
    kernels, keys = (3, 5, 7), ["stem", *(f"k{k}w{w}" for k in (3, 5, 7) for w in (16, 32))]
    slots = [Slot("stem", (), (0,))]
    for i in range(3):
        states = [
            1 + 2 * kernels.index(k) + (16, 32).index(w) if d > i else -1
            for d in (1, 2, 3) for k in kernels for w in (16, 32)
        ]  # fmt: skip
        slots.append(Slot(f"block {i}", ("d", f"k.{i}", "w"), tuple(states)))
    table = LatencyTable(small_space(), SETTING, describe_device(SETTING), tuple(keys), tuple(slots))
    if measured:
        table = table.with_overhead(Timing(0.25, 0.01, 50))
        for number, key in enumerate(keys):
            table = table.with_block(key, Timing(1.0 + number / 3, 0.1 * (number + 1), 20))
    return table


def by_hand(table: LatencyTable, arch: dict[str, Any]) -> float:
    blocks = [f"k{arch[f'k.{i}']}w{arch['w']}" for i in range(arch["d"])]
    assert table.overhead is not None
    call = table.overhead.median_ms
    return call + sum(table.blocks[key].median_ms - call for key in ["stem", *blocks])


def test_a_network_costs_the_sum_of_its_blocks() -> None:
    table = small_table()
    rows = table.space.enumerate()
    assert rows is not None
    mean, std = table.predict(rows)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, [by_hand(table, arch) for arch in table.space.decode(rows)])
    assert (std > 0).all()
    deepest = table.space.encode([{"d": 3, "k.0": 3, "k.1": 3, "k.2": 3, "w": 16}])
    variance = (0.1**2 + 3 * 0.2**2) / 1.349**2
    np.testing.assert_allclose(table.predict(deepest)[1], variance**0.5)
    # Values of inactive genes do not matter.
    np.testing.assert_array_equal(table.predict([[0, 1, 2, 2, 1]])[0], table.predict([[0, 1, 0, 0, 1]])[0])
    assert table.predict(rows[:0])[0].shape == (0,)


def test_a_file_gives_the_same_predictions_to_the_bit(tmp_path: Path) -> None:
    table = small_table().with_network([2, 0, 1, 2, 1], Timing(0.1 + 0.2, 1 / 3, 7))
    table.save(tmp_path / "t.json")
    loaded = LatencyTable.load(tmp_path / "t.json")
    assert loaded == table
    rows = table.space.sample(27, np.random.default_rng(0))
    for a, b in zip(loaded.predict(rows), table.predict(rows), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_an_unfinished_table_says_how_to_go_on() -> None:
    table = small_table(measured=False).with_block("stem", Timing(1.0, 0.1, 5))
    assert table.missing == list(table.keys[1:])
    assert not table.complete
    with pytest.raises(LatencyTableError, match=r"1 of 7 blocks and not the overhead of a call; go on measuring"):
        table.predict(table.space.smallest[None])
    table = replace(small_table(), overhead=None)
    assert not table.complete
    with pytest.raises(LatencyTableError, match=r"7 of 7 blocks and not the overhead of a call; go on"):
        table.predict(table.space.smallest[None])
    assert small_table().complete


def test_blocks_that_are_quicker_than_a_call_count_nothing() -> None:
    table = small_table().with_block("stem", Timing(0.1, 0.01, 5))
    arch = {"d": 1, "k.0": 3, "k.1": 3, "k.2": 3, "w": 16}
    assert table.predict(table.space.encode([arch]))[0] == pytest.approx([table.blocks["k3w16"].median_ms])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    small_table().save(path)
    whole = path.read_text()
    for text in (whole[: len(whole) // 2], "", "\xff"):
        path.write_text(text)
        with pytest.raises(LatencyTableError, match=r"t\.json cannot be read as JSON .*truncated"):
            LatencyTable.load(path)
    for text in ("[]", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(LatencyTableError, match="no latency table"):
            LatencyTable.load(path)
    with pytest.raises(LatencyTableError, match="does not exist"):
        LatencyTable.load(tmp_path / "none.json")
    data = json.loads(whole)
    data["version"] = 99
    path.write_text(json.dumps(data))
    with pytest.raises(LatencyTableError, match="version 99"):
        LatencyTable.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("slots"), "slots"),
        (lambda d: d["slots"][1].update(states=[0]), "has 1 states"),
        (lambda d: d["slots"][1].update(genes=["no"]), "genes that the space has not: no"),
        (lambda d: d["slots"][0].update(states=[77]), "beyond the 7"),
        (lambda d: d["blocks"]["stem"].update(median_ms=-1.0), "-1.0 ms"),
        (lambda d: d["overhead"].update(median_ms=float("nan")), "a call that does nothing is nan ms"),
        (lambda d: d["overhead"].update(iqr_ms=float("nan")), "spread of the latency of a call that does nothing is n"),
        (lambda d: d["blocks"]["stem"].update(iqr_ms=float("inf")), "spread of the latency of block 'stem' is inf"),
        (lambda d: d["blocks"].update(other=d["blocks"]["stem"]), "in no slot: other"),
        (lambda d: d["setting"].update(backend="abacus"), "abacus"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    data = small_table().to_json()
    change(data)
    with pytest.raises(LatencyTableError, match=rf"(?s)x\.json is damaged.*{message}"):
        LatencyTable.from_json(data, "x.json")


def test_figures_that_cannot_be_compared_are_told_apart() -> None:
    table = small_table()
    assert table.difference(small_table(measured=False)) is None
    named = LatencySetting.parse("pi=cpu:eager,threads=1,budget_ms=10")
    assert table.elsewhere(named, table.device) is None
    assert "not cpu:eager,batch=2" in str(table.elsewhere(LatencySetting.parse("cpu:eager,batch=2"), table.device))
    other = replace(table.device, cpu="Other CPU")
    assert "another device" in str(table.elsewhere(SETTING, other))
    assert "not Other CPU" in str(table.elsewhere(SETTING, other))
    assert table.elsewhere(SETTING, replace(table.device, os="newer kernel")) is None
    space = SearchSpace("other", small_space().genes)
    assert "of space 'small'" in str(table.difference(replace(table, space=space)))
    assert "other blocks" in str(table.difference(replace(table, keys=(*table.keys, "more"))))


def test_a_table_is_a_prior() -> None:
    """Three rows and the table: the residual of a constant factor is learnt at once."""
    table = small_table()
    rows = table.space.sample(20, np.random.default_rng(0))
    X, truth = table.space.features(rows), 1.3 * table.predict(rows)[0]
    prior = table.as_prior()
    np.testing.assert_array_equal(prior.predict(X)[0], table.predict(rows)[0])
    fitted = make_predictor("ridge").fit(X[:4], truth[:4], prior=prior)
    assert fitted.transfer in ("line", "residual")
    np.testing.assert_allclose(fitted.predict(X)[0], truth, rtol=0.02)


def test_sums_stay_sums_where_targets_are_constant(tmp_path: Path) -> None:
    """The smallest and the largest network cost the same here, those between do not."""
    space = SearchSpace("flat", [Gene("w", (16, 32, 64))])
    slots = (Slot("block", ("w",), (0, 1, 2)),)
    table = LatencyTable(space, SETTING, describe_device(SETTING), ("a", "b", "c"), slots)
    table = table.with_overhead(Timing(0.25, 0.01, 50))
    for key, ms in {"a": 1.0, "b": 2.0, "c": 1.0}.items():
        table = table.with_block(key, Timing(ms, 0.1, 20))
    rows = np.array([[0], [1], [2]])
    X = space.features(rows)
    fitted = make_predictor("table", table=table, correction="none").fit(X[[0, 2, 0]], [3.0, 3.0, 3.0])
    fitted.save(tmp_path / "p")
    for predictor in (table.as_prior(), fitted, load_predictor(tmp_path / "p")):
        mean, std = predictor.predict(X)
        np.testing.assert_array_equal(mean, [1.0, 2.0, 1.0])
        assert np.isfinite(std).all()
        np.testing.assert_array_equal(predictor.predict_mean(X), mean)
