"""The loss on hidden states against a hand-computed one; none at weight 0."""

from __future__ import annotations

import pytest
import torch
from test_recompute import CPU, batch_of, task_loss, tiny
from torch.nn import functional
from training_toy import ToyData, ToySupernet, settings

from supernets.base import call
from supernets.training import InvalidSettings, Passes, logits_of, make_method, prepare


def gradients(name, subnets, recompute=False, **options):
    net = tiny(name).eval()
    method = make_method("instatune", net.space, total_steps=4, **options)
    passes = Passes(net, task_loss, CPU, recompute=recompute)
    passes.start(0)
    method.backward(batch_of(net), subnets(net), passes)
    assert not passes.hidden
    assert not any(m._forward_hooks for m in net.modules())
    return {n: p.grad for n, p in net.named_parameters()}


def subnets(net):
    """The largest and the smallest."""
    return [*net.space.decode(net.space.largest[None]), *net.space.decode(net.space.smallest[None])]


def formula(name, alpha, weight):
    """The gradient of the formula, written with the models' own hidden states (before each layer and after all)."""
    net = tiny(name).eval()
    batch = batch_of(net)
    value, states = torch.zeros(()), {}
    for arch in subnets(net):
        net.activate(arch)
        layers = net.active_layers()
        found = {}

        def run_layers(found=found, layers=layers):
            hooks = [
                layer.register_forward_hook(
                    lambda m, a, o: found.__setitem__(id(m), o[0] if isinstance(o, tuple) else o)
                )
                for layer in layers
            ]
            out = call(net, batch.inputs)
            for hook in hooks:
                hook.remove()
            return out

        logits = logits_of(run_layers())
        value = value + alpha * task_loss(logits, batch.targets)
        if not states:
            states, source = {k: v.detach() for k, v in found.items()}, logits.detach()
            continue
        assert set(found) < set(states)
        wanted = source.flatten(0, -2).log_softmax(-1)
        got = logits.flatten(0, -2).log_softmax(-1)
        kl = functional.kl_div(got, wanted, reduction="batchmean", log_target=True)
        value = value + (1 - alpha) * kl
        value = value + weight * sum(((found[k] - states[k]) ** 2).mean() for k in found) / len(found)
    value.backward()
    return {n: p.grad for n, p in net.named_parameters()}


@pytest.mark.parametrize("name", ["bert", "timm_vit", "gpt2"])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_those_of_the_formula(name, recompute):
    got = gradients(name, subnets, recompute, alpha=0.4, gamma=0, layer_loss=3.0)
    without = gradients(name, subnets, recompute, alpha=0.4, gamma=0)
    different = False
    for n, wanted in formula(name, 0.4, 3.0).items():
        if wanted is None:
            assert got[n] is None
            continue
        torch.testing.assert_close(got[n], wanted, atol=1e-6, rtol=1e-4, msg=lambda m, n=n: f"{n}: {m}")
        different |= not torch.allclose(without[n], wanted, atol=1e-5)
    assert different


def test_weight_zero_is_the_loss_without_it_bit_for_bit():
    one, other = gradients("bert", subnets, gamma=0), gradients("bert", subnets, gamma=0, layer_loss=0)
    assert all(a is b or torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def test_families_without_layers_and_bad_weights_are_refused():
    with pytest.raises(InvalidSettings, match=r"layer_loss=1\.0: supernets of family 'toy'"):
        prepare("instatune", settings(options={"layer_loss": 1.0}), ToySupernet(), ToyData())
    with pytest.raises(InvalidSettings, match="layer_loss must be a number >= 0"):
        prepare("instatune", settings(options={"layer_loss": -1}), ToySupernet(), ToyData())
