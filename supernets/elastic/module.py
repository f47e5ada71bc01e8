"""What all elastic layers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class ElasticModule(nn.Module, ABC):
    """A layer that holds the weights of its largest shape and computes with a slice of them.

    The active shape is a few integers; changing them allocates nothing. Autograd gives the weights outside
    the slice a zero gradient.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        # An integer is never a parameter, buffer or module: without torch's checks switching takes half the time.
        if type(value) is int:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def active_state(self) -> dict[str, Tensor]:
        """Return the active tensors by the names that the static twin's state dict has; not copied."""

    @abstractmethod
    def active_parameters(self) -> dict[str, Tensor]:
        """Return, by name of the parameter, views of the slices that the active shape computes with.

        Training moves these and nothing else: gradients outside are zero, and absent where a name is.
        """
