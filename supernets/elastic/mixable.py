"""Elastic layers whose weights may be mixtures."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, cast

from torch import Tensor, nn

from supernets.elastic.module import ElasticModule


class TensorSource(Protocol):
    """Where a layer takes its active tensors from instead of its own parameters."""

    def active(self, name: str) -> Tensor:
        """Return the active tensor that stands for a parameter's active slice."""

    def tensors(self, name: str) -> list[nn.Parameter]:
        """Return a parameter of every expert, the layer's own first."""

    def rows(self) -> tuple[Tensor, Tensor] | None:
        """Return tensors that have one row per output of the layer and change places with them, if there are any."""


class MixableModule(ElasticModule):
    """An elastic layer with a ``weight``, and perhaps a ``bias``, that a mixture can stand in for.

    Its own parameters then are the first expert; the others have the same shapes and are cut by `cut`.

    Attributes:
        output_dim: The dimension of ``weight`` that the outputs lie along.
    """

    output_dim: int = 0
    _source: TensorSource | None = None

    def mix_from(self, source: TensorSource | None) -> None:
        """Take active tensors from a source from now on; None: from the parameters."""
        self.__dict__["_source"] = source  # no submodule: the supernet holds it

    @property
    def source(self) -> TensorSource | None:
        """Where active tensors come from instead of the parameters."""
        return self._source

    def mixed_parameters(self) -> dict[str, nn.Parameter]:
        """Return name -> parameter, of those that a mixture stands in for."""
        found = {name: self._parameters.get(name) for name in ("weight", "bias")}
        return {name: p for name, p in found.items() if p is not None}

    def active(self, name: str) -> Tensor:
        """Return the active part of a parameter: a view, or a mixture."""
        if self._source is not None:
            return self._source.active(name)
        return self.cut(name, cast("Tensor", self._parameters[name]))

    @abstractmethod
    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Return the active part of a tensor that has the shape of a parameter."""

    def cut_view(self, name: str, tensor: Tensor) -> Tensor:
        """Return the active part as a view of any shape."""
        return self.cut(name, tensor)

    @abstractmethod
    def cut_rows(self, tensor: Tensor) -> Tensor:
        """Return the active outputs of a tensor ``[outputs, …]``."""

    def cut_rows_view(self, tensor: Tensor) -> Tensor:
        """Return the active outputs as a view of any shape."""
        return self.cut_rows(tensor)

    @abstractmethod
    def active_shape(self) -> tuple[int, ...]:
        """Return numbers that are equal when `cut` and `cut_rows` cut alike."""
