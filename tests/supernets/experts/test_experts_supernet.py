"""The supernet: space, top-p, width, stock export, fidelity, faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from test_experts_operators import configured, logits
from tiny_moe import CONFIGS, batches, make_moe

from supernets import SupernetError, UnsupportedModel, convert
from supernets.experts import ADAPTER, esap, fidelity, kl_divergence, weights
from supernets.experts.fidelity import Reference
from supernets.experts.importance import neuron_scores
from supernets.experts.routing import keep_top_p

LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
assert not any(m.startswith(("nassearch", "supernets")) for m in sys.modules)
torch.save(model(torch.load(sys.argv[2], weights_only=True)).logits, sys.argv[3])
torch.save(model.state_dict(), sys.argv[4])
"""


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"olmoe_norm", "deepseek_v2_groups", "dots1", "glm4_moe"}))
def test_uniform_subnets_load_as_stock_models(name: str, tmp_path: Path) -> None:
    """A uniform subnet is written by save_pretrained and read without us: the same bits, the same outputs."""
    net = convert(make_moe(name), calibration=batches(), uniform=True, keep=[4, 8], k=[2, 3], width=[8, 16])
    arch = configured(net, keep=4, k=2, width=8)
    assert net.why_not_stock(arch) is None
    twin = net.extract(arch)
    twin.save_pretrained(tmp_path / "model")
    tokens = batches(1)[0]["input_ids"]
    torch.save(tokens, tmp_path / "tokens.pt")
    command = [sys.executable, "-c", LOAD, *(str(tmp_path / f) for f in ("model", "tokens.pt", "out.pt", "weights.pt"))]
    subprocess.run(command, check=True, cwd=tmp_path, env={"PATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"})
    with torch.no_grad():
        # Kernels round otherwise where tensors lie otherwise in memory.
        torch.testing.assert_close(
            torch.load(tmp_path / "out.pt", weights_only=True), twin(tokens).logits, rtol=0, atol=1e-6
        )
    kept = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert kept.keys() == twin.state_dict().keys()
    assert all(torch.equal(kept[n], t) for n, t in twin.state_dict().items())
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    if name in ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "gpt_oss", "granitemoe"):
        assert (written["num_experts"], written["num_local_experts"]) == (4, 4)


def test_what_no_stock_class_holds_is_told() -> None:
    """Layers that differ, index maps and constants are named."""
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], k=[3])
    arch = configured(net, keep=4, op="drop")
    assert net.why_not_stock(arch) is None
    assert "differ" in net.why_not_stock({**arch, "keep.1": 8})
    assert "several rows" in net.why_not_stock({**arch, **{f"op.{i}": "mone" for i in range(3)}})
    deepseek = convert(make_moe("deepseek_v2", n_shared_experts=1), calibration=batches(), keep=[8], width=[12, 16])
    assert "shared" in deepseek.why_not_stock(configured(deepseek, width=12))


def test_uniform_offers_only_what_stock_classes_hold() -> None:
    """One gene of each kind, no operator that keeps all rows, no width that a shared expert cannot follow."""
    net = convert(make_moe("deepseek_v2", n_shared_experts=1), calibration=batches(), uniform=True)
    assert {g.name for g in net.space.genes} <= {"criterion", "keep", "op", "k", "width"}
    assert set(net.choices.operators) == {"drop", "ream"} | (set(net.choices.operators) & {"dern"})
    assert net.choices.width == (8, 16)
    for row in net.space.sample(20, np.random.default_rng(0)):
        assert net.why_not_stock(net.space.decode(row[None])[0]) is None
    with pytest.raises(SupernetError, match="stock class"):
        convert(make_moe("olmoe"), calibration=batches(), uniform=True, operators=["mone"])


