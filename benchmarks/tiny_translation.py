"""A plugin: a translation space and supernet so small that one network is trained in some fifteen seconds."""

from __future__ import annotations

from search_spaces import SearchSpace, get_space, register_space
from search_spaces.hat import hat_space
from supernets.hat import HatSupernet
from supernets.registry import register_supernet

NAME = "hat-tiny"


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
