"""Calibration and criteria against brute force over every token and expert."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_experts_operators import configured, logits
from tiny_moe import batches, make_moe

from supernets import SupernetError, convert
from supernets.experts import get_criterion, list_criteria, weights
from supernets.experts.blocks import find_blocks
from supernets.experts.calibration import Observer
from supernets.experts.criteria import super_experts
from supernets.experts.families import FAMILIES as FAMILIES_TABLE
from supernets.experts.statistics import LayerStatistics

FAMILIES = ("mixtral", "olmoe", "deepseek_v3", "gpt_oss", "granitemoe")


def seen(model: Any, net: Any) -> list[dict[str, Any]]:
    """Return of each block all tokens, weights, experts and residuals that are not padding, by plain hooks."""
    blocks: list[dict[str, Any]] = [{"x": [], "w": [], "i": [], "h": [], "y": []} for _ in net.blocks]
    mask: list[torch.Tensor] = []
    hooks = []
    for block, into in zip(net.blocks, blocks, strict=True):
        module = model.get_submodule(block.name)
        layer = model.get_submodule(block.name.rpartition(".")[0])

        def inputs(_: Any, args: Any, into: Any = into) -> None:
            for key, value in zip(("x", "i", "w"), args, strict=True):
                into[key].append(value[mask[-1]])

        def output(_: Any, __: Any, out: Any, into: Any = into) -> None:
            into["y"].append(out[mask[-1]])

        def residual(_: Any, args: Any, into: Any = into) -> None:
            into["h"].append(args[0].reshape(-1, 16)[mask[-1]])

        hooks += [
            module.experts.register_forward_pre_hook(inputs),
            module.experts.register_forward_hook(output),
            layer.post_attention_layernorm.register_forward_pre_hook(residual),
        ]
    for batch in batches():
        mask.append(batch["attention_mask"].bool().flatten())
        logits(model, batch)
    for hook in hooks:
        hook.remove()
    return [{k: torch.cat(v) for k, v in b.items()} for b in blocks]


@pytest.mark.parametrize("name", FAMILIES)
def test_criteria_equal_brute_force(name: str) -> None:
    """Every sum of the one pass equals the formula, token by token."""
    model = make_moe(name)
    net = convert(model, calibration=batches())
    for block, known, data in zip(net.blocks, net.statistics, seen(model, net), strict=True):
        after = data["h"] + block.scale * data["y"]
        change = (1 - torch.cosine_similarity(data["h"].double(), after.double(), dim=1)).clamp(min=0)
        for e in range(block.n_experts):
            tokens, slots = (data["i"] == e).nonzero(as_tuple=True)
            f = weights.evaluate(block.experts, block.tensors, e, data["x"][tokens])[1].detach().double()
            w, norm = data["w"][tokens, slots].double(), f.norm(dim=1)
            n = max(1, len(tokens))
            expected = {
                "reap": (w * norm).sum() / n,
                "reap-renormalised": (w / data["w"][tokens].double().sum(1) * norm).sum() / n,
                "frequency": len(tokens) / data["i"].numel(),
                "gate-mass": w.sum(),
                "ean": norm.sum(),
                "man": norm.sum() / n,
                "msan": norm.square().sum() / n,
                "easy-ep": (w * norm * change[tokens]).sum(),
                "mone": ((f - f.mean(0)).square().sum() / n if len(tokens) else 0.0) * w.sum(),
            }
            for criterion, value in expected.items():
                score = get_criterion(criterion).score(block, known)[e]
                torch.testing.assert_close(score, torch.as_tensor(value).double(), rtol=1e-4, atol=1e-5)
            if len(tokens):
                torch.testing.assert_close(known.peaks[e], f.abs().max(), rtol=1e-5, atol=1e-6)
        assert int(known.tokens) == len(data["x"])
        assert torch.equal(known.together.diagonal(), known.counts)


def test_calibration_changes_nothing_and_adds_up() -> None:
    """The pass computes what the model computes, and two batches give the sums of one pass over both."""
    model = make_moe("olmoe")
    net = convert(model, calibration=batches(), width=[16])
    (batch,) = batches(1)
    assert torch.equal(logits(net, batch), logits(model, batch))
    first = net.statistics[1].gated_norms.clone()
    assert net.calibrate([*batches(), *batches()]) == 2 * (2 * 27 - 4)
    torch.testing.assert_close(net.statistics[1].gated_norms, 2 * first)
    assert int(net.statistics[1].filled) <= len(net.statistics[1].probes)


def test_domains_have_equal_shares() -> None:
    """EASY-EP of mixed domains: each domain's scores over their layer's sum, added; with one the plain order."""
    first, second = batches(1, seed=1), batches(2, size=6, seed=2)
    net = convert(make_moe("olmoe"), calibration={"small": first, "large": second})
    one = convert(make_moe("olmoe"), calibration=second)
    twice = convert(make_moe("olmoe"), calibration=[*first, *first])  # the shares are those of once
    for slot, known in enumerate(net.statistics):
        changes = [n.statistics[slot].token_change for n in (twice, one)]
        mixed = get_criterion("easy-ep-mixed").score(net.blocks[slot], known)
        torch.testing.assert_close(mixed, sum(c / c.sum() for c in changes), rtol=1e-5, atol=1e-7)
        assert one.ranking(slot, "easy-ep-mixed") == one.ranking(slot, "easy-ep")
    assert int(net.statistics[0].tokens) == sum(int(b["attention_mask"].sum()) for b in (*first, *second))


def test_calibration_that_cannot_be_is_told_and_changes_nothing() -> None:
    """Too few tokens: how many are needed. Tokens that the model does not have: the tokenizer does not match."""
    net = convert(make_moe("olmoe"), calibration=batches())
    before = {n: t.clone() for n, t in net.statistics.state_dict().items()}
    with pytest.raises(SupernetError, match="saw 16 tokens; at least 22 are needed"):
        net.calibrate([{n: t[1:, :8] for n, t in batches(1)[0].items()}])
    for token in (40, -1):
        wrong = batches(1)[0]
        wrong["input_ids"][1, 2] = token
        with pytest.raises(SupernetError, match=f"token {token}, the model's vocabulary goes from 0 to 39"):
            net.calibrate([wrong])
    assert all(torch.equal(t, before[n]) for n, t in net.statistics.state_dict().items())
    assert all(b.setting.observer is None for b in net.blocks)


def test_leave_one_out_is_dropping_one() -> None:
    """The score is the squared change of the block's output when the expert is dropped."""
    net = convert(make_moe("mixtral"), calibration=batches(), keep=[7, 8], k=[3])
    block, known = net.blocks[0], net.statistics[0]
    scores = get_criterion("leave-one-out").score(block, known)
    x = known.used_probes()
    with torch.no_grad():
        _, w, i = block.router(x)
        full = block.experts(x, i, w)
        rows = torch.tensor([0, 1, 2, 4, 5, 6, 7])
        block.setting.plan = type(block.setting.plan)(rows=rows, target=rows)
        _, w, i = block.router(x)
        without = block.experts(x, i, w)
    torch.testing.assert_close(scores[3].float(), (full - without).square().sum(1).mean(), rtol=1e-4, atol=1e-6)