def test_space_repairs_constraints() -> None:
    """A token never has more experts than its groups keep; rows that say so are repaired."""
    net = convert(make_moe("deepseek_v3"), calibration=batches(), keep=[4, 6, 8], k=[1, 2, 3])
    rows = np.random.default_rng(0).integers(0, net.space.n_choices, size=(200, len(net.space.genes)))
    assert not net.space.feasible(net.space.canonical(rows)).all()
    for arch in net.space.decode(net.space.repair(rows, np.random.default_rng(1))):
        assert all(arch[f"k.{i}"] <= arch[f"keep.{i}"] // 2 for i in range(len(net.blocks)))
    first = net.space.encode([configured(net)])
    assert np.array_equal(first[0], net.space.largest)
    with pytest.raises(SupernetError, match="2 groups"):
        convert(make_moe("deepseek_v3"), keep=[5, 8])
    with pytest.raises(SupernetError, match="a token has 1 at most"):
        convert(make_moe("olmoe"), keep=[1, 8], k=[2, 3])


def test_top_p_equals_the_loop() -> None:
    """Experts count until the cumulative probability reaches p, the one that crosses included; p = 1 keeps all."""
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(50, 8, generator=generator)
    index = z.topk(5).indices[:, torch.randperm(5, generator=generator)]
    p, w = z.softmax(-1), torch.rand(50, 5, generator=generator) + 0.1
    for threshold in (0.1, 0.4, 0.8):
        expected = torch.zeros_like(w)
        for t in range(50):
            total = 0.0
            for slot in p[t, index[t]].argsort(descending=True).tolist():
                if total >= threshold:
                    break
                expected[t, slot] = w[t, slot]
                total += float(p[t, index[t, slot]])
        assert torch.equal(keep_top_p(z, w, index, threshold, sigmoid=False), expected)
    assert torch.equal(keep_top_p(z, w, index, 1.0, sigmoid=False), w)


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v3"])
def test_top_p_subnets_extract(name: str) -> None:
    """A subnet with top-p computes the same when extracted, and differs from the full model."""
    net = convert(make_moe(name), calibration=batches(), top_p=[0.2, 1.0], keep=[4, 8])
    arch = configured(net, keep=4, k=2, top_p=0.2, op="drop")
    (batch,) = batches(1)
    twin = net.extract(arch)
    full = logits(net, batch)
    net.activate(arch)
    torch.testing.assert_close(logits(net, batch), logits(twin, batch))
    assert not torch.allclose(full, logits(net, batch))


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("name", ["olmoe", "gpt_oss"])
def test_neurons_are_sorted_where_widths_are_elastic(name: str, calibrated: bool) -> None:
    """The full width is the same function; the first neurons are the most important ones."""
    model = make_moe(name)
    net = convert(model, **({"calibration": batches()} if calibrated else {}), width=[8, 16])
    (batch,) = batches(1)
    before = logits(model, batch)
    torch.testing.assert_close(logits(net, batch), before, rtol=1e-5, atol=1e-5)
    narrow = configured(net, width=8)
    for block, known in zip(net.blocks, list(net.statistics) or [None] * 3, strict=True):
        scores = neuron_scores(block, known)
        assert (scores.diff(dim=1) <= 0).all()
    if not calibrated:  # the size of weights says too little to promise more
        return
    with net.activated(narrow):
        narrowed = (logits(net, batch) - before).square().mean()
    with torch.no_grad():
        for block in net.blocks:  # the least important ones first
            backwards = torch.arange(15, -1, -1)
            turned = [weights.permuted(block.common, e, backwards) for e in range(8)]
            for n, t in weights.join(
                block.experts, {n: torch.stack([e[n] for e in turned]) for n in turned[0]}
            ).items():
                block.tensors[n].copy_(t)
    with net.activated(narrow):
        assert (logits(net, batch) - before).square().mean() > narrowed


def test_one_width_leaves_the_order_alone() -> None:
    """Without elastic widths the weights are the model's, bit for bit."""
    model = make_moe("olmoe")
    net = convert(model, calibration=batches(), width=[16])
    assert all(torch.equal(t, net.state_dict()[f"model.{n}"]) for n, t in model.state_dict().items())
    (batch,) = batches(1)
    assert torch.equal(logits(net, batch), logits(model, batch))


def test_neurons_are_sorted_by_batches_without_calibration() -> None:
    """A supernet made without calibration takes batches for the order alone: the order of a calibrated one."""
    net = convert(make_moe("olmoe"), width=[8, 16])
    net.sort_by_importance(batches())
    assert not net.calibrated
    assert not len(net.statistics)
    other = convert(make_moe("olmoe"), calibration=batches(), width=[8, 16])
    for mine, its in zip(net.blocks, other.blocks, strict=True):
        torch.testing.assert_close(mine.common["down"], its.common["down"])


def test_gradients_of_dropped_experts_are_zero() -> None:
    """Training a subnet leaves dropped experts, their router rows and cut neurons alone."""
    net = convert(make_moe("olmoe"), keep=[4, 8], k=[2, 3], width=[8, 16])
    net.activate(configured(net, keep=4, k=2, width=8))
    net(**batches(1)[0]).logits.square().sum().backward()
    for block in net.blocks:
        gone = [e for e in range(8) if e not in block.setting.plan.rows.tolist()]
        grads = {n: t.grad for n, t in block.tensors.items()}
        assert not block.router._parameters["weight"].grad[gone].any()
        assert not any(g[gone].any() for g in grads.values())
        assert not grads["down_proj"][:, :, 8:].any()
        assert not grads["gate_up_proj"][:, 8:16].any()
        assert grads["down_proj"][:, :, :8].any()


def test_router_logits_of_dropped_experts_are_minus_infinity() -> None:
    """`output_router_logits` keeps its shape; what is out is -inf, and the balance loss stays finite."""
    net = convert(make_moe("olmoe"), keep=[4, 8], k=[2, 3])
    arch = configured(net, keep=4, k=2)
    net.activate(arch)
    with torch.no_grad():
        output = net(**batches(1)[0], output_router_logits=True)
    assert all(r.shape[-1] == 8 and int(r[0].isinf().sum()) == 4 for r in output.router_logits)
    assert torch.isfinite(output.aux_loss)


def test_esap_and_kl() -> None:
    """ESAP is one minus total variation; both say nothing is lost by the full model."""
    p, q = torch.randn(4, 9), torch.randn(4, 9)
    tv = (p.softmax(-1) - q.softmax(-1)).abs().sum(-1) / 2
    torch.testing.assert_close(esap(p, q), 1 - tv)
    expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.softmax(-1), reduction="none").sum(-1)
    torch.testing.assert_close(kl_divergence(p, q), expected)
    net = convert(make_moe("olmoe"), keep=[4, 8], k=[1, 3])
    full = fidelity(net, configured(net), batches())
    assert full["esap"] == pytest.approx(100, abs=1e-3)
    assert full["kl"] == pytest.approx(0, abs=1e-6)
    less = fidelity(net, configured(net, keep=4, k=1), batches())
    assert Reference(net, batches(), keep_mb=0.0).compare(net, configured(net, keep=4, k=1)) == less  # run again
    assert less["esap"] < 99
    assert less["kl"] > 0.001
    assert net.active == configured(net)


