"""Text classification on tokenised texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nassearch.errors import ConfigError, DataError
from nassearch.tasks.base import Batch, Direction, Inputs, Split, Task
from nassearch.tasks.metrics import counts
from nassearch.tasks.splits import SPLITS, Splits

_SORTED_TOGETHER = 50
_TRAINING_DEFAULTS = {
    "epochs": 3,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 5e-5,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "decay": "linear",
    "clip_norm": 1.0,
}


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts, one after the other.

    Attributes:
        ids: int32 ``[all tokens]``.
        starts: int64 ``[n + 1]``: text i is ``ids[starts[i] : starts[i + 1]]``.
        padding: The token that fills up shorter texts of a batch.
        cut: How many texts were longer than allowed.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    padding: int
    cut: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, int64 ``[n]``."""
        return np.diff(self.starts)

    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """Return ``input_ids`` and ``attention_mask`` of some texts, int64 ``[rows, longest of them]``."""
        lengths = self.lengths[rows]
        places = np.arange(lengths.max())
        mask = places < lengths[:, None]
        ids = np.full(mask.shape, self.padding, dtype=np.int64)
        ids[mask] = self.ids[(self.starts[rows][:, None] + places)[mask]]
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


def tokenize(texts: list[str], folder: Path, max_length: int) -> Tokens:
    """Tokenise texts, with the special tokens that the model expects.

    Args:
        texts: The texts.
        folder: The tokenizer's.
        max_length: Most tokens of a text.

    Raises:
        DataError: There is no tokenizer in the folder, or a text has no token.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise DataError(f"tokenizer={folder} is no folder; give one that a tokenizer's save_pretrained wrote")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(f"tokenizer={folder} cannot be loaded: {error}") from None
    whole = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    cut = sum(len(ids) > max_length for ids in whole)
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"] if cut else whole
    lengths = np.array([len(x) for x in ids], dtype=np.int64)
    if not lengths.all():
        raise DataError(f"the text {texts[int(lengths.argmin())]!r} has no tokens; remove it")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    padding = 0 if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    return Tokens(np.concatenate([np.array(x, np.int32) for x in ids]), starts, padding, cut)


class TextClassification(Task):
    """Texts with one class each; batches are of texts of like length and as long as their longest one.

    Args:
        name: Registered name of the task.
        spec: The specification it was made from.
        tokens: The texts of all splits.
        labels: int64 ``[n]`` class of each text.
        splits: Split name -> numbers of texts.
        class_names: Name of each class.
        seed: Seed of the splits.
        label_smoothing: Of the training loss.
        details: More for `describe`.
    """

    auto_model = "AutoModelForSequenceClassification"

    def __init__(
        self,
        *,
        name: str,
        spec: str,
        tokens: Tokens,
        labels: NDArray[np.int64],
        splits: Splits,
        class_names: list[str],
        seed: int,
        label_smoothing: float = 0.0,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.spec, self.seed = name, spec, seed
        self.tokens, self.labels, self.class_names = tokens, labels, class_names
        lengths = tokens.lengths
        self.splits = {s: rows[np.argsort(lengths[rows], kind="stable")] for s, rows in splits.items()}
        # The calibration split is read from its start: it stays in random order.
        self.splits["calibration"] = splits["calibration"]
        self.label_smoothing = label_smoothing
        self.details = dict(details or {})
        self.metrics: Mapping[str, Direction] = {"accuracy": "max", "loss": "min"}
        self.model_options = {"num_classes": len(class_names)}
        self.input_shape = (int(lengths.max()),)
        self.training_defaults = dict(_TRAINING_DEFAULTS)
        self.fingerprint = self._hash()

    def _hash(self) -> str:
        digest = hashlib.sha256(json.dumps([self.class_names, self.seed, self.tokens.padding]).encode())
        arrays: list[NDArray[Any]] = [self.tokens.ids, self.tokens.starts, self.labels]
        for array in (*arrays, *(self.splits[name] for name in SPLITS)):
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()[:32]

    def size(self, split: Split) -> int:
        """Return the number of texts in a split."""
        return len(self._rows(split))

    def _rows(self, split: Split) -> NDArray[np.int64]:
        if split not in self.splits:
            raise ConfigError(f"unknown split {split!r}; allowed are {', '.join(SPLITS)}")
        return self.splits[split]

    def describe(self) -> dict[str, Any]:
        """Return source, sizes, classes and lengths as JSON values."""
        lengths = self.tokens.lengths
        return {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "splits": {name: len(self.splits[name]) for name in SPLITS},
            "n_classes": len(self.class_names),
            "classes": self.class_names[:1000],
            "metrics": dict(self.metrics),
            "tokens": {"mean": float(lengths.mean()), "most": int(lengths.max())},
            "label_smoothing": self.label_smoothing,
            **self.details,
        }

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """Return some texts as a batch."""
        return Batch(self.tokens.inputs(rows), torch.from_numpy(self.labels[rows]))

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split from the shortest text to the longest; the last batch may be smaller."""
        return map(self.batch, _chunks(self._rows(split), batch_size))

    def training_data(self, batch_size: int, seed: int = 0) -> TextTrainingSet:
        """Return the train split, shuffled anew in each epoch by (seed, epoch) alone."""
        return TextTrainingSet(self, batch_size, seed)

    def calibration_inputs(self, batch_size: int, n_images: int | None = None) -> list[Inputs]:
        """Return inputs of the first ``n_images`` texts of the calibration split (default and at most: all of it)."""
        return [self.tokens.inputs(rows) for rows in _chunks(self.splits["calibration"][:n_images], batch_size)]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, with label smoothing if asked for."""
        return nn.functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return accuracy (0-100) and loss of one batch."""
        return _rates(counts(outputs, targets), len(targets))

    def evaluate(
        self,
        forward: Callable[[Inputs], Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return accuracy (0-100) and loss of a whole split, see the base class."""
        total = torch.zeros(3, dtype=torch.float64)
        with torch.inference_mode():
            for batch in self.batches(split, batch_size):
                outputs = forward(batch.inputs if adapt is None else adapt(batch.inputs))
                total += counts(outputs, batch.targets).cpu()
        return _rates(total, self.size(split))

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        arrays: dict[str, NDArray[Any]] = {"ids": self.tokens.ids, "starts": self.tokens.starts, "labels": self.labels}
        arrays |= {f"split.{name}": self.splits[name] for name in SPLITS}
        settings = {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "padding": self.tokens.padding,
            "cut": self.tokens.cut,
            "class_names": self.class_names,
            "label_smoothing": self.label_smoothing,
            "details": self.details,
        }
        return settings, arrays

    @classmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TextClassification:
        """Make the task that `to_payload` described."""
        return cls(
            name=settings["task"],
            spec=settings["spec"],
            tokens=Tokens(arrays["ids"], arrays["starts"], settings["padding"], settings["cut"]),
            labels=arrays["labels"],
            splits={name: arrays[f"split.{name}"] for name in SPLITS},
            class_names=list(settings["class_names"]),
            seed=settings["seed"],
            label_smoothing=settings["label_smoothing"],
            details=settings["details"],
        )


class TextTrainingSet:
    """Shuffled batches of texts of like length; those of an epoch depend on (seed, epoch) alone.

    Args:
        task: Whose train split.
        batch_size: Texts of a batch; one of an epoch may be smaller.
        seed: Seed of the order.
    """

    def __init__(self, task: TextClassification, batch_size: int, seed: int) -> None:
        self.task, self.batch_size, self.seed = task, _at_least_one(batch_size), seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.task.size("train") // self.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, numbered from 0, in random order."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        rows = self.task.splits["train"]
        rows = rows[np.argsort(rng.random(len(rows)), kind="stable")]
        lengths = self.task.tokens.lengths
        groups = [
            rows_of_batch
            for pool in _chunks(rows, self.batch_size * _SORTED_TOGETHER)
            for rows_of_batch in _chunks(pool[np.argsort(lengths[pool], kind="stable")], self.batch_size)
        ]
        return (self.task.batch(groups[i]) for i in np.argsort(rng.random(len(groups)), kind="stable"))

    def calibration(self) -> Iterator[Inputs]:
        """Yield the inputs of the calibration split."""
        return iter(self.task.calibration_inputs(self.batch_size))

    def evaluation(self) -> Iterator[Batch]:
        """Yield the search split in random order, to watch training by; the report split is never seen here."""
        rows = self.task.splits["search"]
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0x7E57])).random(len(rows))
        return map(self.task.batch, _chunks(rows[np.argsort(order, kind="stable")], max(self.batch_size, 256)))


def _rates(total: Tensor, n: int) -> dict[str, float]:
    first, _, loss = total.tolist()
    return {"accuracy": 100.0 * first / n, "loss": loss / n}


def _chunks(rows: NDArray[np.int64], size: int) -> Iterable[NDArray[np.int64]]:
    return (rows[start : start + _at_least_one(size)] for start in range(0, len(rows), _at_least_one(size)))


def _at_least_one(batch_size: int) -> int:
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; give at least 1")
    return batch_size
