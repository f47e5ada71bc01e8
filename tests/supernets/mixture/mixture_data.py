"""Data and a loss for tiny supernets with mixtures: images, or pairs of sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from supernets import Inputs
from supernets.training import Batch, logits_of

SIZES = {"mobilenetv3-tiny": (1, 16), "timm_vit": (3, 8)}


class Data:
    """24 items in batches of 8; those of an epoch depend on its number alone."""

    steps_per_epoch = 3

    def items(self, part: Tensor) -> Batch:
        """Return some items."""
        raise NotImplementedError

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield an epoch."""
        for part in torch.randperm(24, generator=torch.Generator().manual_seed(epoch)).split(8):
            yield self.items(part)

    def calibration(self) -> Iterable[Inputs]:
        """Return the inputs of half of the items."""
        return [self.items(torch.arange(12)).inputs]

    def evaluation(self) -> Iterable[Batch]:
        """Return all items."""
        return [self.items(torch.arange(24))]


class Images(Data):
    """Random images whose class shifts their brightness."""

    def __init__(self, name: str) -> None:
        channels, size = SIZES[name]
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.arange(24) % 5
        self.images = torch.randn(24, channels, size, size, generator=generator) + self.targets.view(-1, 1, 1, 1)

    def items(self, part: Tensor) -> Batch:
        """Return some images."""
        return Batch((self.images[part],), self.targets[part])


class Sentences(Data):
    """Random sentences of unequal length, to be written backwards."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.lengths = torch.randint(2, 7, (24,), generator=generator)
        self.ids = torch.randint(4, 40, (24, 6), generator=generator)

    def items(self, part: Tensor) -> Batch:
        """Return some pairs."""
        there = torch.arange(6) < self.lengths[part, None]
        ids, back = self.ids[part], self.ids[part].flip(1)
        prefix = torch.cat([torch.full((len(part), 1), 2), back[:, :-1]], 1)
        inputs = {"input_ids": ids, "attention_mask": there.long(), "decoder_input_ids": prefix}
        return Batch(inputs, torch.where(there, back, -100), counts=there.sum(1))


def data_for(name: str) -> Any:
    """Return the data of one of the nets of `mixture_nets`."""
    return Sentences() if name == "hat" else Images(name)


def loss(outputs: Any, targets: Tensor) -> Tensor:
    """Return the cross-entropy of classes or of tokens with a target."""
    logits = logits_of(outputs)
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
