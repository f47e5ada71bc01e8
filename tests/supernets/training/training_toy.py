"""A small elastic residual MLP and data for it: training methods are tested on them in milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces import Gene, SearchSpace
from supernets.base import Architecture, Inputs, Supernet
from supernets.training import Batch, TrainSettings

FEATURES, WIDTH, HIDDEN, BLOCKS, CLASSES = 16, 16, 12, 3, 4


def toy_space(resolution: bool = True) -> SearchSpace:
    genes = [Gene("kernel", (8, 16), role="kernel"), Gene("depth", (1, 2, 3), role="depth")]
    for i in range(BLOCKS):
        when = {"depth": [d for d in (1, 2, 3) if d > i]} if i else {}
        genes.append(Gene(f"e.{i}", (4, 8, 12), role="expand", layer=i, active_when=when))
    genes.append(Gene("width", (8, 16), role="width"))
    if resolution:
        genes.append(Gene("resolution", (8, 16), role="resolution"))
    return SearchSpace("toy", genes)


class PrefixNorm(nn.Module):
    """Batch normalisation of a prefix of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.momentum = 0.1
        self.own: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        mean, var = self.own or (self.running_mean[:c], self.running_var[:c])
        return functional.batch_norm(x, mean, var, self.weight[:c], self.bias[:c], self.training, self.momentum)


class ToySupernet(Supernet):
    family = "toy"

    def __init__(self, norm: bool = True, dropout: float = 0.0, resolution: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.space = toy_space(resolution)
        self._config = {"norm": norm, "dropout": dropout, "resolution": resolution}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Linear(FEATURES, WIDTH)
            self.grow = nn.ModuleList(nn.Linear(WIDTH, HIDDEN) for _ in range(BLOCKS))
            self.shrink = nn.ModuleList(nn.Linear(HIDDEN, WIDTH) for _ in range(BLOCKS))
            self.head = nn.Linear(WIDTH, CLASSES)
        self.norms = nn.ModuleList(PrefixNorm(HIDDEN) if norm else nn.Identity() for _ in range(BLOCKS))
        self.dropout = nn.Dropout(dropout)
        self.ran: list[dict[str, Any]] = []
        self.sorted_times = 0
        self.activate(self._largest())

    def _largest(self) -> dict[str, Any]:
        return dict(self.space.decode(self.space.largest[None])[0])

    @property
    def active(self) -> dict[str, Any]:
        return dict(self._active)

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def activate(self, arch: Architecture) -> None:
        (self._active,) = self.space.decode(self.space.encode([arch]))
        for norm in self._norms():
            norm.own = None

    def _norms(self) -> list[PrefixNorm]:
        return [n for n in self.norms if isinstance(n, PrefixNorm)]

    def fit_inputs(self, inputs: Inputs, arch: Architecture | None = None) -> Inputs:
        assert isinstance(inputs, tuple)
        if (arch or self._active).get("resolution", 16) == 8:
            return (inputs[0].unflatten(1, (8, 2)).mean(-1).repeat_interleave(2, dim=1),)
        return inputs

    def forward(self, x: Tensor) -> Tensor:
        a = self._active
        if self.training:
            self.ran.append(dict(a))
        k, w = a["kernel"], a["width"]
        x = functional.linear(x[:, :k], self.stem.weight[:w, :k], self.stem.bias[:w])
        for i in range(a["depth"]):
            e = a[f"e.{i}"]
            h = functional.linear(x, self.grow[i].weight[:e, :w], self.grow[i].bias[:e])
            h = self.dropout(functional.relu(self.norms[i](h)))
            x = x + functional.linear(h, self.shrink[i].weight[:w, :e], self.shrink[i].bias[:w])
        return functional.linear(x, self.head.weight[:, :w], self.head.bias)

    def extract(self, arch: Architecture) -> nn.Module:
        twin = ToySupernet(**self._config)
        twin.load_state_dict(self.state_dict())
        twin.activate(arch)
        return twin.train(self.training)

    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        norms = self._norms()
        if not norms:
            return
        kept = {n: (n.running_mean.clone(), n.running_var.clone(), n.momentum) for n in norms}
        was = self.training
        self.eval()
        for norm in norms:
            norm.train()
        for i, inputs in enumerate(batches):
            for norm in norms:
                norm.momentum = 1 / (i + 1)
            self.__class__.forward(self, *inputs)
        for norm, (mean, var, momentum) in kept.items():
            own = norm.running_mean.clone(), norm.running_var.clone()
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
            norm.momentum = momentum
            i = [*self.norms].index(norm)
            c = self._active.get(f"e.{i}", HIDDEN)
            norm.own = own[0][:c], own[1][:c]
        self.train(was)

    def _statistics(self) -> Any:
        return [n.own for n in self._norms()]

    def _set_statistics(self, statistics: Any) -> None:
        for norm, own in zip(self._norms(), statistics, strict=True):
            norm.own = own

    def sort_by_importance(self) -> None:
        self.sorted_times += 1
        with torch.no_grad():
            for grow, norm, shrink in zip(self.grow, self.norms, self.shrink, strict=True):
                order = shrink.weight.abs().sum(0).argsort(descending=True)
                grow.weight.copy_(grow.weight[order])
                grow.bias.copy_(grow.bias[order])
                shrink.weight.copy_(shrink.weight[:, order])
                if isinstance(norm, PrefixNorm):
                    for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                        t.copy_(t[order])

    def example_inputs(self, arch: Architecture | None = None, batch_size: int = 1) -> Inputs:
        return self.fit_inputs((torch.randn(batch_size, FEATURES, generator=torch.Generator().manual_seed(0)),), arch)

    def analytic(self, G: Any) -> dict[str, Any]:
        zeros = np.zeros(len(G))
        return {"params_m": zeros, "macs_m": zeros, "size_mb": zeros}


class ToyData:
    """Four noisy clusters; the batches of an epoch depend on the epoch number alone."""

    def __init__(self, n: int = 96, batch_size: int = 16, seed: int = 0) -> None:
        g = torch.Generator().manual_seed(seed)
        centres = torch.randn(CLASSES, FEATURES, generator=g)
        self.targets = torch.arange(n) % CLASSES
        self.inputs = centres[self.targets] + 0.7 * torch.randn(n, FEATURES, generator=g)
        self.batch_size = batch_size

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.targets) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = torch.randperm(len(self.targets), generator=torch.Generator().manual_seed(epoch))
        for i in range(0, len(order), self.batch_size):
            part = order[i : i + self.batch_size]
            yield Batch((self.inputs[part],), self.targets[part])

    def calibration(self) -> Iterable[Inputs]:
        return [(self.inputs[:48],), (self.inputs[48:],)]

    def evaluation(self) -> Iterable[Batch]:
        return [Batch((self.inputs,), self.targets)]


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def settings(**changes: Any) -> TrainSettings:
    values: dict[str, Any] = {"steps": 24, "lr": 0.05, "checkpoint_every": 5}
    return TrainSettings(**(values | changes))


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in net.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
