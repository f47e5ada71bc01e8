"""Text classification on tokenised texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nassearch.errors import DataError
from nassearch.tasks.base import Batch, Direction, Inputs, smoothing_facts
from nassearch.tasks.classifier import Classification, at_least_one, chunks, shared_arguments
from nassearch.tasks.like_length import random_batches
from nassearch.tasks.metrics import LabelTally
from nassearch.tasks.splits import SPLITS, Splits

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
        padding: The token that fills up shorter texts of a batch: the tokenizer's, else its end token, else 0.
        cut: How many texts were longer than allowed.
        types: int32 ``[all tokens]``: which text of a pair each token is of, where the tokenizer tells.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    padding: int
    cut: int = 0
    types: NDArray[np.int32] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, int64 ``[n]``."""
        return np.diff(self.starts)

    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """Return ``input_ids``, ``attention_mask`` and maybe ``token_type_ids``, int64 ``[rows, longest of them]``."""
        lengths = self.lengths[rows]
        places = np.arange(lengths.max())
        mask = places < lengths[:, None]
        at = (self.starts[rows][:, None] + places)[mask]
        filled = {"input_ids": (self.ids, self.padding)}
        if self.types is not None:
            filled["token_type_ids"] = (self.types, 0)
        inputs = {}
        for name, (values, padding) in filled.items():
            array = np.full(mask.shape, padding, dtype=np.int64)
            array[mask] = values[at]
            inputs[name] = torch.from_numpy(array)
        inputs["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        return inputs


def tokenize(texts: list[str], tokenizer: Any, max_length: int, pairs: list[str] | None = None) -> Tokens:
    """Tokenise texts, with the special tokens that the model expects.

    Args:
        texts: The texts.
        tokenizer: Of transformers.
        max_length: Most tokens of a text, or of a pair together.
        pairs: The second text of each pair.

    Raises:
        DataError: A text has no token.
    """
    second = [] if pairs is None else [pairs]
    whole = tokenizer(texts, *second, truncation=False, verbose=False)
    cut = sum(len(ids) > max_length for ids in whole["input_ids"])
    made = tokenizer(texts, *second, truncation=True, max_length=max_length) if cut else whole
    lengths = np.array([len(x) for x in made["input_ids"]], dtype=np.int64)
    if not lengths.all():
        raise DataError(f"the text {texts[int(lengths.argmin())]!r} has no tokens; remove it")
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    # Decoders often have no padding token; their mask hides what fills, their end is a token they know.
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    padding = next(int(token) for token in known if token is not None)
    # Of single texts all types are 0, which models assume by themselves.
    types = made.get("token_type_ids") if pairs is not None else None
    return Tokens(_joined(made["input_ids"]), starts, padding, cut, None if types is None else _joined(types))


def _joined(rows: list[list[int]]) -> NDArray[np.int32]:
    return np.concatenate([np.array(row, np.int32) for row in rows])


class TextClassification(Classification):
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
        self.tally = LabelTally
        self.metrics: Mapping[str, Direction] = {"accuracy": "max", "f1": "max", "matthews": "max", "loss": "min"}
        self.model_options = {"num_classes": len(class_names)}
        self.input_shape = (int(lengths.max()),)
        self.training_defaults = dict(_TRAINING_DEFAULTS)
        self.fingerprint = self._hash()

    def _hash(self) -> str:
        facts = [self.class_names, self.seed, self.tokens.padding, *smoothing_facts(self.label_smoothing)]
        digest = hashlib.sha256(json.dumps(facts).encode())
        arrays: list[NDArray[Any]] = [self.tokens.ids, self.tokens.starts, self.labels]
        if self.tokens.types is not None:
            arrays.append(self.tokens.types)
        for array in (*arrays, *(self.splits[name] for name in SPLITS)):
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()[:32]

    @property
    def padding(self) -> int:
        """The token that fills up shorter texts, by which decoders find the last token of a text."""
        return self.tokens.padding

    def describe(self) -> dict[str, Any]:
        """Return source, sizes, classes and lengths as JSON values."""
        lengths = self.tokens.lengths
        tokens = {"mean": float(lengths.mean()), "most": int(lengths.max())}
        return super().describe() | {"tokens": tokens, **self.details}

    def inputs(self, rows: NDArray[np.int64]) -> Inputs:
        """Return the inputs of some texts."""
        return self.tokens.inputs(rows)

    def training_data(self, batch_size: int, seed: int = 0) -> TextTrainingSet:
        """Return the train split, shuffled anew in each epoch by (seed, epoch) alone."""
        return TextTrainingSet(self, batch_size, seed)

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""
        settings, arrays = self.shared_payload()
        arrays |= {"ids": self.tokens.ids, "starts": self.tokens.starts}
        if self.tokens.types is not None:
            arrays["types"] = self.tokens.types
        return settings | {"padding": self.tokens.padding, "cut": self.tokens.cut}, arrays

    @classmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TextClassification:
        """Make the task that `to_payload` described."""
        tokens = Tokens(arrays["ids"], arrays["starts"], settings["padding"], settings["cut"], arrays.get("types"))
        return cls(**shared_arguments(settings, arrays), tokens=tokens)


class TextTrainingSet:
    """Shuffled batches of texts of like length; those of an epoch depend on (seed, epoch) alone.

    Args:
        task: Whose train split.
        batch_size: Texts of a batch; one of an epoch may be smaller.
        seed: Seed of the order.
    """

    def __init__(self, task: TextClassification, batch_size: int, seed: int) -> None:
        self.task, self.batch_size, self.seed = task, at_least_one(batch_size), seed

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.task.size("train") // self.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, numbered from 0, in random order."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        rows, lengths = self.task.splits["train"], self.task.tokens.lengths
        return map(self.task.batch, random_batches(rows, lengths, self.batch_size, rng))

    def calibration(self) -> Iterator[Inputs]:
        """Yield the inputs of the calibration split."""
        return iter(self.task.calibration_inputs(self.batch_size))

    def evaluation(self) -> Iterator[Batch]:
        """Yield the search split in random order, to watch training by; the report split is never seen here."""
        rows = self.task.splits["search"]
        order = np.random.default_rng(np.random.SeedSequence([self.seed, 0x7E57])).random(len(rows))
        return map(self.task.batch, chunks(rows[np.argsort(order, kind="stable")], max(self.batch_size, 256)))
