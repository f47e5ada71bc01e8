"""Stage of blocks with elastic depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import cast

from torch import Tensor, nn

from supernets.elastic.inverted_residual import ElasticInvertedResidual


class ElasticStage(nn.Module):
    """A sequence of blocks of which the first few run.

    Args:
        blocks: The blocks; all but the first keep the shape of their input.
    """

    def __init__(self, blocks: Iterable[ElasticInvertedResidual]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.active_depth = len(self.blocks)

    def set_active(self, depth: int) -> None:
        """Run the first ``depth`` blocks."""
        self.active_depth = depth

    def all_blocks(self) -> Iterator[ElasticInvertedResidual]:
        """Yield all blocks."""
        return cast("Iterator[ElasticInvertedResidual]", iter(self.blocks))

    def active_blocks(self) -> Iterator[ElasticInvertedResidual]:
        """Yield the blocks that run."""
        return islice(self.all_blocks(), self.active_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, in, h, w]`` to ``[n, out, ceil(h / stride), ceil(w / stride)]``."""
        for block in self.active_blocks():
            x = block(x)
        return x
