"""Supernets with mixtures pass the conformance suite, on a tiny model of each family."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from mixture_nets import hat_net
from tiny_models import MODELS, VARIANTS, make_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from predictors.measurement.counters import count
from supernets import Inputs, Supernet, build, call, convert
from supernets.conformance import SupernetConformance
from supernets.mixture import MixtureSpec

# Of every kind of wiring one: rows and columns, Conv1D, gated, packed, cross-attention, timm.
FAST = ["bert", "gpt2", "llama", "t5_gated", "bart", "timm_vit", "timm_eva"]


class TestTinyLayer(SupernetConformance):
    kind: ClassVar[str] = "layer"

    def make(self) -> Supernet:
        torch.manual_seed(0)
        return build("mobilenetv3-tiny", mixture=self.kind, experts=2)


class TestTinyNeuron(TestTinyLayer):
    kind = "neuron"


class TestHatLayer(SupernetConformance):
    n_architectures = 2
    kind: ClassVar[str] = "layer"

    def make(self) -> Supernet:
        torch.manual_seed(0)
        net = hat_net()
        net.mix(MixtureSpec(self.kind, 2, init="independent"))
        return net

    def count_macs(self, module: nn.Module, inputs: Inputs) -> int:
        # Only products written out are counted exactly: the fused kernel of the CPU is not in the counter's table.
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            call(module, inputs)
        return counter.get_total_flops() // 2


class TestHatNeuron(TestHatLayer):
    kind = "neuron"


class _Transformer(SupernetConformance):
    n_architectures = 2
    model: ClassVar[str]
    kind: ClassVar[str]

    def make(self) -> Supernet:
        image = self.model.startswith(("vit", "deit", "beit", "timm", "clip_vision"))
        options: dict[str, Any] = {} if image else {"sequence": 7}
        torch.manual_seed(1)
        return convert(make_model(self.model), mixture=self.kind, experts=2, **options)

    def count_macs(self, module: nn.Module, inputs: Inputs) -> int:
        return round(count(module, inputs).macs_m * 1e6)


for _number, _name in enumerate(sorted({*FAST, *(set(MODELS) - set(VARIANTS))})):
    for _kind in ("layer", "neuron"):
        _title = f"Test_{_name}_{_kind}"
        _made = type(_title, (_Transformer,), {"model": _name, "kind": _kind, "__module__": __name__})
        globals()[_title] = _made if _name in FAST else pytest.mark.slow(_made)
