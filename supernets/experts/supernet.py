"""A Mixture-of-Experts language model whose expert configuration can be switched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from search_spaces import SearchSpace
from supernets.base import Architecture, Inputs, Loss, Supernet
from supernets.errors import SupernetError, UnsupportedModel
from supernets.experts import calibration, importance
from supernets.experts.blocks import find_blocks
from supernets.experts.choices import Choices, gene_name, resolve
from supernets.experts.costs import CostModel
from supernets.experts.extraction import extract_active, stock_widths, why_not_stock
from supernets.experts.families import FAMILIES, family_of
from supernets.experts.planner import Planner, Wanted
from supernets.experts.questions import ExpertQuestions
from supernets.experts.source import source
from supernets.experts.space import experts_space
from supernets.experts.statistics import LayerStatistics
from supernets.registry import register_family
from supernets.transformer import rebuild
from supernets.transformer.family import Family
from supernets.transformer.inputs import InputShapes, example_inputs
from supernets.transformer.skeleton import build_skeleton

PROBES = 256
_TEXT = Family(name="experts", library="transformers", models=tuple(FAMILIES), stacks=(), inputs=("text",))


@register_family
class ExpertSupernet(ExpertQuestions, Supernet):
    """A stock causal language model of transformers whose experts are kept, merged, narrowed and chosen differently.

    A configuration says for each Mixture-of-Experts block how many experts are kept, what becomes of the others, how
    many a token has, how wide they are, whether some answer every token, and whether the block has experts at all.
    Switching copies none of the model's weights: dropped experts leave the router before softmax and top-k (a few
    router rows are gathered in each forward pass), merged experts live in a small bank behind an index map, a narrower
    expert is a prefix of its neurons. Memory: the model, the banks of the active configuration, and at most ``bank_mb``
    of banks that are kept for later; in a forward pass the narrowed ``gate_up_proj`` of one layer.

    Args:
        model: The model.
        given: The user's lists, see `supernets.experts.choices`.
        uniform: Whether all layers agree, and only what stock classes can load is offered.
        sequence: Tokens of example inputs, at which costs are stated. Default: the lesser of 128 and the model's limit.
        calibrated: Whether there are, or will be loaded, calibration statistics.
        protect: Whether super experts are kept whatever the criterion says.
        bank_mb: Memory for banks of configurations that are not active, in 1e6 bytes.
        least: How many experts each block keeps at least, see `keep_super_experts`. Default: no limit.
        copy: Whether a copy becomes switchable, or the model itself.

    Attributes:
        model: The switchable model, an instance of the original's class.
        blocks: Its Mixture-of-Experts blocks.
        statistics: What calibration found in each block.
        choices: The values of all genes.

    Raises:
        SupernetError: Lists or lengths that do not suit the model.
        UnsupportedModel: The model has no experts of a known layout.
    """

    family: ClassVar[str] = "experts"
    # MC-SMoE (Li et al., ICLR 2024): temperature 2, distillation weighs 0.2.
    recovery: ClassVar[Mapping[str, float]] = {"alpha": 0.8, "temperature": 2.0}

    def __init__(
        self,
        model: nn.Module,
        given: Mapping[str, Any],
        *,
        uniform: bool = False,
        sequence: int | None = None,
        calibrated: bool = False,
        protect: bool = True,
        bank_mb: float = 64.0,
        least: Sequence[int] = (),
        copy: bool = True,
    ) -> None:
        super().__init__()
        family = family_of(model)
        if family is None:
            raise UnsupportedModel(f"a {type(model).__name__} is no Mixture-of-Experts model that is known")
        self._family = family
        self._blueprint = rebuild.blueprint(model, _TEXT)
        self.model: Any = deepcopy(model) if copy else model
        config: Any = self.model.config
        self._implementation = config._experts_implementation
        self.blocks = find_blocks(self.model, family)
        self._check_alike()
        self.shapes = InputShapes.of(model, _TEXT, sequence)
        block = self.blocks[0]
        widths = stock_widths(model, block, family)
        self.choices: Choices = resolve(block, given, uniform=uniform, calibrated=calibrated, stock_widths=widths)
        self.least = tuple(least) or (0,) * len(self.blocks)
        self.space = self._made_space()
        self.calibrated, self.protect, self.bank_mb = calibrated, protect, bank_mb
        made = [LayerStatistics(b.n_experts, b.hidden, b.width, PROBES if calibrated else 0) for b in self.blocks]
        self.statistics = nn.ModuleList(made if calibrated else [])
        self._planner = Planner(self.blocks, made, int(config.num_hidden_layers), bank_mb=bank_mb, protect=protect)
        for b in self.blocks:
            b.switch()
        self._costs: CostModel | None = None
        self._active: dict[str, Any] = {}
        rebuild.share_tied_tensors(self)
        self.to(next(model.parameters()).device)
        self.train(model.training)
        self.activate(self._largest)

    def _made_space(self) -> SearchSpace:
        return experts_space(self._family.model_type.replace("_", "-"), self.blocks, self.choices, self.least)

    def _check_alike(self) -> None:
        sizes = {(b.n_experts, b.k, b.width, b.hidden, b.groups) for b in self.blocks}
        if len(sizes) > 1:
            raise UnsupportedModel(
                f"the blocks of a {type(self.model).__name__} have experts of different number or size; "
                "convert the model before it is pruned"
            )

    @property
    def _largest(self) -> dict[str, Any]:
        return self.space.decode(self.space.largest[None])[0]

    # -- description ---------------------------------------------------------------------------------

    @property
    def active(self) -> dict[str, Any]:
        """The active architecture, a dict gene name -> value in canonical form."""
        return dict(self._active)

    def config(self) -> dict[str, Any]:
        """Return the JSON arguments with which the family rebuilds this supernet, without weights.

        Raises:
            SupernetError: The model cannot be rebuilt from its configuration; the message says why.
        """
        return {
            "model": self._blueprint.to_json(),
            "implementation": self._implementation,
            "choices": self.choices.to_json(),
            "sequence": self.shapes.sequence,
            "calibrated": self.calibrated,
            "protect": self.protect,
            "bank_mb": self.bank_mb,
            "least": list(self.least),
            "buffers": rebuild.buffer_dtypes(self.model),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ExpertSupernet:
        """Rebuild a supernet, with random weights, from what `config` returned.

        Raises:
            SupernetError: The configuration is not one of the family.
        """
        keys = {
            "model",
            "implementation",
            "choices",
            "sequence",
            "calibrated",
            "protect",
            "bank_mb",
            "least",
            "buffers",
        }
        if not isinstance(config, Mapping) or set(config) != keys:
            raise SupernetError(f"not a configuration of supernet family {cls.family!r}: it needs {sorted(keys)}")
        try:
            model: Any = build_skeleton({n: v for n, v in config["model"].items() if n != "family"})
        except Exception as error:  # constructors of other libraries raise anything
            raise SupernetError(f"the model cannot be made again: {type(error).__name__}: {error}") from error
        model.config._experts_implementation = config["implementation"]
        rebuild.set_buffer_dtypes(model, config["buffers"])
        choices = {n: v for n, v in config["choices"].items() if n != "uniform"}
        return cls(
            model,
            choices,
            uniform=config["choices"]["uniform"],
            sequence=config["sequence"],
            calibrated=config["calibrated"],
            protect=config["protect"],
            bank_mb=config["bank_mb"],
            least=config["least"],
            copy=False,  # nobody else has the model
        )

    # -- switching -----------------------------------------------------------------------------------

    def activate(self, arch: Architecture) -> None:
        """Switch to an architecture. Merged experts are made from the model's weights as they are now.

        Raises:
            InvalidArchitecture: The architecture is not in the space.
        """
        canonical = self._canonical(arch)
        wanted = [self._wanted(canonical, slot) for slot in range(len(self.blocks))]
        plans = [self._planner(slot, w) for slot, w in enumerate(wanted)]
        for slot, (block, plan) in enumerate(zip(self.blocks, plans, strict=True)):
            setting = block.setting
            setting.plan = plan
            setting.k = self._value(canonical, "k", slot, block.k)
            setting.top_p = self._value(canonical, "top_p", slot, 1.0) if setting.k > 1 else 1.0
            setting.width = wanted[slot].width
        self._active = canonical

    def _value(self, canonical: Architecture, dim: str, slot: int, own: Any) -> Any:
        return canonical.get(gene_name(dim, slot, self.choices), own)

    def _wanted(self, canonical: Architecture, slot: int) -> Wanted:
        block, choices = self.blocks[slot], self.choices
        return Wanted(
            keep=self._value(canonical, "keep", slot, block.n_experts),
            operator=self._value(canonical, "op", slot, choices.operators[0]),
            criterion=canonical.get("criterion", choices.criteria[0]),
            width=self._value(canonical, "width", slot, block.width),
            shared=self._value(canonical, "shared", slot, 0),
            kind=self._value(canonical, "block", slot, "experts"),
        )

    @property
    def active_bank_mb(self) -> float:
        """Memory of the active configuration beside the model, in 1e6 bytes."""
        return sum(b.setting.plan.n_bytes for b in self.blocks) / 1e6

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the active subnet of the stock model returns."""
        return self.model(*args, **kwargs)

    def extract(self, arch: Architecture) -> nn.Module:
        """Return the subnet as a stock model with copied weights, in the mode (train or eval) of the supernet.

        Where a stock class can hold it (`why_not_stock` is None), its configuration says so, and ``save_pretrained``
        writes what ``from_pretrained`` reads. Elsewhere layers of different sizes are stock modules that the
        configuration cannot describe, and experts that answer for several rows of the router have hooks.
        """
        if self._canonical(arch) != self._active:
            with self.activated(arch):
                return self.extract(arch)
        reason = why_not_stock(self.model, self.blocks, self._family)
        return extract_active(self.model, self.blocks, self._family, reason).train(self.training)

    def why_not_stock(self, arch: Architecture) -> str | None:
        """Return why the stock class cannot load an architecture from a folder; None where it can."""
        with self.activated(arch):
            return why_not_stock(self.model, self.blocks, self._family)

    def rebuild_source(self, arch: Architecture) -> str | None:
        """Return Python source of ``build_model()``, which needs transformers alone; None where it cannot be written.

        It has the shapes of each layer, and what index maps, constants and top-p compute.
        """
        with self.activated(arch):
            reason = why_not_stock(self.model, self.blocks, self._family)
            return source(self._blueprint, extract_active(self.model, self.blocks, self._family, reason, meta=True))

    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Do nothing: there are no normalisation statistics."""

    # -- calibration ---------------------------------------------------------------------------------

    def calibrate(self, batches: calibration.Calibration) -> int:
        """Gather anew what criteria and operators need; returns the number of tokens seen.

        Args:
            batches: Inputs by name or position, or such by domain: a mapping of names to batches.

        Raises:
            SupernetError: The supernet was made without calibration, there are too few tokens, or tokens that the model
                does not have. What was known before stays.
        """
        if not self.calibrated:
            raise SupernetError("this supernet was made without calibration; use convert(model, calibration=BATCHES)")
        fresh, seen = self._gathered(batches)
        for old, new in zip(self.statistics, fresh, strict=True):
            # The order is of the weights, not of the batches.
            old.load_state_dict({**new.state_dict(), "order": old.state_dict()["order"]})
        self._costs = None  # super experts stay whole
        self.activate(self._active)
        return seen

    def _gathered(self, batches: calibration.Calibration) -> tuple[list[LayerStatistics], int]:
        device = next(self.model.parameters()).device
        fresh = [LayerStatistics(b.n_experts, b.hidden, b.width, PROBES).to(device) for b in self.blocks]
        with self.activated(self._largest):
            seen = calibration.gather(self.model, self.blocks, fresh, batches)
        return fresh, seen

    @property
    def super_experts(self) -> list[list[int]]:
        """The experts of each block that are never dropped or merged."""
        return [sorted(p) for p in self._planner.protected()]

    def n_whole(self, slot: int, keep: int, shared: int) -> int:
        """Return how many of a block's kept experts no operator changes: super experts, and shared ones."""
        return self._planner.n_whole(slot, keep, shared)

    def keep_super_experts(self) -> None:
        """Leave out of the space what would lose super experts, as they are known now: a count of calibration's.

        `convert` calls it after calibration. The space is what a run knows its architectures by, so it does not follow
        when the supernet is calibrated anew; super experts found then still come before all others.
        """
        self.least = tuple(self._planner.least_kept(slot) for slot in range(len(self.blocks)))
        self.space = self._made_space()
        self._costs = None
        self.activate(self._largest)

    def ranking(self, slot: int, criterion: str) -> list[int]:
        """Return the experts of a block, the most important first; super experts before all others."""
        return list(self._planner.ranking(slot, criterion))

    def sort_by_importance(
        self,
        batches: Iterable[Inputs] | None = None,
        loss: Loss | None = None,
        *,
        layers: bool = False,
        judge: Supernet | None = None,
    ) -> None:
        """Reorder the neurons of each expert so that a narrower one keeps what matters most; the function is kept.

        A neuron's score is the sum of the absolute values it took in calibration times the L2 norm of its column of
        ``down_proj``, which bounds what leaving it out changes; without calibration the L1 norm of its weights.

        Args:
            batches: To calibrate with first. Default: the calibration there was. A supernet made without calibration
                uses them for the order alone and keeps nothing of them.
            loss: Not used.
            layers: Not used: all layers stay.
            judge: Not used.
        """
        if batches is not None and self.calibrated:
            self.calibrate(batches)
        statistics: list[Any] = list(self.statistics) or [None] * len(self.blocks)
        if batches is not None and not self.calibrated:
            statistics, _ = self._gathered(batches)
        for block, known in zip(self.blocks, statistics, strict=True):
            importance.sort_neurons(block, known)
        self._planner.clear()
        self.activate(self._active)

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

    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return exact costs of each row; each float64 ``[n]``.

        Beside ``params_m``, ``macs_m`` and ``size_mb``: ``active_params_m``, parameters that one token uses,
        ``active_size_mb``, their bytes and those of buffers outside the blocks, and ``active_experts``, routed experts
        per token, mean over the blocks. With top-p the last three are upper bounds:
        how many a token has depends on the text.
        """
        if self._costs is None:
            with self.activated(self._largest):
                self._costs = CostModel(self)
        return self._costs(G)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        result: Self = super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._costs = None  # the size changes with the dtype
        if self.__dict__.get("_active"):
            self._planner.clear()
            with torch.no_grad():
                self.activate(self._active)
        return result
