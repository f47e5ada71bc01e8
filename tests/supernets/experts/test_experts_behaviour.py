"""Metrics of routing against what extracted stock models route."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_experts_operators import configured
from tiny_moe import batches, make_moe

from supernets import SupernetError, convert, observing_family
from supernets.experts.balance import load_max_mean, mean_divergence
from supernets.experts.behaviour import BEHAVIOURS, expert_bytes, parse
from supernets.experts.locality import cache_hits, segment_histogram, segment_performance


def traces(model: Any, groups: dict[str, list[dict[str, torch.Tensor]]]) -> dict[str, list[list[np.ndarray]]]:
    """Return by hooks which experts each layer of a stock model computes: group -> batch -> layer -> [S, T, k]."""
    seen: list[torch.Tensor] = []
    hooks = [
        m.register_forward_pre_hook(lambda module, args: seen.append(args[1] if len(args) > 1 else None))
        for m in model.modules()
        if type(m).__name__.endswith("Experts")
    ]
    found: dict[str, list[list[np.ndarray]]] = {}
    for name, inputs in groups.items():
        for batch in inputs:
            seen.clear()
            with torch.no_grad():
                model(**batch)
            found.setdefault(name, []).append([t.numpy().reshape(*batch["input_ids"].shape, -1) for t in seen])
    for hook in hooks:
        hook.remove()
    return found


def unpadded(n: int, seed: int) -> list[dict[str, torch.Tensor]]:
    made = batches(n, seed=seed)
    return [{**b, "attention_mask": torch.ones_like(b["input_ids"])} for b in made]


def test_metrics_are_those_of_what_the_extracted_model_routes() -> None:
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], k=[2, 3], operators=["drop"])
    arch = configured(net, keep=4, k=2)
    groups = {"a": unpadded(2, 3), "b": unpadded(1, 4)}
    net.activate(arch)
    block_bytes = expert_bytes(net.blocks[0])
    size = f"{2 * 3 * block_bytes // 1000 + 1}kb"  # two experts of each of three layers
    names = [
        "load_max_mean",
        "dead_experts",
        "routing_js",
        "srp.4",
        "sch.3.2",
        f"sch.3.{size}",
        f"transfer_ms.3.{size}.2gbs",
    ]
    values = net.observe(names, groups)
    found = traces(net.extract(arch).eval(), groups)
    layers = [[np.concatenate([b[i] for b in found[g]]) for g in ("a", "b")] for i in range(3)]
    counts = [[np.bincount(t.ravel(), minlength=4) for t in texts] for texts in layers]
    assert values["load_max_mean"] == pytest.approx(np.mean([load_max_mean(a + b) for a, b in counts]))
    assert values["dead_experts"] == pytest.approx(100 * np.mean([(a + b == 0).mean() for a, b in counts]))
    assert values["routing_js"] == pytest.approx(mean_divergence(counts))
    whole = [np.concatenate(texts) for texts in layers]
    histogram = sum(segment_histogram(t, 4, 4) for t in whole)
    assert (values["srp.4"] / 100, values["srp_rho.4"]) == pytest.approx(segment_performance(histogram))
    assert net.observe(["srp_rho.4"], groups) == {"srp_rho.4": values["srp_rho.4"]}
    hits, accesses = np.array([[v.sum() for v in cache_hits(t, 4, 3, 2)] for t in whole]).T
    assert values["sch.3.2"] == values[f"sch.3.{size}"] == pytest.approx(100 * hits.sum() / accesses.sum())
    tokens = whole[0].shape[0] * whole[0].shape[1]
    assert values[f"transfer_ms.3.{size}.2gbs"] == pytest.approx(
        1e3 * ((accesses - hits) / tokens).sum() * block_bytes / 2e9
    )
    assert net.observe(names, groups) == values
    assert all(b.setting.watcher is None for b in net.blocks)


@pytest.mark.parametrize("op", ["m-smoe", "mone"])
def test_merged_experts_are_one_and_constants_are_none(op: str) -> None:
    """Rows of the router that share an expert load it once; constants are in memory anyway."""
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[3, 8], k=[3], operators=["drop", op])
    net.activate(configured(net, keep=3, op=op))
    values = net.observe(["sch.1.3", "dead_experts", "transfer_ms.1.1gb.1gbs"], {"all": unpadded(2, 3)})
    assert values == {"sch.1.3": 100.0, "dead_experts": 0.0, "transfer_ms.1.1gb.1gbs": 0.0}


def test_experts_of_weight_zero_and_padding_are_not_asked() -> None:
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[8], k=[3], top_p=[0.01, 1.0])
    net.activate(configured(net, top_p=0.01))  # one expert a token
    (batch,) = batches(1)
    real = int(batch["attention_mask"].sum())
    values = net.observe(["sch.1.1", "transfer_ms.1.1kb.1gbs"], {"all": [batch]})
    size = expert_bytes(net.blocks[0])
    assert values["transfer_ms.1.1kb.1gbs"] == pytest.approx(1e3 * 3 * size / 1e9)  # no cache: each token loads one
    assert 0 < values["sch.1.1"] < 100
    assert real < batch["input_ids"].numel()


def test_size_of_an_expert_follows_width() -> None:
    net = convert(make_moe("gpt_oss"), calibration=batches(), width=[8, 16], keep=[8])
    largest = expert_bytes(net.blocks[0])
    assert largest * 8 == sum(t.numel() * t.element_size() for t in net.blocks[0].tensors.values())
    net.activate(configured(net, width=8))
    one = net.extract(net.active).get_submodule(net.blocks[0].name).experts
    assert expert_bytes(net.blocks[0]) * 8 == sum(p.numel() * p.element_size() for p in one.parameters())


def test_names_are_read_and_faults_told() -> None:
    assert (parse("sch.16.8").experts, parse("sch.16.64mb").memory) == (8, 64e6)
    assert parse("transfer_ms.16.64mb.12gbs").bandwidth == 12e9
    for name in ("srp", "srp.0", "sch.16", "sch.16.mb", "transfer_ms.16.8.1gbs", "load_entropy.2", "srp.4.4"):
        with pytest.raises(SupernetError, match=r"write load_entropy, .*for example srp\.16"):
            parse(name)
    family: Any = observing_family("srp.16")
    assert family.behaviour_fault("srp.16") is None
    assert "needs texts of 16 tokens; they have 9" in family.behaviour_fault("srp.16", tokens=9)
    assert observing_family("nll") is None
    assert all(observing_family(usage) is family for usage in BEHAVIOURS)
    net = convert(make_moe("olmoe"), calibration=batches())
    with pytest.raises(SupernetError, match="compares domains, and there is one"):
        net.observe(["routing_js"], {"all": batches(1)})
    with pytest.raises(SupernetError, match="needs texts of 16 tokens; they have 9"):
        net.observe(["srp.16"], {"all": batches(1)})
    with pytest.raises(SupernetError, match="no text"):
        net.observe(["load_entropy"], {})


@pytest.mark.parametrize("kind", ["dense", "skip"])
def test_without_any_router_metrics_have_their_best_values(kind: str) -> None:
    """All tokens are treated alike: even loads, nothing to predict, to load or to tell texts apart by."""
    net: Any = convert(
        make_moe("olmoe"), calibration=batches(), keep=[8], k=[3], blocks=["experts", kind], protect=False
    )
    net.activate(configured(net, block=kind))
    names = ["load_entropy", "load_max_mean", "dead_experts", "routing_js", "srp.4", "sch.3.2", "sch.3.1kb"]
    values = net.observe([*names, "transfer_ms.3.1gb.1gbs"], {"a": unpadded(1, 3), "b": unpadded(1, 4)})
    assert list(values.values()) == [100.0, 1.0, 0.0, 0.0, 100.0, 1.0, 100.0, 100.0, 0.0]


def test_factored_experts_have_their_own_size() -> None:
    """What is loaded is the factors; as many experts fit into a cache as there is room for factors."""
    net: Any = convert(
        make_moe("olmoe"), calibration=batches(), keep=[4, 8], k=[1, 3], width=[16], operators=["mc-smoe"],
        protect=False,
    )  # fmt: skip
    net.activate(configured(net, keep=4, k=1))
    experts = net.extract(net.active).get_submodule(net.blocks[0].name).experts
    stored = [t for n, t in (*experts.named_parameters(), *experts.named_buffers()) if n.startswith("factored_")]
    size = sum(t.numel() * t.element_size() for t in stored) // 4
    assert size < expert_bytes(net.blocks[0]) / 2
    room = f"{4 * 3 * size // 1000 + 1}kb"
    values = net.observe(["transfer_ms.1.1kb.1gbs", f"sch.1.{room}"], {"all": unpadded(1, 3)})
    assert values == pytest.approx({"transfer_ms.1.1kb.1gbs": 1e3 * 3 * size / 1e9, f"sch.1.{room}": 100.0})


def test_caches_have_what_experts_that_always_answer_leave() -> None:
    """Promoted experts lie in memory first, or are loaded for each token; blocks without a router need no cache."""
    net: Any = convert(
        make_moe("olmoe"), calibration=batches(), keep=[8], k=[1, 3], width=[16], shared=[0, 1],
        blocks=["experts", "skip"], protect=False,
    )  # fmt: skip
    net.activate({**configured(net, shared=1, k=1), "block.1": "skip"})
    size = expert_bytes(net.blocks[0])  # 3072 bytes: two that always answer, and seven in each of two routers
    small, half, whole = "transfer_ms.1.1kb.1gbs", "transfer_ms.1.7kb.1gbs", f"sch.1.{16 * size // 1000 + 1}kb"
    values = net.observe([small, half, whole, "sch.1.7kb"], {"all": unpadded(1, 3)})
    assert values[small] == pytest.approx(1e3 * (2 * size + 2 * size - 1000) / 1e9)
    assert values[half] == pytest.approx(1e3 * 2 * size / 1e9)  # no room for any other
    assert (values[whole], values["sch.1.7kb"]) == (100.0, 0.0)
