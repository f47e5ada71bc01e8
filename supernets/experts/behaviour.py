"""Metrics of how a configuration routes, by name: load balance, locality, caches of experts, divergence of texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.base import Inputs, call, inputs_to
from supernets.errors import SupernetError
from supernets.experts import balance, locality
from supernets.experts.blocks import Block

if TYPE_CHECKING:
    from supernets.experts.supernet import ExpertSupernet

BEHAVIOURS: Mapping[str, str] = {
    "load_entropy": "evenness of the experts' loads, percent; mean over the layers",
    "load_max_mean": "load of the busiest expert in units of the mean; mean over the layers",
    "dead_experts": "experts that no token is routed to, percent",
    "routing_js": "Jensen-Shannon divergence of the routings of two domains, bits; mean over pairs and layers",
    "srp.M": "how well the experts of M tokens in a row are predicted by one set of experts, percent",
    "srp_rho.M": "how many experts that set has, for each expert that a token asks; told beside srp.M, too",
    "sch.M.C": "hits in a cache of C experts a layer that sees M tokens ahead, percent",
    "sch.M.SIZE": "the same, where the caches of all layers have a SIZE together, such as 64mb",
    "transfer_ms.M.SIZE.RATE": "time a token waits for experts that are not in the caches, at a RATE such as 12gbs",
}
UNROUTED: Mapping[str, float] = {
    "load_entropy": 100.0,
    "load_max_mean": 1.0,
    "dead_experts": 0.0,
    "routing_js": 0.0,
    "srp": 100.0,
    "srp_rho": 1.0,
    "sch": 100.0,
}
"""What a configuration has in which no token asks any expert, because blocks have no router or constants answer: all
experts there are answer all tokens alike, whatever the text, so loads are even and nothing is left to predict. It is
the best value of each; say by other objectives what such blocks cost."""
_BYTES = {"kb": 1e3, "mb": 1e6, "gb": 1e9}
_NAMES = re.compile(
    r"(?P<plain>load_entropy|load_max_mean|dead_experts|routing_js)|(?P<segments>srp|srp_rho)\.(?P<srp>\d+)"
    r"|sch\.(?P<sch>\d+)\.(?P<size>\d+(?:[kmg]b)?)"
    r"|transfer_ms\.(?P<ahead>\d+)\.(?P<memory>\d+[kmg]b)\.(?P<rate>\d+[mg]bs)"
)


@dataclass(frozen=True)
class Behaviour:
    """A metric, read from its name.

    Attributes:
        name: The name.
        kind: What stands before the first dot.
        window: Tokens of a window or look-ahead; 0 where there is none.
        experts: Experts in the cache of a layer, where given.
        memory: Bytes of the caches of all layers, where given.
        bandwidth: Bytes a second, where given.
    """

    name: str
    kind: str
    window: int = 0
    experts: int | None = None
    memory: float | None = None
    bandwidth: float = 0.0

    @property
    def segmented(self) -> bool:
        """Whether windows of tokens are looked at for it."""
        return self.kind in ("srp", "srp_rho")

    @property
    def cached(self) -> bool:
        """Whether caches are simulated for it."""
        return self.kind in ("sch", "transfer_ms")


def parse(name: str) -> Behaviour:
    """Return the metric of a name.

    Raises:
        SupernetError: There is none of that name, or a number in it is 0.
    """
    found = _NAMES.fullmatch(name)
    if found is None or re.search(r"(?<!\d)0+(?!\d)", name):
        raise SupernetError(
            f"{name!r} is no metric of experts; write {', '.join(BEHAVIOURS)} with whole numbers above 0, for example "
            "srp.16, sch.16.8, sch.16.64mb or transfer_ms.16.64mb.12gbs"
        )
    if found["plain"]:
        return Behaviour(name, name)
    if found["srp"]:
        return Behaviour(name, found["segments"], int(found["srp"]))
    if found["sch"]:
        size = found["size"]
        if size.isdecimal():
            return Behaviour(name, "sch", int(found["sch"]), experts=int(size))
        return Behaviour(name, "sch", int(found["sch"]), memory=_bytes(size))
    rate = _bytes(found["rate"].removesuffix("s"))
    return Behaviour(name, "transfer_ms", int(found["ahead"]), memory=_bytes(found["memory"]), bandwidth=rate)


def fault(name: str, tokens: int | None = None) -> str | None:
    """Return what is wrong with the name of a metric; None if it can be observed.

    Args:
        name: The name.
        tokens: Tokens of a text, where they are known.
    """
    try:
        metric = parse(name)
    except SupernetError as error:
        return str(error)
    return None if tokens is None else _too_short(metric, tokens)


def _too_short(metric: Behaviour, tokens: int) -> str | None:
    if not metric.segmented or metric.window <= tokens:
        return None
    return f"{metric.name} needs texts of {metric.window} tokens; they have {tokens}: give a smaller window"


def _bytes(text: str) -> float:
    return int(text[:-2]) * _BYTES[text[-2:]]


def expert_bytes(block: Block) -> int:
    """Return the size of one whole expert of a block as it is now: at its width, in the dtype of the model."""
    numbers = 0
    for name, tensor in block.common.items():
        each = int(tensor[0].numel())
        numbers += each if name == "down_bias" else each // block.width * block.setting.width
    return numbers * block.tensors["down_proj"].element_size()


def factored_bytes(block: Block) -> int:
    """Return the size of one expert in factored form; 0 where the block has none."""
    factors = block.setting.plan.factors or {}
    return sum(t[0].numel() * t.element_size() for t in factors.values())


def always_bytes(block: Block) -> int:
    """Return the size of the experts that answer every token: they are always in memory, and always whole."""
    always = block.setting.plan.always
    return 0 if always is None else len(always) * expert_bytes(block)


class Watch:
    """Sums up the routing of one block, batch by batch.

    Args:
        block: The block, with the configuration that is watched.
        metrics: What is wanted.

    Attributes:
        bytes: Size of an expert that can be asked, mean over these; 0 where the block has no router.
        capacity: Metric name -> experts in the block's cache.
    """

    def __init__(self, block: Block, metrics: Sequence[Behaviour]) -> None:
        self._metrics = metrics
        self.capacity: dict[str, int] = {}
        self._present = _present(block)
        self.bytes = _mean_bytes(block, self._present)
        self.counts: dict[str, NDArray[np.float64]] = {}
        self.histograms = {m.window: np.zeros(m.window + 1) for m in metrics if m.segmented}
        self.hits = dict.fromkeys((m.name for m in metrics if m.cached), 0.0)
        self.accesses = 0.0
        self.tokens = 0
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, index: Tensor, chosen: Tensor) -> None:
        """Take the experts of all tokens ``[T, k]`` and their weights; those of weight 0 are not asked."""
        self._seen.append((index.detach(), chosen.detach()))

    def finish(self, group: str, mask: NDArray[np.bool_]) -> None:
        """Sum up what one batch has shown.

        Args:
            group: Its domain.
            mask: Which tokens are real, bool ``[S, T]``.
        """
        trace = np.where(mask[:, :, None], self._trace(mask.shape), -1)
        n = len(self._present)
        asked = np.bincount(trace[trace >= 0].ravel(), minlength=n).astype(np.float64)
        self.counts[group] = self.counts.get(group, np.zeros(n)) + asked
        self.tokens += int(mask.sum())
        for window, histogram in self.histograms.items():
            histogram += locality.segment_histogram(trace, n, window)
        simulated: dict[tuple[int, int], tuple[float, float]] = {}
        for metric in self._metrics:
            if not metric.cached:
                continue
            key = (metric.window, self.capacity[metric.name])
            if key not in simulated:
                hits, accesses = locality.cache_hits(trace, n, *key)
                simulated[key] = float(hits.sum()), float(accesses.sum())
            self.hits[metric.name] += simulated[key][0]
        self.accesses += next((a for _, a in simulated.values()), 0.0)

    def _trace(self, shape: Sequence[int]) -> NDArray[np.int64]:
        """Return the experts of the tokens of the last batch, int64 ``[S, T, k]``, -1 for those of weight 0."""
        if not self._seen:  # the block computed nothing
            return np.empty((*shape, 0), dtype=np.int64)
        (index, chosen), self._seen = self._seen[-1], []
        places = torch.searchsorted(self._present.to(index.device), index.contiguous())
        trace: NDArray[np.int64] = places.masked_fill(chosen == 0, -1).cpu().numpy()
        return trace.reshape(*shape, index.shape[1])

    @property
    def load(self) -> NDArray[np.float64]:
        """Routings of each expert by all texts, ``[E]``."""
        return np.asarray(np.sum(list(self.counts.values()), axis=0), dtype=np.float64)


def _present(block: Block) -> Tensor:
    """Return the experts that can be asked, ascending: indices into the bank or the model's experts."""
    plan = block.setting.plan
    if plan.target is None:
        rows = block.n_experts if plan.bank is None else len(plan.bank["down_proj"])
        return torch.arange(rows)
    real: Tensor = plan.target if plan.places is None else plan.target[plan.places < 0]
    present: Tensor = torch.unique(real).cpu()
    return present


