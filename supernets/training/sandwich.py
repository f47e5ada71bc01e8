"""The sandwich rule with in-place distillation."""

from __future__ import annotations

from typing import Any

from search_spaces import SearchSpace
from supernets.training.data import Batch
from supernets.training.distillation import counted, soft_targets_loss
from supernets.training.faults import Faults
from supernets.training.methods import Method, Phase, register_method
from supernets.training.passes import Passes
from supernets.training.sampling import sample_subnets


@register_method("sandwich")
class Sandwich(Method):
    """In each step the largest subnet learns from labels; random ones and the smallest learn from the largest.

    Yu and Huang, Universally Slimmable Networks and Improved Training Techniques, ICCV 2019; Yu et al.,
    BigNAS, ECCV 2020. The subnets' gradients are summed.

    Args:
        space: The space of the supernet.
        total_steps: Optimiser steps of the whole training.
        seed: Of the random subnets.
        random_subnets: Random subnets in a step, beside the largest and the smallest.
        distillation: Whether the others learn from the largest's predictions rather than from labels.
        temperature: Of the distillation.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        total_steps: int,
        seed: int = 0,
        random_subnets: int = 2,
        distillation: bool = True,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(space, total_steps=total_steps, seed=seed)
        faults = Faults()
        faults.integer("random_subnets", random_subnets, at_least=0)
        faults.boolean("distillation", distillation)
        faults.number("temperature", temperature, above=0)
        faults.raise_any()
        self.phases = (Phase("sandwich", 0, total_steps),)
        self.random_subnets = random_subnets
        self.distillation = distillation
        self.temperature = temperature

    def subnets(self, step: int) -> list[dict[str, Any]]:
        """Return the largest, the random ones and the smallest."""
        return [
            self.largest,
            *sample_subnets(self.space, self.random_subnets, self.seed, step),
            self.smallest,
        ]

    def backward(self, batch: Batch, subnets: list[dict[str, Any]], passes: Passes) -> None:
        """Add the gradients of all subnets on one batch."""
        largest, *others = subnets
        teacher = passes.forward(largest, batch.inputs)
        passes.backward(passes.loss(teacher, batch.targets))
        for arch in others:
            outputs = passes.forward(arch, batch.inputs)
            if self.distillation:
                passes.backward(soft_targets_loss(outputs, teacher, self.temperature, counted(outputs, batch.targets)))
            else:
                passes.backward(passes.loss(outputs, batch.targets))
