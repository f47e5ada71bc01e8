"""What the conformance suite does not ask: masks, attention variants, generation, ties, stock checkpoints, order."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tiny_models import ENCODER, GENERATORS, MODELS, TEXT_MODELS, VARIANTS, make_model
from torch import Tensor, nn

from predictors.measurement.counters import count
from supernets import Inputs, SupernetError, call, convert, from_payload, load, save, to_payload
from supernets.conformance import logits, randomise
from supernets.transformer import TransformerSupernet

FIXED_ATTENTION = {"deberta_v2"}  # has one implementation only


def made(name: str, attention: str | None = None, **choices: Any) -> TransformerSupernet:
    net = convert(make_model(name, attention), **choices)
    assert isinstance(net, TransformerSupernet)
    randomise(net)
    return net


def archs(net: TransformerSupernet, n: int = 2, seed: int = 3) -> list[dict[str, Any]]:
    return [
        *net.space.decode(net.space.smallest[None]),
        *net.space.decode(net.space.sample(n, np.random.default_rng(seed))),
    ]


def out(module: nn.Module, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return logits(call(module, inputs))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


# -- variants of the families ------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str) -> None:
    model = make_model(name)
    net = convert(model)
    inputs = net.example_inputs(batch_size=2)
    assert torch.equal(out(net, inputs), out(model, inputs))
    randomise(net)
    costs = net.analytic(net.space.encode(archs(net)))
    for i, arch in enumerate(archs(net)):
        net.activate(arch)
        twin = net.extract(arch)
        assert type(twin) is type(model)
        close(out(twin, inputs), out(net, inputs))
        counted = count(twin, net.example_inputs())
        assert [round(costs[k][i] * 1e6) for k in costs] == [round(counted.to_json()[k] * 1e6) for k in costs]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(VARIANTS) - FIXED_ATTENTION))
def test_attention_implementations(name: str, attention: str) -> None:
    model = make_model(name, attention)
    net = convert(model)
    inputs = net.example_inputs(batch_size=2)
    assert torch.equal(out(net, inputs), out(model, inputs))
    randomise(net)
    arch = archs(net)[1]
    net.activate(arch)
    close(out(net.extract(arch), inputs), out(net, inputs))


@pytest.mark.parametrize("name", sorted(n for n in MODELS if not n.endswith("_norm")))
def test_a_subnet_is_the_model_without_the_other_units(name: str) -> None:
    """Cutting heads and neurons equals silencing them: whole heads go, each with its own query, key and value."""
    net = made(name)
    inputs = net.example_inputs(batch_size=2)
    largest = net.active
    arch = {gene.name: gene.smallest if gene.role != "depth" else gene.largest for gene in net.space.genes}
    net.activate(arch)
    cut = out(net, inputs)
    with torch.no_grad():
        for stack in net.stacks:
            for dim, extents in stack.extents.items():
                for layer, extent in zip(stack.layers, extents, strict=True):
                    reader: Any = layer.get_submodule(stack.table.dims[dim].columns[0])
                    weight, piece = reader.sliced()["weight"]
                    weight.narrow(
                        piece.dim, extent.active * piece.unit, weight.shape[piece.dim] - extent.active * piece.unit
                    ).zero_()
    net.activate(largest)
    close(out(net, inputs), cut)


# -- masks -------------------------------------------------------------------------------------------


def padded(net: TransformerSupernet, fill: int) -> dict[str, Tensor]:
    inputs = net.example_inputs(batch_size=3)
    assert isinstance(inputs, dict)
    inputs["attention_mask"][0, -3:] = 0
    inputs["input_ids"][0, -3:] = fill
    inputs["input_ids"][0, -4] = 2  # the end of the text, where models look for it
    return inputs


@pytest.mark.parametrize("name", TEXT_MODELS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_is_masked(name: str, attention: str) -> None:
    net = made(name, None if name in FIXED_ATTENTION else attention, sequence=8)
    zeros = padded(net, 0)
    for arch in archs(net, 1):
        net.activate(arch)
        close(out(net.extract(arch), zeros), out(net, zeros))
        if name not in ("clip", "llama_classifier"):  # these read positions from the token numbers
            before, after = (out(net, padded(net, fill)) for fill in (0, 7))
            real = -3 if before.ndim == 3 and before.shape[1] == 8 and "decoder_input_ids" not in zeros else None
            close(after[:, :real], before[:, :real])


def test_padding_matters_without_a_mask() -> None:
    net = made("bert", sequence=8)
    a, b = (padded(net, fill) for fill in (0, 7))
    del a["attention_mask"], b["attention_mask"]
    assert not torch.allclose(out(net, a), out(net, b))


# -- generation, ties --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENERATORS)
def test_extracted_models_generate(name: str) -> None:
    net = made(name, sequence=6)
    orders = {s.table.name: [0, *reversed(range(1, len(s.layers)))] for s in net.stacks}
    for stack in net.stacks:
        stack.set_order(orders[stack.table.name])
    inputs = net.example_inputs(batch_size=2)
    assert isinstance(inputs, dict)
    inputs.pop("decoder_input_ids", None)
    options: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    for arch in archs(net, 2):
        net.activate(arch)
        twin: Any = net.extract(arch)
        cached = twin.generate(**inputs, **options)
        assert torch.equal(cached, twin.generate(**inputs, use_cache=False, **options))
        assert torch.equal(cached, net.model.generate(**inputs, **options))  # type: ignore[operator]


@pytest.mark.parametrize("name", ["bert_mlm", "gpt2", "qwen3", "gemma", "t5", "bart", "marian"])
def test_tied_embeddings_stay_tied(name: str, tmp_path: Path) -> None:
    net = made(name)
    twin: Any = net.extract(archs(net)[1])
    assert twin.get_output_embeddings().weight is twin.get_input_embeddings().weight
    save(net, tmp_path)
    loaded: Any = load(tmp_path)
    assert loaded.model.get_output_embeddings().weight is loaded.model.get_input_embeddings().weight
    inputs = net.example_inputs()
    assert torch.equal(out(loaded, inputs), out(net, inputs))


def test_extraction_after_hidden_states_were_asked_for() -> None:
    net = made("bert", "eager")
    inputs: Any = net.example_inputs()
    whole = net(**inputs, output_hidden_states=True, output_attentions=True)
    assert len(whole.hidden_states) == 4
    arch = archs(net)[0]
    net.activate(arch)
    mine, its = (m(**inputs, output_hidden_states=True, output_attentions=True) for m in (net, net.extract(arch)))
    assert len(mine.hidden_states) == len(its.hidden_states) == net.active["depth"] + 1
    assert mine.attentions[0].shape == its.attentions[0].shape
    close(mine.hidden_states[1], its.hidden_states[1])


# -- rebuilding and stock checkpoints ----------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MODELS))
def test_rebuild_source(name: str) -> None:
    net = made(name)
    arch = archs(net)[1]
    twin = net.extract(arch)
    source = net.rebuild_source(arch)
    assert source is not None
    assert "supernets" not in source
    scope: dict[str, Any] = {}
    exec(compile(source, "<subnet>", "exec"), scope)
    built = scope["build_model"]()
    built.load_state_dict(twin.state_dict())
    inputs = net.example_inputs(batch_size=2)
    assert torch.equal(out(built, inputs), out(twin, inputs))


STOCK = ["bert", "distilbert", "vit", "beit", "llama", "mistral", "qwen3", "gpt2", "gpt_neox", "t5", "bart", "clip"]


@pytest.mark.parametrize("name", STOCK)
def test_uniform_subnets_are_stock_checkpoints(name: str, tmp_path: Path) -> None:
    """Depth and width fit every configuration; heads where it has the size of a head."""
    holds_heads = {"vit": [2, 4], "beit": [2, 4], "llama": [4, 8], "mistral": [4, 8], "qwen3": [4, 8], "t5": [1, 3, 4]}
    choices = {"heads": holds_heads.get(name, [4])}
    if name in ("t5", "bart"):
        choices["cross_heads"] = choices["heads"]
    net = convert(make_model(name), uniform=True, **choices)
    assert isinstance(net, TransformerSupernet)
    randomise(net)
    assert all("." not in g.name or not g.name[-1].isdigit() for g in net.space.genes)
    for arch in archs(net, 2):
        twin: Any = net.extract(arch)
        twin.save_pretrained(tmp_path / name)
        again = type(twin).from_pretrained(tmp_path / name).eval()
        inputs = net.example_inputs()
        close(out(again, inputs), out(twin, inputs))


def test_models_that_cannot_be_rebuilt_say_so(tmp_path: Path) -> None:
    model: Any = make_model("bert")
    model.classifier = nn.Sequential(nn.Linear(16, 4), nn.Linear(4, 3))
    net = convert(model)
    with pytest.raises(Exception, match=r"cannot be saved.*classifier\.0\.weight"):
        save(net, tmp_path)
    assert net.rebuild_source(net.active) is None


# -- order -------------------------------------------------------------------------------------------


def labelled(net: TransformerSupernet, n: int = 2) -> list[dict[str, Tensor]]:
    batches = []
    for seed in range(n):
        inputs = dict(net.example_inputs(batch_size=4))
        generator = torch.Generator().manual_seed(seed)
        inputs["input_ids"] = torch.randint(10, 39, inputs["input_ids"].shape, generator=generator)
        batches.append({**inputs, "labels": torch.tensor([0, 1, 2, 1])})
    return batches


def test_first_order_score_is_the_derivative_by_a_gate() -> None:
    net = made("bert", sequence=6)
    layer: Any = net.stacks[0].layers[1]
    batch = labelled(net, 1)[0]
    gate = torch.ones(4, requires_grad=True)
    hook = layer.attention.output.dense.register_forward_pre_hook(
        lambda _, args: ((args[0].unflatten(-1, (4, 4)) * gate[:, None]).flatten(-2),)
    )
    (expected,) = torch.autograd.grad(net(**batch).loss, gate)
    hook.remove()
    order = expected.abs().argsort(descending=True, stable=True)
    old = layer.attention.self.query.weight.detach().clone().unflatten(0, (4, 4))
    net.sort_by_importance([batch])
    close(layer.attention.self.query.weight.detach().unflatten(0, (4, 4)), old[order])


@pytest.mark.parametrize(
    "name",
    ["bert", "distilbert", "gpt2", "llama", "t5", "bart", "clip", "timm_vit", "timm_eva", "timm_eva_norm", "beit"],
)
def test_sorting_by_data_keeps_the_function(name: str) -> None:
    net = made(name)
    batches = [net.example_inputs(batch_size=n) for n in (3, 2)]
    before, parameters = out(net, batches[0]), {n: p.detach().clone() for n, p in net.named_parameters()}
    net.sort_by_importance(batches, lambda output, _: logits(output).square().mean(), layers=True)
    close(out(net, batches[0]), before)
    assert any(not torch.equal(parameters[n], p) for n, p in net.named_parameters())
    assert all(p.grad is None for p in net.parameters())
    rows = net.space.sample(3, np.random.default_rng(0))
    costs = net.analytic(rows)
    for i, arch in enumerate(net.space.decode(rows)):
        net.activate(arch)
        twin = net.extract(arch)
        close(out(twin, batches[0]), out(net, batches[0]))
        assert round(costs["params_m"][i] * 1e6) == sum(p.numel() for p in twin.parameters())


def test_important_units_come_first() -> None:
    net = made("bert", sequence=6)
    layer: Any = net.stacks[0].layers[2]
    with torch.no_grad():
        layer.attention.output.dense.weight[:, :12].mul_(1e-4)
        layer.output.dense.weight[:, 1:].mul_(1e-4)
    neuron, head = layer.intermediate.dense.weight[0].clone(), layer.attention.self.value.weight[12:].clone()
    net.sort_by_importance(labelled(net))
    assert torch.equal(layer.intermediate.dense.weight[0], neuron)
    assert torch.equal(layer.attention.self.value.weight[:4], head)
    assert net.layer_order == {"": [0, 1, 2]}


def test_a_judge_says_which_units_matter() -> None:
    net, judge = made("bert", sequence=6), made("bert", sequence=6)
    judge.load_state_dict(net.state_dict())
    layer: Any = judge.stacks[0].layers[2]
    with torch.no_grad():
        layer.attention.output.dense.weight[:, :12].mul_(1e-4)
        layer.output.dense.weight[:, 1:].mul_(1e-4)
    mine: Any = net.stacks[0].layers[2]
    neuron, head = mine.intermediate.dense.weight[0].clone(), mine.attention.self.value.weight[12:].clone()
    batch = net.example_inputs()
    before, theirs = out(net, batch), {n: p.detach().clone() for n, p in judge.named_parameters()}
    net.sort_by_importance(labelled(net), judge=judge)
    assert torch.equal(mine.intermediate.dense.weight[0], neuron)
    assert torch.equal(mine.attention.self.value.weight[:4], head)
    close(out(net, batch), before)
    assert all(torch.equal(theirs[n], p) for n, p in judge.named_parameters())
    with pytest.raises(SupernetError, match=r"must be a copy of the supernet; it is of family 'transformer' and space"):
        net.sort_by_importance(labelled(net), judge=made("bert", depth=[1, 3]))


def test_important_layers_are_kept(tmp_path: Path) -> None:
    net = made("bart", encoder_depth=[1, 2, 3], depth=[2])
    batches = [net.example_inputs(batch_size=3)]
    idle: Any = net.stacks[0].layers[1]
    with torch.no_grad():
        for writer in (idle.self_attn.out_proj, idle.fc2):
            writer.weight.mul_(1e-4)
            writer.bias.zero_()
        for norm in (idle.self_attn_layer_norm, idle.final_layer_norm):
            norm.weight.fill_(1)
            norm.bias.zero_()
    whole = out(net, batches[0])
    net.sort_by_importance(batches, lambda output, _: (output.logits - whole).square().sum(), layers=True)
    assert net.layer_order["encoder"][-1] == 1
    net.activate({**net.active, "encoder.depth": 2})
    assert net.stacks[0].active_indices() == [0, 2]
    save(net, tmp_path)
    loaded = load(tmp_path)
    loaded.activate(net.active)
    inputs = net.example_inputs()
    assert loaded.config() == net.config()
    assert torch.equal(out(loaded, inputs), out(net, inputs))


def test_layers_of_mixed_types_keep_theirs() -> None:
    config = hf.Qwen2Config(
        **{**ENCODER, "num_key_value_heads": 4},
        layer_types=["full_attention", "sliding_attention", "full_attention"],
        use_sliding_window=True,
        sliding_window=2,
    )
    torch.manual_seed(0)
    net = convert(hf.Qwen2ForCausalLM(config).eval(), sequence=8, depth=[2, 3])
    assert isinstance(net, TransformerSupernet)
    net.stacks[0].set_order([1, 2, 0])
    arch = {**net.active, "depth": 2}
    net.activate(arch)
    twin: Any = net.extract(arch)
    assert twin.config.layer_types == ["sliding_attention", "full_attention"]
    inputs = net.example_inputs()
    close(out(twin, inputs), out(net, inputs))
    net.activate(net.space.decode(net.space.largest[None])[0])
    assert net.model.config.layer_types == config.layer_types  # type: ignore[union-attr]


# -- copies, gradients -------------------------------------------------------------------------------


def test_the_model_is_not_changed_and_copies_are_apart() -> None:
    model = make_model("bert")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    net = convert(model)
    kinds = {type(m).__module__.partition(".")[0] for m in model.modules()}
    assert "supernets" not in kinds
    other = copy.deepcopy(net)
    small = archs(net)[0]
    other.activate(small)
    inputs = net.example_inputs()
    assert torch.equal(out(net, inputs), out(model, inputs))
    close(out(other, inputs), out(net.extract(small), inputs))
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_dtypes_survive_the_way_to_a_worker() -> None:
    config = hf.LlamaConfig(**{**ENCODER, "num_key_value_heads": 2})
    converted = hf.LlamaForCausalLM(config).eval().to(torch.bfloat16)  # the rotary frequencies, too
    built: Any = hf.LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).eval()  # but not these
    for model in (converted, built):
        net = convert(model)
        copied: Any = from_payload(*to_payload(net))
        assert copied.model.model.rotary_emb.inv_freq.dtype == model.model.rotary_emb.inv_freq.dtype
        inputs = net.example_inputs()
        assert out(net, inputs).dtype == torch.bfloat16
        assert torch.equal(out(copied, inputs), out(net, inputs))


def test_layers_that_do_not_run_get_no_gradient() -> None:
    net = made("bert", depth=[1, 3])
    net.activate({**net.active, "depth": 1})
    inputs: Any = net.example_inputs()
    net.train()(**inputs).logits.sum().backward()
    assert all(p.grad is None for layer in net.stacks[0].layers[1:] for p in layer.parameters())


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    net = made("bert")
    net.activate(archs(net)[1])
    inputs: Any = net.example_inputs()
    found = []
    for checkpointing in (False, True):
        net.zero_grad()
        if checkpointing:
            net.model.gradient_checkpointing_enable()  # type: ignore[operator]
        torch.manual_seed(0)
        net.train()(**inputs).logits.square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for plain, recomputed in zip(*found, strict=True):
        close(recomputed, plain)
