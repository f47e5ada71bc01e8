"""Translation of sentences: tokens, batches, losses and BLEU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nassearch.errors import DataError
from nassearch.tasks.base import Batch, Direction, Inputs, Split, Task, smoothing_facts
from nassearch.tasks.classifier import at_least_one, chunks
from nassearch.tasks.like_length import random_batches, token_batches
from nassearch.tasks.splits import SPLITS, Splits, part_of
from nassearch.tasks.subwords import END, PADDING, processor

IGNORED = -100
SMOOTHING = 0.1  # by default
_LONGER = 10
_MOST_LOGITS = 64 * 2**20  # of an evaluated batch: 256 MB of float32
_TRAINING_DEFAULTS = {
    "epochs": 10,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "warmup": 0.1,
    "decay": "cosine",
    "clip_norm": 1.0,
}


class Translation(Task):
    """Pairs of sentences; batches are of pairs of like length and as long as their longest.

    Inputs are ``input_ids``, ``attention_mask`` and ``decoder_input_ids``; targets are the target's tokens, ``-100``
    where it is padded. Metrics are ``bleu`` (sacreBLEU of a beam search, 0-100), ``nll`` (nats per token, the end
    included) and ``loss`` (the same with label smoothing).

    Args:
        name: Registered name of the task.
        spec: The specification it was made from.
        arrays: ``model``, and of ``source`` and ``target`` ids and ``…_starts``, as `subwords.tokenised` returns them.
        references: The target's sentences of search and report, as UTF-8 text, one a line; uint8.
        splits: Split name -> numbers of pairs.
        seed: Seed of the splits.
        max_length: Most tokens of a sentence, its end included; longer ones are cut.
        label_smoothing: Of the training loss.
        beam: Hypotheses of the search that BLEU is of.
        bleu: ``"all"`` for BLEU on every split, ``"report"`` on the report split alone, ``"none"``.
        tokens: Most tokens of a training batch, on the longer side, padding included, instead of a number of pairs.
        details: More for `describe`.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: str,
        arrays: Mapping[str, NDArray[Any]],
        references: NDArray[np.uint8],
        splits: Splits,
        seed: int,
        max_length: int,
        label_smoothing: float,
        beam: int,
        bleu: str,
        tokens: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.spec, self.seed = name, spec, seed
        self.arrays, self.references, self.max_length = dict(arrays), references, max_length
        self.processor = processor(self.arrays["model"].tobytes())
        self._lengths = {
            side: np.minimum(np.diff(self.arrays[f"{side}_starts"]), max_length) for side in ("source", "target")
        }
        order = self._lengths["target"] * (max_length + 1) + self._lengths["source"]
        self.splits = {s: rows[np.argsort(order[rows], kind="stable")] for s, rows in splits.items()}
        self.splits["calibration"] = splits["calibration"]  # read from its start: it stays in random order
        self._order = order
        self.label_smoothing, self.beam, self.bleu, self.batch_tokens = label_smoothing, beam, bleu, tokens
        self.details = dict(details or {})
        losses: dict[str, Direction] = {"nll": "min", "loss": "min"}
        self.metrics: Mapping[str, Direction] = {"bleu": "max", **losses} if bleu == "all" else losses
        vocabulary = int(self.processor.get_piece_size())
        told = hashlib.sha256(self.arrays["model"].tobytes()).hexdigest()[:16]
        self.model_options = {"vocab_size": vocabulary, "num_classes": vocabulary, "vocabulary": told}
        self.input_shape = (max(int(n.max()) for n in self._lengths.values()),)
        self.training_defaults = dict(_TRAINING_DEFAULTS)
        self.fingerprint = self._hash()

    def _hash(self) -> str:
        settings: list[Any] = [self.seed, self.max_length, self.beam]
        settings += [] if self.batch_tokens is None else ["tokens", self.batch_tokens]
        digest = hashlib.sha256(json.dumps(settings + smoothing_facts(self.label_smoothing, SMOOTHING)).encode())
        arrays = [*(self.arrays[n] for n in sorted(self.arrays)), *(self.splits[n] for n in SPLITS), self.references]
        for array in arrays:
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()[:32]

    def size(self, split: Split) -> int:
        """Return the number of pairs in a split."""
        return len(self._rows(split))

    def _rows(self, split: Split) -> NDArray[np.int64]:
        return part_of(self.splits, split)

    def describe(self) -> dict[str, Any]:
        """Return source, sizes, vocabulary and lengths as JSON values."""
        return {
            **self.identity(),
            "vocab_size": self.model_options["vocab_size"],
            "metrics": dict(self.metrics),
            "tokens": {side: float(n.mean()) for side, n in self._lengths.items()},
            "beam": self.beam,
            "label_smoothing": self.label_smoothing,
            **({} if self.batch_tokens is None else {"batch_tokens": self.batch_tokens}),
            **self.details,
        }

    def _padded(self, side: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return tokens and where they are, ``[rows, longest of them]``; what is cut still ends in the end."""
        ids, starts, lengths = self.arrays[side], self.arrays[f"{side}_starts"], self._lengths[side][rows]
        places = np.arange(lengths.max())
        mask = places < lengths[:, None]
        out = np.full(mask.shape, PADDING, dtype=np.int64)
        out[mask] = ids[(starts[rows][:, None] + places)[mask]]
        out[np.arange(len(rows)), lengths - 1] = END
        return out, mask

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return some pairs as a batch; targets begin after the end token, as in fairseq."""
        source, seen = self._padded("source", rows)
        target, counted = self._padded("target", rows)
        prefix = np.concatenate([np.full((len(rows), 1), END), target[:, :-1]], axis=1)
        # What follows the end of a shorter target is padding, its end included: it predicts nothing.
        prefix[~counted] = PADDING
        inputs = {"input_ids": source, "attention_mask": seen.astype(np.int64), "decoder_input_ids": prefix}
        targets = np.where(counted, target, IGNORED)
        given = {name: torch.from_numpy(x) for name, x in inputs.items()}
        return Batch(given, torch.from_numpy(targets), counts=torch.from_numpy(counted.sum(1)))

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split from the shortest pair to the longest; the last batch may be smaller."""
        return map(self.batch, chunks(self._rows(split), batch_size))

    def training_data(self, batch_size: int, seed: int = 0) -> TranslationTrainingSet:
        """Return the train split, shuffled anew in each epoch by (seed, epoch) alone."""
        return TranslationTrainingSet(self, batch_size, seed)

    def calibration_inputs(self, batch_size: int, n_images: int | None = None) -> list[Inputs]:
        """Return inputs of the first ``n_images`` pairs of the calibration split (default and at most: all of it)."""
        return [self.batch(rows).inputs for rows in chunks(self.splits["calibration"][:n_images], batch_size)]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of all tokens of a batch, with label smoothing."""
        return nn.functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=self.label_smoothing
        )

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return ``nll`` and ``loss`` of one batch."""
        return self._rates(_sums(outputs, targets))

    def _rates(self, sums: Tensor) -> dict[str, float]:
        nll, uniform, count = sums.tolist()
        smooth = self.label_smoothing
        return {"nll": nll / count, "loss": ((1 - smooth) * nll + smooth * uniform) / count}

    def evaluate(
        self,
        forward: Callable[[Inputs], Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return ``nll`` and ``loss`` per token of a whole split, see the base class; BLEU is of written sequences."""
        total = torch.zeros(3, dtype=torch.float64)
        with torch.inference_mode():
            for batch in map(self.batch, self._cut(split, batch_size)):
                outputs = forward(batch.inputs if adapt is None else adapt(batch.inputs))
                total += _sums(outputs, batch.targets.to(outputs.device)).cpu()
        return self._rates(total)

    def _cut(self, split: Split, batch_size: int) -> Iterator[NDArray[np.int64]]:
        """Cut a split's pairs so that a batch has at most `_MOST_LOGITS`, which the pairs alone do not say."""
        for rows in chunks(self._rows(split), batch_size):
            logits = int(self._lengths["target"][rows].max()) * self.model_options["num_classes"]
            yield from chunks(rows, max(1, _MOST_LOGITS // logits))

    def evaluate_sequences(
        self,
        generate: Callable[..., Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return ``bleu``, sacreBLEU's of a beam search on a whole split, where it is asked for on this split."""
        if self.bleu == "none" or split not in (("search", "report") if self.bleu == "all" else ("report",)):
            return {}
        return {"bleu": corpus_bleu(self.translate(generate, split, batch_size, adapt), self.reference(split))}

    def translate(
        self,
        generate: Callable[..., Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> list[str]:
        """Return the translations that a network writes of a split, as text, in the split's order."""
        written: list[str] = []
        with torch.inference_mode():
            for rows in chunks(self._rows(split), max(1, batch_size // self.beam)):
                inputs = self.batch(rows).inputs
                inputs = inputs if adapt is None else adapt(inputs)
                # As in HAT's evaluation: a bit longer than the source. A net that never ends must not take forever.
                length = min(int(self._lengths["source"][rows].max()) * 3 // 2 + _LONGER, self.max_length)
                for ids in generate(inputs, beam=self.beam, length=length).tolist():
                    ends = ids.index(END) if END in ids else len(ids)
                    written.append(self.processor.decode([i for i in ids[:ends] if i != PADDING]))
        return written

    def reference(self, split: Split) -> list[str]:
        """Return the translations that the data have of search or report, in the split's order."""
        lines = self.references.tobytes().decode("utf-8").split("\n")
        numbers = np.sort(np.concatenate([self.splits["search"], self.splits["report"]]))
        places = np.searchsorted(numbers, self._rows(split))
        return [lines[i] for i in places]

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        arrays = {f"tokens.{name}": array for name, array in self.arrays.items()}
        arrays |= {f"split.{name}": self.splits[name] for name in SPLITS}
        settings = {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "max_length": self.max_length,
            "label_smoothing": self.label_smoothing,
            "beam": self.beam,
            "bleu": self.bleu,
            "tokens": self.batch_tokens,
            "details": self.details,
        }
        return settings, arrays | {"references": self.references}

    @classmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Translation:
        """Make the task that `to_payload` described."""
        rest = {name: value for name, value in settings.items() if name != "task"}
        return cls(
            name=settings["task"],
            arrays={n.removeprefix("tokens."): a for n, a in arrays.items() if n.startswith("tokens.")},
            references=arrays["references"],
            splits={name: arrays[f"split.{name}"] for name in SPLITS},
            **rest,
        )


class TranslationTrainingSet:
    """Shuffled batches of pairs of like length; those of an epoch depend on (seed, epoch) alone.

    Batches of a number of tokens are made once, and epochs differ in their order, so that all have as many.

    Args:
        task: Whose train split.
        batch_size: Pairs of a batch; one of an epoch may be smaller.
        seed: Seed of the order.
    """

    def __init__(self, task: Translation, batch_size: int, seed: int) -> None:
        self.task, self.batch_size, self.seed = task, at_least_one(batch_size), seed
        self._made: list[NDArray[np.int64]] | None = None
        if task.batch_tokens is not None:
            longer = np.maximum(task._lengths["source"], task._lengths["target"])
            rng = np.random.default_rng(np.random.SeedSequence([seed, 0x70C5]))
            self._made = token_batches(task.splits["train"], longer, task._order, task.batch_tokens, rng)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.task.size("train") // self.batch_size) if self._made is None else len(self._made)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, numbered from 0, in random order."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        if self._made is not None:
            return (self.task.batch(self._made[i]) for i in rng.permutation(len(self._made)))
        rows, order = self.task.splits["train"], self.task._order
        return map(self.task.batch, random_batches(rows, order, self.batch_size, rng))

    def calibration(self) -> Iterator[Inputs]:
        """Yield the inputs of the calibration split."""
        return iter(self.task.calibration_inputs(self.batch_size))

    def evaluation(self) -> Iterator[Batch]:
        """Yield the search split in random order, to watch training by; the report split is never seen here."""
        rows = self.task.splits["search"]
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0x7E57])).random(len(rows))
        return map(self.task.batch, chunks(rows[np.argsort(order, kind="stable")], max(self.batch_size, 256)))


def corpus_bleu(written: list[str], references: list[str]) -> float:
    """Return sacreBLEU's BLEU, 0-100, with its own tokenisation (13a).

    Raises:
        DataError: The package is not installed.
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise DataError("BLEU needs the package 'sacrebleu'; install it with 'pip install sacrebleu'") from error
    return float(sacrebleu.corpus_bleu(written, [references]).score)


def _sums(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return float64 ``[3]``: summed negative log-likelihood, its mean over the vocabulary, number of tokens."""
    counted = targets != IGNORED
    chances = torch.log_softmax(outputs[counted].float(), dim=-1)
    own = chances.gather(1, targets[counted][:, None])
    count = torch.tensor(float(counted.sum()), dtype=torch.float64)
    return torch.stack([-own.double().sum().cpu(), -chances.mean(1).double().sum().cpu(), count])
