"""What a Mixture-of-Experts block computes with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernets.experts.weights import Tensors


@dataclass(frozen=True)
class Plan:
    """Which rows of the router take part, and which expert answers for each.

    Attributes:
        rows: Rows of the router, ascending, int64 ``[R]``; None for all. The router works as if it had no others: the
            rest is out before softmax and top-k.
        target: The expert that answers for each of these rows, an index into the bank, or into the model's experts
            where there is no bank; int64 ``[R]``. None for the same number.
        bank: Experts of this plan in the stock layout; None for the model's own.
        constants: Outputs of the experts that are constants, ``[N, H]``; None without any.
        places: Of each row the number of its constant, -1 where a real expert answers; int64 ``[R]``.
    """

    rows: Tensor | None = None
    target: Tensor | None = None
    bank: Tensors | None = None
    constants: Tensor | None = None
    places: Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """Memory beside the model's own."""
        tensors = [*(self.bank or {}).values(), *([] if self.constants is None else [self.constants])]
        return sum(t.numel() * t.element_size() for t in tensors)


EVERYTHING = Plan()


def indices(values: Sequence[int], like: Tensor) -> Tensor:
    """Return indices as a tensor on the device of another."""
    return torch.tensor(list(values), dtype=torch.int64, device=like.device)
