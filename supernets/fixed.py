"""One subnet as a supernet of its own: a plain network that everything for supernets can train and evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from search_spaces import Gene, SearchSpace
from supernets.base import Architecture, Inputs, Supernet, call, inputs_to
from supernets.errors import SupernetError
from supernets.low_rank import PlainAdapters, adaptable

Statistics: TypeAlias = list[tuple[Tensor, Tensor]]
"""Mean and variance of each batch normalisation, each ``[channels]``."""


class FixedSupernet(Supernet):
    """The extracted network of one architecture, with a space of that architecture alone.

    Trained by any method it is what training the plain network gives: no weight of the supernet is left, such as OFA's
    kernel transformations, and no other subnet runs. It is not registered: `extract` and save the plain network.

    Args:
        net: The supernet; its weights are copied, and it is asked for inputs and costs.
        arch: The architecture.
        keep_statistics: Whether the network is evaluated with its own normalisation statistics, those that training
            moves, as whoever gets it will; `recalibrate` does nothing then.

    Attributes:
        module: The plain network.

    Raises:
        InvalidArchitecture: The architecture is not in the supernet's space.
    """

    family: ClassVar[str] = "fixed"

    def __init__(self, net: Supernet, arch: Architecture, *, keep_statistics: bool = False) -> None:
        super().__init__()
        self._row = net.space.encode([arch])
        (self._active,) = net.space.decode(self._row)
        genes = [Gene(g.name, (self._active[g.name],), g.kind, role=g.role, layer=g.layer) for g in net.space.genes]
        self.space = SearchSpace(f"{net.space.name}: one network", genes)
        self._of = (net,)  # in a tuple: its weights are none of ours
        self.module = net.extract(self._active)
        self.train(net.training)
        self._keeps = keep_statistics
        self._adapters: PlainAdapters | None = None
        self._own: Statistics | None = None  # the module's, while it has recalibrated ones

    @property
    def active(self) -> dict[str, Any]:
        """The architecture."""
        return dict(self._active)

    def config(self) -> dict[str, Any]:
        """Return the architecture, and the family and configuration of the supernet it is of."""
        (net,) = self._of
        return {"family": net.family, "of": net.config(), "architecture": self.active}

    def activate(self, arch: Architecture) -> None:
        """Go back to the network's own normalisation statistics.

        Raises:
            InvalidArchitecture: It is another architecture.
        """
        self.space.validate(arch)
        if self._own is not None:
            _put(self._norms(), self._own)
            self._own = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the plain network returns."""
        with parametrize.cached() if self._adapters is not None else nullcontext():
            return self.module(*args, **kwargs)

    def adapter_targets(self, targets: Sequence[str]) -> list[str]:
        """Return the names of the weights that can have low-rank adapters and match one of some patterns."""
        return [name for name, _, _ in adaptable(self.module, targets)]

    def add_adapters(self, *, rank: int, alpha: float, targets: Sequence[str], train: Sequence[str], seed: int) -> None:
        """Add low-rank adapters, see `supernets.low_rank.PlainAdapters`. They alone learn: the head is trained already.

        Raises:
            SupernetError: They are there already.
        """
        if self._adapters is not None:
            raise SupernetError("the network has low-rank adapters already; merge them first (merge_adapters)")
        self._adapters = PlainAdapters(self.module, rank=rank, alpha=alpha, targets=targets, train=train, seed=seed)

    def merge_adapters(self) -> None:
        """Add what the adapters have learned to the weights and remove them, if there are any."""
        if self._adapters is not None:
            self._adapters.merge()
            self._adapters = None

    def generate(self, inputs: Inputs, *, beam: int = 1, length: int | None = None) -> Tensor:
        """Return the token sequences that the plain network writes, searched as the supernet does.

        Raises:
            SupernetError: The supernet's family writes no sequences.
        """
        (net,) = self._of
        return net.generate_with(self.module, self._active, inputs, beam=beam, length=length)

    def extract(self, arch: Architecture) -> nn.Module:
        """Return a copy of the network, with the statistics that it uses now."""
        self.space.validate(arch)
        return deepcopy(self.module)

    # -- normalisation statistics --------------------------------------------------------------------

    def _norms(self) -> list[nn.Module]:
        return [m for m in self.module.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Compute batch-norm statistics from batches of inputs, by the formula of `ElasticBatchNorm2d`.

        They are dropped by the next `activate`. Dropout is off. A no-op where there is no batch normalisation, and
        where the network keeps its own.

        Raises:
            SupernetError: There is no batch.
        """
        norms = self._norms()
        if self._keeps or not norms:
            return
        if self._own is None:
            self._own = _statistics_of(norms)
        modes = [(m, m.training) for m in self.module.modules()]
        counters = [deepcopy(getattr(m, "num_batches_tracked", None)) for m in norms]
        totals: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        seen = 0
        hooks = [m.register_forward_pre_hook(_gatherer(totals)) for m in norms]
        try:
            self.module.eval()
            for norm in norms:
                norm.train()  # every batch is normalised by its own statistics
            for inputs in batches:
                call(self.module, self.fit_inputs(inputs))
                seen += len(next(iter(inputs.values() if not isinstance(inputs, tuple) else inputs)))
        finally:
            for hook in hooks:
                hook.remove()
            for module, training in modes:
                module.training = training
            for norm, counter in zip(norms, counters, strict=True):
                if isinstance(counter, Tensor):
                    norm.num_batches_tracked = counter
            _put(norms, self._own)
        if not seen:
            raise SupernetError("recalibration needs at least one batch of inputs, got none")
        own = zip(norms, self._own, strict=True)  # a layer that no input reached keeps its own
        _put(norms, [tuple(t / seen for t in totals[m]) if m in totals else kept for m, kept in own])  # type: ignore[misc]

    def _statistics(self) -> Statistics | None:
        return None if self._own is None else _statistics_of(self._norms())

    def _set_statistics(self, statistics: Statistics | None) -> None:
        if statistics is not None:
            norms = self._norms()
            self._own = _statistics_of(norms) if self._own is None else self._own
            _put(norms, statistics)

    # -- inputs and costs ----------------------------------------------------------------------------

    def example_inputs(self, arch: Architecture | None = None, batch_size: int = 1, **sizes: int) -> Inputs:
        """Return the supernet's example inputs for the architecture."""
        (net,) = self._of
        device = next(self.module.parameters()).device
        return inputs_to(net.example_inputs(self._active, batch_size=batch_size, **sizes), device)

    def fit_inputs(self, inputs: Inputs, arch: Architecture | None = None) -> Inputs:
        """Adapt task inputs to the architecture, as the supernet does."""
        (net,) = self._of
        return net.fit_inputs(inputs, self._active)

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return the exact costs of each row, all of them this architecture's."""
        (net,) = self._of
        return net.analytic(np.repeat(self._row, len(G), axis=0))


def _gatherer(totals: dict[nn.Module, tuple[Tensor, Tensor]]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """Return a hook that adds the mean and biased variance of each batch, weighted by its size."""

    def gather(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        var, mean = torch.var_mean(x, dim=[0, *range(2, x.ndim)], correction=0)
        before = totals.get(norm, (torch.zeros_like(mean), torch.zeros_like(var)))
        totals[norm] = (before[0] + len(x) * mean, before[1] + len(x) * var)

    return gather


def _statistics_of(norms: list[nn.Module]) -> Statistics:
    return [(m.running_mean.clone(), m.running_var.clone()) for m in norms]  # type: ignore[operator]


def _put(norms: list[nn.Module], statistics: Statistics) -> None:
    with torch.no_grad():
        for norm, (mean, var) in zip(norms, statistics, strict=True):
            norm.running_mean.copy_(mean)  # type: ignore[operator]
            norm.running_var.copy_(var)  # type: ignore[operator]
