"""What all elastic layers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ElasticModule(nn.Module, ABC):
    """A layer that holds the weights of its largest shape and computes with a slice of them.

    The active shape is a few integers; changing them allocates nothing. Autograd gives the weights outside
    the slice a zero gradient.
    """

    @abstractmethod
    def active_state(self) -> dict[str, Tensor]:
        """Return the active tensors by the names that the static twin's state dict has; not copied."""

    @abstractmethod
    def active_parameters(self) -> dict[str, Tensor]:
        """Return, by name of the parameter, views of the slices that the active shape computes with.

        Training moves these and nothing else: gradients outside are zero, and absent where a name is.
        """
