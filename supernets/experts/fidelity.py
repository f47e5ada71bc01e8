"""How close a configuration's predictions are to the full model's, teacher forced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from supernets.base import Inputs, Supernet, call
from supernets.errors import SupernetError
from supernets.kept_outputs import KeptOutputs


def esap(reference: Tensor, candidate: Tensor) -> Tensor:
    """Return the expected acceptance ``sum_v min(p(v), q(v))`` at each position, in 0 to 1.

    One minus the total variation distance, and the chance that speculative decoding with the candidate as draft accepts
    its token (EvoESAP, 2026).

    Args:
        reference: Logits ``[..., V]``.
        candidate: Logits of the same shape.

    Returns:
        float32 ``[...]``.
    """
    p, q = reference.float().softmax(-1), candidate.float().softmax(-1)
    return torch.minimum(p, q).sum(-1)


def kl_divergence(reference: Tensor, candidate: Tensor) -> Tensor:
    """Return ``sum_v p(v) log(p(v) / q(v))`` at each position, in nats; p is the reference's.

    Args:
        reference: Logits ``[..., V]``.
        candidate: Logits of the same shape.

    Returns:
        float32 ``[...]``.
    """
    p, q = reference.float().log_softmax(-1), candidate.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def fidelity_sums(reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> tuple[dict[str, float], int]:
    """Return the sums over tokens of ``esap`` (percent) and ``kl`` (nats), and how many tokens there were.

    Args:
        reference: Logits ``[..., V]``.
        candidate: Logits of the same shape.
        mask: Which tokens are real, bool or int, of the shape of the tokens. Default: all.
    """
    p, q = reference.flatten(0, -2), candidate.detach().flatten(0, -2)
    if mask is not None and not mask.all():
        real = mask.bool().flatten().to(q.device)
        p, q = p[real], q[real]
    sums = {
        "esap": 100.0 * float(esap(p, q).clamp(max=1).double().sum()),
        "kl": float(kl_divergence(p, q).double().sum()),
    }
    return sums, len(p)


class Reference:
    """The full model's predictions on a fixed set of tokens, to which configurations are compared.

    Kept unless they would need too much memory: then the full model runs again each time.

    Args:
        net: The supernet; its largest subnet is the reference.
        batches: Inputs by name, with ``input_ids`` and, where there is padding, ``attention_mask``.
        keep_mb: Memory for the reference's logits, in 1e6 bytes.

    Raises:
        SupernetError: No batch.
    """

    def __init__(self, net: Supernet, batches: Iterable[Inputs], keep_mb: float = 512.0) -> None:
        self._batches: list[Mapping[str, Tensor]] = [b for b in batches if not isinstance(b, tuple)]
        if not self._batches:
            raise SupernetError("a reference needs at least one batch of inputs by name")
        self._largest = net.space.decode(net.space.largest[None])[0]
        self._logits = KeptOutputs(keep_mb * 1e6)
        for batch in self._batches:
            if self._logits.fit:
                self._logits.add(self._run(net, self._largest, batch))

    @staticmethod
    def _run(net: Supernet, arch: Any, batch: Mapping[str, Tensor]) -> Tensor:
        device = next(net.parameters()).device
        training = net.training
        with net.activated(arch), torch.no_grad():
            logits: Tensor = call(net.eval(), {n: t.to(device) for n, t in batch.items()}).logits
        net.train(training)
        return logits

    def compare(self, net: Supernet, arch: Mapping[str, Any]) -> dict[str, float]:
        """Return ``esap`` (percent) and ``kl`` (nats), means over all positions that are not padding."""
        totals, n = {"esap": 0.0, "kl": 0.0}, 0
        for i, batch in enumerate(self._batches):
            kept = self._logits.get(i)
            reference = self._run(net, self._largest, batch) if kept is None else kept
            sums, tokens = fidelity_sums(reference, self._run(net, arch, batch), batch.get("attention_mask"))
            totals, n = {m: totals[m] + v for m, v in sums.items()}, n + tokens
        return {m: total / n for m, total in totals.items()}


def fidelity(net: Supernet, arch: Mapping[str, Any], batches: Iterable[Inputs]) -> dict[str, float]:
    """Return ``esap`` (percent) and ``kl`` (nats) of a configuration against the full model on some batches."""
    return Reference(net, batches).compare(net, arch)
