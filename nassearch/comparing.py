"""The outputs of the largest network, to which those of others are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nassearch.tasks import Task
    from supernets.base import Inputs
    from supernets.kept_outputs import KeptOutputs

_KEPT_BYTES = 512e6  # of a split's outputs; of more, the largest network runs again


class References:
    """What the largest network answers on each split, kept where it is small enough.

    Args:
        task: Compares.
        kept_bytes: Memory for the outputs of all splits together.
    """

    def __init__(self, task: Task, kept_bytes: float = _KEPT_BYTES) -> None:
        self._task, self._left = task, kept_bytes
        self._outputs: dict[str, KeptOutputs] = {}

    def knows(self, split: str) -> bool:
        """Return whether `record` was called for a split."""
        return split in self._outputs

    def record(self, split: str, run: Callable[[Callable[[Inputs, Tensor], None]], object]) -> None:
        """Keep what the largest network answers.

        Args:
            split: Name of the split.
            run: Evaluates it on the split and calls its argument with the inputs and outputs of each batch.
        """
        from supernets.kept_outputs import KeptOutputs

        outputs = KeptOutputs(self._left)
        run(lambda _, output: outputs.add(output))
        self._outputs[split] = outputs
        self._left -= outputs.size if outputs.fit else 0.0

    def comparison(self, split: str, largest: Callable[[Inputs], Tensor]) -> Comparison:
        """Return a comparison with what was recorded of a split.

        Args:
            split: Name of the split.
            largest: Runs the largest network, where its outputs were too many to keep.
        """
        return Comparison(self._task, self._outputs[split], largest)


class Comparison:
    """Sums up how a network differs from the largest one, batch by batch in the order of the recording.

    Args:
        task: Compares.
        outputs: Of the largest network.
        largest: Runs it, where its outputs are not kept.
    """

    def __init__(self, task: Task, outputs: KeptOutputs, largest: Callable[[Inputs], Tensor]) -> None:
        self._task, self._outputs, self._largest = task, outputs, largest
        self._sums: dict[str, float] = {}
        self._items = self._batches = 0

    def see(self, inputs: Inputs, output: Tensor) -> None:
        """Compare one batch."""
        kept = self._outputs.get(self._batches)
        reference = self._largest(inputs) if kept is None else kept
        sums, items = self._task.compare(output, reference, inputs)
        self._sums = {m: self._sums.get(m, 0.0) + v for m, v in sums.items()}
        self._items, self._batches = self._items + items, self._batches + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each metric over all items seen."""
        return {m: total / self._items for m, total in self._sums.items()}
