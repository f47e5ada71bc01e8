"""Language modelling on blocks of tokens."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nassearch.tasks.base import Batch, Direction, Inputs, Split, Task
from nassearch.tasks.classifier import at_least_one, chunks
from nassearch.tasks.splits import SPLITS, part_of

IGNORED = -100
"""The target of a token that has none: the last of a block."""

_MOST_LOGITS = 2**26  # of a forward pass of `evaluate`: 256 MB in float32
_TRAINING_DEFAULTS = {
    "epochs": 1,
    "batch_size": 8,
    "optimizer": "adamw",
    "lr": 5e-5,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "decay": "linear",
    "clip_norm": 1.0,
}


class LanguageModelling(Task):
    """Each token of a block predicts the next one.

    Targets are the inputs moved by one, so that outputs and targets of a place belong together; the last is ignored.

    Args:
        name: Registered name of the task.
        spec: The specification it was made from.
        blocks: Split name -> int32 ``[blocks, tokens]``.
        bytes_per_token: Split name -> mean UTF-8 bytes of a token of its text.
        vocabulary: Number of tokens that the tokenizer has.
        seed: Not used for the splits, which are contiguous; a part of the fingerprint.
        details: More for `describe`.
        domains: Names of the domains that the texts are of; none where they are not told apart.
        members: Split name -> int16 ``[blocks]``, the number of each block's domain.
    """

    auto_model = "AutoModelForCausalLM"

    def __init__(
        self,
        *,
        name: str,
        spec: str,
        blocks: Mapping[str, NDArray[np.int32]],
        bytes_per_token: Mapping[str, float],
        vocabulary: int,
        seed: int,
        details: Mapping[str, Any] | None = None,
        domains: Sequence[str] = (),
        members: Mapping[str, NDArray[np.int16]] | None = None,
    ) -> None:
        self.domains, self.members = list(domains), dict(members or {})
        self.name, self.spec, self.seed = name, spec, seed
        self.blocks = {split: np.ascontiguousarray(blocks[split], dtype=np.int32) for split in SPLITS}
        self.bytes_per_token = dict(bytes_per_token)
        self.vocabulary = vocabulary
        self.details = dict(details or {})
        self.metrics: Mapping[str, Direction] = {"nll": "min", "perplexity": "min", "bits_per_byte": "min"}
        self.metrics = {**self.metrics, **{f"nll.{name}": "min" for name in self.domains}}
        self.comparisons: Mapping[str, Direction] = {"esap": "max", "kl": "min"}
        self.input_shape = (int(self.blocks["train"].shape[1]),)
        # The model needs a score for each token of the data.
        self.model_options = {"vocab_size": 1 + max(int(b.max()) for b in self.blocks.values())}
        self.training_defaults = dict(_TRAINING_DEFAULTS)
        digest = hashlib.sha256(json.dumps([self.seed, self.bytes_per_token], sort_keys=True).encode())
        for array in self.blocks.values():
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        if self.domains:
            digest.update(json.dumps(self.domains).encode())
            for split in SPLITS:
                digest.update(np.ascontiguousarray(self.members[split], dtype=np.int16).tobytes())
        self.fingerprint = digest.hexdigest()[:32]

    def _of(self, split: Split) -> NDArray[np.int32]:
        return part_of(self.blocks, split)

    def size(self, split: Split) -> int:
        """Return the number of blocks in a split."""
        return len(self._of(split))

    def describe(self) -> dict[str, Any]:
        """Return source, sizes and lengths as JSON values."""
        return {
            **self.identity(),
            "tokens": {name: int(self.blocks[name].size) for name in SPLITS},
            "block": self.input_shape[0],
            "metrics": dict(self.metrics),
            "vocabulary": self.vocabulary,
            "bytes_per_token": self.bytes_per_token,
            **({"domains": self.domains} if self.domains else {}),
            **self.details,
        }

    def batch(self, blocks: NDArray[np.int32]) -> Batch:
        """Return some blocks as a batch: int64 ``[blocks, tokens]`` inputs and targets."""
        ids = torch.from_numpy(blocks.astype(np.int64))
        targets = torch.full_like(ids, IGNORED)
        targets[:, :-1] = ids[:, 1:]
        counts = torch.full((len(ids),), ids.shape[1] - 1)
        return Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, targets, counts=counts)

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split in the order of the text; the last batch may be smaller."""
        return map(self.batch, chunks(self._of(split), batch_size))

    def training_data(self, batch_size: int, seed: int = 0) -> BlockTrainingSet:
        """Return the train split, shuffled anew in each epoch by (seed, epoch) alone."""
        return BlockTrainingSet(self, batch_size, seed)

    def calibration_inputs(self, batch_size: int, n_images: int | None = None) -> list[Inputs]:
        """Return inputs of the first ``n_images`` blocks of the calibration split (default and at most: all of it)."""
        return [self.batch(rows).inputs for rows in chunks(self.blocks["calibration"][:n_images], batch_size)]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over all tokens with a target, in nats.

        Args:
            outputs: Logits ``[blocks, tokens, vocabulary]``.
            targets: int64 ``[blocks, tokens]``; negative ones do not count.
        """
        return nn.functional.cross_entropy(outputs.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED)

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return every metric of one batch; bits per byte as in the report split."""
        return self._told(*_summed(outputs, targets), "report")

    def evaluate(
        self,
        forward: Callable[[Inputs], Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return nll (nats a token), perplexity and bits_per_byte of a whole split, see the base class.

        Fewer blocks than ``batch_size`` are taken at once where their logits would need more than 256 MB. With domains,
        ``nll.NAME`` of each, which go one after the other.
        """
        sums: dict[str, tuple[float, int]] = {}
        with torch.inference_mode():
            for name in self.domains or ["all"]:
                total, count = 0.0, 0
                for batch in self._of_domain(split, name, batch_size):
                    outputs = forward(batch.inputs if adapt is None else adapt(batch.inputs))
                    value, n = _summed(outputs, batch.targets)
                    total, count = total + value, count + n
                sums[name] = total, count
        each = {f"nll.{name}": sums[name][0] / sums[name][1] for name in self.domains}
        return self._told(sum(t for t, _ in sums.values()), sum(n for _, n in sums.values()), split) | each

    def _told(self, total: float, count: int, split: Split) -> dict[str, float]:
        nll = total / count
        perplexity = math.exp(nll) if nll < 700 else (nll if math.isnan(nll) else math.inf)
        bits = nll / math.log(2) / self.bytes_per_token[split]
        return {"nll": nll, "perplexity": perplexity, "bits_per_byte": bits}

    def _of_domain(self, split: Split, name: str, batch_size: int) -> Iterator[Batch]:
        """Yield the blocks of a domain in batches whose logits need at most 256 MB; all blocks where there is none."""
        blocks = self._of(split)
        if self.domains:
            blocks = blocks[self.members[split] == self.domains.index(name)]
        most = max(1, _MOST_LOGITS // (self.input_shape[0] * self.vocabulary))
        return map(self.batch, chunks(blocks, min(at_least_one(batch_size), most)))

    def inputs_by_domain(self, split: Split, batch_size: int) -> Mapping[str, Iterable[Inputs]]:
        """Return the inputs of a split in batches, by domain."""
        return {name: (b.inputs for b in self._of_domain(split, name, batch_size)) for name in self.domains or ["all"]}

    def compare(self, outputs: Tensor, reference: Tensor, inputs: Inputs) -> tuple[dict[str, float], int]:
        """Return the sums over tokens of esap (percent) and kl (nats), see `supernets.experts`, and how many tokens."""
        from supernets.experts.fidelity import fidelity_sums

        return fidelity_sums(reference, outputs, inputs.get("attention_mask") if isinstance(inputs, Mapping) else None)

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        settings = {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "bytes_per_token": self.bytes_per_token,
            "vocabulary": self.vocabulary,
            "details": self.details,
            "domains": self.domains,
        }
        arrays: dict[str, NDArray[Any]] = {f"split.{name}": self.blocks[name] for name in SPLITS}
        return settings, arrays | {f"domain.{split}": array for split, array in self.members.items()}

    @classmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> LanguageModelling:
        """Make the task that `to_payload` described."""
        given = {key: settings[key] for key in ("spec", "seed", "bytes_per_token", "vocabulary", "details")}
        given["domains"] = settings.get("domains", [])
        members = {name: arrays[f"domain.{name}"] for name in SPLITS if f"domain.{name}" in arrays}
        blocks = {name: arrays[f"split.{name}"] for name in SPLITS}
        return cls(name=settings["task"], blocks=blocks, members=members, **given)


class BlockTrainingSet:
    """Shuffled batches of blocks; those of an epoch depend on (seed, epoch) alone.

    Args:
        task: Whose train split.
        batch_size: Blocks of a batch; the last of an epoch may be smaller.
        seed: Seed of the order.
    """

    def __init__(self, task: LanguageModelling, batch_size: int, seed: int) -> None:
        self.task, self.batch_size, self.seed = task, at_least_one(batch_size), seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.task.size("train") // self.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, numbered from 0."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        order = np.argsort(rng.random(self.task.size("train")), kind="stable")
        return (self.task.batch(self.task.blocks["train"][rows]) for rows in chunks(order, self.batch_size))

    def calibration(self) -> Iterator[Inputs]:
        """Yield the inputs of the calibration split."""
        return iter(self.task.calibration_inputs(self.batch_size))

    def evaluation(self) -> Iterator[Batch]:
        """Yield the search split, to watch training by; the report split is never seen here."""
        return self.task.batches("search", self.batch_size)


def _summed(outputs: Tensor, targets: Tensor) -> tuple[float, int]:
    """Return the summed negative log-likelihood in nats, and the number of tokens with a target."""
    outputs = outputs.detach()
    targets = targets.to(outputs.device)
    counted = targets >= 0
    # float32 logits, float64 sums: float64 logits of a large vocabulary need too much memory.
    values = nn.functional.cross_entropy(outputs[counted].float(), targets[counted], reduction="none")
    return float(values.cpu().double().sum()), int(counted.sum())
