"""Elastic batch normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.module import ElasticModule


class Statistics(NamedTuple):
    """Mean and variance of each channel, ``[channels]``, of one subnet."""

    mean: Tensor
    var: Tensor


class ElasticBatchNorm2d(ElasticModule):
    """Batch normalisation of the first channels, with statistics that one subnet can override.

    In train mode the batch's own statistics normalise, and the prefix of the running ones moves. In eval mode
    the prefix of the running statistics is used, or the recalibrated ones of the active subnet where there are
    any. Recalibration follows Cai et al. (Once-for-All, arXiv:1908.09791): the mean over batches, weighted by
    batch size, of each batch's mean and biased variance, every batch being normalised by its own.

    Args:
        channels: Largest number of channels.
        eps: Added to the variance.
        momentum: Weight of a new batch in the running statistics.

    Attributes:
        calibrated: Recalibrated statistics of the active subnet, or None. Not part of the state dict.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        self.calibrated: Statistics | None = None
        self._gathering = False
        self._gathered: Statistics | None = None
        self._n_gathered = 0
        self.set_active(channels)

    def set_active(self, channels: int) -> None:
        """Use the first ``channels`` and drop recalibrated statistics."""
        self.active_channels = channels
        if self.calibrated is not None:
            self.calibrated = None

    def start_gathering(self) -> None:
        """From now on, normalise by the batch's own statistics and gather them."""
        self._gathering, self._gathered, self._n_gathered = True, None, 0

    def stop_gathering(self, *, keep: bool = True) -> None:
        """Return to normal, with what was gathered (if anything) as the active subnet's statistics."""
        if keep and self._gathered is not None:
            self.calibrated = Statistics(*(total / self._n_gathered for total in self._gathered))
        self._gathering, self._gathered, self._n_gathered = False, None, 0

    def _gather(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        n, before = x.shape[0], self._gathered or Statistics(torch.zeros_like(mean), torch.zeros_like(var))
        self._gathered = Statistics(before.mean + n * mean, before.var + n * var)
        self._n_gathered += n
        c = self.active_channels
        return functional.batch_norm(x, mean, var, self.weight[:c], self.bias[:c], False, 0.0, self.eps)

    def _statistics(self) -> Statistics:
        c = self.active_channels
        return self.calibrated or Statistics(self.running_mean[:c], self.running_var[:c])

    def active_state(self) -> dict[str, Tensor]:
        """Return the affine prefix (views) and the statistics that eval mode uses."""
        c, (mean, var) = self.active_channels, self._statistics()
        return {
            "weight": self.weight[:c],
            "bias": self.bias[:c],
            "running_mean": mean,
            "running_var": var,
            "num_batches_tracked": self.num_batches_tracked,
        }

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the affine prefix."""
        return {"weight": self.weight[: self.active_channels], "bias": self.bias[: self.active_channels]}

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[n, channels, h, w]``."""
        if self._gathering:
            return self._gather(x)
        c = self.active_channels
        weight, bias = self.weight[:c], self.bias[:c]
        if not self.training:
            mean, var = self._statistics()
            return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, self.eps)
        self.num_batches_tracked.add_(1)
        mean, var = self.running_mean[:c], self.running_var[:c]
        return functional.batch_norm(x, mean, var, weight, bias, True, self.momentum, self.eps)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move recalibrated statistics along with the parameters (`to`, `half`, …)."""
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.calibrated is not None:
            self.calibrated = Statistics(*(fn(t) for t in self.calibrated))
        return result

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        return f"channels={self.active_channels}/{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"
