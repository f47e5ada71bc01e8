"""Progressive shrinking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from search_spaces import Gene, SearchSpace, Value
from search_spaces.errors import did_you_mean
from supernets.base import Supernet
from supernets.training.data import Batch
from supernets.training.distillation import counted, soft_targets_loss
from supernets.training.faults import Faults
from supernets.training.methods import Method, Phase, register_method
from supernets.training.passes import Passes
from supernets.training.sampling import sample_subnets

_ORDER = ("kernel", "depth", "expand", "width")
_IN_TWO_PHASES = ("depth", "expand")
_THROUGHOUT = "resolution"
_WITHOUT_CHANNELS = ("kernel", "depth", _THROUGHOUT)

# OFA's recipe for ImageNet: epochs, learning rate over the largest network's, and subnets a step.
_EPOCHS = {"largest": 180.0, "kernel": 120.0, "first": 25.0, "second": 120.0}
_LR = {"largest": 1.0, "kernel": 0.37, "first": 0.031, "second": 0.092}
_SUBNETS = {"largest": 1, "kernel": 1, "depth": 2}
_SUBNETS_ELSE = 4


@dataclass(frozen=True)
class Stage:
    """What is elastic in a phase.

    Attributes:
        name: ``"largest"``, a role, or a role with ``"-1"`` or ``"-2"``.
        role: The role that becomes (more) elastic.
        space: The space that subnets are drawn from.
        kind: Which of OFA's phases it is like: ``"largest"``, ``"kernel"``, ``"first"``, ``"second"``.
    """

    name: str
    role: str
    space: SearchSpace
    kind: str


@register_method("progressive-shrinking")
class ProgressiveShrinking(Method):
    """First the largest network, then smaller ones too: kernel, depth, expansion ratio, width.

    Cai et al., Once-for-All: Train One Network and Specialize it for Efficient Deployment, ICLR 2020.
    Which genes do what is known by their roles; a role that the space lacks has no phase, and roles that OFA
    does not know follow in the space's order. Resolution varies throughout. After the first phase a frozen
    copy of the largest subnet is the teacher, at the largest resolution. Channels are sorted by importance
    once, before the first role that changes their number. The gradients of a step's subnets are summed.

    Args:
        space: The space of the supernet.
        total_steps: Optimiser steps of the whole training, divided among the phases.
        seed: Of the sampled subnets.
        epochs: Phase name -> its length relative to the others; 0 leaves the phase out, e.g.
            ``{"largest": 0}`` for a supernet whose largest subnet is trained already. Default: OFA's epochs.
        lr: Phase name -> factor on the learning rate. Default: OFA's, which suit long training.
        subnets: Phase name -> subnets a step. Default: OFA's 1, 1, 2, 2, 4, 4, and 4 for other roles.
        kd_ratio: Weight of the teacher's predictions relative to the labels'; 0: no teacher.
        temperature: Of the distillation.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        total_steps: int,
        seed: int = 0,
        epochs: Mapping[str, float] | None = None,
        lr: Mapping[str, float] | None = None,
        subnets: Mapping[str, int] | None = None,
        kd_ratio: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(space, total_steps=total_steps, seed=seed)
        stages = shrinking_stages(space)
        faults = _option_faults(stages, epochs, lr, subnets)
        faults.number("kd_ratio", kd_ratio, at_least=0)
        faults.number("temperature", temperature, above=0)
        faults.raise_any()
        lengths = {s.name: _EPOCHS[s.kind] for s in stages} | dict(epochs or {})
        factors = {s.name: _LR[s.kind] for s in stages} | dict(lr or {})
        counts = {s.name: _SUBNETS.get(s.role, _SUBNETS_ELSE) for s in stages} | dict(subnets or {})
        stages = [s for s in stages if lengths[s.name] > 0]
        if not stages or total_steps < len(stages):
            faults.append(
                f"progressive shrinking has {len(stages)} phases ({', '.join(s.name for s in stages)}) and needs "
                f"at least one, and a training step for each; there are {total_steps} steps"
            )
        faults.raise_any()
        stops = list(accumulate(_divide(total_steps, [lengths[s.name] for s in stages])))
        self.phases = tuple(
            Phase(s.name, start, stop, factors[s.name])
            for s, start, stop in zip(stages, [0, *stops], stops, strict=False)
        )
        self.kd_ratio = kd_ratio
        self.temperature = temperature
        self.teacher: nn.Module | None = None
        self._stages = {s.name: s for s in stages}
        self._counts = counts
        self._sort_before = next((s.name for s in stages if s.role not in ("largest", *_WITHOUT_CHANNELS)), None)

    def enter(self, phase: Phase, net: Supernet) -> None:
        """Keep the largest subnet as the teacher; sort channels before their number becomes elastic."""
        if self.teacher is None and phase.name != "largest" and self.kd_ratio > 0:
            self._keep_teacher(net)
        if phase.name == self._sort_before:
            net.sort_by_importance()

    def subnets(self, step: int) -> list[dict[str, Any]]:
        """Return random architectures of the phase's space."""
        name = self.phase(step).name
        return sample_subnets(self._stages[name].space, self._counts[name], self.seed, step)

    def backward(self, batch: Batch, subnets: list[dict[str, Any]], passes: Passes) -> None:
        """Add the gradients of all subnets on one batch."""
        taught: Any = None
        if self.teacher is not None:
            taught = passes.forward_frozen(self.teacher, passes.net.fit_inputs(batch.inputs, self.largest))
        for arch in subnets:
            outputs = passes.forward(arch, batch.inputs)
            value = passes.loss(outputs, batch.targets)
            if self.teacher is not None:
                value = value + self.kd_ratio * soft_targets_loss(
                    outputs, taught, self.temperature, counted(outputs, batch.targets)
                )
                value = value * (2 / (1 + self.kd_ratio))  # OFA's scale
            passes.backward(value)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the teacher's weights, once there is a teacher."""
        return {} if self.teacher is None else dict(self.teacher.state_dict())

    def load_state_dict(self, tensors: Mapping[str, Tensor], net: Supernet) -> None:
        """Restore the teacher."""
        self.teacher = None
        if tensors:
            self._keep_teacher(net).load_state_dict(tensors)

    def _keep_teacher(self, net: Supernet) -> nn.Module:
        self.teacher = net.extract(self.largest).eval().requires_grad_(False)
        return self.teacher


