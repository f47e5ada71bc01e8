"""Hidden states of the layers of a subnet, and what they lack of another subnet's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from supernets.base import Supernet
from supernets.training.errors import TrainingError

Hidden: TypeAlias = dict[int, Tensor]
"""Identity of a layer -> the hidden states that it returned, ``[n, ..., features]``."""


@contextmanager
def hidden_states(net: Supernet) -> Iterator[Hidden]:
    """Collect what the active layers return, in forward passes within the block."""
    found: Hidden = {}

    def note(layer: Any, inputs: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        if not isinstance(states, Tensor):
            raise TrainingError(f"a {type(layer).__name__} returns no hidden states first; set layer_loss=0")
        found[id(layer)] = states

    handles = [layer.register_forward_hook(note) for layer in net.active_layers()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def layer_loss(student: Mapping[int, Tensor], teacher: Mapping[int, Tensor]) -> Tensor:
    """Return the mean squared difference of hidden states, the mean over the layers that the student has.

    The hidden-state loss of TinyBERT (Jiao et al., Findings of EMNLP 2020, arXiv:1909.10351), ``MSE(H_S W, H_T)``: a
    subnet's hidden states are as wide as the supernet's, so W is the identity, and each layer learns from itself in the
    other network, so no map of layers is needed. No gradient flows into the teacher.

    Args:
        student: The hidden states of a subnet.
        teacher: Those of a network that has all of the subnet's layers.

    Returns:
        float32 scalar.
    """
    parts = [functional.mse_loss(x.float(), teacher[layer].detach().float()) for layer, x in student.items()]
    return torch.stack(parts).mean()
