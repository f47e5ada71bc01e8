"""What searches, reports and fine-tunings ask of a supernet of experts beside its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from supernets.base import Architecture, Inputs
from supernets.errors import SupernetError
from supernets.experts import behaviour, explain, timing

if TYPE_CHECKING:
    from supernets.experts.supernet import ExpertSupernet


class ExpertQuestions:
    """The part of `ExpertSupernet` that answers questions; it has no state."""

    @property
    def _net(self) -> ExpertSupernet:
        return cast("ExpertSupernet", self)

    def timing_fault(self, options: Mapping[str, str]) -> str | None:
        """Return why an inference cannot be timed in some way; see `supernets.experts.timing`."""
        return timing.timing_fault(options, int(options.get("sequence", self._net.shapes.sequence or 1)))

    def timed_as(self, arch: Architecture, options: Mapping[str, str]) -> nn.Module:
        """Return the extracted subnet, or a step of generation with it; with the named implementation of experts.

        Raises:
            SupernetError: There is no such phase or implementation.
        """
        if (fault := self.timing_fault(options)) is not None:
            raise SupernetError(fault)
        return timing.timed(self._net.extract(arch), options)

    @classmethod
    def behaviours(cls) -> Mapping[str, str]:
        """Return the metrics of routing: how to write each -> what it is."""
        return behaviour.BEHAVIOURS

    @classmethod
    def behaviour_fault(cls, metric: str, tokens: int | None = None) -> str | None:
        """Return what is wrong with the name of a metric of routing; None if it can be observed."""
        return behaviour.fault(metric, tokens)

    def observe(self, metrics: Sequence[str], groups: Mapping[str, Iterable[Inputs]]) -> dict[str, float]:
        """Return metrics of how the active configuration routes texts, see `supernets.experts.behaviour`."""
        return behaviour.observe(self._net, metrics, groups)

    def explain(self, archs: Sequence[Architecture], domains: Mapping[str, Iterable[Inputs]]) -> dict[str, Any]:
        """Return which experts answer in some architectures, and how often each is asked, by domain."""
        return explain.explain(self._net, archs, domains)

    def parameter_groups(self) -> dict[str, list[str]]:
        """Return what may be trained alone: the routers, the routed experts, or both."""
        routers = sorted({f"*.{self._net._family.router}.{n}" for b in self._net.blocks for n in b.router._parameters})
        experts = sorted(
            {f"*.experts.{n}" for b in self._net.blocks for n in (*b.tensors, "expert_constants", "factored_*")}
        )
        return {"routers": routers, "experts": experts, "routers-and-experts": [*routers, *experts]}
