"""What the open dimensions of inputs are called. Imports nothing, so that it can be asked early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def is_text(tensor: Tensor) -> bool:
    """Return whether an input is texts: whole numbers ``[texts, tokens]``."""
    return tensor.dim() == 2 and not tensor.is_floating_point()


def first_dimensions(tensors: Sequence[Tensor]) -> list[str]:
    """Return the name of the first dimension of each input: ``batch``, and ``texts`` for texts beside images.

    A model of images and texts compares each image with each text, of which there may be more or fewer.
    """
    images = any(t.dim() == 4 and t.is_floating_point() for t in tensors)
    return ["texts" if images and is_text(t) else "batch" for t in tensors]
