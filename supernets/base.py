"""The contract of a supernet: weights for every point of a search space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces import SearchSpace
from supernets.blocks import BlockSlot
from supernets.errors import SupernetError

if TYPE_CHECKING:
    from supernets.mixture import Mixture, MixtureSpec, RoutedBlock

Architecture: TypeAlias = Mapping[str, Any]
Inputs: TypeAlias = tuple[Tensor, ...] | Mapping[str, Tensor]
Loss: TypeAlias = Callable[[Any, Inputs], Tensor]
"""Output of a network and its inputs (labels included) -> scalar."""


def call(module: nn.Module, inputs: Inputs) -> Any:
    """Run a module on a batch of inputs: a tuple is positional, a mapping is by keyword."""
    return module(**inputs) if isinstance(inputs, Mapping) else module(*inputs)


def inputs_to(inputs: Inputs, device: torch.device) -> Inputs:
    """Return the inputs on a device."""
    if isinstance(inputs, tuple):
        return tuple(x.to(device, non_blocking=True) for x in inputs)
    return {name: x.to(device, non_blocking=True) for name, x in inputs.items()}


class Supernet(nn.Module, ABC):
    """A network that can be switched to any architecture of its space.

    Switching is by slices: nothing is allocated and gradients outside the active slice are zero. A new
    supernet has its largest architecture active.

    Attributes:
        family: Name of the family in the registry.
        space: The search space whose architectures the supernet holds.
        scores_by_gradient: Whether `sort_by_importance` asks a loss which units matter.
        recovery: How one subnet is best trained on alone, where the family says: ``alpha`` (weight of the labels, the
            rest is the largest subnet's) and ``temperature`` of `nassearch finetune`.
    """

    family: ClassVar[str]
    scores_by_gradient: ClassVar[bool] = False
    recovery: ClassVar[Mapping[str, float]] = {}
    space: SearchSpace

    @property
    @abstractmethod
    def active(self) -> dict[str, Any]:
        """The active architecture, a dict gene name -> value in canonical form."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the JSON arguments with which the family rebuilds this supernet, without weights."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Supernet:
        """Rebuild a supernet, with random weights, from what `config` returned.

        Raises:
            SupernetError: The configuration is not one of the family.
        """
        try:
            return cls(**config)
        except TypeError as error:
            raise SupernetError(f"not a configuration of supernet family {cls.family!r}: {error}") from None

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, in the order of the outputs; None where the network does not say (the default)."""
        return None

    @abstractmethod
    def activate(self, arch: Architecture) -> None:
        """Switch to an architecture, and to the supernet's own normalisation statistics.

        Raises:
            InvalidArchitecture: The architecture is not in the space.
        """

    @contextmanager
    def activated(self, arch: Architecture) -> Iterator[Supernet]:
        """Switch to an architecture within a ``with`` block.

        On leaving, the previous architecture is active again, with the statistics it had: those that
        `recalibrate` gave it included.
        """
        before, statistics = self.active, self._statistics()
        self.activate(arch)
        try:
            yield self
        finally:
            self.activate(before)
            self._set_statistics(statistics)

    @abstractmethod
    def extract(self, arch: Architecture) -> nn.Module:
        """Return the subnet as an ordinary module, with copied weights and no class of ours inside.

        In the mode (train or eval) of the supernet. When ``arch`` is the active architecture, the
        statistics that `recalibrate` gave it come along; otherwise the supernet's own are copied.
        """

    @abstractmethod
    def recalibrate(self, batches: Iterable[Inputs]) -> None:
        """Compute the normalisation statistics of the active architecture from batches of inputs.

        They belong to this activation alone: the supernet's own statistics are unchanged, and the next
        `activate` drops them. A no-op where there are no such statistics.
        """

    @abstractmethod
    def example_inputs(self, arch: Architecture | None = None, batch_size: int = 1) -> Inputs:
        """Return random inputs for an architecture (default: the active one), always the same values.

        A family whose inputs can have other sizes than the architecture's takes ``resolution`` (pixels) or ``sequence``
        (tokens) too, by exactly these names: latency settings such as ``cpu:eager,sequence=128`` look for them here.
        """

    @abstractmethod
    def analytic(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return exact costs of each row: ``params_m``, ``macs_m``, ``size_mb``; each float64 ``[n]``.

        Parameters in millions (buffers not counted), multiply-accumulates of one input in millions, size of
        parameters and buffers in the supernet's dtype in 1e6 bytes. Equal to what `extract` has.
        """

    def timed(self, arch: Architecture) -> nn.Module:
        """Return the module whose forward pass, on `example_inputs`, is one inference of the architecture.

        By default the network that `extract` returns. Families that run their network many times for one answer (a
        translation, token by token) return the extracted network with that loop around it.
        """
        return self.extract(arch)

    def timing_fault(self, options: Mapping[str, str]) -> str | None:
        """Return why an inference cannot be timed in the way that a latency setting names; None if it can.

        Args:
            options: What the setting names, ``phase`` or ``experts``; with one of them ``backend``, ``sequence``, too.
        """
        named = [n for n in ("phase", "experts") if n in options]
        return f"a {type(self).__name__} is timed in one way only; leave {' and '.join(named)} out" if named else None

    def timed_as(self, arch: Architecture, options: Mapping[str, str]) -> nn.Module:
        """Return what `timed` does, in the way that a latency setting names; see `timing_fault`.

        Raises:
            SupernetError: The family has no such way.
        """
        if (fault := self.timing_fault(options)) is not None:
            raise SupernetError(fault)
        return self.timed(arch)

    def generate(self, inputs: Inputs, *, beam: int = 1, length: int | None = None) -> Tensor:
        """Return the token sequences that the active subnet writes for inputs, int64 ``[n, at most length]``.

        Args:
            inputs: As for a forward pass; what belongs to the answer is not looked at.
            beam: Hypotheses that are kept; 1 is greedy.
            length: Most tokens. Default: the family's.

        Raises:
            SupernetError: The family writes no sequences (the default).
        """
        raise self._no_sequences()

    def generate_with(
        self, module: nn.Module, arch: Architecture, inputs: Inputs, *, beam: int = 1, length: int | None = None
    ) -> Tensor:
        """Return the token sequences that an extracted network writes, as `generate` does for the active subnet.

        Args:
            module: What `extract` returned for the architecture, trained on or not.
            arch: The architecture.
            inputs: See `generate`.
            beam: See `generate`.
            length: See `generate`.

        Raises:
            SupernetError: The family writes no sequences (the default).
        """
        raise self._no_sequences()

    def _no_sequences(self) -> SupernetError:
        return SupernetError(
            f"supernet family {self.family!r} writes no sequences, which the task needs; choose a translation supernet "
            "such as hat-multi30k, or override Supernet.generate and generate_with in the family"
        )

    @classmethod
    def behaviours(cls) -> Mapping[str, str]:
        """Return the metrics that `observe` knows: how to write each -> what it is. None by default."""
        return {}

    @classmethod
    def behaviour_fault(cls, metric: str, tokens: int | None = None) -> str | None:
        """Return what is wrong with the name of a metric of `observe`; None if it can be observed.

        Args:
            metric: The name.
            tokens: Tokens of an input, where they are known.
        """
        return f"supernets of family {cls.family!r} show no metric {metric!r}; leave it out"

    def observe(self, metrics: Sequence[str], groups: Mapping[str, Iterable[Inputs]]) -> dict[str, float]:
        """Return metrics of how the active subnet computes, whatever its answers are.

        Args:
            metrics: Their names, see `behaviours`.
            groups: Name of a domain -> batches of inputs of it.

        Raises:
            SupernetError: The family shows none (the default), or a name or the inputs do not suit.
        """
        raise SupernetError(self.behaviour_fault(metrics[0]) if metrics else "no metric was asked for")

    def fit_inputs(self, inputs: Inputs, arch: Architecture | None = None) -> Inputs:
        """Adapt task inputs to an architecture (default: the active one), e.g. to its resolution."""
        return inputs

    def active_layers(self) -> list[nn.Module]:
        """Return the layers that the active subnet runs one after the other, the same objects in every subnet.

        For gradient checkpointing and layer-wise losses: each takes and returns hidden states (first, where it returns
        several things), keeps no running statistics, and computes the same when it runs again. Empty (the default)
        where the family has no such layers.
        """
        return []

    def adapter_targets(self, targets: Sequence[str]) -> list[str]:
        """Return the names of the layers that can have low-rank adapters and match one of some patterns.

        Empty (the default) where the family has no such layers.
        """
        return []

    def add_adapters(self, *, rank: int, alpha: float, targets: Sequence[str], train: Sequence[str], seed: int) -> None:
        """Add low-rank adapters that alone learn, with the head and the parameters that ``train`` names by patterns.

        Raises:
            SupernetError: The family has none, or they are there already.
        """
        raise SupernetError(f"supernets of family {self.family!r} have no low-rank adapters; train all weights")

    def merge_adapters(self) -> None:
        """Add what the adapters have learned to the weights and remove them, if there are any."""

    def explain(self, archs: Sequence[Architecture], domains: Mapping[str, Iterable[Inputs]]) -> dict[str, Any]:
        """Return, as JSON data, what a report shows of the supernet and of some architectures.

        ``kind`` tells reports what it is. Empty (the default) where there is nothing to show.

        Args:
            archs: The members of a front, in order.
            domains: Name -> batches of calibration data; empty where the task tells no domains.
        """
        return {}

    def parameter_groups(self) -> dict[str, list[str]]:
        """Return parts of a subnet that are trained alone by name -> patterns of their parameters' names.

        Empty (the default) where the family names none.
        """
        return {}

    def block_slots(self) -> list[BlockSlot]:
        """Return the places of the network with the blocks that may stand there, in the order of computation.

        For tables of block latencies (`nassearch measure`): the blocks of an architecture, run one after the other,
        are its whole network. A family that overrides this lists, for each place, the genes that decide what stands
        there; see `supernets.blocks`.

        Raises:
            SupernetError: The family does not tell its blocks (the default); the message lists those that do.
        """
        from supernets.registry import families_with_blocks

        raise SupernetError(
            f"supernet family {self.family!r} does not tell its blocks, so they cannot be measured one by one; "
            f"families that do: {', '.join(families_with_blocks()) or 'none'}. Measure whole networks, or override "
            "Supernet.block_slots in the family"
        )

    def rebuild_source(self, arch: Architecture) -> str | None:
        """Return Python source of ``build_model()``, which makes `extract`'s module without weights and without us.

        None where the family gives none.
        """
        return None

    def sort_by_importance(
        self,
        batches: Iterable[Inputs] | None = None,
        loss: Loss | None = None,
        *,
        layers: bool = False,
        judge: Supernet | None = None,
    ) -> None:
        """Reorder channels so that prefixes keep what matters most; the largest subnet keeps its function.

        Args:
            batches: Calibration inputs, for families that score by data. Default: by the size of the weights.
            loss: Output and inputs -> scalar, for scores by gradient.
            layers: Whether depth, too, keeps the layers that matter most, for families whose depth is a choice of
                layers.
            judge: A copy whose weights are scored in place of this supernet's, for families that score by gradient:
                one that has been fine-tuned, where this one's head is new and its gradients say nothing yet.
        """

    def _canonical(self, arch: Architecture) -> dict[str, Any]:
        """Return an architecture as its space decodes it: inactive genes at their first value."""
        return self.space.decode(self.space.encode([arch]))[0]

    def choose_layers_as(self, other: Supernet) -> None:
        """Keep the layers that another supernet of the space keeps, for families whose depth is a choice of layers."""

    # -- mixtures ------------------------------------------------------------------------------------

    @property
    def mixture(self) -> Mixture | None:
        """The experts and routers of a Mixture-of-Supernets; None for a plain supernet."""
        return cast("Mixture | None", self._modules.get("mixtures"))

    def routed_blocks(self) -> list[RoutedBlock]:
        """Return the layers that a mixture routes, block by block.

        A family that overrides this also calls `_switch_mixture` at the end of `activate`, adds `mixture_config` to
        `config`, reads its layers' weights by `MixableModule.active`, and reorders all experts alike.

        Raises:
            SupernetError: The family has none (the default).
        """
        raise SupernetError(
            f"supernet family {self.family!r} has no layers that mixtures can route; build or convert it without "
            "mixture= (nassearch run: without --mixture)"
        )

    def mix(self, spec: MixtureSpec) -> None:
        """Turn the weights of the routed layers into mixtures of experts; see `supernets.mixture`.

        New weights come from torch's global generator. The largest architecture is active afterwards.

        Raises:
            SupernetError: The family has no layers to route, or the supernet is a mixture already.
        """
        from supernets.mixture import Mixture

        if self.mixture is not None:
            raise SupernetError("the supernet is a mixture already; build or convert it anew to mix it otherwise")
        self.add_module("mixtures", Mixture(spec, self.space, self.routed_blocks()))
        self.activate(self.space.decode(self.space.largest[None])[0])

    def mixture_config(self) -> dict[str, Any]:
        """Return what `config` says of the mixture: nothing for a plain supernet."""
        return {} if self.mixture is None else {"mixture": self.mixture.spec.to_json()}

    def _switch_mixture(self, arch: Architecture) -> None:
        """Let the routers see an architecture in canonical form."""
        if self.mixture is not None:
            self.mixture.switch(arch)

    # -- statistics ----------------------------------------------------------------------------------

    def _statistics(self) -> Any:
        """Return what `recalibrate` gave the active architecture, for `_set_statistics`."""
        return None

    def _set_statistics(self, statistics: Any) -> None:
        """Give the active architecture the statistics that `_statistics` returned."""
