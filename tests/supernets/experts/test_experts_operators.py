"""Operators against what they must equal: slices, tied copies, permuted duplicates, constants."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from tiny_moe import batches, make_moe
from torch import Tensor

from supernets import SupernetError, convert
from supernets.experts import get_operator, list_operators, threshold_architecture, weights
from supernets.experts.blocks import find_blocks
from supernets.experts.families import FAMILIES as FAMILIES_TABLE
from supernets.experts.operators.m_smoe import groups_per_layer
from supernets.experts.operators.merging import closest
from supernets.experts.operators.similarity import SIMILARITIES
from supernets.experts.operators.sub_moe import SubMoE

FAMILIES = (
    "mixtral",
    "olmoe",
    "qwen2_moe",
    "deepseek_v2",
    "deepseek_v2_groups",
    "deepseek_v3",
    "gpt_oss",
    "granitemoe",
)


def configured(net: Any, **values: Any) -> dict[str, Any]:
    """Return the largest architecture with some dimensions changed in all blocks."""
    arch = net.space.decode(net.space.largest[None])[0]
    return {n: values.get(n.partition(".")[0], v) for n, v in arch.items()}


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the model's logits without gradient."""
    with torch.no_grad():
        return model(**batch).logits  # type: ignore[no-any-return]


def sliced(net: Any, name: str, kept: list[list[int]], k: int) -> Any:
    """Slice a fresh stock model by hand: parameters, router rows, correction bias, counts."""
    model = make_moe(name)
    for block, rows in zip(net.blocks, kept, strict=True):
        module = model.get_submodule(block.name)
        router = module.router if hasattr(module, "router") else module.gate
        for owner in (router, module.experts):
            for n, p in list(owner.named_parameters()):
                setattr(owner, n, torch.nn.Parameter(p[rows]))
            owner.num_experts = len(rows)
        if hasattr(router, "e_score_correction_bias"):
            router.e_score_correction_bias = router.e_score_correction_bias[rows]
        router.top_k = k
    return model


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
@pytest.mark.parametrize("name", FAMILIES)
def test_dropping_is_slicing(name: str, implementation: str) -> None:
    """Dropped experts are out before softmax and top-k: the same as a model without them, in each implementation."""
    net = convert(make_moe(name, implementation), calibration=batches(), keep=[4, 8], k=[2, 3], width=[16])
    arch = configured(net, keep=4, k=2, op="drop")
    net.activate(arch)
    kept = [block.setting.plan.rows.tolist() for block in net.blocks]
    expected = sliced(net, name, kept, 2)
    expected.set_experts_implementation(implementation)
    for batch in batches(seed=3):
        torch.testing.assert_close(logits(net, batch), logits(expected, batch), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm"])
def test_an_index_map_is_tied_copies(implementation: str) -> None:
    """A merged layer computes what a stock layer with a copy of the merged expert for each member does."""
    net = convert(make_moe("olmoe", implementation), calibration=batches(), keep=[4, 8], operators=["m-smoe"], k=[3])
    net.activate(configured(net, keep=4))
    tied = make_moe("olmoe", implementation)
    for block in net.blocks:
        plan = block.setting.plan
        experts = tied.get_submodule(block.name).experts
        experts.gate_up_proj.data = plan.bank["gate_up_proj"][plan.target]
        experts.down_proj.data = plan.bank["down_proj"][plan.target]
    (batch,) = batches(1)
    torch.testing.assert_close(logits(net, batch), logits(tied, batch), rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("operator", ["m-smoe", "ream", "sub-moe", "dern"])
@pytest.mark.parametrize("name", ["olmoe", "gpt_oss"])
def test_permuted_duplicates_merge_exactly(operator: str, name: str) -> None:
    """Copies of one expert with their neurons in another order merge to that expert."""
    net = convert(
        make_moe(name), calibration=batches(), keep=[4, 8], width=[16], operators=[operator], criteria=["frequency"]
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for block in net.blocks:
            common = block.common
            orders = [torch.randperm(block.width, generator=generator) for _ in range(block.n_experts)]
            same = [weights.permuted(common, 0, order) for order in orders]
            if operator == "sub-moe":  # it does not align
                same = [weights.permuted(common, 0, torch.arange(block.width)) for _ in orders]
            stacked = {n: torch.stack([s[n] for s in same]) for n in common}
            for n, tensor in weights.join(block.experts, stacked).items():
                block.tensors[n].copy_(tensor)
    net.calibrate(batches())
    net.activate(configured(net, keep=4))
    x = torch.randn(5, 16, generator=generator)
    for block in net.blocks:
        bank = block.setting.plan.bank
        expected = weights.evaluate(block.experts, block.tensors, 0, x)[1]
        for e in range(4):
            torch.testing.assert_close(weights.evaluate(block.experts, bank, e, x)[1], expected, rtol=1e-5, atol=1e-5)


def test_m_smoe_is_the_frequency_weighted_mean() -> None:
    """Without alignment a group is the mean of its members' weights by frequency."""
    net = convert(
        make_moe("mixtral"),
        calibration=batches(),
        keep=[4, 8],
        width=[16],
        operators=["m-smoe:reference=none"],
        protect=False,
    )
    net.activate(configured(net, keep=4))
    for block, known in zip(net.blocks, net.statistics, strict=True):
        plan, f = block.setting.plan, known.frequencies()
        for group in range(4):
            members = (plan.target == group).nonzero().flatten().tolist()
            mean = sum(f[e] * block.tensors["down_proj"][e] for e in members) / sum(f[e] for e in members)
            torch.testing.assert_close(plan.bank["down_proj"][group], mean.float())


@pytest.mark.parametrize("operator", ["hc-smoe", "sub-moe", "sub-moe:rank=0.5", "m-smoe:reference=none"])
def test_sorted_neurons_merge_as_the_unsorted(operator: str) -> None:
    """Sorting each expert by itself does not change which neurons are averaged."""
    options: dict[str, Any] = {"calibration": batches(), "keep": [4, 8], "operators": [operator], "protect": False}
    plain = convert(make_moe("olmoe"), **options, criteria=["frequency"], width=[16])
    ordered = convert(make_moe("olmoe"), **options, criteria=["frequency"], width=[8, 16])
    ordered.calibrate(batches())  # which does not forget the order
    assert not torch.equal(ordered.blocks[0].tensors["down_proj"], plain.blocks[0].tensors["down_proj"])
    (batch,) = batches(1)
    with plain.activated(configured(plain, keep=4)), ordered.activated(configured(ordered, keep=4)):
        torch.testing.assert_close(logits(ordered, batch), logits(plain, batch), rtol=1e-5, atol=1e-5)


def test_sub_moe_at_full_rank_is_the_weighted_mean() -> None:
    """The decomposition with all singular values gives the mean; with fewer, its projection."""
    block = find_blocks(make_moe("olmoe"), FAMILIES_TABLE["olmoe"])[0]
    common, shares = block.common, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    mean = sum(s * common["down"][e].double() for s, e in zip(shares, (1, 4, 6), strict=True))
    for rank, same in ((1.0, True), (0.999, True), (0.25, False)):
        merged = SubMoE(rank=rank).merge(common, [1, 4, 6], shares)["down"]
        assert torch.allclose(merged, mean, atol=1e-7) is same
    beside = torch.cat([common["down"][e].double() for e in (1, 4, 6)], 1)
    left, values, right = torch.linalg.svd(beside, full_matrices=False)
    pieces = [v[:4] for v in right.chunk(3, dim=1)]
    published = left[:, :4] @ values[:4].diag() @ sum(s * v for s, v in zip(shares, pieces, strict=True))
    torch.testing.assert_close(SubMoE(rank=0.25).merge(common, [1, 4, 6], shares)["down"], published)


def test_dern_above_cosine_one_is_dropping() -> None:
    """With a threshold that no neuron reaches, kept experts stay bit for bit; else permutations do not matter."""
    net = convert(
        make_moe("olmoe"), calibration=batches(), keep=[4, 8], operators=["dern:threshold=1.5", "dern"], k=[3]
    )
    (batch,) = batches(1)
    plans = []
    for _ in range(2):
        net.activate(configured(net, keep=4, op="dern:threshold=1.5"))
        for block in net.blocks:
            kept = block.setting.plan.rows
            assert torch.equal(block.setting.plan.bank["down_proj"], block.tensors["down_proj"][kept])
        net.activate(configured(net, keep=4, op="dern"))
        plans.append(logits(net, batch))
        order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            for block in net.blocks:
                common = {n: t.clone() for n, t in block.common.items()}
                gone = [e for e in range(8) if e not in block.setting.plan.rows.tolist()]
                for e in gone:
                    for n, t in weights.permuted(common, e, order).items():
                        common[n][e] = t
                for n, tensor in weights.join(block.experts, common).items():
                    block.tensors[n].copy_(tensor)
    torch.testing.assert_close(plans[0], plans[1], rtol=1e-5, atol=1e-5)


def test_threshold_allocation() -> None:
    """The groups of all layers add up to the budget, and each layer has one at least."""
    generator = torch.Generator().manual_seed(0)
    frequencies = [torch.rand(16, generator=generator).double() for _ in range(5)]
    frequencies[2] /= 1e6
    counts = groups_per_layer(frequencies, 6.0)
    assert sum(counts) == 30
    assert counts[2] == 1


def test_threshold_architecture() -> None:
    """The published allocation as an architecture: groups add up to the budget, the order is usage."""
    options: dict[str, Any] = {"operators": ["drop", "m-smoe"], "criteria": ["reap", "frequency"], "protect": False}
    net: Any = convert(make_moe("olmoe"), calibration=batches(), keep=list(range(1, 9)), k=[1, 2, 3], **options)
    arch = threshold_architecture(net, 4.0)
    counts = [arch[f"keep.{s}"] for s in range(3)]
    assert sum(counts) == 12
    assert counts == groups_per_layer([s.frequencies() for s in net.statistics], 4.0)
    assert arch["criterion"] == "frequency"
    assert all(arch[f"k.{s}"] == min(3, n) for s, n in enumerate(counts))
    net.activate(arch)
    for wrong in ({"operator": "ream"}, {"operator": "m-smoe", "net": convert(make_moe("olmoe"))}):
        with pytest.raises(SupernetError, match="common threshold needs"):
            threshold_architecture(wrong.pop("net", net), 4.0, **wrong)


def test_a_novice_is_the_mean_output() -> None:
    """A constant expert is replaced by a novice without any error; the error of others is their variance's."""
    model = make_moe("gpt_oss")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.experts.down_proj.zero_()  # the bias is the whole output
    net = convert(model, calibration=batches(4), keep=[4, 8], operators=["mone"], k=[3])
    (batch,) = batches(1, seed=0)
    full = logits(net, batch)
    net.activate(configured(net, keep=4))
    torch.testing.assert_close(logits(net, batch), full, rtol=1e-5, atol=1e-5)


def test_ream_keeps_rows_of_its_centroids_only() -> None:
    """REAM's router has the rows of the kept experts, and a stock class can hold the result."""
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], operators=["ream"], uniform=True)
    arch = configured(net, keep=4)
    net.activate(arch)
    assert all(len(b.setting.plan.rows) == 4 for b in net.blocks)
    assert net.why_not_stock(arch) is None


def test_super_experts_are_neither_dropped_nor_merged() -> None:
    """A planted super expert is found by its negative peak, kept by every operator, and unchanged by merging."""
    model = make_moe("olmoe")
    with torch.no_grad():
        experts = model.model.layers[0].mlp.experts
        experts.down_proj[5] *= -50
        model.model.layers[0].mlp.gate.weight[5] *= 0.1
    for operator in list_operators():
        # One width: neurons stay where they are.
        chosen = {"keep": [4, 8], "operators": [operator], "criteria": ["frequency", "aimer"], "width": [16]}
        net = convert(model, calibration=batches(4), **chosen)
        assert net.super_experts == [[5], [], []]
        for criterion in ("frequency", "aimer"):
            net.activate(configured(net, keep=4, criterion=criterion))
            plan = net.blocks[0].setting.plan
            rows = range(8) if plan.rows is None else plan.rows.tolist()
            place = list(rows).index(5)
            target = place if plan.target is None else int(plan.target[place])
            if plan.target is not None and plan.places is None:
                assert int((plan.target == target).sum()) == 1
            down = (net.blocks[0].tensors if plan.bank is None else plan.bank)["down_proj"]
            torch.testing.assert_close(down[target], model.model.layers[0].mlp.experts.down_proj[5])


def test_no_operator_changes_the_model() -> None:
    """After any number of switches the supernet equals the original bit for bit."""
    model = make_moe("qwen3_moe")
    net = convert(model, calibration=batches(), width=[16], criteria=["reap", "leave-one-out", "aimer"])
    (batch,) = batches(1)
    for row in net.space.sample(12, np.random.default_rng(0)):
        net.activate(net.space.decode(row[None])[0])
        logits(net, batch)
    net.activate(configured(net))
    assert torch.equal(logits(net, batch), logits(model, batch))
    state = net.model.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in model.state_dict().items())


