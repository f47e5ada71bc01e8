"""Channel order by importance, so that a prefix keeps what matters most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from supernets.elastic import ElasticBatchNorm2d, ElasticInvertedResidual, MixableModule
from supernets.elastic.reorder import experts_of, reorder, reorder_layer

if TYPE_CHECKING:
    from supernets.mobilenetv3.supernet import MobileNetV3Supernet


def _reading(layer: MixableModule) -> Tensor:
    """Return the L1 norm of what reads each input, over all experts, ``[in]``."""
    return torch.stack([_l1(w, 1) for w in experts_of(layer)]).sum(0)


def _reorder_norm(norm: ElasticBatchNorm2d, order: Tensor) -> None:
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        reorder(tensor, order)


def _l1(weight: Tensor, dim: int) -> Tensor:
    """Return the L1 norm of each slice along ``dim``, ``[size of dim]``."""
    return weight.abs().sum(dim=[d for d in range(weight.ndim) if d != dim])


def _descending(importance: Tensor) -> Tensor:
    return importance.argsort(descending=True, stable=True)


def _sort_hidden(block: ElasticInvertedResidual) -> None:
    """Order the hidden channels by the L1 norm of what reads them, and the squeezed ones likewise."""
    _reorder_hidden(block, _descending(_reading(block.project_conv)))
    if block.se is not None:
        order = _descending(_l1(block.se.expand_weight, 1))
        reorder(block.se.expand_weight, order, 1)
        reorder(block.se.reduce_weight, order)
        reorder(block.se.reduce_bias, order)


def _reorder_hidden(block: ElasticInvertedResidual, order: Tensor) -> None:
    if block.expand_conv is not None and block.expand_bn is not None:
        reorder_layer(block.expand_conv, order)
        _reorder_norm(block.expand_bn, order)
    reorder(block.depth_conv.weight, order)
    _reorder_norm(block.depth_bn, order)
    if block.se is not None:
        reorder(block.se.reduce_weight, order, 1)
        reorder(block.se.expand_weight, order)
        reorder(block.se.expand_bias, order)
    reorder_layer(block.project_conv, order, 1)


class _Stream:
    """Channels that shortcuts tie together: who reads them, and who must be permuted with them."""

    def __init__(self) -> None:
        self.readers: list[MixableModule] = []
        self.permute: list[Callable[[Tensor], None]] = []

    def written_by(self, layer: MixableModule, norm: ElasticBatchNorm2d | None = None) -> None:
        self.permute.append(lambda order: reorder_layer(layer, order))
        for bias in experts_of(layer, "bias") if "bias" in layer.mixed_parameters() else []:
            self.permute.append(lambda order, bias=bias: reorder(bias, order))  # type: ignore[misc]
        if norm is not None:
            self.normalised_by(norm)

    def normalised_by(self, norm: ElasticBatchNorm2d) -> None:
        self.permute.append(lambda order: _reorder_norm(norm, order))

    def read_by(self, layer: MixableModule) -> None:
        self.readers.append(layer)
        self.permute.append(lambda order: reorder_layer(layer, order, 1))

    def tied_to(self, block: ElasticInvertedResidual) -> None:
        """A block without expansion: its hidden channels are the stream's."""
        self.readers.append(block.project_conv)
        self.permute.append(lambda order: _reorder_hidden(block, order))

    def sort(self) -> None:
        order = _descending(torch.stack([_reading(layer) for layer in self.readers]).sum(0))
        for permute in self.permute:
            permute(order)


def _streams(net: MobileNetV3Supernet, blocks: Iterable[ElasticInvertedResidual]) -> Iterator[_Stream]:
    stream = _Stream()
    stem = net.stem_conv.weight
    stream.permute.append(lambda order: reorder(stem, order))
    stream.normalised_by(net.stem_bn)
    for block in blocks:
        if block.expand_conv is None:
            stream.tied_to(block)
        else:
            stream.read_by(block.expand_conv)
        if not block.residual:
            yield stream
            stream = _Stream()
        stream.written_by(block.project_conv, block.project_bn)
    stream.read_by(net.last_conv)
    yield stream
    last = _Stream()
    last.written_by(net.last_conv, net.last_bn)
    last.read_by(net.head)
    yield last
    head = _Stream()
    head.written_by(net.head)
    head.read_by(net.classifier)
    yield head


@torch.no_grad()
def sort(net: MobileNetV3Supernet, *, across_blocks: bool) -> None:
    """Reorder channels of a supernet in place, hidden ones and (``across_blocks``) those between blocks.

    Hidden channels by the L1 norm of the projection that reads them, as in Once-for-All (Cai et al., ICLR
    2020, section 3.3); channels between blocks by the L1 norm of all layers that read them.
    """
    blocks = net.blocks
    for block in blocks:
        if block.expand_conv is not None:
            _sort_hidden(block)
    if across_blocks:
        for stream in list(_streams(net, blocks)):
            stream.sort()
