"""A supernet family of your own: a multilayer perceptron with elastic depth and width.

nassearch run --plugin elastic_mlp --space elastic-mlp --task digits -o top1:max -o macs_m:min
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces import Gene, SearchSpace, get_space, register_space
from supernets import Block, BlockSlot, Supernet, register_family, register_supernet
from supernets.base import Architecture, Inputs
from supernets.elastic import ElasticLinear

WIDTHS, DEPTHS = (16, 32, 64), (1, 2, 3)


@register_space("elastic-mlp", summary="a multilayer perceptron: depth 1/2/3, width 16/32/64 of each layer")
def elastic_mlp_space() -> SearchSpace:
    genes = [Gene("d", DEPTHS, role="depth")]
    for i in range(max(DEPTHS)):
        # Layer i is there only in networks that are deeper than i.
        deeper = {"d": [d for d in DEPTHS if d > i]}
        genes.append(Gene(f"w.{i}", WIDTHS, role="width", layer=i, active_when=deeper))
    return SearchSpace("elastic-mlp", genes)


@register_family
class ElasticMLP(Supernet):
    """Hidden layers of which the first ``d`` are used, each with its first ``w.i`` neurons."""

    family = "elastic-mlp"

    def __init__(self, *, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.space = get_space("elastic-mlp")
        self.in_features, self.num_classes = in_features, num_classes
        widest = [in_features] + [max(WIDTHS)] * max(DEPTHS)
        self.hidden = nn.ModuleList(ElasticLinear(a, b) for a, b in pairwise(widest))
        self.classifier = ElasticLinear(max(WIDTHS), num_classes)
        for layer in self.hidden:
            nn.init.kaiming_normal_(layer.weight)
        self.activate(self.space.decode(self.space.largest[None])[0])

    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "num_classes": self.num_classes}

    @property
    def active(self) -> dict[str, Any]:
        return dict(self._active)

    def activate(self, arch: Architecture) -> None:
        self._active = self.space.decode(self.space.encode([arch]))[0]
        before = self.in_features
        for i in range(self._active["d"]):
            self.hidden[i].set_active(before, self._active[f"w.{i}"])
            before = self._active[f"w.{i}"]
        self.classifier.set_active(before, self.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden[: self._active["d"]]:
            x = layer(x).relu()
        return self.classifier(x)

    def extract(self, arch: Architecture) -> nn.Module:
        with self.activated(arch):
            layers: list[nn.Module] = [nn.Flatten()]
            for elastic in [*self.hidden[: self._active["d"]], self.classifier]:
                linear = nn.Linear(elastic.active_in, elastic.active_out)
                linear.load_state_dict({k: v.clone() for k, v in elastic.active_state().items()})
                layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1]).train(self.training)

    def block_slots(self) -> list[BlockSlot]:
        """Optional: what `nassearch measure` measures piece by piece. Each slot names the genes that decide it."""
        slots = []
        for i in range(max(DEPTHS)):
            before = (f"w.{i - 1}",) if i else ()

            def layer(values, i=i, before=before):
                width = values[before[0]] if before else self.in_features
                return linear_block(width, values[f"w.{i}"], "relu") if values["d"] > i else None

            slots.append(BlockSlot(f"layer {i}", ("d", *before, f"w.{i}"), layer))
        widths = [f"w.{i}" for i in range(max(DEPTHS))]
        last = BlockSlot(
            "classifier", ("d", *widths), lambda v: linear_block(v[f"w.{v['d'] - 1}"], self.num_classes, "logits")
        )
        return [*slots, last]

    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        pass  # no normalisation statistics here

    def example_inputs(self, arch: Architecture | None = None, batch_size: int = 1) -> Inputs:
        return (torch.randn(batch_size, self.in_features, generator=torch.Generator().manual_seed(0)),)

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        before = np.full(len(G), float(self.in_features))
        weights, biases = np.zeros(len(G)), np.zeros(len(G))
        depth = np.array(DEPTHS)[G[:, 0]]
        for i in range(max(DEPTHS)):
            width = np.array(WIDTHS, dtype=float)[G[:, 1 + i]]
            used = depth > i
            weights += used * before * width
            biases += used * width
            before = np.where(used, width, before)
        weights += before * self.num_classes
        parameters = weights + biases + self.num_classes
        return {"params_m": parameters / 1e6, "macs_m": weights / 1e6, "size_mb": 4 * parameters / 1e6}


def linear_block(n_in: int, n_out: int, kind: str) -> Block:
    def make(batch_size: int) -> tuple[nn.Module, Inputs]:
        module = nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU()) if kind == "relu" else nn.Linear(n_in, n_out)
        return module.eval(), (torch.randn(batch_size, n_in),)

    return Block(f"linear:{n_in}-{n_out}-{kind}", make)  # the key says everything that the cost depends on


@register_supernet("elastic-mlp")
def elastic_mlp(*, in_channels: int = 1, num_classes: int = 10, image_size: int = 16) -> Supernet:
    """Tasks give the first two options; give your own with ``--set model_options.image_size=32``."""
    return ElasticMLP(in_features=in_channels * image_size**2, num_classes=num_classes)
