"""Learning from another network's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from supernets.training.errors import TrainingError


def logits_of(outputs: Any) -> Tensor:
    """Return the logits in a model's outputs: the tensor itself, its ``logits`` (per image), or a tuple's first.

    Raises:
        TrainingError: There are none.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping) and isinstance(outputs.get("logits"), Tensor):
        return torch.as_tensor(outputs["logits"])
    if isinstance(getattr(outputs, "logits", None), Tensor):
        return torch.as_tensor(outputs.logits)
    if isinstance(getattr(outputs, "logits_per_image", None), Tensor):
        return torch.as_tensor(outputs.logits_per_image)
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise TrainingError(
        f"the network's outputs ({type(outputs).__name__}) hold no logits; a tensor is needed, an output with "
        "'logits', or a tuple that starts with them"
    )


def counted(outputs: Any, targets: Tensor) -> Tensor | None:
    """Return which places of a sequence count for a loss: those whose target is not negative (padding).

    Args:
        outputs: Outputs with logits ``[..., classes]``.
        targets: What they are compared with.

    Returns:
        bool ``[...]``; None where targets are not one class for each of several places, and everything counts.
    """
    if targets.ndim < 2 or targets.is_floating_point() or targets.shape != logits_of(outputs).shape[:-1]:
        return None
    return targets >= 0


def _mean(values: Tensor, places: Tensor | None) -> Tensor:
    return values.mean() if places is None else values[places].sum() / places.sum().clamp(min=1)


def soft_targets_loss(student: Any, teacher: Any, temperature: float = 1.0, places: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of a student with the softened predictions of a teacher.

    No gradient flows into the teacher (Hinton et al., Distilling the Knowledge in a Neural Network, 2015).

    Args:
        student: Outputs with logits ``[..., classes]``.
        teacher: Outputs with logits of the same shape.
        temperature: Both logits are divided by it, and the loss is multiplied by its square.
        places: bool ``[...]``: which places count, see `counted`. Default: all.

    Returns:
        Mean over everything but the classes, float32 scalar.
    """
    targets = torch.softmax(logits_of(teacher).detach().float() / temperature, dim=-1)
    log_probabilities = torch.log_softmax(logits_of(student).float() / temperature, dim=-1)
    return _mean(-(targets * log_probabilities).sum(-1), places) * temperature**2


def kl_loss(student: Any, teacher: Any, temperature: float = 1.0, places: Tensor | None = None) -> Tensor:
    """Return the Kullback-Leibler divergence of a student's softened predictions from a teacher's.

    Zero where they are equal; beyond that it is `soft_targets_loss`. A gradient flows into the teacher, too, unless
    its outputs are detached.

    Args:
        student: Outputs with logits ``[..., classes]``.
        teacher: Outputs with logits of the same shape.
        temperature: Both logits are divided by it, and the loss is multiplied by its square.
        places: bool ``[...]``: which places count, see `counted`. Default: all.

    Returns:
        Mean over everything but the classes, float32 scalar.
    """
    wanted = torch.log_softmax(logits_of(teacher).float() / temperature, dim=-1)
    got = torch.log_softmax(logits_of(student).float() / temperature, dim=-1)
    return _mean((wanted.exp() * (wanted - got)).sum(-1), places) * temperature**2
