"""A pre-trained Transformer as a supernet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from supernets.base import Architecture, Inputs, Loss, Supernet
from supernets.errors import SupernetError
from supernets.mixture import RoutedBlock
from supernets.registry import register_family
from supernets.transformer import importance, mixing, rebuild
from supernets.transformer.choices import Choices, gene_names, resolve_choices, transformer_space
from supernets.transformer.costs import CostModel
from supernets.transformer.extraction import extract_active
from supernets.transformer.family import Family
from supernets.transformer.inputs import InputShapes, example_inputs
from supernets.transformer.lora import Adapters, elastic_linears
from supernets.transformer.wiring import WiredStack, wire


@register_family
class TransformerSupernet(Supernet):
    """A stock model of transformers or timm whose layers, heads and feed-forward neurons are elastic.

    The construction of InstaTune (Sridhar et al., ICCV workshops 2023, arXiv:2308.15609): no layer is added; a subnet
    is a prefix of the heads and neurons of each layer and some of the layers. The stock attention follows the width of
    its projections, which read as slices; so forward passes are the stock model's own.

    Args:
        model: The model; a copy becomes elastic.
        family: Its family.
        given: The user's lists, see `supernets.transformer.choices.resolve_choices`.
        uniform: Whether all layers of a stack share one number of heads and one width, so that stock
            configurations can hold the subnets.
        sequence: Tokens of example inputs, at which costs are stated. Default: the lesser of 128 and the
            model's limit.
        layer_order: Stack name -> its layers, those that shallow subnets keep first. Default: the model's order.

    Attributes:
        model: The elastic model, an instance of the original's class.
        shapes: The shapes of example inputs.

    Raises:
        SupernetError: Lists or lengths that do not suit the model.
        UnsupportedModel: The model is not built as its family's table says.
    """

    family: ClassVar[str] = "transformer"
    scores_by_gradient: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        family: Family,
        given: Mapping[str, Any],
        *,
        uniform: bool = False,
        sequence: int | None = None,
        layer_order: Mapping[str, list[int]] | None = None,
    ) -> None:
        super().__init__()
        self._blueprint = rebuild.blueprint(model, family)
        self.model = deepcopy(model)
        self._family = family
        self.uniform = uniform
        self.shapes = InputShapes.of(model, family, sequence)
        self._stacks = wire(self.model, family)
        self._choices = resolve_choices(self._stacks, given, uniform)
        self.space = transformer_space(family.name, self._stacks, self._choices, uniform)
        self._genes = [{d: gene_names(s, d, uniform) for d in s.extents} for s in self._stacks]
        self._costs: CostModel | None = None
        self._adapters: Adapters | None = None
        self._active: dict[str, Any] = {}
        for stack in self._stacks:
            stack.set_order((layer_order or {}).get(stack.table.name, stack.order))
        rebuild.share_tied_tensors(self)
        self.train(model.training)
        self.activate(self.space.decode(self.space.largest[None])[0])

    # -- description ---------------------------------------------------------------------------------

    @property
    def active(self) -> dict[str, Any]:
        """The active architecture, a dict gene name -> value in canonical form."""
        return dict(self._active)

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, in the order of the outputs; None where the model's configuration has none."""
        labels: Mapping[int, Any] = getattr(getattr(self.model, "config", None), "id2label", None) or {}
        names = [str(labels[i]) for i in sorted(labels)]
        return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names

    @property
    def choices(self) -> Choices:
        """Stack name -> ``depth`` or dimension -> values."""
        return deepcopy(self._choices)

    @property
    def layer_order(self) -> dict[str, list[int]]:
        """Stack name -> indices of its layers; a subnet of depth d keeps the first d, in the model's order."""
        return {s.table.name: list(s.order) for s in self._stacks}

    def config(self) -> dict[str, Any]:
        """Return the JSON arguments with which the family rebuilds this supernet, without weights.

        Raises:
            SupernetError: The model cannot be rebuilt from its configuration; the message says why.
        """
        return {
            "model": self._blueprint.to_json(),
            "choices": self.choices,
            "uniform": self.uniform,
            "sequence": self.shapes.sequence,
            "layer_order": self.layer_order,
            "buffers": rebuild.buffer_dtypes(self.model),
            **self.mixture_config(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TransformerSupernet:
        """Rebuild a supernet, with random weights, from what `config` returned.

        Raises:
            SupernetError: The configuration is not one of the family.
        """
        keys = {"model", "choices", "uniform", "sequence", "layer_order", "buffers"}
        if not isinstance(config, Mapping) or set(config) != keys:
            raise SupernetError(f"not a configuration of supernet family {cls.family!r}: it needs {sorted(keys)}")
        model, family = rebuild.build(config["model"])
        rebuild.set_buffer_dtypes(model, config["buffers"])
        given = {
            f"{stack}_{dim}" if stack else dim: values
            for stack, dims in config["choices"].items()
            for dim, values in dims.items()
        }
        return cls(
            model,
            family,
            given,
            uniform=config["uniform"],
            sequence=config["sequence"],
            layer_order=config["layer_order"],
        )

    # -- switching -----------------------------------------------------------------------------------

    def activate(self, arch: Architecture) -> None:
        """Switch to an architecture.

        Raises:
            InvalidArchitecture: The architecture is not in the space.
        """
        canonical = self._canonical(arch)
        for stack, genes in zip(self._stacks, self._genes, strict=True):
            largest = stack.shape
            for dim, names in genes.items():
                full, unit, extents = largest[dim], stack.per_unit[dim], stack.extents[dim]
                for name, layer in zip(names, stack.order, strict=True):
                    extents[layer].active = canonical.get(name, full) // unit
            stack.set_active(canonical.get(f"{stack.table.prefix}depth", largest["depth"]))
        self._active = canonical
        self._switch_mixture(canonical)

    def routed_blocks(self) -> list[RoutedBlock]:
        """Return the fully connected layers of each feed-forward block."""
        return mixing.routed_blocks(self._stacks)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the active subnet of the stock model returns."""
        return self.model(*args, **kwargs)

    def active_layers(self) -> list[nn.Module]:
        """Return the active layers of all stacks."""
        return [layer for stack in self._stacks for layer in stack.container.active_layers]

    def adapter_targets(self, targets: Sequence[str]) -> list[str]:
        """Return the names of the elastic linear layers that match one of some patterns."""
        return [name for name, _ in elastic_linears(self.model, targets)]

    def add_adapters(self, *, rank: int, alpha: float, targets: Sequence[str], train: Sequence[str], seed: int) -> None:
        """Add low-rank adapters to elastic linear layers, see `supernets.transformer.lora.Adapters`.

        Raises:
            SupernetError: They are there already.
        """
        if self._adapters is not None:
            raise SupernetError("the supernet has low-rank adapters already; merge them first (merge_adapters)")
        self._adapters = Adapters(self.model, rank=rank, alpha=alpha, targets=targets, train=train, seed=seed)
        self._costs = None

    def merge_adapters(self) -> None:
        """Add what the adapters have learned to the weights and remove them, if there are any."""
        if self._adapters is not None:
            self._adapters.merge()
            self._adapters = self._costs = None

    def extract(self, arch: Architecture) -> nn.Module:
        """Return the subnet as a stock model with narrower projections and copied weights.

        In the mode (train or eval) of the supernet. Its configuration has the new number of layers, and the new
        number of heads and width where all layers agree and it can hold them. Tied embeddings stay tied.
        """
        if self._canonical(arch) != self._active:
            with self.activated(arch):
                return self.extract(arch)
        return extract_active(self.model, self._stacks).train(self.training)

    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Do nothing: there are no running statistics."""

    def rebuild_source(self, arch: Architecture) -> str | None:
        """Return Python source of ``build_model()``, which needs the model's library alone.

        None where the stock constructor cannot make the skeleton of the subnet.
        """
        with self.activated(arch):
            return rebuild.source(self._blueprint, self._stacks, extract_active(self.model, self._stacks, meta=True))

    # -- inputs and costs ----------------------------------------------------------------------------

    def example_inputs(
        self, arch: Architecture | None = None, batch_size: int = 1, sequence: int | None = None
    ) -> Inputs:
        """Return random inputs by name, always the same, on the model's device.

        Args:
            arch: Not used: all subnets take the same inputs.
            batch_size: Number of inputs.
            sequence: Tokens of texts. Default: the supernet's.

        Raises:
            SupernetError: The length is more than the model allows.
        """
        if arch is not None:
            self._canonical(arch)
        shapes = self.shapes if sequence is None else self.shapes.with_length(sequence)
        return example_inputs(shapes, batch_size, next(self.model.parameters()))

    def fit_inputs(self, inputs: Inputs, arch: Architecture | None = None) -> Inputs:
        """Give images by name where the model takes them so, and by position where it does not."""
        if self.shapes.image is None or self.shapes.text:
            return inputs
        if self.shapes.by_name and isinstance(inputs, tuple) and len(inputs) == 1:
            return {"pixel_values": inputs[0]}
        if not self.shapes.by_name and isinstance(inputs, Mapping) and set(inputs) == {"pixel_values"}:
            return (inputs["pixel_values"],)
        return inputs

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return exact costs of each row: ``params_m``, ``macs_m``, ``size_mb``; each float64 ``[n]``.

        Multiply-accumulates are those of one input of ``sequence`` tokens: linear layers, convolutions and the
        products of attention (scores and values, the masked ones too).
        """
        if self._costs is None:
            self._costs = CostModel(self)
        return self._costs(G)

    # -- order ---------------------------------------------------------------------------------------

    def sort_by_importance(
        self,
        batches: Iterable[Inputs] | None = None,
        loss: Loss | None = None,
        *,
        layers: bool = False,
        judge: Supernet | None = None,
    ) -> None:
        """Reorder heads and neurons so that prefixes keep what matters most; the largest subnet keeps its function.

        With batches by a first-order score of what the loss changes by when a unit is removed: the size of the sum of
        weight x gradient over the weights that read it, summed over the batches (Molchanov et al., CVPR 2019,
        arXiv:1906.10771; of heads Michel et al., NeurIPS 2019, arXiv:1905.10650). Without batches by the L1 norm of
        those weights.

        Args:
            batches: Calibration inputs, read once per score, so a list.
            loss: Output and inputs -> scalar. Default: the output's own ``loss`` (inputs with ``labels``).
            layers: Whether depth, too, keeps the layers that matter most: those whose removal raises the loss most. The
                layers then no longer are a prefix of the model's. Needs batches.
            judge: A copy of this supernet, fine-tuned meanwhile, whose weights are scored in place of its own: the
                gradients of a new head say little about what the task will need. Default: the supernet itself.

        Raises:
            SupernetError: ``layers`` or ``loss`` without batches, no batch, no loss in the output, or a judge that is
                no supernet of the same family and space.
        """
        importance.sort(self, batches, loss, layers=layers, judge=self if judge is None else judge)
        self._costs = None
        self.activate(self._active)

    def choose_layers_as(self, other: Supernet) -> None:
        """Keep the layers that another supernet of the space keeps in its shallow subnets."""
        assert isinstance(other, TransformerSupernet)  # noqa: S101 - of the same space
        for stack, theirs in zip(self._stacks, other.stacks, strict=True):
            stack.set_order(theirs.order)
        self._costs = None
        self.activate(self._active)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self._costs = None  # the size changes with the dtype
        result: Self = super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        return result

    @property
    def stacks(self) -> list[WiredStack]:
        """The elastic stacks."""
        return list(self._stacks)

    @property
    def gene_table(self) -> list[dict[str, list[str]]]:
        """Of each stack: dimension -> the gene of each slot."""
        return [dict(genes) for genes in self._genes]
