"""What one network answers to fixed batches, to which the answers of others are compared."""

from __future__ import annotations

from torch import Tensor


class KeptOutputs:
    """Outputs in the order of their batches, kept while they are small enough together; of more, none.

    Args:
        room: Memory for them, in bytes.

    Attributes:
        size: Bytes of all outputs seen.
    """

    def __init__(self, room: float) -> None:
        self._room = room
        self._outputs: list[Tensor] = []
        self.size = 0.0

    @property
    def fit(self) -> bool:
        """Whether all outputs seen are kept."""
        return self.size <= self._room

    def add(self, output: Tensor) -> None:
        """See the output for the next batch; it is copied where it is kept."""
        self.size += output.numel() * output.element_size()
        if self.fit:
            self._outputs.append(output.detach().clone())
        else:
            self._outputs.clear()

    def get(self, batch: int) -> Tensor | None:
        """Return the output for a batch; None where they are too many to keep."""
        return self._outputs[batch] if self.fit else None
