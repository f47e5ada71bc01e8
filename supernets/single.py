"""One network as a supernet of one architecture, so that whatever trains supernets trains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from search_spaces import Gene, SearchSpace
from supernets.base import Architecture, Inputs, Supernet
from supernets.errors import SupernetError


class SingleSupernet(Supernet):
    """A subnet that was extracted from a supernet, on its own.

    It is no registered family: what is kept of it is the network, not this.

    Args:
        module: The network; trained in place.
        origin: The supernet it came from, for inputs and costs; it is not part of this one.
        arch: Its architecture there.

    Attributes:
        module: The network.
    """

    family: ClassVar[str] = "single"

    def __init__(self, module: nn.Module, origin: Supernet, arch: Architecture) -> None:
        super().__init__()
        self.module = module
        self.space = SearchSpace("single", [Gene("subnet", [0])])
        self.__dict__["_origin"] = origin  # not registered: its weights are not trained
        self._arch = dict(arch)

    @property
    def active(self) -> dict[str, Any]:
        """The only architecture."""
        return {"subnet": 0}

    def config(self) -> dict[str, Any]:
        """Return what tells this network from others, for checkpoints of its training."""
        origin: Supernet = self.__dict__["_origin"]
        return {"family": origin.family, "space": origin.space.identity, "architecture": self._arch}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Supernet:
        """Refuse: a single network is not rebuilt without its supernet.

        Raises:
            SupernetError: Always.
        """
        raise SupernetError("a single network is rebuilt from the supernet it came from, not from a configuration")

    def activate(self, arch: Architecture) -> None:
        """Check that it is the only architecture.

        Raises:
            InvalidArchitecture: It is another.
        """
        self.space.encode([arch])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network returns."""
        return self.module(*args, **kwargs)

    def extract(self, arch: Architecture) -> nn.Module:
        """Return a copy of the network."""
        self.activate(arch)
        return deepcopy(self.module)

    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Do nothing: the network has statistics of its own, which training moves."""

    def example_inputs(self, arch: Architecture | None = None, batch_size: int = 1) -> Inputs:
        """Return the example inputs of the architecture in its supernet."""
        origin: Supernet = self.__dict__["_origin"]
        inputs = origin.example_inputs(self._arch, batch_size)
        device = next(self.module.parameters()).device
        if isinstance(inputs, Mapping):
            return {name: t.to(device) for name, t in inputs.items()}
        return tuple(t.to(device) for t in inputs)

    def fit_inputs(self, inputs: Inputs, arch: Architecture | None = None) -> Inputs:
        """Adapt inputs as the supernet does for this architecture."""
        origin: Supernet = self.__dict__["_origin"]
        return origin.fit_inputs(inputs, self._arch)

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return the costs of the architecture in its supernet, for each row."""
        origin: Supernet = self.__dict__["_origin"]
        costs = origin.analytic(origin.space.encode([self._arch]))
        return {metric: np.repeat(values, len(G)) for metric, values in costs.items()}
