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
        always: Experts, numbered as by ``target``, that answer every token beside the chosen ones; int64 ``[S]``.
        always_weights: Their constant weights, ``[S]``.
        promoted: Which experts of the model they are, int64 ``[S]``; for those who ask, nothing computes with it.
        scale: What the weights of the chosen experts are multiplied by; a tensor ``[1]``, None for 1.
        factors: Experts in factored form, see `supernets.experts.factored`; their numbers follow those of the bank,
            which holds the few that stay whole.

    Without any row (``rows`` is empty) nothing is routed: the block is what ``always`` answers, or zero.
    """

    rows: Tensor | None = None
    target: Tensor | None = None
    bank: Tensors | None = None
    constants: Tensor | None = None
    places: Tensor | None = None
    always: Tensor | None = None
    always_weights: Tensor | None = None
    promoted: Tensor | None = None
    scale: Tensor | None = None
    factors: Tensors | None = None

    @property
    def routed(self) -> bool:
        """Whether there is anything to choose from."""
        return self.rows is None or len(self.rows) > 0

    @property
    def n_bytes(self) -> int:
        """Memory beside the model's own."""
        tensors = [*(self.bank or {}).values(), *(self.factors or {}).values()]
        tensors += [] if self.constants is None else [self.constants]
        return sum(t.numel() * t.element_size() for t in tensors)


EVERYTHING = Plan()


def indices(values: Sequence[int], like: Tensor) -> Tensor:
    """Return indices as a tensor on the device of another."""
    return torch.tensor(list(values), dtype=torch.int64, device=like.device)
