"""The contract of a task: data in four splits, a loss, and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

from numpy.typing import NDArray
from torch import Tensor

from nassearch.errors import ConfigError
from nassearch.tasks.splits import SPLITS
from supernets.base import Inputs
from supernets.training import Batch, TrainingData

__all__ = ["Batch", "Direction", "Inputs", "Split", "Task", "TrainingData"]

Direction: TypeAlias = Literal["max", "min"]
Split: TypeAlias = str
"""``"train"``, ``"calibration"``, ``"search"`` or ``"report"``."""


class Task(ABC):
    """Data in four disjoint splits, a loss to train with, and metrics to search by.

    Attributes:
        name: Registered name, e.g. ``"digits"``.
        spec: The specification the task was made from.
        seed: Seed of the splits and of everything drawn once.
        metrics: Metric name -> the direction in which it is better.
        model_options: What a model must fit: arguments for building a supernet (classes, input channels).
        input_shape: Shape of one input as the task delivers it; for images channels, height, width.
        training_defaults: Settings of supernet training that suit the data, and ``batch_size``; under
            ``options``, method -> its options.
        batch_tokens: Most tokens of a training batch, where that says how large it is and not a number of items.
        fingerprint: Hash of the data, the splits and the seed; runs refuse to mix fingerprints.
        comparisons: As `metrics`, of those that compare outputs with the largest network's, see `compare`. They are
            evaluated where a goal names them.
        auto_model: transformers' class that loads a pre-trained model with the head that the task needs, e.g.
            ``"AutoModelForSequenceClassification"``; None where there is none.
    """

    name: str
    spec: str
    seed: int
    metrics: Mapping[str, Direction]
    model_options: dict[str, Any]
    input_shape: tuple[int, ...]
    training_defaults: dict[str, Any]
    fingerprint: str
    batch_tokens: int | None = None
    comparisons: Mapping[str, Direction] = MappingProxyType({})
    auto_model: ClassVar[str | None] = None

    @abstractmethod
    def size(self, split: Split) -> int:
        """Return the number of items in a split."""

    def describe_training_batches(self, batch_size: int) -> dict[str, int]:
        """Return, as JSON data, what says how large training batches are: ``batch_size`` or ``batch_tokens``."""
        return {"batch_size": batch_size} if self.batch_tokens is None else {"batch_tokens": self.batch_tokens}

    def check_batch_size(self, batch_size: int | None) -> None:
        """Refuse a number of items of a training batch that would do nothing; None is none.

        Raises:
            ConfigError: The task's batches are of a number of tokens.
        """
        if batch_size is not None and self.batch_tokens is not None:
            raise ConfigError(
                f"batch_size={batch_size} and tokens={self.batch_tokens} of task {self.spec!r} both say how large a "
                "training batch is; leave one of them out"
            )

    def identity(self) -> dict[str, Any]:
        """Return what every task tells of itself in `describe`: which data, and how many items in each split."""
        return {
            "task": self.name,
            "spec": self.spec,
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "splits": {name: self.size(name) for name in SPLITS},
        }

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what a reader of a report should know of the data, as JSON values."""

    @abstractmethod
    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """Yield a split in its fixed order, without augmentation; the last batch may be smaller."""

    @abstractmethod
    def training_data(self, batch_size: int, seed: int = 0) -> TrainingData:
        """Return the train split for one training run."""

    @abstractmethod
    def calibration_inputs(self, batch_size: int, n_images: int | None = None) -> list[Inputs]:
        """Return inputs of the first ``n_images`` of the calibration split (default: all of it)."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss, a scalar: a mean over the items, or over what `Batch.counts` says."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Return every metric of one batch of outputs."""

    @abstractmethod
    def evaluate(
        self,
        forward: Callable[[Inputs], Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return every metric of a whole split, in inference mode.

        Args:
            forward: Calls the network, which the caller has put in eval mode.
            split: Name of the split.
            batch_size: Items per call.
            adapt: Applied to inputs first, e.g. a move to a device or a supernet's ``fit_inputs``.
        """

    def compare(self, outputs: Tensor, reference: Tensor, inputs: Inputs) -> tuple[dict[str, float], int]:
        """Return the sum of each of `comparisons` over the items of a batch, and the number of items.

        Args:
            outputs: Of the network.
            reference: Of the largest network, for the same inputs.
            inputs: The inputs.
        """
        return {}, 0

    def inputs_by_domain(self, split: Split, batch_size: int) -> Mapping[str, Iterable[Inputs]]:
        """Return the inputs of a split in batches, by what they are of; one domain ``"all"`` by default."""
        return {"all": (batch.inputs for batch in self.batches(split, batch_size))}

    def evaluate_sequences(
        self,
        generate: Callable[..., Tensor],
        split: Split,
        batch_size: int = 256,
        adapt: Callable[[Inputs], Inputs] | None = None,
    ) -> dict[str, float]:
        """Return the metrics of token sequences that the network writes by itself; none by default.

        Args:
            generate: As ``Supernet.generate``: inputs, ``beam`` and ``length`` -> int64 ``[n, at most length]``.
            split: Name of the split.
            batch_size: Items per call.
            adapt: As for `evaluate`.
        """
        return {}

    @abstractmethod
    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return JSON settings and arrays from which another process makes an equal task."""

    @classmethod
    @abstractmethod
    def from_payload(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Task:
        """Make the task that `to_payload` described."""


def smoothing_facts(smoothing: float, default: float = 0.0) -> list[float]:
    """Return what a fingerprint says of label smoothing: nothing of the task's default, as when it was left out."""
    return [] if smoothing == default else [smoothing]
