"""Permuting the channels of elastic layers in place."""

from __future__ import annotations

from torch import Tensor

from supernets.elastic.mixable import MixableModule


def reorder(tensor: Tensor, order: Tensor, dim: int = 0) -> None:
    """Permute in place: optimisers and views keep pointing at the same storage."""
    tensor.copy_(tensor.index_select(dim, order))


def reorder_layer(layer: MixableModule, order: Tensor, dim: int = 0) -> None:
    """Permute outputs (``dim`` 0) or inputs (1) of a layer: of all experts alike, and of a router by neuron."""
    for weight in experts_of(layer):
        reorder(weight, order, dim)
    if dim == 0 and layer.source is not None:
        for rows in layer.source.rows() or ():
            reorder(rows, order)


def experts_of(layer: MixableModule, name: str = "weight") -> list[Tensor]:
    """Return a parameter of every expert of a layer, or the layer's own alone."""
    if layer.source is not None:
        return list(layer.source.tensors(name))
    return [layer.mixed_parameters()[name]]
