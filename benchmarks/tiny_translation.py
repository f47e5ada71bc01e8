"""A plugin: a translation space and supernet so small that one network is trained in some fifteen seconds.

And a task whose pairs and vocabulary do not depend on the run's seed, so that supernets of several seeds, which differ
in first weights, order of the data and sampled subnets, are of the same data; and the sandwich without its ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nassearch.tasks.options import TaskRequest
from nassearch.tasks.registry import list_tasks, register_task
from search_spaces import SearchSpace, get_space, register_space
from search_spaces.hat import hat_space
from supernets.hat import HatSupernet
from supernets.registry import register_supernet
from supernets.training.methods import register_method
from supernets.training.sampling import sample_subnets
from supernets.training.sandwich import Sandwich

if TYPE_CHECKING:
    from nassearch.tasks import Task

NAME = "hat-tiny"
SAME_PAIRS, RANDOM = "same-pairs-translation", "random-subnets"
_TRANSLATION = next(task for task in list_tasks() if task.name == "translation")


@register_space(NAME)
def hat_tiny() -> SearchSpace:
    """A tiny translation space: width 32/64, hidden width 48-192, 2 or 4 heads, 2 encoder and 1-3 decoder layers."""
    return hat_space(
        NAME,
        embeds=(64, 32),
        ffns=(192, 96, 48),
        heads=(4, 2),
        encoder_layers=(2,),
        decoder_layers=(3, 2, 1),
        cross=(-1, 1),
    )


@register_supernet(NAME)
def supernet(*, vocab_size: int = 1000, dropout: float = 0.0, max_length: int = 128) -> HatSupernet:
    """Widths 64, 192, 4 heads, 2 + 3 layers, one vocabulary of both languages.

    Args:
        vocab_size: Tokens.
        dropout: Probability at the largest width, in train mode.
        max_length: Most tokens of a sentence.
    """
    return HatSupernet(
        space=get_space(NAME), vocab_size=vocab_size, inner=64, dropout=dropout, max_length=max_length, length=16
    )


@register_task(
    SAME_PAIRS,
    usage=_TRANSLATION.usage.replace("translation", SAME_PAIRS, 1),
    options=_TRANSLATION.options,
    restore=_TRANSLATION.restore,
)
def same_pairs(request: TaskRequest) -> Task:
    """Translation whose pairs, splits and vocabulary are those of seed 0, whatever the run's seed."""
    return _TRANSLATION.build(replace(request, seed=0))


@register_method(RANDOM)
class RandomSubnets(Sandwich):
    """As the sandwich, but of random subnets alone: the largest and the smallest are met as often as any other."""

    def subnets(self, step: int) -> list[dict[str, Any]]:
        """Return the random ones."""
        return sample_subnets(self.space, self.random_subnets, self.seed, step)