def test_banks_stay_within_their_memory() -> None:
    """Banks of configurations that are not active are forgotten beyond the limit."""
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[2, 4, 8], operators=["m-smoe"], bank_mb=0.0, k=[1, 3])
    net.activate(configured(net, keep=4, k=1))
    assert not net._planner._plans
    expected = 3 * 4 * 3 * 16 * 16 * 4
    assert net.active_bank_mb * 1e6 == expected


def test_merged_experts_follow_the_weights() -> None:
    """After training the next switch merges the new weights."""
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], operators=["hc-smoe"])
    net.activate(configured(net, keep=4))
    before = net.blocks[0].setting.plan.bank["down_proj"].clone()
    with torch.no_grad():
        net.blocks[0].tensors["down_proj"].mul_(2)
    net.activate(configured(net, keep=4))
    assert not torch.allclose(net.blocks[0].setting.plan.bank["down_proj"], before)


def test_memory_is_the_model_and_the_banks() -> None:
    """After many switches there is no more than the model, what calibration knows, and the banks that were allowed."""

    def size() -> int:
        gc.collect()
        # Other tests may have left tensors without memory: fake ones, and those of the meta device.
        kinds = (torch.Tensor, torch.nn.Parameter)
        tensors = [t for t in gc.get_objects() if type(t) in kinds and t.device.type == "cpu"]
        found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(found.values())

    model, known = make_moe("olmoe", hidden_size=32, intermediate_size=64), batches()
    before = size()
    net: Any = convert(model, calibration=known, keep=[2, 4, 8], width=[32, 64], bank_mb=0.4)
    own = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    most = 0.0
    for i, row in enumerate(net.space.sample(40, np.random.default_rng(0))):
        net.activate(net.space.decode(row[None])[0])
        if i % 8 == 7:
            most = max(most, size() - before - own - net.active_bank_mb * 1e6)
    assert 0 < most <= 0.4e6 + 50_000  # index maps, rankings and masks
    net.activate(configured(net))
    assert net.active_bank_mb == 0


