"""Translation Transformers of HAT (Wang et al., ACL 2020, arXiv:2005.14187).

Genes, in the order of HAT's own flat lists: ``enc_embed``, ``enc_layers``, ``enc_ffn.i``, ``enc_heads.i``,
``dec_embed``, ``dec_layers``, ``dec_ffn.i``, ``dec_heads.i`` (self-attention), ``dec_cross_heads.i`` (attention to the
encoder) and ``dec_cross.i``: which encoder layers decoder layer i attends to, -1 the last, 1 the last two, 2 the last
three. Genes of layers beyond the depth are inactive. The width of queries, keys and values is fixed, so heads change
how it is divided and no weight.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.gene import Gene
from search_spaces.registry import register_space
from search_spaces.space import SearchSpace

CROSS = (-1, 1, 2)
"""Values of ``dec_cross``: attend to the last, the last two, the last three encoder layers."""

_AVERAGED = ("dec_ffn", "dec_heads", "dec_cross_heads")


def hat_space(
    name: str,
    *,
    embeds: Sequence[int],
    ffns: Sequence[int],
    heads: Sequence[int],
    encoder_layers: Sequence[int],
    decoder_layers: Sequence[int],
    cross: Sequence[int] = CROSS,
) -> SearchSpace:
    """Build a space of encoder-decoder Transformers.

    Args:
        name: Name of the space.
        embeds: Embedding widths, of encoder and decoder each.
        ffns: Hidden widths of a layer's feed-forward network.
        heads: Numbers of heads of an attention.
        encoder_layers: Depths of the encoder; one value means that it is not elastic.
        decoder_layers: Depths of the decoder.
        cross: Values of ``dec_cross``, of -1, 1 and 2.
    """
    genes = [Gene("enc_embed", embeds, role="width"), Gene("enc_layers", encoder_layers, role="depth")]
    genes += _per_layer("enc_ffn", ffns, "ffn", "enc_layers", encoder_layers)
    genes += _per_layer("enc_heads", heads, "heads", "enc_layers", encoder_layers)
    genes += [Gene("dec_embed", embeds, role="width"), Gene("dec_layers", decoder_layers, role="depth")]
    first = max(encoder_layers)  # layers are numbered through: those of the decoder follow the encoder's
    genes += _per_layer("dec_ffn", ffns, "ffn", "dec_layers", decoder_layers, first)
    genes += _per_layer("dec_heads", heads, "heads", "dec_layers", decoder_layers, first)
    genes += _per_layer("dec_cross_heads", heads, "heads", "dec_layers", decoder_layers, first)
    genes += _per_layer("dec_cross", cross, "cross", "dec_layers", decoder_layers, first)
    return SearchSpace(name, genes)


def _per_layer(
    prefix: str, choices: Collection[int], role: str, depth: str, depths: Sequence[int], first: int = 0
) -> list[Gene]:
    """Return a gene of each layer; those that not every depth has are active only where the depth has them."""
    genes = []
    for i in range(max(depths)):
        deep_enough = [d for d in depths if d > i]
        when = {} if len(deep_enough) == len(depths) else {depth: deep_enough}
        genes.append(Gene(f"{prefix}.{i}", choices, role=role, layer=first + i, active_when=when))
    return genes


def hat_averages(space: SearchSpace, G: NDArray[Any]) -> NDArray[np.float64]:
    """Return HAT's ten latency features of each row, not scaled: ``[n, 10]``.

    Encoder width, depth, mean hidden width, mean heads; decoder width, depth, mean hidden width, mean heads, mean heads
    of the attention to the encoder, mean number of encoder layers attended to (1 to 3). Means are over the layers that
    run, so architectures that differ in the order of their layers only have equal features.

    Args:
        space: A space of `hat_space`.
        G: Rows, ``[n, n_genes]``.
    """
    canonical, active = space.canonical(G), space.active(G)

    def values(column: int) -> NDArray[np.float64]:
        return np.array(space.genes[column].choices, dtype=np.float64)[canonical[:, column]]

    def mean(prefix: str) -> NDArray[np.float64]:
        columns = space.groups[prefix]
        table = np.stack([values(c) for c in columns], axis=1)
        if prefix == "dec_cross":
            table = np.where(table < 0, 1.0, table + 1.0)
        weights = active[:, columns]
        return np.asarray((table * weights).sum(1) / weights.sum(1))

    def alone(name: str) -> NDArray[np.float64]:
        return values(space.column(name))

    encoder = [alone("enc_embed"), alone("enc_layers"), mean("enc_ffn"), mean("enc_heads")]
    decoder = [alone("dec_embed"), alone("dec_layers"), *map(mean, _AVERAGED), mean("dec_cross")]
    return np.stack([*encoder, *decoder], axis=1)


@register_space("hat-wmt")
def hat_wmt() -> SearchSpace:
    """HAT's space of WMT: width 512/640, hidden width 1024-3072, 4 or 8 heads, 1-6 decoder layers (4.2e14 networks)."""
    return hat_space(
        "hat-wmt",
        embeds=(640, 512),
        ffns=(3072, 2048, 1024),
        heads=(8, 4),
        encoder_layers=(6,),
        decoder_layers=(6, 5, 4, 3, 2, 1),
    )


@register_space("hat-iwslt")
def hat_iwslt() -> SearchSpace:
    """HAT's space of IWSLT: width 512/640, hidden width 512-2048, 2/4 heads, 1-6 decoder layers (4.2e14 networks)."""
    return hat_space(
        "hat-iwslt",
        embeds=(640, 512),
        ffns=(2048, 1024, 512),
        heads=(4, 2),
        encoder_layers=(6,),
        decoder_layers=(6, 5, 4, 3, 2, 1),
    )


@register_space("hat-multi30k")
def hat_multi30k() -> SearchSpace:
    """A small translation space: width 128/192, hidden width 128-512, 2 or 4 heads, 3 encoder, 1-3 decoder layers."""
    return hat_space(
        "hat-multi30k",
        embeds=(192, 128),
        ffns=(512, 256, 128),
        heads=(4, 2),
        encoder_layers=(3,),
        decoder_layers=(3, 2, 1),
    )
