"""Low-rank adapters on elastic linear layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from supernets.transformer.slices import LORA_LEFT, LORA_RIGHT, Slice, SlicedModule, make_sliced


def elastic_linears(model: nn.Module, targets: Iterable[str]) -> Iterator[tuple[str, SlicedModule]]:
    """Yield name and module of the elastic linear layers whose name matches a pattern."""
    patterns = list(targets)
    for name, module in model.named_modules():
        if not isinstance(module, SlicedModule) or "weight" not in module.sliced():
            continue
        linear = isinstance(module, nn.Linear) or module.stock_class.__name__ == "Conv1D"
        if linear and any(fnmatchcase(name, p) for p in patterns):
            yield name, module


class Adapters:
    """Low-rank adapters in a wired model: a weight reads as ``W + alpha / rank * left @ right``.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, arXiv:2106.09685. ``left @ right`` is the
    paper's ``B A`` for weights ``[out, in]``, and its transpose for those of GPT-2, ``[in, out]``. The factor on the
    side of the outputs (B) is zero at first, so that the model is the original one, bit for bit. Where a subnet uses a
    slice of W, it uses the same slice of the product: the factor on that side is sliced alike.

    Everything but the factors, the head and what is named stops learning until `merge`.

    Args:
        model: The wired model; changed in place.
        rank: Columns of left, rows of right.
        alpha: Factor on the product, divided by the rank.
        targets: Patterns of the names of layers.
        train: Patterns of the names of parameters that learn, too.
        seed: Of the other factor (A), uniform as PyTorch's own linear layers.
    """

    def __init__(
        self, model: nn.Module, *, rank: int, alpha: float, targets: Sequence[str], train: Sequence[str], seed: int
    ) -> None:
        self._model = model
        self._before = {name: p.requires_grad for name, p in model.named_parameters()}
        head = head_parameters(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in head or any(fnmatchcase(name, p) for p in train))
        self._modules = [module for _, module in elastic_linears(model, targets)]
        random = torch.Generator().manual_seed(seed)
        for module in self._modules:
            _attach(module, rank, alpha / rank, random)

    def merge(self) -> None:
        """Add the products to the weights and remove the factors; what learned before learns again."""
        for module in self._modules:
            module.merge_adapter()
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(self._before[name])


def _attach(module: SlicedModule, rank: int, scale: float, random: torch.Generator) -> None:
    weight, piece = module.sliced()["weight"]
    rows, columns = weight.shape
    options: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
    left, right = torch.zeros(rows, rank, **options), torch.zeros(rank, columns, **options)
    inner = left if module.stock_class.__name__ == "Conv1D" else right
    bound = 1 / math.sqrt(rows if inner is left else columns)  # that of nn.Linear, by its number of inputs
    drawn = torch.empty(inner.shape).uniform_(-bound, bound, generator=random)
    inner.copy_(drawn)
    module.register_parameter(LORA_LEFT, nn.Parameter(left))
    module.register_parameter(LORA_RIGHT, nn.Parameter(right))
    module.__dict__["lora_scale"] = scale
    side = LORA_LEFT if piece.dim == 0 else LORA_RIGHT
    make_sliced(module, {side: Slice(piece.extent, piece.dim, weight.shape[piece.dim], piece.chunks)}, {})


def head_parameters(model: Any) -> set[str]:
    """Return the names of a model's parameters beyond its backbone: those of a classifier, not tied embeddings."""
    if callable(getattr(model, "get_classifier", None)):  # timm
        classifier = model.get_classifier()
        found = classifier if isinstance(classifier, tuple | list) else [classifier]
        inside = {id(p) for part in found if isinstance(part, nn.Module) for p in part.parameters()}
        return {name for name, p in model.named_parameters() if id(p) in inside}
    base = getattr(model, "base_model", model)
    backbone = {id(p) for p in base.parameters()}
    return {name for name, p in model.named_parameters() if id(p) not in backbone}
