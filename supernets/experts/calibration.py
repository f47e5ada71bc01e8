"""One pass over calibration data that gathers all that criteria and operators ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from supernets.base import Inputs, call, inputs_to
from supernets.errors import SupernetError
from supernets.experts import weights
from supernets.experts.blocks import Block
from supernets.experts.statistics import LayerStatistics

Calibration: TypeAlias = Iterable[Inputs] | Mapping[str, Iterable[Inputs]]
"""Batches, or batches by domain."""

_ROUTINGS = 8


class Observer:
    """Computes a block's experts one by one and sums up what it sees.

    Args:
        block: The block, with all experts active.
        statistics: Where sums go.
    """

    def __init__(self, block: Block, statistics: LayerStatistics) -> None:
        self._block = block
        self._into = statistics
        self._random = torch.Generator().manual_seed(int(statistics.tokens))
        self.mask: Tensor | None = None
        self._residual: Tensor | None = None
        self._logits: Tensor | None = None

    def see_residual(self, _: Any, args: tuple[Any, ...]) -> None:
        """Keep the residual stream before the block."""
        self._residual = args[0].detach().reshape(-1, args[0].shape[-1])

    def see_logits(self, logits: Tensor) -> None:
        """Keep the router's logits."""
        self._logits = logits.detach()

    def observe(self, experts: Any, hidden: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
        """Return what the stock experts return, and add to the sums; padding is left out of them."""
        into, n = self._into, self._block.n_experts
        real = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device) if self.mask is None else self.mask
        tensors = weights.stored(experts)
        output = torch.zeros_like(hidden)
        norms = torch.zeros(index.shape, dtype=torch.float64, device=hidden.device)
        token_of, expert_of = self._sorted(index, n)
        for e in range(n):
            flat = token_of[expert_of[e] : expert_of[e + 1]]
            if not len(flat):
                continue
            tokens, slots = flat // index.shape[1], flat % index.shape[1]
            neurons, out = weights.evaluate(experts, tensors, e, hidden[tokens])
            output.index_add_(0, tokens, (out * chosen[tokens, slots, None]).to(output.dtype))
            counted = real[tokens]
            out, neurons = out[counted].float(), neurons[counted].float()
            norms[tokens[counted], slots[counted]] = out.norm(dim=1).double()
            into.outputs[e] += out.sum(0)
            into.neurons[e] += neurons.abs().sum(0)
            if len(out):
                into.peaks[e] = torch.maximum(into.peaks[e], out.abs().max().double())
        self._add_sums(output, index[real], chosen[real].double(), norms[real], real)
        self._add_probes(hidden[real])
        return output

    @staticmethod
    def _sorted(index: Tensor, n: int) -> tuple[Tensor, list[int]]:
        """Return the flat places of `index` ordered by expert, and where each expert begins among them."""
        flat = index.flatten()
        ends = flat.bincount(minlength=n).cumsum(0).tolist()
        return flat.argsort(stable=True), [0, *ends]

    def _add_sums(self, output: Tensor, index: Tensor, chosen: Tensor, norms: Tensor, real: Tensor) -> None:
        into, n = self._into, self._block.n_experts
        where = index.flatten()
        change = self._change(output)[real]

        def add(name: str, values: Tensor) -> None:
            getattr(into, name).index_add_(0, where, values.flatten().double())

        into.tokens += len(index)
        into.counts += where.bincount(minlength=n)
        add("mass", chosen)
        add("norms", norms)
        add("squares", norms.square())
        add("gated_norms", chosen * norms)
        add("shared_norms", chosen / chosen.sum(1, keepdim=True).clamp(min=1e-30) * norms)
        add("token_change", chosen * norms * change[:, None])
        hit = torch.zeros(len(index), n, device=index.device).scatter_(1, index, 1.0)
        into.together += (hit.T @ hit).double()
        if self._logits is not None:
            logits = self._logits[real].float()
            into.logit_products += (logits.T @ logits).double()

    def _change(self, output: Tensor) -> Tensor:
        """Return ``max(1 - cos(h, h'), 0)`` of each token, float64 ``[T]``."""
        if self._residual is None:
            raise SupernetError(f"{self._block.name!r} has no norm before it, so its residual stream cannot be seen")
        before = self._residual.double()
        after = before + self._block.scale * output.detach().double()
        return (1 - torch.cosine_similarity(before, after, dim=1)).clamp(min=0)

    def _add_probes(self, hidden: Tensor) -> None:
        """Keep a reservoir of the tokens (Vitter's algorithm R): each one seen has the same chance to be in it.

        Draws are seeded, so all blocks keep the same tokens.
        """
        into, room = self._into, len(self._into.probes)
        before = int(into.tokens) - len(hidden)  # the tokens are counted already
        numbers = torch.arange(before + 1, before + len(hidden) + 1, dtype=torch.float64)
        draws = (torch.rand(len(hidden), generator=self._random, dtype=torch.float64) * numbers).long()
        places = torch.where(numbers <= room, numbers.long() - 1, draws)
        taken = (places < room).nonzero().flatten()
        last = dict(zip(places[taken].tolist(), taken.tolist(), strict=True))  # of several at a place the last stays
        if last:
            chosen = hidden[torch.tensor(list(last.values()), device=hidden.device)].float()
            into.probes[torch.tensor(list(last), device=into.probes.device)] = chosen.to(into.probes.device)
            into.filled.fill_(min(room, before + len(hidden)))


