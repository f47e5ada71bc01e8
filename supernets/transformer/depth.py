"""Stacks of layers of which some run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast, overload

from torch import nn


class ElasticDepth(nn.Module):
    """A stock container of layers that shows the active ones to whoever runs it, and all to whoever walks modules.

    Made by `make_elastic_depth`. Iterating, indexing and ``len`` see the active layers; parameters, state dicts
    and ``named_modules`` all of them.
    """

    active_layers: tuple[nn.Module, ...]
    stock_class: type[nn.Module]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.active_layers)

    def __len__(self) -> int:
        return len(self.active_layers)

    @overload
    def __getitem__(self, index: int) -> nn.Module: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[nn.Module, ...]: ...
    def __getitem__(self, index: int | slice) -> nn.Module | tuple[nn.Module, ...]:
        return self.active_layers[index]

    def all_layers(self) -> list[nn.Module]:
        """Return all layers, in the model's order."""
        return [m for m in self._modules.values() if m is not None]

    def set_active(self, indices: list[int]) -> None:
        """Run the layers of these indices only."""
        layers = list(self._modules.values())
        # Past torch's bookkeeping of submodules: the layers are registered once already.
        self.__dict__["active_layers"] = tuple(layers[i] for i in indices)


@cache
def _elastic_class(cls: Any) -> Any:
    return type(f"Elastic{cls.__name__}", (ElasticDepth, cls), {"stock_class": cls, "__module__": __name__})


def make_elastic_depth(container: nn.Module) -> ElasticDepth:
    """Make a ``ModuleList`` or ``Sequential`` elastic in place, all of its layers active."""
    elastic: Any = container
    elastic.__class__ = _elastic_class(elastic.__class__)
    elastic.set_active(list(range(len(elastic.all_layers()))))
    return cast("ElasticDepth", elastic)
