"""The oracle of subsets against brute force on whole blocks, and its refusal of many experts."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from test_experts_operators import configured, sliced
from tiny_moe import batches, make_moe

from supernets import SupernetError, convert
from supernets.experts import list_criteria
from supernets.experts.operators.naee import subset_losses


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v3"])
def test_the_best_of_all_subsets_is_kept(name: str) -> None:
    """Each subset is sliced out of a stock model; the one whose block answers the probes most alike stays."""
    net = convert(
        make_moe(name), calibration=batches(), operators=["drop", "naee"], keep=[4, 8], k=[2, 3], protect=False
    )
    net.activate(configured(net, keep=4, op="naee", k=2))
    for slot, block in enumerate(net.blocks[:1]):
        plan = block.setting.plan
        x = net.statistics[slot].used_probes()
        original = make_moe(name).get_submodule(block.name)
        with torch.no_grad():
            full = routed(original, x)
            losses = {}
            for subset in combinations(range(8), 4):
                if block.groups == 2 and sum(e < 4 for e in subset) != 2:
                    continue
                kept = [list(subset)] * len(net.blocks)
                part = sliced(net, name, kept, 3).get_submodule(block.name)
                losses[subset] = float((full - routed(part, x)).square().sum(1).mean())
        assert tuple(plan.rows.tolist()) == min(losses, key=lambda s: losses[s])
        assert subset_losses(block, net.statistics[slot], 4) == pytest.approx(losses, rel=1e-3)


def routed(block, x):
    """Return what the routed experts of a stock block answer, without shared ones."""
    router = block.router if hasattr(block, "router") else block.gate
    _, chosen, index = router(x)
    return block.experts(x, index, chosen)


def test_no_criterion_has_a_smaller_loss() -> None:
    """The regret of every criterion to the oracle is at least 0, for each layer and size."""
    net = convert(make_moe("olmoe"), calibration=batches(), operators=["drop", "naee"], keep=[4, 5, 8], k=[3])
    for slot, block in enumerate(net.blocks):
        for keep in (4, 5):
            losses = subset_losses(block, net.statistics[slot], keep)
            best = min(losses.values())
            for criterion in list_criteria():
                assert losses[tuple(net._planner.kept(slot, keep, criterion))] >= best


def test_too_many_subsets_are_refused_before_any_work() -> None:
    net = convert(make_moe("olmoe"), calibration=batches())
    assert "naee" not in net.choices.operators  # only by name
    with pytest.raises(SupernetError, match=r"'naee' is not possible here: 8 of 16 experts are 12870 subsets"):
        convert(make_moe("olmoe", num_experts=16), calibration=batches(), operators=["naee"], keep=[8, 16])
    with pytest.raises(SupernetError, match="needs calibration"):
        convert(make_moe("olmoe"), operators=["naee"], keep=[4, 8])
