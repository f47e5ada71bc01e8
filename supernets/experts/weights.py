"""The weights of a block's experts, read and written in one form whatever the stock layout.

Stock experts store ``gate_up_proj`` and ``down_proj`` with the experts first: ``[E, 2I, H]`` and ``[E, H, I]``, gate
rows before up rows; GPT-OSS transposed, with biases, and gate and up columns in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Tensors: TypeAlias = dict[str, Tensor]
"""``gate`` and ``up`` ``[E, I, H]``, ``down`` ``[E, H, I]``; with biases ``gate_bias``, ``up_bias`` ``[E, I]`` and
``down_bias`` ``[E, H]``."""

NAMES = ("gate_up_proj", "down_proj", "gate_up_proj_bias", "down_proj_bias")
NEURON_DIMS = {"gate": 1, "up": 1, "down": 2, "gate_bias": 1, "up_bias": 1}


def stored(experts: Any) -> Tensors:
    """Return the stock parameters by name."""
    return {n: experts._parameters[n] for n in NAMES if experts._parameters.get(n) is not None}


def current(experts: Any) -> Tensors:
    """Return the stock parameters by name as they read now: of the active bank and width, or with adapters."""
    return {n: tensor for n in NAMES if (tensor := getattr(experts, n, None)) is not None}


def split(experts: Any, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return stock tensors in the common form, as views."""
    gate_up, down = tensors["gate_up_proj"], tensors["down_proj"]
    if experts.is_transposed:
        gate_up, down = gate_up.transpose(1, 2), down.transpose(1, 2)
    gate, up = _halves(experts, gate_up)
    common = {"gate": gate, "up": up, "down": down}
    if experts.has_bias:
        common["gate_bias"], common["up_bias"] = _halves(experts, tensors["gate_up_proj_bias"])
        common["down_bias"] = tensors["down_proj_bias"]
    return common


def _halves(experts: Any, tensor: Tensor) -> tuple[Tensor, Tensor]:
    if not experts.is_concatenated:
        return tensor[:, ::2], tensor[:, 1::2]
    half = tensor.shape[1] // 2
    return tensor[:, :half], tensor[:, half:]


def join(experts: Any, common: Mapping[str, Tensor]) -> Tensors:
    """Return tensors of the common form in the stock layout; new memory."""
    gate_up, down = _joined(experts, common["gate"], common["up"]), common["down"]
    if experts.is_transposed:
        gate_up, down = gate_up.transpose(1, 2), down.transpose(1, 2)
    tensors = {"gate_up_proj": gate_up.contiguous(), "down_proj": down.contiguous()}
    if experts.has_bias:
        tensors["gate_up_proj_bias"] = _joined(experts, common["gate_bias"], common["up_bias"]).contiguous()
        tensors["down_proj_bias"] = common["down_bias"].contiguous()
    return tensors


def _joined(experts: Any, gate: Tensor, up: Tensor) -> Tensor:
    return torch.cat([gate, up], 1) if experts.is_concatenated else torch.stack([gate, up], 2).flatten(1, 2)


def narrowed(experts: Any, name: str, tensor: Tensor, width: int) -> Tensor:
    """Return a stock tensor with the first ``width`` neurons of each expert: a view where the layout allows."""
    if name == "down_proj_bias":
        return tensor
    if name == "down_proj":
        return tensor.narrow(1 if experts.is_transposed else 2, 0, width)
    dim = 2 if experts.is_transposed and tensor.ndim == 3 else 1
    if not experts.is_concatenated:  # gate and up in turn: the first neurons lie together
        return tensor.narrow(dim, 0, 2 * width)
    halves: Tensor = torch.unflatten(tensor, dim, (2, -1)).narrow(dim + 1, 0, width)
    return halves.flatten(dim, dim + 1)


def evaluate(experts: Any, tensors: Mapping[str, Tensor], expert: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the neurons and the output of one expert.

    Args:
        experts: The stock module: layout, gate function.
        tensors: Stock tensors, of it or of a bank.
        expert: Its index.
        x: ``[n, H]``.

    Returns:
        Neurons after the gate ``[n, I]`` and output ``[n, H]``.
    """
    gate_up, down = tensors["gate_up_proj"][expert], tensors["down_proj"][expert]
    if experts.is_transposed:
        gate_up, down = gate_up.T, down.T
    first = tensors["gate_up_proj_bias"][expert] if experts.has_bias else None
    second = tensors["down_proj_bias"][expert] if experts.has_bias else None
    neurons = experts._apply_gate(functional.linear(x, gate_up, first))
    return neurons, functional.linear(neurons, down, second)


def permuted(common: Mapping[str, Tensor], expert: int, order: Tensor) -> Tensors:
    """Return one expert with its neurons in another order; the function stays.

    Args:
        common: Tensors of the common form.
        expert: Its index.
        order: int64 ``[I]``: which neuron comes at each place.
    """
    one = {n: t[expert] for n, t in common.items()}
    return {n: t.index_select(NEURON_DIMS[n] - 1, order) if n in NEURON_DIMS else t for n, t in one.items()}
