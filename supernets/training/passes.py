"""Forward and backward passes of subnets, as training methods use them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from supernets.base import Architecture, Inputs, Supernet, call
from supernets.training.errors import TrainingError
from supernets.training.hidden import Hidden, hidden_states
from supernets.training.recompute import recomputed

Loss = Callable[[Any, Tensor], Tensor]


class Passes:
    """Runs subnets: switching, input adaptation, mixed precision, and the weight of a batch in its step.

    Args:
        net: The supernet.
        loss: Outputs and targets -> scalar.
        device: Where it runs.
        amp: ``"auto"``, ``"off"``, ``"bf16"`` or ``"fp16"``, see `TrainSettings`.
        recompute: Whether layers run again in the backward pass, see `recomputed`.

    Attributes:
        net: The supernet.
        weight: Factor on the gradients: the share of the current batch in what counts in the optimiser step.
        items: Its share in the items of the step, the factor for means over items.
        device: Where the supernet is.
        step: The optimiser step that `start` began.
        values: The losses of the passes since `start`, with their architectures.
        hidden: The hidden states of the pass that ran last, where it was asked to keep them.
    """

    def __init__(
        self, net: Supernet, loss: Loss, device: torch.device, amp: str = "off", *, recompute: bool = False
    ) -> None:
        self.net = net
        self._loss = loss
        self.weight = self.items = 1.0
        self.step = 0
        self.values: list[tuple[Architecture, float, Tensor]] = []
        self.hidden: Hidden = {}
        self._arch: Architecture = net.active
        self.device = device
        self._recompute = recompute
        self._dtype = amp_dtype(amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes run."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    def start(self, step: int = 0) -> None:
        """Begin an optimiser step and forget the losses of the last one."""
        self.step = step
        self.values = []
        self.hidden = {}

    def forward(self, arch: Architecture, inputs: Inputs, *, keep_hidden: bool = False) -> Any:
        """Switch to a subnet and return its outputs.

        Args:
            arch: The subnet.
            inputs: Inputs of the task.
            keep_hidden: Whether ``hidden`` holds the hidden states of its layers afterwards.
        """
        self.net.activate(arch)
        self._arch = arch
        with self.autocast(), recomputed(self.net, self.net.active) if self._recompute else nullcontext():
            if not keep_hidden:
                return call(self.net, self.net.fit_inputs(inputs, arch))
            with hidden_states(self.net) as self.hidden:
                return call(self.net, self.net.fit_inputs(inputs, arch))

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the loss on labels; in mixed precision PyTorch's own losses compute in float32."""
        with self.autocast():
            return self._loss(outputs, targets)

    def forward_frozen(self, module: nn.Module, inputs: Inputs) -> Any:
        """Return the outputs of another network, without gradients."""
        with torch.no_grad(), self.autocast():
            return call(module, inputs)

    def backward(self, value: Tensor, *, retain_graph: bool = False) -> None:
        """Add the gradients of a loss of the subnet that ran last.

        Args:
            value: The loss, a scalar.
            retain_graph: Whether a later loss flows through the same activations.
        """
        self.values.append((self._arch, self.weight, value.detach()))
        self.scaler.scale(value * self.weight).backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]


def amp_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the type of mixed precision, or None for full precision.

    Raises:
        TrainingError: float16 without CUDA.
    """
    if amp == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if amp == "fp16" and device.type != "cuda":
        raise TrainingError(f"amp 'fp16' needs CUDA, but training runs on {device}; use 'auto', 'off' or 'bf16'")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
