"""Low-rank adapters on the layers of a plain network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """Adds ``scale * left @ right`` to a weight, or to each of a stack of weights.

    Args:
        weight: ``[rows, columns]`` or ``[E, rows, columns]``.
        rank: Columns of left, rows of right.
        scale: Factor on the product.
        random: Draws right, uniform as PyTorch's own linear layers; left is zero, so that the sum is the weight.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, random: torch.Generator) -> None:
        super().__init__()
        *stack, rows, columns = weight.shape
        drawn = torch.empty(*stack, rank, columns).uniform_(-1, 1, generator=random) / math.sqrt(columns)
        self.left = nn.Parameter(torch.zeros(*stack, rows, rank, dtype=weight.dtype, device=weight.device))
        self.right = nn.Parameter(drawn.to(weight))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with what was learned."""
        return weight + self.scale * (self.left @ self.right)


def adaptable(model: nn.Module, targets: Sequence[str]) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name, module and parameter of the weights that can have adapters and whose name matches a pattern.

    These are linear layers, by their own name, and stacks of matrices such as those of experts, by the parameter's.
    Weights that several modules share have none: they would not stay shared.
    """
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    for path, module in model.named_modules():
        linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        for name, parameter in module.named_parameters(recurse=False):
            if owners[id(parameter)] > 1:
                continue
            if linear and name == "weight":
                label = path
            elif parameter.ndim == 3 and len(parameter) > 1:  # not a position that is learned, [1, N, H]
                label = f"{path}.{name}"
            else:
                continue
            if any(fnmatchcase(label, pattern) for pattern in targets):
                yield label, module, name


class PlainAdapters:
    """Low-rank adapters in a plain network: its weights read as ``W + alpha / rank * left @ right``.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv:2106.09685; in a stack of matrices
    each has factors of its own. Everything but the factors and what is named stops learning until `merge`. The adapters
    of elastic layers are those of `supernets.transformer.lora`.

    Args:
        model: The network; changed in place.
        rank: Of the products.
        alpha: Factor on the products, divided by the rank.
        targets: Patterns of the names of layers, see `adaptable`.
        train: Patterns of the names of parameters that learn, too.
        seed: Of the factors that are not zero at first.
    """

    def __init__(
        self, model: nn.Module, *, rank: int, alpha: float, targets: Sequence[str], train: Sequence[str], seed: int
    ) -> None:
        self._before = [(p, p.requires_grad) for p in model.parameters()]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in train))
        self._places = [(module, name) for _, module, name in adaptable(model, targets)]
        random = torch.Generator().manual_seed(seed)
        for module, name in self._places:
            adapter = LowRank(getattr(module, name), rank, alpha / rank, random)
            parametrize.register_parametrization(module, name, adapter)

    def merge(self) -> None:
        """Add the products to the weights and remove the factors; what learned before learns again."""
        for module, name in self._places:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for parameter, learned in self._before:
            parameter.requires_grad_(learned)
