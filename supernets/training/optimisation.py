"""Optimiser, learning-rate schedule and their state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from supernets.training.freezing import trainable
from supernets.training.methods import Phase
from supernets.training.settings import TrainSettings


def make_optimizer(net: nn.Module, settings: TrainSettings) -> Optimizer:
    """Return the optimiser of all weights that are not frozen; biases and normalisation weights do not decay."""
    weights = trainable(net, settings.freeze)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "adamw":
        return AdamW(groups, lr=settings.lr)
    return SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=True)


def learning_rate(step: int, phase: Phase, settings: TrainSettings) -> float:
    """Return the learning rate of a step: linear warm-up, then decay, within its phase."""
    done, length = step - phase.start, phase.stop - phase.start
    warm = round(settings.warmup * length)
    peak = settings.lr * phase.lr
    if done < warm:
        return peak * (done + 1) / warm
    share = (done - warm) / (length - warm)
    return peak * (1 - share if settings.decay == "linear" else 0.5 * (1 + math.cos(math.pi * share)))


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Give all weights the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state as tensors called ``"<weight number>.<name>"``."""
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the state that `optimizer_tensors` returned, in an optimiser made alike."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
