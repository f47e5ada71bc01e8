"""Gradient checkpointing of elastic layers: activations inside a layer are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from supernets.base import Architecture, Supernet


@contextmanager
def recomputed(net: Supernet, arch: Architecture) -> Iterator[None]:
    """Let the layers of the active subnet keep their inputs alone, in forward passes within the block.

    Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, arXiv:1604.06174. The gradients are the same
    bits: a layer runs again with the same dropout, and as a layer of the same subnet, whatever is active by then. It
    gets no cache of keys and values, which it would fill twice.

    Args:
        net: The supernet.
        arch: Its active architecture.
    """
    layers = net.active_layers()
    again = _Again(net, arch)
    try:
        for layer in layers:
            # Past torch's bookkeeping: the instance's forward is called instead of the class's.
            layer.__dict__["forward"] = _in_checkpoint(layer, again)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


class _Again:
    """The subnet of a forward pass active once more; entered for each layer, and for each backward pass."""

    def __init__(self, net: Supernet, arch: Architecture) -> None:
        self._net, self._arch = net, arch
        self._switched: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        self._switched = nullcontext() if self._net.active == self._arch else self._net.activated(self._arch)
        self._switched.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._switched.__exit__(*error)


def _in_checkpoint(layer: nn.Module, again: AbstractContextManager[Any]) -> Callable[..., Any]:
    """Return the forward pass of a layer as one checkpoint."""
    plain = type(layer).forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(layer, *args, **kwargs)
        args = tuple(None if _is_cache(a) else a for a in args)
        kwargs = {k: None if _is_cache(v) else v for k, v in kwargs.items()}
        return checkpoint(plain, layer, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again), **kwargs)

    return forward


def _is_cache(value: object) -> bool:
    """Return whether an argument is a cache of transformers."""
    return callable(getattr(value, "get_seq_length", None))
