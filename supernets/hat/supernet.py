"""The translation supernet of HAT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces import SearchSpace
from supernets.base import Architecture, Inputs, Loss, Supernet
from supernets.elastic import ElasticEmbedding, ElasticLayerNorm, ElasticLinear
from supernets.elastic.module import ElasticModule
from supernets.elastic.reorder import experts_of, reorder, reorder_layer
from supernets.errors import SupernetError
from supernets.hat import static
from supernets.hat.beam import Translator, beam_search
from supernets.hat.network import FIRST_POSITION, Attention, DecoderLayer, EncoderLayer, TranslationTransformer
from supernets.hat.plan import Costs, check_options, check_space, network_config
from supernets.mixture import RoutedBlock
from supernets.registry import register_family

PADDING, END = 1, 2
"""Tokens with a meaning, as fairseq numbers them; targets begin after ``END``."""


@register_family
class HatSupernet(Supernet):
    """An encoder-decoder Transformer with elastic widths, heads, decoder depth and attention to the encoder.

    Wang et al., HAT, ACL 2020, arXiv:2005.14187. Weights are prefixes: the first columns of the embeddings, the first
    neurons, the first layers. Queries, keys and values keep their width, so fewer heads are wider ones. A decoder layer
    attends to the last one, two or three encoder layers, joined along the sequence. Dropout falls with the width, in
    proportion; that of attention weights, as in HAT, stays. Inputs go by name: ``input_ids``, ``attention_mask``,
    ``decoder_input_ids``.

    Args:
        space: A space of `search_spaces.hat_space`, or its JSON.
        vocab_size: Tokens of the target, and of the source where the next is None.
        source_vocab_size: Tokens of a vocabulary of the source's own.
        inner: Width of queries, keys and values.
        dropout: Probability at the largest width, in train mode, for embeddings and what is added to shortcuts.
        attention_dropout: Probability for the weights of attention, at every width.
        activation_dropout: Probability at the largest width for hidden activations of feed-forward networks.
        max_length: Most tokens of a source or target.
        length: Tokens of example inputs; costs and latencies are of so many.
        beam: Hypotheses of the beam search that is timed.
        vocabulary: What tells the vocabulary from others of its size, where that is known.

    Raises:
        SupernetError: Options that do not fit together.
    """

    family: ClassVar[str] = "hat"

    def __init__(
        self,
        *,
        space: SearchSpace | Mapping[str, Any],
        vocab_size: int,
        source_vocab_size: int | None = None,
        inner: int = 512,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        max_length: int = 1024,
        length: int = 30,
        beam: int = 5,
        vocabulary: str | None = None,
    ) -> None:
        super().__init__()
        self.space = space if isinstance(space, SearchSpace) else SearchSpace.from_json(space)
        self._config: dict[str, Any] = {
            "vocab_size": vocab_size,
            "source_vocab_size": source_vocab_size,
            "inner": inner,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "max_length": max_length,
            "length": length,
            "beam": beam,
        }
        if vocabulary is not None:
            self._config["vocabulary"] = vocabulary
        check_options(self._config)
        check_space(self.space, inner)
        self.vocab_size, self.max_length, self.length, self.beam = vocab_size, max_length, length, beam
        self.source_vocab_size = vocab_size if source_vocab_size is None else source_vocab_size
        self._costs = Costs(
            self.space, inner=inner, vocab_size=vocab_size, source_vocab_size=source_vocab_size, length=length
        )
        (largest,) = self.space.decode(self.space.largest[None])
        self._largest = largest
        self.model = TranslationTransformer(
            self._network_config(largest, whole=True), ElasticLinear, ElasticLayerNorm, ElasticEmbedding
        )
        for module in self.model.modules():
            if isinstance(module, ElasticLinear):
                nn.init.xavier_uniform_(module.weight)
        self._active: dict[str, Any] = {}
        self.activate(largest)

    def _network_config(self, arch: Mapping[str, Any], whole: bool = False) -> dict[str, Any]:
        """Return the JSON from which `TranslationTransformer` is built."""
        config = {
            "vocab_size": self._config["vocab_size"],
            "source_vocab_size": self._config["source_vocab_size"],
            "positions": self.max_length + FIRST_POSITION,
            "inner": self._config["inner"],
        } | network_config(self.space, arch, whole)
        for side, gene in (("encoder", "enc_embed"), ("decoder", "dec_embed")):
            share = arch[gene] / self._largest[gene]
            config[side]["attention_dropout"] = self._config["attention_dropout"]
            config[side] |= {name: self._config[name] * share for name in ("dropout", "activation_dropout")}
        return config

    # -- switching -----------------------------------------------------------------------------------

    @property
    def active(self) -> dict[str, Any]:
        """The active architecture, a dict gene name -> value in canonical form."""
        return dict(self._active)

    def activate(self, arch: Architecture) -> None:
        """Switch to an architecture.

        Raises:
            InvalidArchitecture: The architecture is not in the space.
        """
        canonical = self._canonical(arch)
        config, model, inner = self._network_config(canonical, whole=True), self.model, self._config["inner"]
        encoder, decoder = config["encoder"], config["decoder"]
        e, d = encoder["width"], decoder["width"]
        model.encoder_width, model.decoder_width = e, d
        model.encoder_depth, model.decoder_depth = canonical["enc_layers"], canonical["dec_layers"]
        model.encoder_dropout.p, model.decoder_dropout.p = encoder["dropout"], decoder["dropout"]
        tokens, source = cast("ElasticEmbedding", model.tokens), model.source_tokens
        tokens.set_active(max(e, d) if source is None else d)
        if source is not None:
            source.set_active(e)
        for module, layer in zip(model.encoder_layers, encoder["layers"], strict=True):
            _activate_encoder_layer(cast("EncoderLayer", module), layer, encoder, inner)
        for module, layer in zip(model.decoder_layers, decoder["layers"], strict=True):
            _activate_decoder_layer(cast("DecoderLayer", module), layer, decoder, e, inner)
        self._active = canonical
        self._switch_mixture(canonical)

    def routed_blocks(self) -> list[RoutedBlock]:
        """Return the feed-forward layers of each encoder and decoder layer, as the paper routes them."""
        found = []
        for side, layers in (("encoder", self.model.encoder_layers), ("decoder", self.model.decoder_layers)):
            for i, layer in enumerate(layers):
                name = f"{side}_layers.{i}"
                own = {f"{name}.{part}": cast("ElasticLinear", getattr(layer, part)) for part in ("fc1", "fc2")}
                found.append(RoutedBlock(name, own))
        return found

    def forward(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Return logits ``[n, target length, vocab_size]`` of the token after each prefix.

        Args:
            input_ids: int64 ``[n, source length]``.
            attention_mask: ``[n, source length]``, 1 at tokens, 0 at padding.
            decoder_input_ids: int64 ``[n, target length]``, padded on the right.

        Raises:
            SupernetError: Sequences that are too long, or tokens that the vocabulary does not have.
        """
        self._check_ids(input_ids, self.source_vocab_size, "source")
        self._check_ids(decoder_input_ids, self.vocab_size, "target")
        logits: Tensor = self.model(input_ids, attention_mask, decoder_input_ids)
        return logits

    def _check_ids(self, ids: Tensor, vocabulary: int, what: str) -> None:
        self._check_length(ids.shape[1], what)
        # Asking a GPU would make it wait; there an unknown token is an error of its own.
        if ids.device.type == "cpu" and ids.numel() and int(ids.max()) >= vocabulary:
            raise SupernetError(
                f"token {int(ids.max())} of the {what} is none of the supernet's {vocabulary}: the vocabulary of the "
                f"data does not fit its weights; use the vocabulary it was trained with, or train with vocab_size of it"
            )

    def _check_length(self, length: int, what: str) -> None:
        if not 1 <= length <= self.max_length:
            raise SupernetError(
                f"a {what} of {length} tokens; the supernet takes 1 to {self.max_length} (max_length={self.max_length})"
            )

    # -- subnets -------------------------------------------------------------------------------------

    def extract(self, arch: Architecture) -> nn.Module:
        """Return the subnet as a ``torch.fx.GraphModule`` of torch's own layers, with copied weights."""
        return static.traced(self._static(arch)).train(self.training)

    def _static(self, arch: Architecture) -> TranslationTransformer:
        canonical = self._canonical(arch)
        if canonical != self._active:
            with self.activated(canonical):
                return self._static(canonical)
        config = self._network_config(canonical)
        state: dict[str, Tensor] = {}
        for name, module in self.model.named_modules():
            if isinstance(module, ElasticModule) and self._runs(name):
                state |= {f"{name}.{part}": t for part, t in module.active_state().items()}
        width = max(config["encoder"]["width"], config["decoder"]["width"])
        state["positions"] = self.model.positions[:, :width]
        return static.with_weights(config, state).train(self.training)

    def _runs(self, name: str) -> bool:
        """Return whether a module belongs to a layer within the active depth, or to none."""
        stack, _, rest = name.partition(".")
        depths = {"encoder_layers": self.model.encoder_depth, "decoder_layers": self.model.decoder_depth}
        return stack not in depths or int(rest.partition(".")[0]) < depths[stack]

    def rebuild_source(self, arch: Architecture) -> str:
        """Return Python source of ``build_model()``, which needs torch alone."""
        return static.rebuild_source(self._network_config(self._canonical(arch)))

    def timed(self, arch: Architecture) -> nn.Module:
        """Return a whole translation by the static subnet: encoder, and a beam search over the target's length.

        Its inputs are those of `example_inputs`; of the prefix only the length counts, and no hypothesis ends early.
        """
        return Translator(self._static(arch), beam=self.beam, begin=END, padding=PADDING).train(self.training)

    @torch.no_grad()
    def generate(self, inputs: Inputs, *, beam: int = 1, length: int | None = None, cache: bool = True) -> Tensor:
        """Return translations by the active subnet, int64 ``[n, at most length]``, padded after their end.

        Args:
            inputs: ``input_ids`` and ``attention_mask`` by name.
            beam: Hypotheses that are kept; 1 is greedy.
            length: Most tokens, the end included. Default and at most: ``max_length``.
            cache: Whether keys and values are kept between steps; the results are the same.

        Raises:
            SupernetError: Inputs that go by position, are too long or not of the vocabulary.
        """
        modes = [(m, m.training) for m in self.modules()]
        try:
            self.eval()
            return self._translations(self.model, inputs, beam, length, cache)
        finally:
            for module, training in modes:
                module.training = training

    @torch.no_grad()
    def generate_with(
        self, module: nn.Module, arch: Architecture, inputs: Inputs, *, beam: int = 1, length: int | None = None
    ) -> Tensor:
        """Return translations by a network that `extract` returned, as `generate` does, whatever mode it is in.

        Raises:
            SupernetError: As `generate`.
        """
        # What was traced is the forward pass alone; the search needs encoder and single steps.
        network = static.with_weights(self._network_config(self._canonical(arch)), module.state_dict()).eval()
        return self._translations(network, inputs, beam, length, cache=True)

    def _translations(
        self, network: TranslationTransformer, inputs: Inputs, beam: int, length: int | None, cache: bool
    ) -> Tensor:
        if not isinstance(inputs, Mapping):
            raise SupernetError("a translation needs inputs by name: input_ids and attention_mask")
        if beam < 1:
            raise SupernetError(f"beam={beam}; at least 1 hypothesis is needed")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        self._check_ids(ids, self.source_vocab_size, "source")
        wanted = self.max_length if length is None else length
        self._check_length(wanted, "target")
        return beam_search(
            network, ids, mask, beam=beam, length=wanted, begin=END, end=END, padding=PADDING, cache=cache
        )

    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Do nothing: layer normalisation has no statistics."""

    def example_inputs(
        self, arch: Architecture | None = None, batch_size: int = 1, sequence: int | None = None
    ) -> Inputs:
        """Return random sources and prefixes of targets, always the same, on the supernet's device.

        Args:
            arch: Not used: all subnets take the same inputs.
            batch_size: Number of sentences.
            sequence: Tokens of source and target. Default: the supernet's ``length``.

        Raises:
            SupernetError: More tokens than the supernet takes.
        """
        if arch is not None:
            self._canonical(arch)
        length = self.length if sequence is None else sequence
        self._check_length(length, "sequence")
        generator = torch.Generator().manual_seed(0)
        low = min(4, self.vocab_size - 1)  # tokens with a meaning come first
        source = torch.randint(low, self.source_vocab_size, (batch_size, length), generator=generator)
        target = torch.randint(low, self.vocab_size, (batch_size, length), generator=generator)
        source[:, -1], target[:, 0] = END, END
        device = self.model.positions.device
        inputs = {"input_ids": source, "attention_mask": torch.ones_like(source), "decoder_input_ids": target}
        return {name: t.to(device) for name, t in inputs.items()}

    # -- costs, order, description -------------------------------------------------------------------

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return exact costs of each row: ``params_m``, ``macs_m``, ``size_mb``; each float64 ``[n]``.

        Multiply-accumulates are those of one forward pass over a source and a target of ``length`` tokens: linear
        layers, the output layer and the products of attention, the masked ones too.
        """
        parameters, macs, width = self._costs(G)
        itemsize = self.model.positions.element_size()
        positions = (self.max_length + FIRST_POSITION) * width
        return {
            "params_m": parameters / 1e6,
            "macs_m": macs / 1e6,
            "size_mb": (parameters + positions) * itemsize / 1e6,
        }

    @torch.no_grad()
    def sort_by_importance(
        self,
        batches: Iterable[Inputs] | None = None,
        loss: Loss | None = None,
        *,
        layers: bool = False,
        judge: Supernet | None = None,
    ) -> None:
        """Reorder the neurons of the feed-forward networks by L1 norm, in place; data and judge are not looked at."""
        for stack in (self.model.encoder_layers, self.model.decoder_layers):
            for layer in cast("Iterable[Any]", stack):
                written = sum(w.abs().sum(1) for w in experts_of(layer.fc1))
                scores = cast("Tensor", written + sum(w.abs().sum(0) for w in experts_of(layer.fc2)))
                order = scores.argsort(descending=True, stable=True)
                reorder_layer(layer.fc1, order)
                for bias in experts_of(layer.fc1, "bias"):
                    reorder(bias, order)
                reorder_layer(layer.fc2, order, 1)

    def config(self) -> dict[str, Any]:
        """Return the JSON arguments with which the family rebuilds this supernet, without weights."""
        return {"space": self.space.to_json(), **self._config, **self.mixture_config()}


