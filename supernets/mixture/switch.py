"""The active architecture, as routers see it, and the count of optimiser steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from search_spaces import SearchSpace
from supernets.mixture.encoding import ArchitectureEncoding

REMEMBERED = 64  # encoded architectures: the largest and the smallest come back in every sandwich step

_steps = 0


def optimiser_steps() -> int:
    """Return the number of optimiser steps of this process; fused optimisers bump no tensor's version counter."""
    return _steps


def _count_step(*_: Any) -> None:
    global _steps
    _steps += 1


register_optimizer_step_post_hook(_count_step)


class Switch:
    """Which architecture is active; encoded only when a router asks, so that switching computes nothing.

    Args:
        space: The search space.
        encoding: Its encoding.

    Attributes:
        key: Tells architectures apart.
        generation: Number of activations.
    """

    def __init__(self, space: SearchSpace, encoding: ArchitectureEncoding) -> None:
        self._space = space
        self._encoding = encoding
        self._arch: Mapping[str, Any] = {}
        self._phi: Tensor | None = None
        self._encoded: dict[tuple[Any, ...], NDArray[np.float32]] = {}
        self.key: tuple[Any, ...] = ()
        self.generation = 0

    def set(self, arch: Mapping[str, Any]) -> None:
        """Make an architecture, in canonical form, the active one."""
        self._arch = arch
        self._phi = None
        self.key = tuple(arch.items())
        self.generation += 1

    def phi(self, like: Tensor) -> Tensor:
        """Return the encoding of the active architecture, ``[f]``, in the dtype and on the device of a tensor."""
        if self._phi is None or (self._phi.dtype, self._phi.device) != (like.dtype, like.device):
            features = self._encoded.get(self.key)
            if features is None:
                if len(self._encoded) >= REMEMBERED:
                    self._encoded.clear()
                features = self._encoded[self.key] = self._encoding(self._space.encode([self._arch]))[0]
            with torch.inference_mode(False):
                self._phi = torch.from_numpy(features).to(like.device, like.dtype)
        return self._phi
