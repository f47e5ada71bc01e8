"""Equal networks have equal rows: where the criterion, the operator or top-p decide nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from test_experts_operators import configured
from tiny_moe import batches, make_moe

from supernets import convert

OPTIONS: dict[str, Any] = {
    "keep": [1, 2, 4, 8], "k": [1, 2, 3], "top_p": [0.5, 1.0], "width": [16], "shared": [0, 1],
    "blocks": ["experts", "dense", "skip"], "criteria": ["reap", "frequency"],
    "operators": ["drop", "naee", "hc-smoe", "m-smoe", "mone", "ream"],
}  # fmt: skip


@pytest.fixture(scope="module")
def net() -> Any:
    """A supernet whose first block has a super expert."""
    model = make_moe("olmoe")
    with torch.no_grad():
        model.model.layers[0].mlp.experts.down_proj[5] *= -50
    made: Any = convert(model, calibration=batches(4), **OPTIONS)
    assert [len(e) for e in made.super_experts] == [1, 0, 0]
    return made


def computed(net: Any, arch: dict[str, Any]) -> list[list[Any]]:
    """Return what each block computes with, as the architecture says, canonical or not."""
    found = []
    for slot, block in enumerate(net.blocks):
        plan = net._planner(slot, net._wanted(arch, slot))
        k = arch[f"k.{slot}"] if plan.routed else 0
        flat: list[Any] = [k, arch[f"top_p.{slot}"] if k > 1 else 1.0, block.n_experts]
        for f in fields(plan):
            value = getattr(plan, f.name)
            tensors = value if isinstance(value, dict) else {"": value}
            flat += [None if t is None else t.tolist() for t in tensors.values()]
        found.append(flat)
    return found


def test_the_canonical_form_is_the_same_network(net: Any) -> None:
    """What canonical rows leave out decides nothing, in no block."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, net.space.n_choices, size=(400, len(net.space.genes)))
    # Many with little to choose: few blocks that keep some, and operators that do not ask which.
    for i, gene in enumerate(net.space.genes):
        if gene.role in ("block", "experts"):
            rows[:, i] = np.where(rng.random(len(rows)) < 0.6, len(gene.choices) - 1, rows[:, i])
    canonical = net.space.canonical(rows)
    ok = net.space.feasible(canonical) & (canonical[:, 0] != rows[:, 0])
    assert ok.sum() > 20
    for row, other in zip(rows[ok][:20], canonical[ok], strict=False):
        pair = net.space.decode(np.stack([row, other]))
        assert computed(net, pair[0]) == computed(net, pair[1])


def test_the_criterion_matters_where_some_block_asks_it(net: Any) -> None:
    """Not for the subset oracle or clusters of all experts, unless some of those kept answer every token."""
    base = {**configured(net, block="dense"), "keep.0": 8, "criterion": "frequency"}
    one = {**base, "block.2": "experts", "keep.2": 4, "op.2": "drop", "k.2": 1, "shared.2": 0}
    super_alone = {"keep.0": 1, "k.0": 1, "op.0": "mone", "shared.0": 0}
    for changes, matters in (
        ({}, True),
        ({"block.2": "skip"}, False),
        ({"keep.2": 8}, False),
        ({"op.2": "naee"}, False),
        ({"op.2": "hc-smoe"}, False),
        ({"op.2": "hc-smoe", "shared.2": 1}, True),
        ({"op.2": "mone"}, True),
        ({"block.2": "skip", **super_alone}, False),
        ({"block.2": "skip", **super_alone, "keep.0": 2}, True),
    ):
        arch = net.space.decode(net.space.encode([{**one, **changes}]))[0]
        assert (arch["criterion"] == "frequency") == matters, changes


def test_operators_that_come_to_the_same_are_one(net: Any) -> None:
    """With super experts alone there is nobody to merge into: of all that would drop the others the first is left."""
    base = configured(net, keep=8, block="experts")
    for keep, shared in ((1, 0), (2, 1)):
        arch = {**base, "keep.0": keep, "k.0": 1, "shared.0": shared}
        rows = net.space.encode([{**arch, "op.0": "drop"}] * 6)
        rows[:, net.space.column("op.0")] = range(6)
        assert net.space.feasible(rows).tolist() == [True, False, False, False, True, False]
    assert net.space.feasible(net.space.smallest[None])[0]
    assert net.space.n_distinct > 1e6  # counted, not refused as too entangled


def test_with_one_expert_a_token_top_p_is_nothing(net: Any) -> None:
    """The first expert always answers."""
    some = net.space.encode([{**configured(net, keep=4, k=1, op="drop"), "top_p.1": p} for p in (0.5, 1.0)])
    assert (some[0] == some[1]).all()
    net.activate(net.space.decode(some[:1])[0])
    assert net.blocks[1].setting.top_p == 1.0
