"""Gradient checkpointing: the same gradients, fewer tensors kept."""

from __future__ import annotations

import pytest
import torch
from tiny_models import make_model
from training_toy import ToyData, ToySupernet, settings

from supernets import convert
from supernets.base import call
from supernets.training import Batch, InvalidSettings, Passes, logits_of, make_method, prepare, train

CPU = torch.device("cpu")


def tiny(name):
    torch.manual_seed(0)
    model = make_model(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    net = convert(model, depth=[2, 3]) if "t5" not in name and "bart" not in name else convert(model)
    return net.train()


def batch_of(net):
    with torch.no_grad():
        inputs = net.example_inputs(batch_size=4)
        return Batch(inputs, logits_of(call(net, inputs)).argmax(-1))


def task_loss(outputs, targets):
    logits = logits_of(outputs)
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def step(name, recompute, **options):
    """Gradients of one step, and the bytes that the forward passes kept."""
    net = tiny(name)
    batch = batch_of(net)
    method = make_method("instatune", net.space, total_steps=4, random_subnets=2, smallest=True, **options)
    kept = [0]

    def keep(tensor):
        kept[0] += tensor.numel() * tensor.element_size()
        return tensor

    passes = Passes(net, task_loss, CPU, recompute=recompute)
    torch.manual_seed(1)  # of dropout
    forward = passes.forward

    def counted(arch, inputs, **more):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            return forward(arch, inputs, **more)

    passes.forward = counted
    method.backward(batch, method.subnets(1), passes)
    return {n: p.grad for n, p in net.named_parameters()}, kept[0]


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("name", ["bert", "vit", "timm_vit", "gpt2", "llama", "t5"])
def test_same_gradients_with_less_memory(name, stop_gradient):
    options = {"gamma": 0, "stop_gradient": stop_gradient}
    wanted, much = step(name, False, **options)
    got, less = step(name, True, **options)
    assert less < 0.8 * much
    for n, gradient in wanted.items():
        if gradient is None:
            assert got[n] is None, n
        else:
            torch.testing.assert_close(got[n], gradient, atol=1e-7, rtol=1e-5, msg=lambda m, n=n: f"{n}: {m}")


def test_nothing_of_it_is_left_in_the_model():
    net = tiny("bert")
    batch = batch_of(net)
    Passes(net, task_loss, CPU, recompute=True).forward(net.active, batch.inputs)
    assert all("forward" not in m.__dict__ for m in net.modules())


def test_families_without_such_layers_are_refused():
    with pytest.raises(InvalidSettings, match=r"gradient_checkpointing: supernets of family 'toy'.*accumulate"):
        prepare("sandwich", settings(gradient_checkpointing=True), ToySupernet(), ToyData())
    with pytest.raises(InvalidSettings, match="gradient_checkpointing must be true or false"):
        prepare("sandwich", settings(gradient_checkpointing="yes"), ToySupernet(), ToyData())


def test_the_setting_reaches_the_passes():
    class Data(ToyData):
        def __init__(self, batch):
            self.batch = batch
            self.targets = batch.targets
            self.batch_size = len(batch.targets)

        def batches(self, epoch):
            yield self.batch

        def calibration(self):
            return []

        def evaluation(self):
            return [self.batch]

    finals, calls, runs = [], [], []
    for on in (False, True):
        net = tiny("bert")
        data = Data(batch_of(net))
        if on:
            layer = net.active_layers()[0]
            inner = next(m for m in layer.modules() if isinstance(m, torch.nn.Linear))
            layer.register_forward_pre_hook(lambda *a: calls.append(1))
            inner.register_forward_pre_hook(lambda *a: runs.append(1))
        s = settings(steps=2, lr=0.01, gradient_checkpointing=on, evaluate_every=0)
        train(net, data, task_loss, method="instatune", settings=s, score=None, device="cpu")
        finals.append(net.state_dict())
    assert calls
    assert len(runs) == 2 * len(calls)
    for n, t in finals[0].items():
        torch.testing.assert_close(finals[1][n], t, atol=1e-6, rtol=1e-5)
