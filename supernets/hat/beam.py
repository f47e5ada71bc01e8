"""Beam search, and decoding of a fixed length to be timed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from supernets.hat.network import TranslationTransformer


def beam_search(
    model: TranslationTransformer,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    beam: int,
    length: int,
    begin: int,
    end: int | None,
    padding: int,
    penalty: float = 1.0,
    cache: bool = True,
) -> Tensor:
    """Return the best target that a beam search finds for each source.

    Hypotheses are ranked by the sum of log-probabilities divided by their length to the power of ``penalty``; finished
    ones stay in the beam and compete.

    Args:
        model: The network, in eval mode.
        input_ids: int64 ``[n, source length]``.
        attention_mask: ``[n, source length]``, 1 at tokens.
        beam: Hypotheses kept; 1 is greedy decoding.
        length: Most tokens of a target, its end included.
        begin: The token that targets begin after.
        end: The token that ends a target; None goes on to ``length`` whatever comes.
        padding: The token after the end; never chosen before it.
        penalty: Exponent of the length.
        cache: Whether keys and values of the target are kept; otherwise each step computes the whole prefix.

    Returns:
        int64 ``[n, at most length]``, without ``begin``.
    """
    n, device = len(input_ids), input_ids.device
    first = torch.arange(n * beam, device=device) // beam
    memories = [((k[first], v[first]), mask[first]) for (k, v), mask in model.encode(input_ids, attention_mask)]
    prefix = torch.full((n * beam, 1), begin, dtype=torch.int64, device=device)
    past: list[Any] | None = None
    # One beginning, not `beam` equal ones: the others start out impossible.
    scores = torch.full((n, beam), float("-inf"), device=device)
    scores[:, 0] = 0.0
    lengths = torch.zeros((n, beam), device=device)
    done = torch.zeros((n, beam), dtype=torch.bool, device=device)
    base = torch.arange(n, device=device)[:, None] * beam
    for step in range(length):
        if cache:
            logits, past = model.step(prefix[:, -1:], memories, past, step)
        else:
            logits, _ = model.step(prefix, memories, None, 0)
        gains = torch.log_softmax(logits.float(), dim=-1)
        gains[:, padding] = float("-inf")
        vocabulary = gains.shape[-1]
        gains = gains.view(n, beam, vocabulary)
        if end is not None:  # a finished hypothesis goes on by padding alone, at no cost
            only_padding = torch.full_like(gains[0, 0], float("-inf"))
            only_padding[padding] = 0.0
            gains = torch.where(done[:, :, None], only_padding, gains)
        grown = torch.where(done, lengths, lengths + 1)
        ranks = ((scores[:, :, None] + gains) / grown[:, :, None].clamp(min=1) ** penalty).flatten(1)
        best = ranks.topk(beam, dim=1).indices
        parents, tokens = best // vocabulary, best % vocabulary
        scores = (scores[:, :, None] + gains).flatten(1).gather(1, best)
        lengths, done = grown.gather(1, parents), done.gather(1, parents)
        rows = (base + parents).flatten()
        prefix = torch.cat([prefix[rows], tokens.view(-1, 1)], dim=1)
        if past is not None and beam > 1:
            past = [(k[rows], v[rows]) for k, v in past]
        if end is not None:
            done = done | (tokens == end)
            if bool(done.all()):
                break
    winners = (scores / lengths.clamp(min=1) ** penalty).argmax(dim=1)
    return prefix.view(n, beam, -1)[torch.arange(n, device=device), winners, 1:]


class Translator(nn.Module):
    """A translation as it is timed: the encoder, and a beam search of as many steps as the prefix given is long.

    Args:
        model: The static network.
        beam: Hypotheses.
        begin: The token that targets begin after.
        padding: The token of padding.
    """

    def __init__(self, model: TranslationTransformer, *, beam: int, begin: int, padding: int) -> None:
        super().__init__()
        self.model, self.beam, self.begin, self.padding = model, beam, begin, padding

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Return int64 ``[n, target length]``; of ``decoder_input_ids`` only the length counts."""
        return beam_search(
            self.model,
            input_ids,
            attention_mask,
            beam=self.beam,
            length=decoder_input_ids.shape[1],
            begin=self.begin,
            end=None,
            padding=self.padding,
        )