def test_router_similarity_removes_duplicates_first() -> None:
    """Of two experts with the same router row, one goes before all others."""
    model = make_moe("olmoe")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.weight[6] = layer.mlp.gate.weight[2]
    net = convert(model, calibration=batches())
    scores = get_criterion("router-similarity").score(net.blocks[0], net.statistics[0])
    assert int(scores.argmin()) in (2, 6)
    assert sorted(scores.tolist()) == list(range(8))


def test_aimer_of_gaussian_weights() -> None:
    """The ratio of Gaussian weights is sqrt(2 / pi); constants have 1, the highest, and go first."""
    model = make_moe("olmoe", hidden_size=64)
    with torch.no_grad():
        model.model.layers[0].mlp.experts.gate_up_proj[4] = 0.3
        model.model.layers[0].mlp.experts.down_proj[4] = 0.3
    net = convert(model)
    scores = -get_criterion("aimer").score(net.blocks[0], net._planner._statistics[0])
    assert scores[4] == pytest.approx(1.0)
    assert float(scores[0]) == pytest.approx((2 / torch.pi) ** 0.5, abs=0.01)
    assert net.ranking(0, "aimer")[-1] == 4


def test_super_experts_of_late_layers_do_not_count() -> None:
    """The last quarter of the layers has none, whatever its peaks."""
    quiet = torch.rand(256, generator=torch.Generator().manual_seed(0))
    loud = quiet.clone()
    loud[7] = 100
    assert super_experts([quiet, loud, quiet, loud], [0, 1, 2, 3], 4) == [[], [7], [], []]


def test_order_of_tokens_does_not_matter() -> None:
    """Peaks are the same for shuffled sequences of a batch."""
    net = convert(make_moe("olmoe"), calibration=batches())
    before = [s.peaks.clone() for s in net.statistics]
    net.calibrate([{n: t.flip(0) for n, t in b.items()} for b in reversed(batches())])
    for old, new in zip(before, net.statistics, strict=True):
        torch.testing.assert_close(old, new.peaks, rtol=1e-5, atol=1e-6)


def test_sums_keep_their_precision() -> None:
    """Half precision of the model does not touch the statistics."""
    net = convert(make_moe("olmoe"), calibration=batches()).to(torch.bfloat16)
    assert net.statistics[0].counts.dtype == torch.float64
    assert net.statistics[0].outputs.dtype == torch.float32


def test_what_needs_calibration_says_so() -> None:
    """Without calibration the criteria and operators that need it are refused, and not offered."""
    net = convert(make_moe("olmoe"))
    assert net.choices.operators == ("drop",)
    assert net.choices.criteria == ("aimer",)
    net.activate(configured(net, keep=4, k=2))
    for options in ({"criteria": ["reap"]}, {"operators": ["m-smoe"]}):
        with pytest.raises(SupernetError, match="calibration=BATCHES"):
            convert(make_moe("olmoe"), **options)
    with pytest.raises(SupernetError, match="no token"):
        convert(make_moe("olmoe"), calibration=[])
    assert set(list_criteria()) >= {"reap", "frequency", "gate-mass", "ean", "man", "msan", "easy-ep", "aimer"}


def test_every_token_has_the_same_chance_to_be_a_probe() -> None:
    """Of two domains one after the other, each has its share of the probes, whatever the batches."""
    block = find_blocks(make_moe("olmoe"), FAMILIES_TABLE["olmoe"])[0]
    for sizes in ([100] * 20, [1000, 1000], [50, 1950]):
        known = LayerStatistics(8, 16, 16, 256)
        observer = Observer(block, known)
        seen = 0
        for size in sizes:
            places = torch.arange(seen, seen + size).float()
            known.tokens += size
            observer._add_probes(places[:, None].expand(size, 16))
            seen += size
        kept = known.used_probes()[:, 0]
        assert len(kept.unique()) == 256
        assert 96 < int((kept < 1000).sum()) < 160  # 128 expected, four standard deviations