def shrinking_stages(space: SearchSpace) -> list[Stage]:
    """Return the phases of progressive shrinking for a space."""
    choices = {g.name: _nearest(g, None if _role(g) == _THROUGHOUT else 1) for g in space.genes}
    stages = [Stage("largest", "largest", space.restricted(choices), "largest")]
    elastic = [g for g in space.genes if len(g.choices) > 1 and _role(g) != _THROUGHOUT]
    roles = dict.fromkeys([*_ORDER, *(_role(g) for g in elastic)])
    for role in roles:
        genes = [g for g in elastic if _role(g) == role]
        if not genes:
            continue
        twice = role in _IN_TWO_PHASES and any(len(g.choices) > 2 for g in genes)
        for kind in ("first", "second") if twice else ("kernel" if role == "kernel" else "second",):
            choices |= {g.name: _nearest(g, 2 if kind == "first" else None) for g in genes}
            name = f"{role}-{1 if kind == 'first' else 2}" if twice else role
            stages.append(Stage(name, role, space.restricted(choices), kind))
    return stages


def _role(gene: Gene) -> str:
    return gene.role or "other"


def _nearest(gene: Gene, count: int | None) -> list[Value]:
    """Return the largest choice and those nearest to it, ``count`` in all; None: every choice."""
    values = list(gene.choices)
    if gene.kind == "ordinal":
        values.sort(key=lambda v: abs(float(v) - float(gene.largest or 0)))
    else:
        values.sort(key=lambda v: v != gene.largest)
    return values if count is None else values[:count]


def _divide(total: int, weights: Sequence[float]) -> list[int]:
    """Divide steps by weights; every phase gets at least one."""
    free = total - len(weights)
    ends = [round(free * w / sum(weights)) for w in accumulate(weights)]
    return [1 + end - start for start, end in zip([0, *ends], ends, strict=False)]


def _option_faults(stages: Collection[Stage], epochs: Any, lr: Any, subnets: Any) -> Faults:
    faults = Faults()
    names = [s.name for s in stages]
    for option, given in (("epochs", epochs), ("lr", lr), ("subnets", subnets)):
        if given is not None and not isinstance(given, Mapping):
            faults.append(f"{option} must be a mapping phase name -> value, got {given!r}")
            continue
        for name, value in (given or {}).items():
            label = f"{option}[{name!r}]"
            if name not in names:
                faults.append(f"{label}: no such phase{did_you_mean(name, names)}; phases here: {', '.join(names)}")
            elif option == "subnets":
                faults.integer(label, value, at_least=1)
            elif option == "lr":
                faults.number(label, value, above=0)
            else:
                faults.number(label, value, at_least=0)
    return faults