def _activate_attention(layer: Attention, width: int, memory_width: int, inner: int, heads: int) -> None:
    layer.heads = heads
    for part, shape in (
        (layer.q, (width, inner)),
        (layer.k, (memory_width, inner)),
        (layer.v, (memory_width, inner)),
        (layer.out, (inner, width)),
    ):
        part.set_active(*shape)


def _activate_ffn(layer: EncoderLayer | DecoderLayer, side: Mapping[str, Any], ffn: int) -> None:
    width = side["width"]
    layer.fc1.set_active(width, ffn)
    layer.fc2.set_active(ffn, width)
    layer.norm.set_active(width)
    layer.attention_norm.set_active(width)
    layer.dropout.p, layer.activation_dropout.p = side["dropout"], side["activation_dropout"]


def _activate_encoder_layer(layer: EncoderLayer, to: Mapping[str, int], side: Mapping[str, Any], inner: int) -> None:
    _activate_attention(layer.attention, side["width"], side["width"], inner, to["heads"])
    _activate_ffn(layer, side, to["ffn"])


def _activate_decoder_layer(
    layer: DecoderLayer, to: Mapping[str, int], side: Mapping[str, Any], memory_width: int, inner: int
) -> None:
    width = side["width"]
    layer.memories = to["memories"]
    _activate_attention(layer.attention, width, width, inner, to["heads"])
    _activate_attention(layer.cross, width, memory_width, inner, to["cross_heads"])
    layer.cross_norm.set_active(width)
    _activate_ffn(layer, side, to["ffn"])
