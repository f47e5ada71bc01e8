"""Channel order by importance, so that a prefix keeps what matters most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from supernets.elastic import ElasticBatchNorm2d, ElasticInvertedResidual

if TYPE_CHECKING:
    from supernets.mobilenetv3.supernet import MobileNetV3Supernet


def _reorder(tensor: Tensor, order: Tensor, dim: int = 0) -> None:
    """Permute in place: optimisers and views keep pointing at the same storage."""
    tensor.copy_(tensor.index_select(dim, order))


def _reorder_norm(norm: ElasticBatchNorm2d, order: Tensor) -> None:
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        _reorder(tensor, order)


def _l1(weight: Tensor, dim: int) -> Tensor:
    """Return the L1 norm of each slice along ``dim``, ``[size of dim]``."""
    return weight.abs().sum(dim=[d for d in range(weight.ndim) if d != dim])


def _descending(importance: Tensor) -> Tensor:
    return importance.argsort(descending=True, stable=True)


def _sort_hidden(block: ElasticInvertedResidual) -> None:
    """Order the hidden channels by the L1 norm of what reads them, and the squeezed ones likewise."""
    _reorder_hidden(block, _descending(_l1(block.project_conv.weight, 1)))
    if block.se is not None:
        order = _descending(_l1(block.se.expand_weight, 1))
        _reorder(block.se.expand_weight, order, 1)
        _reorder(block.se.reduce_weight, order)
        _reorder(block.se.reduce_bias, order)


def _reorder_hidden(block: ElasticInvertedResidual, order: Tensor) -> None:
    if block.expand_conv is not None and block.expand_bn is not None:
        _reorder(block.expand_conv.weight, order)
        _reorder_norm(block.expand_bn, order)
    _reorder(block.depth_conv.weight, order)
    _reorder_norm(block.depth_bn, order)
    if block.se is not None:
        _reorder(block.se.reduce_weight, order, 1)
        _reorder(block.se.expand_weight, order)
        _reorder(block.se.expand_bias, order)
    _reorder(block.project_conv.weight, order, 1)


class _Stream:
    """Channels that shortcuts tie together: who reads them, and who must be permuted with them."""

    def __init__(self) -> None:
        self.readers: list[Tensor] = []
        self.permute: list[Callable[[Tensor], None]] = []

    def written_by(self, weight: Tensor, norm: ElasticBatchNorm2d | None = None) -> None:
        self.permute.append(lambda order: _reorder(weight, order))
        if norm is not None:
            self.permute.append(lambda order: _reorder_norm(norm, order))

    def read_by(self, weight: Tensor) -> None:
        self.readers.append(weight)
        self.permute.append(lambda order: _reorder(weight, order, 1))

    def tied_to(self, block: ElasticInvertedResidual) -> None:
        """A block without expansion: its hidden channels are the stream's."""
        self.readers.append(block.project_conv.weight)
        self.permute.append(lambda order: _reorder_hidden(block, order))

    def sort(self) -> None:
        order = _descending(torch.stack([_l1(w, 1) for w in self.readers]).sum(0))
        for permute in self.permute:
            permute(order)


def _streams(net: MobileNetV3Supernet, blocks: Iterable[ElasticInvertedResidual]) -> Iterator[_Stream]:
    stream = _Stream()
    stream.written_by(net.stem_conv.weight, net.stem_bn)
    for block in blocks:
        if block.expand_conv is None:
            stream.tied_to(block)
        else:
            stream.read_by(block.expand_conv.weight)
        if not block.residual:
            yield stream
            stream = _Stream()
        stream.written_by(block.project_conv.weight, block.project_bn)
    stream.read_by(net.last_conv.weight)
    yield stream
    last = _Stream()
    last.written_by(net.last_conv.weight, net.last_bn)
    last.read_by(net.head.weight)
    yield last
    head = _Stream()
    head.written_by(net.head.weight)
    head.written_by(net.head.bias)
    head.read_by(net.classifier.weight)
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
