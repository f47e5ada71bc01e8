"""The translation Transformer (Vaswani et al., NeurIPS 2017; the post-norm form that HAT searches, arXiv:2005.14187).

This file needs torch alone: it is handed out with the weights of an exported network. The supernet is the same network
with elastic layers, so one forward pass serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Make = Callable[..., Any]

FIRST_POSITION = 2
"""Row of the first token in the table of positions: earlier ones belong to padding, as in fairseq."""


class Attention(nn.Module):
    """Attention with queries, keys and values of one fixed width, however wide its inputs are.

    Attributes:
        heads: Number of heads.
        dropout: Of the attention's weights; applied within the kernel, and here for its probability and mode.
    """

    def __init__(self, width: int, memory_width: int, inner: int, heads: int, dropout: float, linear: Make) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.q = linear(width, inner)
        self.k = linear(memory_width, inner)
        self.v = linear(memory_width, inner)
        self.out = linear(inner, width)

    def split(self, x: Tensor) -> Tensor:
        """Divide ``[n, length, inner]`` into heads: ``[n, heads, length, inner / heads]``."""
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)

    def keys(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of what is attended to."""
        return self.split(self.k(memory)), self.split(self.v(memory))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Attend; ``mask`` is True where a key may be seen."""
        p = self.dropout.p if self.training else 0.0
        y = functional.scaled_dot_product_attention(
            self.split(self.q(x)), keys, values, attn_mask=mask, dropout_p=p, is_causal=causal
        )
        result: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return result


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each with a shortcut and then normalised."""

    def __init__(self, side: Mapping[str, Any], inner: int, layer: Mapping[str, int], linear: Make, norm: Make) -> None:
        super().__init__()
        width, ffn = side["width"], layer["ffn"]
        self.attention = Attention(width, width, inner, layer["heads"], side.get("attention_dropout", 0.0), linear)
        self.attention_norm = norm(width)
        self.fc1 = linear(width, ffn)
        self.fc2 = linear(ffn, width)
        self.norm = norm(width)
        self.dropout, self.activation_dropout = (
            nn.Dropout(side["dropout"]),
            nn.Dropout(side.get("activation_dropout", 0.0)),
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map ``[n, length, width]`` to the same shape."""
        keys, values = self.attention.keys(x)
        x = self.attention_norm(x + self.dropout(self.attention(x, keys, values, mask, False)))
        hidden = self.activation_dropout(functional.relu(self.fc1(x)))
        result: Tensor = self.norm(x + self.dropout(self.fc2(hidden)))
        return result


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to some of the encoder's layers, and a feed-forward network."""

    def __init__(
        self,
        side: Mapping[str, Any],
        memory_width: int,
        inner: int,
        layer: Mapping[str, int],
        linear: Make,
        norm: Make,
    ) -> None:
        super().__init__()
        width, dropout = side["width"], side.get("attention_dropout", 0.0)
        self.memories = layer["memories"]
        self.attention = Attention(width, width, inner, layer["heads"], dropout, linear)
        self.attention_norm = norm(width)
        self.cross = Attention(width, memory_width, inner, layer["cross_heads"], dropout, linear)
        self.cross_norm = norm(width)
        self.fc1 = linear(width, layer["ffn"])
        self.fc2 = linear(layer["ffn"], width)
        self.norm = norm(width)
        self.dropout, self.activation_dropout = (
            nn.Dropout(side["dropout"]),
            nn.Dropout(side.get("activation_dropout", 0.0)),
        )

    def forward(
        self, x: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the layer's output, and keys and values of the target so far.

        Without ``past`` all of ``x`` is one prefix under a causal mask; with it ``x`` is the one next token.
        """
        keys, values = self.attention.keys(x)
        if past is not None:
            keys, values = torch.cat([past[0], keys], dim=2), torch.cat([past[1], values], dim=2)
        x = self.attention_norm(x + self.dropout(self.attention(x, keys, values, None, past is None)))
        x = self.cross_norm(x + self.dropout(self.cross(x, memory[0], memory[1], mask, False)))
        hidden = self.activation_dropout(functional.relu(self.fc1(x)))
        x = self.norm(x + self.dropout(self.fc2(hidden)))
        return x, (keys, values)


class TranslationTransformer(nn.Module):
    """Encoder and decoder; the embeddings of the target are the output layer, too.

    Args:
        config: ``vocab_size``, ``source_vocab_size`` (None for shared embeddings), ``positions``, ``inner``,
            ``encoder`` and ``decoder``: ``width``, ``layers``, ``dropout`` (of what is added to a shortcut and of
            embeddings), and where they are not 0 ``attention_dropout`` (of the attention's weights) and
            ``activation_dropout`` (of hidden activations).
        linear: Makes linear layers of input and output widths.
        norm: Makes normalisations of a width.
        embedding: Makes tables of tokens and width; only their ``weight`` is used.
    """

    positions: Tensor

    def __init__(
        self,
        config: Mapping[str, Any],
        linear: Make = nn.Linear,
        norm: Make = nn.LayerNorm,
        embedding: Make = nn.Embedding,
    ) -> None:
        super().__init__()
        encoder, decoder, inner = config["encoder"], config["decoder"], config["inner"]
        self.encoder_width, self.decoder_width = encoder["width"], decoder["width"]
        shared = config["source_vocab_size"] is None
        width = max(self.encoder_width, self.decoder_width)
        self.tokens = embedding(config["vocab_size"], width if shared else self.decoder_width)
        # A shared table is one of the wider side, of which the other takes the first columns.
        self.source_tokens = None if shared else embedding(config["source_vocab_size"], self.encoder_width)
        self.register_buffer("positions", sinusoids(config["positions"], width))
        self.encoder_layers = nn.ModuleList(
            EncoderLayer(encoder, inner, layer, linear, norm) for layer in encoder["layers"]
        )
        self.decoder_layers = nn.ModuleList(
            DecoderLayer(decoder, self.encoder_width, inner, layer, linear, norm) for layer in decoder["layers"]
        )
        self.encoder_dropout, self.decoder_dropout = nn.Dropout(encoder["dropout"]), nn.Dropout(decoder["dropout"])
        self.encoder_depth, self.decoder_depth = len(self.encoder_layers), len(self.decoder_layers)

    def embed_source(self, ids: Tensor) -> Tensor:
        """Return scaled embeddings plus positions, ``[n, length, encoder width]``."""
        table = self.tokens if self.source_tokens is None else self.source_tokens
        width = self.encoder_width
        x = functional.embedding(ids, table.weight[:, :width]) * math.sqrt(width)
        places = self.positions[FIRST_POSITION : FIRST_POSITION + ids.shape[1], :width]
        result: Tensor = self.encoder_dropout(x + places)
        return result

    def embed_target(self, ids: Tensor, start: int = 0) -> Tensor:
        """Return scaled embeddings plus positions from ``start`` on, ``[n, length, decoder width]``."""
        width, first = self.decoder_width, FIRST_POSITION + start
        x = functional.embedding(ids, self.tokens.weight[:, :width]) * math.sqrt(width)
        result: Tensor = self.decoder_dropout(x + self.positions[first : first + ids.shape[1], :width])
        return result

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
        """Return for each decoder layer keys and values of the encoder layers that it attends to, and their mask."""
        seen = attention_mask.bool()[:, None, None, :]
        x, states = self.embed_source(input_ids), []
        for i in range(self.encoder_depth):
            x = self.encoder_layers[i](x, seen)
            states.append(x)
        memories = []
        for i in range(self.decoder_depth):
            layer: Any = self.decoder_layers[i]
            last = [states[-1 - j] for j in range(layer.memories)]
            memory = last[0] if len(last) == 1 else torch.cat(last, dim=1)
            mask = seen if len(last) == 1 else torch.cat([seen] * len(last), dim=-1)
            memories.append((layer.cross.keys(memory), mask))
        return memories

    def project(self, x: Tensor) -> Tensor:
        """Return logits ``[…, tokens]``."""
        return functional.linear(x, self.tokens.weight[:, : self.decoder_width])

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Return logits ``[n, target length, tokens]`` of the token that follows each prefix.

        Args:
            input_ids: int64 ``[n, source length]``.
            attention_mask: ``[n, source length]``, 1 at tokens, 0 at padding.
            decoder_input_ids: int64 ``[n, target length]``, padded on the right.
        """
        memories = self.encode(input_ids, attention_mask)
        x = self.embed_target(decoder_input_ids)
        for i in range(self.decoder_depth):
            x, _ = self.decoder_layers[i](x, memories[i][0], memories[i][1], None)
        return self.project(x)

    def step(
        self, tokens: Tensor, memories: list[Any], past: list[Any] | None, start: int
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return logits ``[n, tokens]`` after one more token ``[n, 1]``, and the new cache of keys and values."""
        x, cache = self.embed_target(tokens, start), []
        for i in range(self.decoder_depth):
            x, keys = self.decoder_layers[i](x, memories[i][0], memories[i][1], None if past is None else past[i])
            cache.append(keys)
        return self.project(x[:, -1]), cache


def sinusoids(positions: int, width: int) -> Tensor:
    """Return the table of positions ``[positions, width]``: sines, then cosines, of falling frequencies."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(positions, dtype=torch.float32)[:, None] * rates[None]
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return functional.pad(table, (0, width - 2 * half))
