"""Tiny supernets of every family with mixtures."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import MODELS, VARIANTS, make_model
from torch import Tensor

from supernets import Supernet, build, call, convert
from supernets.conformance import logits, randomise

# Of every kind of wiring one: rows and columns, Conv1D, gated, cross-attention, timm, packed gates; and a CNN.
NETS = ["mobilenetv3-tiny", "bert", "gpt2", "llama", "t5_gated", "bart", "timm_vit", "timm_eva"]
ALL = ["mobilenetv3-tiny", *sorted({*NETS[1:], *(set(MODELS) - set(VARIANTS))})]
KINDS = ["layer", "neuron"]


def make_net(name: str, mixture: str | None, *, experts: int = 2, random: bool = True, **options: Any) -> Supernet:
    """Return a supernet in eval mode, the same at each call; with ``random`` every weight of it matters."""
    torch.manual_seed(3)
    plain = mixture is None
    choices: dict[str, Any] = {} if plain else {"mixture": mixture, "experts": experts, "mixture_options": options}
    if name == "mobilenetv3-tiny":
        net = build(name, **choices).eval()
    else:
        image = name.startswith(("vit", "deit", "beit", "timm", "clip_vision"))
        model = make_model(name)
        torch.manual_seed(4)
        net = convert(model, **({} if image else {"sequence": 7}), **choices)
    if random:
        randomise(net)
    return net


def output(net: Supernet, batch_size: int = 2) -> Tensor:
    """Return what the active subnet computes for its example inputs."""
    with torch.no_grad():
        return logits(call(net, net.example_inputs(batch_size=batch_size)))


def backward(net: Supernet, batch_size: int = 2) -> None:
    """Add gradients of the square of the output."""
    value = logits(call(net, net.example_inputs(batch_size=batch_size))).square().sum()
    torch.autograd.backward(value)
