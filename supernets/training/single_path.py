"""Single-path uniform sampling."""

from __future__ import annotations

from typing import Any

from search_spaces import SearchSpace
from supernets.training.data import Batch
from supernets.training.methods import Method, Phase, register_method
from supernets.training.passes import Passes
from supernets.training.sampling import sample_subnets


@register_method("single-path")
class SinglePath(Method):
    """One uniformly sampled subnet learns from labels in each step.

    Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020.

    Args:
        space: The space of the supernet.
        total_steps: Optimiser steps of the whole training.
        seed: Of the sampled subnets.
    """

    def __init__(self, space: SearchSpace, *, total_steps: int, seed: int = 0) -> None:
        super().__init__(space, total_steps=total_steps, seed=seed)
        self.phases = (Phase("single-path", 0, total_steps),)

    def subnets(self, step: int) -> list[dict[str, Any]]:
        """Return one random architecture."""
        return sample_subnets(self.space, 1, self.seed, step)

    def backward(self, batch: Batch, subnets: list[dict[str, Any]], passes: Passes) -> None:
        """Add the gradients of the subnet on one batch."""
        for arch in subnets:
            passes.backward(passes.loss(passes.forward(arch, batch.inputs), batch.targets))
