"""Where the active part of a tensor lies in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Window(NamedTuple):
    """The geometry of a view, by which a gradient is written straight into zeros of the whole.

    Autograd's own slices do that one dimension after the other, with a copy each.
    """

    size: torch.Size
    stride: tuple[int, ...]
    offset: int
    whole: torch.Size

    @classmethod
    def of(cls, part: Tensor, whole: Tensor) -> Window | None:
        """Return where a part lies; None where it is no view of a contiguous tensor."""
        same = part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        if not same or not whole.is_contiguous():
            return None
        return cls(part.size(), part.stride(), int(part.storage_offset() - whole.storage_offset()), whole.size())

    def view(self, whole: Tensor) -> Tensor:
        """Return the part of a contiguous tensor of the whole's size."""
        return whole.as_strided(self.size, self.stride, whole.storage_offset() + self.offset)

    def padded(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros of the whole's size, in dtype and on the device of a tensor, and the view to write to."""
        covers = self.size.numel() == self.whole.numel()
        whole = like.new_empty(self.whole) if covers else like.new_zeros(self.whole)
        return whole, self.view(whole)
