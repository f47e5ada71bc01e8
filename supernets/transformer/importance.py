"""Orders of heads, neurons and layers, so that a subnet keeps what matters most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from supernets.base import Inputs, Loss, Supernet, call
from supernets.errors import SupernetError
from supernets.transformer.slices import Slice, SlicedModule
from supernets.transformer.wiring import WiredStack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supernets.transformer.supernet import TransformerSupernet

Scores = dict[int, Tensor]
"""``id`` of an extent -> importance of its units, float64 ``[units]``."""


def sort(
    net: TransformerSupernet,
    batches: Iterable[Inputs] | None,
    loss: Loss | None,
    *,
    layers: bool,
    judge: Supernet,
) -> None:
    """Reorder units, and layers if asked; see `TransformerSupernet.sort_by_importance`."""
    if batches is None and (layers or loss is not None):
        what = "an order of layers" if layers else "a loss"
        raise SupernetError(f"{what} needs calibration batches: sort_by_importance(batches, loss)")
    given = None if batches is None else list(batches)
    if given is not None and not given:
        raise SupernetError("sorting by importance needs at least one batch of inputs, got none")
    if type(judge) is not type(net) or judge.space.identity != net.space.identity:
        raise SupernetError(
            f"the judge of importance must be a copy of the supernet; it is of family {judge.family!r} and space "
            f"{judge.space.name!r}, not {net.family!r} and {net.space.name!r}"
        )
    scored = judge.stacks
    measure = _own_loss if loss is None else loss
    with judge.activated(judge.space.decode(judge.space.largest[None])[0]), _frozen_mode(judge):
        scores = _magnitudes(scored) if given is None else first_order_scores(judge, scored, given, measure)
        new_orders = (
            [layer_order(judge, stack, given, measure) for stack in scored] if layers and given is not None else []
        )
    # The judge's units stand in the order of the supernet's, so that their scores are those of the same places.
    for theirs, pieces in zip(_pieces(scored), _pieces(net.stacks).values(), strict=True):
        _permute(pieces, scores[theirs].argsort(descending=True, stable=True))
    for stack, order in zip(net.stacks, new_orders, strict=False):
        stack.set_order(order)


@contextmanager
def _frozen_mode(net: nn.Module) -> Iterator[None]:
    """Turn dropout off for a while."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def _own_loss(output: Any, inputs: Inputs) -> Tensor:
    loss = getattr(output, "loss", None)
    if loss is None:
        raise SupernetError(
            "the model's output has no loss: give inputs with labels, or a loss function (output, inputs)"
        )
    result: Tensor = loss
    return result


def _pieces(stacks: Sequence[WiredStack]) -> dict[int, list[tuple[Tensor, Slice]]]:
    """Return extent -> all tensors that it slices."""
    found: dict[int, list[tuple[Tensor, Slice]]] = {}
    for stack in stacks:
        for index in range(len(stack.layers)):
            for module in stack.sliced_modules(index):
                for tensor, piece in module.permuted():
                    found.setdefault(id(piece.extent), []).append((tensor, piece))
    return found


def _readers(stacks: Sequence[WiredStack]) -> dict[int, list[tuple[nn.Parameter, Slice]]]:
    """Return extent -> the weights that read its units: one for each layer, or for each expert of a mixture.

    Weight x gradient of the experts adds up to that of their mixture.
    """
    found: dict[int, list[tuple[nn.Parameter, Slice]]] = {}
    for stack in stacks:
        for dim, extents in stack.extents.items():
            for layer, extent in zip(stack.layers, extents, strict=True):
                module = layer.get_submodule(stack.table.dims[dim].columns[0])
                assert isinstance(module, SlicedModule)  # noqa: S101 - wired so
                _, piece = module.sliced()["weight"]
                for tensor in module.experts("weight"):
                    assert isinstance(tensor, nn.Parameter)  # noqa: S101
                    found.setdefault(id(extent), []).append((tensor, piece))
    return found


def _per_unit(tensor: Tensor, piece: Slice) -> Tensor:
    """Sum a tensor over all but the units of a slice, float64 ``[units]``."""
    along = tensor.double().movedim(piece.dim, 0).flatten(1).sum(1)
    return torch.unflatten(along, 0, (piece.extent.full, -1)).sum(1)


@torch.no_grad()
def _magnitudes(stacks: Sequence[WiredStack]) -> Scores:
    """Return the L1 norm of the weights that read each unit."""
    return {e: torch.stack([_per_unit(w.abs(), s) for w, s in ws]).sum(0) for e, ws in _readers(stacks).items()}


def first_order_scores(net: nn.Module, stacks: Sequence[WiredStack], batches: Sequence[Inputs], loss: Loss) -> Scores:
    """Return the first-order score of each unit.

    The weights that read a unit, times their gradients, add up to the derivative of the loss by a gate on the unit:
    to first order what the loss changes by when it is removed (Molchanov et al., arXiv:1906.10771). Its size is
    summed over the batches.
    """
    readers = _readers(stacks)
    weights = [w for ws in readers.values() for w, _ in ws]
    scores: Scores = {}
    needed = [w.requires_grad for w in weights]
    try:
        for w in weights:
            w.requires_grad_(True)
        with torch.enable_grad():
            for batch in batches:
                gradients = iter(torch.autograd.grad(loss(call(net, batch), batch), weights))
                for extent, ws in readers.items():
                    gate = torch.stack([_per_unit(w.detach() * next(gradients), s) for w, s in ws]).sum(0)
                    scores[extent] = scores.get(extent, torch.zeros_like(gate)) + gate.abs()
    finally:
        for w, before in zip(weights, needed, strict=True):
            w.requires_grad_(before)
    return scores


@torch.no_grad()
def layer_order(net: nn.Module, stack: WiredStack, batches: Sequence[Inputs], loss: Loss) -> list[int]:
    """Return a stack's layers by what the loss rises by without each, the greatest first; pinned ones before.

    All other layers run meanwhile. Costs one pass over the batches per layer.
    """
    n, pinned = len(stack.layers), stack.table.pinned
    rises = []
    for left_out in range(pinned, n):
        stack.run_layers([i for i in range(n) if i != left_out])
        rises.append(sum(float(loss(call(net, batch), batch)) for batch in batches))
    stack.run_layers(range(n))
    by_rise = sorted(range(pinned, n), key=lambda i: -rises[i - pinned])
    return [*range(pinned), *by_rise]


@torch.no_grad()
def _permute(pieces: Sequence[tuple[Tensor, Slice]], order: Tensor) -> None:
    """Permute in place: optimisers and views keep pointing at the same storage."""
    for tensor, piece in pieces:
        index = piece.order(order.to(tensor.device))
        tensor.copy_(tensor.index_select(piece.dim, index))
