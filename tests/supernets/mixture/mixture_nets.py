"""Tiny supernets of every family with mixtures."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import MODELS, VARIANTS, make_model
from torch import Tensor

from search_spaces import hat_space
from supernets import Supernet, build, call, convert
from supernets.conformance import logits, randomise
from supernets.hat import HatSupernet
from supernets.mixture import MixtureSpec

# Of every kind of wiring one: rows and columns, Conv1D, gated, cross-attention, timm, packed gates; and a CNN.
NETS = ["mobilenetv3-tiny", "hat", "bert", "gpt2", "llama", "t5_gated", "bart", "timm_vit", "timm_eva"]
ALL = ["mobilenetv3-tiny", "hat", *sorted({*NETS[2:], *(set(MODELS) - set(VARIANTS))})]
KINDS = ["layer", "neuron"]


def make_net(
    name: str, mixture: str | None, *, experts: int = 2, random: bool = True, dropout: float = 0.1, **options: Any
) -> Supernet:
    """Return a supernet in eval mode, the same at each call; with ``random`` every weight of it matters.

    Dropout is that of ``hat`` alone.
    """
    torch.manual_seed(3)
    plain = mixture is None
    choices: dict[str, Any] = {} if plain else {"mixture": mixture, "experts": experts, "mixture_options": options}
    if name == "mobilenetv3-tiny":
        net = build(name, **choices).eval()
    elif name == "hat":
        net = hat_net(dropout)
        if mixture is not None:
            net.mix(MixtureSpec(mixture, experts, **options))
        net.eval()
    else:
        image = name.startswith(("vit", "deit", "beit", "timm", "clip_vision"))
        model = make_model(name)
        torch.manual_seed(4)
        net = convert(model, **({} if image else {"sequence": 7}), **choices)
    if random:
        randomise(net)
    return net


def hat_net(dropout: float = 0.1) -> Supernet:
    """Return a tiny translation supernet."""
    space = hat_space(
        "hat-test", embeds=(24, 16), ffns=(32, 20), heads=(4, 2), encoder_layers=(3,), decoder_layers=(2, 1)
    )
    return HatSupernet(space=space, vocab_size=40, inner=16, max_length=20, length=6, beam=3, dropout=dropout)


def output(net: Supernet, batch_size: int = 2) -> Tensor:
    """Return what the active subnet computes for its example inputs."""
    with torch.no_grad():
        return logits(call(net, net.example_inputs(batch_size=batch_size)))


def backward(net: Supernet, batch_size: int = 2) -> None:
    """Add gradients of the square of the output."""
    value = logits(call(net, net.example_inputs(batch_size=batch_size))).square().sum()
    torch.autograd.backward(value)