def gather(model: nn.Module, blocks: list[Block], statistics: list[LayerStatistics], batches: Calibration) -> int:
    """Run calibration batches through a model whose experts are all active.

    Args:
        model: The switchable model; not changed.
        blocks: Its blocks.
        statistics: One for each block; sums are added.
        batches: Inputs by name or position; ``attention_mask`` tells padding. Or such by domain, a mapping.

    Returns:
        Number of tokens seen, padding left out.

    Raises:
        SupernetError: Too few tokens, of all or of a domain; one that the model does not have; or no batches.
    """
    check_batches(batches)
    observers = [Observer(b, s) for b, s in zip(blocks, statistics, strict=True)]
    hooks = [
        b.norm.register_forward_pre_hook(o.see_residual)
        for b, o in zip(blocks, observers, strict=True)
        if b.norm is not None
    ]
    named: Any = batches if isinstance(batches, Mapping) else {"": batches}
    domains: Mapping[str, Iterable[Inputs]] = named
    found: dict[str, int] = {}
    training, before = model.training, float(statistics[0].tokens)
    try:
        model.eval()
        for block, observer in zip(blocks, observers, strict=True):
            block.setting.observer = observer
        with torch.no_grad():
            for name, domain in domains.items():
                start = float(statistics[0].tokens)
                _gather_domain(model, observers, statistics, domain)
                found[name] = int(float(statistics[0].tokens) - start)
    finally:
        for hook in hooks:
            hook.remove()
        for block in blocks:
            block.setting.observer = None
        model.train(training)
    seen = int(float(statistics[0].tokens) - before)
    _check_numbers(blocks[0], found)
    return seen


def check_batches(batches: object) -> None:
    """Check that calibration data are batches, or such by domain; what is in them is not looked at.

    Raises:
        SupernetError: They are something else.
    """
    parts = list(batches.values()) if isinstance(batches, Mapping) else [batches]
    for part in parts:
        if isinstance(part, str | bytes | Tensor | Mapping) or not isinstance(part, Iterable):
            given = repr(part) if isinstance(part, str | int | float) else f"a {type(part).__name__}"
            raise SupernetError(
                "calibration must be batches of inputs, such as [{'input_ids': …}, …], or a mapping of domains to such "
                f"batches; got {given}{'' if part is batches else ' as the batches of a domain'}"
            )


def _check_numbers(block: Block, found: Mapping[str, int]) -> None:
    """Check that there were enough tokens, in each domain, too: its share in mixed statistics would be chance."""
    needed = least_tokens(block)
    few = {name: n for name, n in found.items() if n < needed}
    if found and not few:
        return
    numbers = [
        ("no token" if not n else f"{n} tokens") + (f" of domain {name!r}" if name else "") for name, n in few.items()
    ]
    each = " of each domain" if any(few) else ""
    raise SupernetError(
        f"calibration saw {', '.join(numbers) or 'no token'}; at least {needed}{each} are needed, {_ROUTINGS} for each "
        f"of {block.n_experts} experts on average (a token asks {block.k}); give more text, or longer batches. Padding "
        "does not count"
    )


def least_tokens(block: Block) -> int:
    """Return how many tokens calibration needs, so that an expert is asked by a few of them on average."""
    return ceil(_ROUTINGS * block.n_experts / block.k)


def _gather_domain(
    model: nn.Module, observers: list[Observer], statistics: list[LayerStatistics], batches: Iterable[Inputs]
) -> None:
    """Run the batches of one domain, and add its share to the statistics of mixed domains."""
    device, n_tokens = next(model.parameters()).device, getattr(model.config, "vocab_size", None)
    before = [s.token_change.clone() for s in statistics]
    for batch in batches:
        _check_tokens(batch, n_tokens)
        _show_mask(observers, batch, device)
        call(model, inputs_to(batch, device))
    for known, old in zip(statistics, before, strict=True):
        change = known.token_change - old
        known.mixed_change += change / change.sum().clamp(min=1e-30)


def _check_tokens(batch: Inputs, n_tokens: int | None) -> None:
    values = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(batch, Mapping | tuple) or not batch or not all(isinstance(t, Tensor) for t in values):
        raise SupernetError(
            "a batch of calibration is a mapping of names to tensors, such as {'input_ids': …}, or a tuple of tensors; "
            f"got {type(batch).__name__}"
        )
    tokens = batch[0] if isinstance(batch, tuple) else batch.get("input_ids")
    if tokens is None or n_tokens is None or tokens.is_floating_point() or not tokens.numel():
        return
    least, most = int(tokens.min()), int(tokens.max())
    if least < 0 or most >= n_tokens:
        wrong = most if most >= n_tokens else least
        raise SupernetError(
            f"calibration has token {wrong}, the model's vocabulary goes from 0 to {n_tokens - 1}: the tokenizer does "
            "not match the model; use the model's own"
        )


def _show_mask(observers: list[Observer], batch: Inputs, device: torch.device) -> None:
    mask = batch.get("attention_mask") if not isinstance(batch, tuple) else None
    flat = None if mask is None or mask.ndim != 2 else mask.to(device).bool().flatten()
    for observer in observers:
        observer.mask = flat