def test_groups_by_other_similarities() -> None:
    """Groups follow what they are told to go by, and hold no more than they may."""
    model = make_moe("olmoe")
    with torch.no_grad():
        for layer in model.model.layers:
            experts = layer.mlp.experts
            for a, b in ((1, 6), (2, 7)):  # twins in the weights alone
                experts.gate_up_proj[b] = experts.gate_up_proj[a]
                experts.down_proj[b] = experts.down_proj[a]
    block = find_blocks(model, FAMILIES_TABLE["olmoe"])[0]
    statistics = convert(model, calibration=batches(), width=[16]).statistics[0]
    for name in ("weight", "feature", "weight-feature"):
        likeness = SIMILARITIES[name](block, statistics).fill_diagonal_(-1)
        assert int(likeness[1].argmax()) == 6
        assert int(likeness[7].argmax()) == 2
    for name, similarity in SIMILARITIES.items():
        matrix = similarity(block, statistics)
        torch.testing.assert_close(matrix, matrix.T, msg=name)
        assert matrix.shape == (8, 8)
    groups = closest(torch.ones(8, 8), [0, 1, 2], [3, 4, 5, 6, 7], frozenset(), capacity=2)
    assert sorted(len(g) for g in groups) == [2, 3, 3]  # five others and three groups: two each is too few
    assert sorted(e for g in groups for e in g) == list(range(8))


