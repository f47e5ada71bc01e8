"""The named sizes of the translation family."""

from __future__ import annotations

from os import PathLike

from search_spaces import get_space
from supernets.hat.checkpoint import load_hat_checkpoint
from supernets.hat.supernet import HatSupernet
from supernets.registry import register_supernet

_BEAM = 5


@register_supernet("hat-wmt")
def hat_wmt(
    *,
    vocab_size: int = 32768,
    dropout: float = 0.3,
    attention_dropout: float = 0.1,
    activation_dropout: float = 0.0,
    length: int = 30,
    beam: int = _BEAM,
    vocabulary: str | None = None,
    checkpoint: str | PathLike[str] | None = None,
) -> HatSupernet:
    """HAT's supernet of WMT: widths 640, 3072, 8 heads, 6 + 6 layers, one vocabulary of both languages.

    Args:
        vocab_size: Tokens.
        dropout: Probability at the largest width, in train mode.
        attention_dropout: Probability for the weights of attention.
        activation_dropout: Probability at the largest width for hidden activations.
        length: Tokens of source and target that costs and latencies are of.
        beam: Hypotheses of the beam search that is timed.
        vocabulary: What tells the vocabulary from others of its size, where that is known.
        checkpoint: A published HAT ``.pt`` file to take the weights from.
    """
    net = HatSupernet(
        space=get_space("hat-wmt"),
        vocab_size=vocab_size,
        inner=512,
        dropout=dropout,
        attention_dropout=attention_dropout,
        activation_dropout=activation_dropout,
        length=length,
        beam=beam,
        vocabulary=vocabulary,
    )
    if checkpoint is not None:
        load_hat_checkpoint(net, checkpoint)
    return net


@register_supernet("hat-iwslt")
def hat_iwslt(
    *,
    vocab_size: int = 6632,
    source_vocab_size: int | None = None,
    dropout: float = 0.375,
    attention_dropout: float = 0.0,
    activation_dropout: float = 0.0,
    length: int = 23,
    beam: int = _BEAM,
    vocabulary: str | None = None,
    checkpoint: str | PathLike[str] | None = None,
) -> HatSupernet:
    """HAT's supernet of IWSLT: widths 640, 2048, 4 heads, 6 + 6 layers.

    Args:
        vocab_size: Tokens of the target, and of the source where the next is not given.
        source_vocab_size: Tokens of the source, where it has a vocabulary of its own, as HAT's (8,848) has.
        dropout: Probability at the largest width, in train mode.
        attention_dropout: Probability for the weights of attention.
        activation_dropout: Probability at the largest width for hidden activations.
        length: Tokens of source and target that costs and latencies are of.
        beam: Hypotheses of the beam search that is timed.
        vocabulary: What tells the vocabulary from others of its size, where that is known.
        checkpoint: A published HAT ``.pt`` file to take the weights from.
    """
    net = HatSupernet(
        space=get_space("hat-iwslt"),
        vocab_size=vocab_size,
        source_vocab_size=source_vocab_size,
        inner=512,
        dropout=dropout,
        attention_dropout=attention_dropout,
        activation_dropout=activation_dropout,
        length=length,
        beam=beam,
        vocabulary=vocabulary,
    )
    if checkpoint is not None:
        load_hat_checkpoint(net, checkpoint)
    return net


@register_supernet("hat-multi30k")
def hat_multi30k(
    *,
    vocab_size: int = 4000,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    activation_dropout: float = 0.0,
    max_length: int = 128,
    length: int = 16,
    beam: int = _BEAM,
    vocabulary: str | None = None,
) -> HatSupernet:
    """A small translation supernet: widths 192, 512, 4 heads, 3 + 3 layers, one vocabulary of both languages.

    Args:
        vocab_size: Tokens.
        dropout: Probability at the largest width, in train mode.
        attention_dropout: Probability for the weights of attention.
        activation_dropout: Probability at the largest width for hidden activations.
        max_length: Most tokens of a sentence.
        length: Tokens of source and target that costs and latencies are of.
        beam: Hypotheses of the beam search that is timed.
        vocabulary: What tells the vocabulary from others of its size, where that is known.
    """
    return HatSupernet(
        space=get_space("hat-multi30k"),
        vocab_size=vocab_size,
        inner=192,
        dropout=dropout,
        attention_dropout=attention_dropout,
        activation_dropout=activation_dropout,
        max_length=max_length,
        length=length,
        beam=beam,
        vocabulary=vocabulary,
    )