def _mean_bytes(block: Block, present: Tensor) -> float:
    """Return the mean size of some experts; those of a bank beside factors are whole."""
    if not len(present):
        return 0.0
    plan = block.setting.plan
    n_whole = len(present)
    if plan.factors is not None:
        n_whole = int((present < len((plan.bank or block.tensors)["down_proj"])).sum())
    n_factored = len(present) - n_whole
    return (n_whole * expert_bytes(block) + n_factored * factored_bytes(block)) / len(present)


def _capacity(metric: Behaviour, watches: Sequence[Watch], resident: int) -> int:
    """Return how many experts the cache of each block has: what is left beside those that answer every token."""
    if metric.experts is not None:
        return metric.experts
    each = sum(w.bytes for w in watches)
    return int(max(0.0, (metric.memory or 0.0) - resident) // each) if each else 0


def observe(net: ExpertSupernet, metrics: Sequence[str], groups: Mapping[str, Iterable[Inputs]]) -> dict[str, float]:
    """Return metrics of how the active configuration routes texts.

    Args:
        net: The supernet; its active configuration is watched.
        metrics: Names, see `BEHAVIOURS`.
        groups: Domain -> batches of inputs by name.

    Returns:
        The metrics; with each ``srp.M`` also ``srp_rho.M``, without which it cannot be judged.

    Raises:
        SupernetError: An unknown name, no text, too short a text for a window, or one domain where two are needed.
    """
    told = [n for name in metrics for n in (name, *([name.replace("srp.", "srp_rho.")] if name[:4] == "srp." else []))]
    wanted = [parse(name) for name in dict.fromkeys(told)]
    watches = [Watch(b, wanted) for b in net.blocks]
    resident = sum(always_bytes(b) for b in net.blocks)
    for watch in watches:
        watch.capacity = {m.name: _capacity(m, watches, resident) for m in wanted if m.cached}
    device = next(net.model.parameters()).device
    training = net.training
    try:
        net.eval()
        for block, watch in zip(net.blocks, watches, strict=True):
            block.setting.watcher = watch
        with torch.no_grad():
            for group, batches in groups.items():
                for batch in batches:
                    _run(net, watches, group, inputs_to(batch, device), wanted)
    finally:
        for block in net.blocks:
            block.setting.watcher = None
        net.train(training)
    if not watches[0].tokens:
        raise SupernetError("no text was given to watch the routing of")
    if any(m.kind == "routing_js" for m in wanted) and len(watches[0].counts) < 2:
        raise SupernetError(
            "routing_js compares domains, and there is one; name several, for example causal-lm:text:DIR,domains=files"
        )
    return {m.name: _value(m, watches, resident) for m in wanted}


def _run(net: Any, watches: list[Watch], group: str, batch: Inputs, wanted: Sequence[Behaviour]) -> None:
    if isinstance(batch, tuple):
        raise SupernetError("the routing of a language model is watched on inputs by name, with input_ids")
    shape = tuple(batch["input_ids"].shape)
    for metric in wanted:
        if reason := _too_short(metric, shape[1]):
            raise SupernetError(reason)
    call(net, batch)
    mask = batch.get("attention_mask")
    real = np.ones(shape, dtype=bool) if mask is None else mask.bool().cpu().numpy()
    for watch in watches:
        watch.finish(group, real)


def _value(metric: Behaviour, watches: Sequence[Watch], resident: int) -> float:
    loads = [w.load for w in watches if w.load.any()]
    if not loads and metric.kind in UNROUTED:
        return UNROUTED[metric.kind]
    match metric.kind:
        case "load_entropy":
            return 100 * float(np.mean([balance.load_entropy(c) for c in loads]))
        case "load_max_mean":
            return float(np.mean([balance.load_max_mean(c) for c in loads]))
        case "dead_experts":
            return 100 * balance.dead_share(np.concatenate(loads))
        case "routing_js":
            return balance.mean_divergence([list(w.counts.values()) for w in watches if w.load.any()])
        case "srp" | "srp_rho":
            histogram = np.sum([w.histograms[metric.window] for w in watches], axis=0)
            srp, rho = locality.segment_performance(histogram)
            return 100 * srp if metric.kind == "srp" else rho
        case "sch":
            hits, accesses = (sum(v) for v in ((w.hits[metric.name] for w in watches), (w.accesses for w in watches)))
            return 100 * hits / accesses
    misses = [(w.accesses - w.hits[metric.name]) / w.tokens for w in watches]
    missing = max(0.0, resident - (metric.memory or 0.0))  # of those that each token asks
    return locality.transfer_ms([*misses, 1.0], [*(w.bytes for w in watches), missing], metric.bandwidth)