def test_dern_adds_columns_up() -> None:
    """With ``columns=sum`` a kept column is whole, and what joined is weighted by its mass over the kept expert's."""
    operators = ["dern", "dern:columns=sum"]
    net: Any = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], operators=operators, width=[16], k=[3])
    columns = {}
    for op in operators:
        net.activate(configured(net, keep=4, op=op))
        columns[op] = net.blocks[0].setting.plan.bank["down_proj"]
    kept, own = net.blocks[0].setting.plan.rows.tolist(), net.blocks[0].tensors["down_proj"]
    for place, e in enumerate(kept):
        mean, total = columns["dern"][place], columns["dern:columns=sum"][place]
        # mean = (m D + sum m' D') / (m + sum m'), total = D + sum m' D' / m: parallel, and longer.
        ratio = (total * mean).sum(0) / mean.square().sum(0)
        torch.testing.assert_close(total, mean * ratio, rtol=1e-4, atol=1e-5)
        assert (ratio > 1 - 1e-5).all()
        if e in net.super_experts[0]:
            assert torch.equal(total, own[e])


def test_options_of_operators() -> None:
    """Options are read from the name; faults are told."""
    assert get_operator("m-smoe:reference=first,output=false").output is False
    for text, message in (("m-smo", "m-smoe"), ("ream:capcity=3", "capacity"), ("ream:capacity=x", "int")):
        with pytest.raises(SupernetError, match=message):
            get_operator(text)