def test_active_costs() -> None:
    """Parameters of one token and the mean number of its experts."""
    net = convert(make_moe("olmoe"), keep=[4, 8], k=[1, 2, 3])
    arch = {**configured(net, keep=4, k=1), "k.2": 2}
    costs = net.analytic(net.space.encode([configured(net), arch]))
    assert costs["active_experts"].tolist() == [3, 4 / 3]
    whole = sum(p.numel() for p in make_moe("olmoe").parameters())
    expert = 3 * 16 * 16
    assert round(costs["active_params_m"][0] * 1e6) == whole - 3 * 5 * expert
    assert round(costs["active_params_m"][1] * 1e6) == whole - 3 * 4 * 16 - (7 + 7 + 6) * expert
    buffers = sum(b.numel() * b.element_size() for b in make_moe("olmoe").buffers())
    np.testing.assert_allclose(costs["active_size_mb"], 4 * costs["active_params_m"] + buffers / 1e6)


def test_costs_of_a_model_without_a_cache_are_the_same() -> None:
    """Trained models often say ``use_cache: false``; transformers then reads position ids, which the count has not."""
    models = [make_moe("qwen3_moe") for _ in range(2)]
    models[1].config.use_cache = False
    nets = [convert(m, keep=[4, 8], k=[3]) for m in models]
    costs = [n.analytic(n.space.sample(4, np.random.default_rng(0))) for n in nets]
    assert all(np.array_equal(costs[0][m], costs[1][m]) for m in costs[0])
    assert nets[1].model.config.use_cache is False


def test_dense_models_are_refused() -> None:
    """A dense model is refused, with the space that fits it."""
    config = hf.LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(UnsupportedModel, match="llama"):
        ADAPTER.convert(hf.LlamaForCausalLM(config))
    dense = make_moe("qwen2_moe", mlp_only_layers=[0, 1, 2])
    with pytest.raises(UnsupportedModel, match="no layer with experts"):
        convert(dense)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kep": [4, 8]}, "keep"),
        ({"keep": [4]}, "lacks 8"),
        ({"k": [4]}, "not possible"),
        ({"width": [6, 16]}, "not possible"),
        ({"top_p": [1.5, 1.0]}, "above 0"),
        ({"criteria": ["aimr"]}, "aimer"),
        ({"operators": "drop", "keep": [8], "k": [3], "width": [16]}, "nothing is elastic"),
        ({"uniform": "yes"}, "True or False"),
    ],
)
def test_faults_are_told(options: dict[str, Any], message: str) -> None:
    """Lists that do not suit the model are named, with what is allowed."""
    with pytest.raises(SupernetError, match=message):
        convert(make_moe("olmoe"), **options)
