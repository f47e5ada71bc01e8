"""Experts as low-rank products plus a few whole rows, and how a block computes with them.

A matrix W of shape ``[n, m]`` is ``left @ right`` plus the rows ``rest`` at the places ``rows``: ``[n, r]``,
``[r, m]``, ``[q, m]`` and int32 ``[q]``. The factors of G experts are tensors by name, experts first: for each of
``gate``, ``up`` and ``down`` ``NAME_left``, ``NAME_right``, ``NAME_rest``, ``NAME_rows``; with biases ``gate_bias``,
``up_bias``, ``down_bias``. This form is also what an extracted model stores, as parameters and (``rows``) buffers
``factored_NAME_…`` of its experts module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from supernets.experts import weights
from supernets.experts.weights import Tensors

MATRICES = ("gate", "up", "down")
PREFIX = "factored_"


def rank_of(n: int, m: int, ratio: float) -> int:
    """Return the rank ``ceil(ratio n m / (n + m))``, at which the product has ``ratio`` of the matrix's numbers."""
    return min(n, m, max(1, ceil(ratio * n * m / (n + m))))


def rows_of(n: int, share: float) -> int:
    """Return the number of whole rows, ``ceil(share n)``."""
    return min(n, ceil(share * n))


def factorise(matrix: Tensor, ratio: float, share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return ``left``, ``right``, ``rest`` and ``rows`` of a matrix ``[n, m]``, float64 inside.

    ``U S V = W``, cut at the rank r; ``left = U sqrt(S)``, ``right = sqrt(S) V``; of ``W - left @ right`` the rows of
    the greatest L2 norm stay. Both steps are the best of their kind in the Frobenius norm.

    Args:
        matrix: ``[n, m]``.
        ratio: See `rank_of`.
        share: See `rows_of`.
    """
    whole = matrix.double()
    n, m = whole.shape
    u, s, v = torch.linalg.svd(whole, full_matrices=False)
    rank = rank_of(n, m, ratio)
    root = s[:rank].sqrt()
    left, right = u[:, :rank] * root, root[:, None] * v[:rank]
    rest = whole - left @ right
    rows = rest.norm(dim=1).argsort(descending=True, stable=True)[: rows_of(n, share)].sort().values
    return left, right, rest[rows], rows.int()


def numbers(hidden: int, width: int, ratio: float, share: float) -> tuple[int, int]:
    """Return how many weights and how many places of rows one expert has, biases not counted.

    The weights are also the multiply-accumulates of a token.
    """
    in_rows = rows_of(width, share)
    out_rows = rows_of(hidden, share)
    products = 3 * rank_of(width, hidden, ratio) * (hidden + width)
    return products + 2 * in_rows * hidden + out_rows * width, 2 * in_rows + out_rows


def stack(experts: Sequence[Mapping[str, Tensor]], ratio: float, share: float, like: Tensor) -> Tensors:
    """Return the factors of experts in the common form (see `supernets.experts.weights`), in the dtype of ``like``."""
    made: dict[str, list[Tensor]] = {}
    for expert in experts:
        for name, tensor in expert.items():
            if name not in MATRICES:
                made.setdefault(name, []).append(tensor)
                continue
            for part, value in zip(("left", "right", "rest", "rows"), factorise(tensor, ratio, share), strict=True):
                made.setdefault(f"{name}_{part}", []).append(value)
    return {
        n: torch.stack(t).to(like.device, torch.int32 if n.endswith("_rows") else like.dtype) for n, t in made.items()
    }


def dense(factors: Mapping[str, Tensor], expert: int) -> Tensors:
    """Return one expert as whole matrices, in the common form."""
    whole = {n: t[expert] for n, t in factors.items() if n.endswith("_bias")}
    for name in MATRICES:
        left, right, rest, rows = (factors[f"{name}_{p}"][expert] for p in ("left", "right", "rest", "rows"))
        whole[name] = (left @ right).index_add(0, rows, rest)
    return whole


def _apply(factors: Mapping[str, Tensor], name: str, expert: int, x: Tensor) -> Tensor:
    left, right, rest, rows = (factors[f"{name}_{p}"][expert] for p in ("left", "right", "rest", "rows"))
    bias = factors.get(f"{name}_bias")
    y = functional.linear(functional.linear(x, right), left, None if bias is None else bias[expert])
    return y.index_add(1, rows, functional.linear(x, rest)) if len(rows) else y


def evaluate(experts: Any, factors: Mapping[str, Tensor], expert: int, x: Tensor) -> Tensor:
    """Return the output of one factored expert, ``[n, H]``.

    Args:
        experts: The stock module: layout, gate function.
        factors: Of all factored experts.
        expert: Its index among them.
        x: ``[n, H]``.
    """
    gate, up = _apply(factors, "gate", expert, x), _apply(factors, "up", expert, x)
    both = torch.cat([gate, up], -1) if experts.is_concatenated else torch.stack([gate, up], -1).flatten(-2)
    return _apply(factors, "down", expert, experts._apply_gate(both))


def forward(experts: Any, factors: Mapping[str, Tensor], hidden: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
    """Return the weighted sum of the outputs of a block's experts, expert by expert.

    Args:
        experts: The stock module; its own parameters are the experts that stay whole, the first ones.
        factors: Of the others.
        hidden: ``[T, H]``.
        index: ``[T, k]``.
        chosen: Weights, ``[T, k]``.

    Returns:
        ``[T, H]``.
    """
    whole = weights.current(experts)
    n_whole = len(whole["down_proj"])
    flat = index.flatten()
    order = flat.argsort(stable=True)
    ends = flat.bincount(minlength=n_whole + len(factors["down_left"])).cumsum(0).tolist()
    output = torch.zeros_like(hidden)
    for e, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if start == end:
            continue
        places = order[start:end]
        tokens, slots = places // index.shape[1], places % index.shape[1]
        x = hidden[tokens]
        out = weights.evaluate(experts, whole, e, x)[1] if e < n_whole else evaluate(experts, factors, e - n_whole, x)
        output.index_add_(0, tokens, (out * chosen[tokens, slots, None]).to(output.dtype))
    return output


def forward_of_extracted(experts: Any, hidden: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
    """Stand in for the forward method of an experts module that stores factors; for extracted models.

    Factors with adapters are read with what these add: PyTorch keeps their names as parametrizations.
    """
    names = (*experts._parameters, *experts._buffers, *getattr(experts, "parametrizations", ()))
    factors = {n.removeprefix(PREFIX): getattr(experts, n) for n in names if n.startswith(PREFIX)}
    return forward(experts, factors, hidden, index, chosen)
