"""InstaTune: a pre-trained network becomes a supernet while it is fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from search_spaces import SearchSpace
from supernets.base import Supernet
from supernets.training.data import Batch
from supernets.training.distillation import counted, kl_loss, logits_of
from supernets.training.errors import InvalidSettings
from supernets.training.faults import Faults
from supernets.training.hidden import layer_loss as hidden_loss
from supernets.training.methods import Method, Phase, register_method
from supernets.training.passes import Passes
from supernets.training.sampling import sample_subnets
from supernets.training.teachers import check_teacher, digest_of, load_teacher

HIGH_THEN_LOW = "high-then-low"


@register_method("instatune")
class InstaTune(Method):
    """In each step the largest subnet S and random ones learn from labels, and from S, a teacher T, or both.

    Sridhar et al., InstaTune: Instantaneous Neural Architecture Search During Fine-Tuning, ICCV workshops 2023,
    arXiv:2308.15609. The gradient of a step is that of

        alpha * [CE(S) + sum_i CE(S_i)]
        + (1 - alpha) * [gamma * KL(S, T) + sum_i ((1 - gamma) * KL(S_i, S) + gamma * KL(S_i, T))]

    where CE is the task's loss and KL(A, B) what A's softened predictions lack of B's (`kl_loss`). The paper says
    neither the temperature nor whether KL(S_i, S) teaches S, too: by default it is 1, and S is a teacher alone.

    ``layer_loss`` adds ``layer_loss * sum_i mean_l MSE(h_l(S_i), h_l(S))``, where l runs over the layers of S_i and h_l
    is what layer l returns, as in TinyBERT (see `supernets.training.hidden`); there S is a teacher alone in any case.

    ``alpha=1, random_subnets=0`` is plain fine-tuning of the largest network. The loss that is reported is the largest
    network's part, weights included.

    Args:
        space: The space of the supernet.
        total_steps: Optimiser steps of the whole training.
        seed: Of the random subnets.
        alpha: Weight of the labels, 0-1.
        gamma: Weight of the teacher against S, 0-1, or ``"high-then-low"``: 1 at first, then 0. Default: 1 with a
            teacher, 0 without.
        high_share: Share of the steps in which ``"high-then-low"`` is 1.
        temperature: Of all distillation.
        random_subnets: Random subnets in a step, beside the largest.
        smallest: Whether the smallest subnet runs in each step, too, as the sandwich rule has it.
        stop_gradient: Whether KL(S_i, S) leaves S as it is. If not, each S_i costs a further backward pass of S, and
            the activations of S are kept meanwhile.
        layer_loss: Weight of the hidden states' loss, >= 0, for families that tell their layers (pre-trained
            Transformers); 0: none.
        teacher: A folder that `supernets.save` (its largest subnet is the teacher) or transformers' `save_pretrained`
            wrote; fine-tuned on the same task. Default: none.
    """

    training_defaults: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "lr": 5e-5,
        "weight_decay": 0.01,
        "warmup": 0.1,
        "decay": "linear",
        "clip_norm": 1.0,
    }

    orders_units: ClassVar[bool] = True  # a pre-trained model's are in no order

    def __init__(
        self,
        space: SearchSpace,
        *,
        total_steps: int,
        seed: int = 0,
        alpha: float = 0.3,
        gamma: float | str | None = None,
        high_share: float = 0.5,
        temperature: float = 1.0,
        random_subnets: int = 1,
        smallest: bool = False,
        stop_gradient: bool = True,
        layer_loss: float = 0.0,
        teacher: str | None = None,
    ) -> None:
        super().__init__(space, total_steps=total_steps, seed=seed)
        if gamma is None:
            gamma = 0.0 if teacher is None else 1.0
        faults = Faults()
        faults.number("alpha", alpha, at_least=0, at_most=1)
        if gamma != HIGH_THEN_LOW:
            _check_gamma(gamma, faults)
        faults.number("high_share", high_share, above=0, below=1)
        faults.number("temperature", temperature, above=0)
        faults.integer("random_subnets", random_subnets, at_least=0)
        faults.boolean("smallest", smallest)
        faults.boolean("stop_gradient", stop_gradient)
        faults.number("layer_loss", layer_loss, at_least=0)
        if teacher is not None and not (isinstance(teacher, str) and teacher):
            faults.append(f"teacher must be the path of a folder, as text, got {teacher!r}")
        if not faults:
            _check_together(alpha, gamma, teacher, faults)
        faults.raise_any()
        self.phases = (Phase("instatune", 0, total_steps),)
        self.alpha = alpha
        self.gamma = gamma
        self.temperature = temperature
        self.random_subnets = random_subnets
        self.with_smallest = smallest
        self.stop_gradient = stop_gradient
        self.layer_loss = layer_loss
        self.teacher: nn.Module | None = None
        self._folder = teacher
        self._digest = ""
        self._high_until = max(1, round(high_share * total_steps))

    def gamma_at(self, step: int) -> float:
        """Return gamma in a step."""
        if isinstance(self.gamma, str):
            return 1.0 if step < self._high_until else 0.0
        return self.gamma

    # -- the teacher ---------------------------------------------------------------------------------

    def check(self, net: Supernet) -> None:
        """Load the teacher and compare its outputs with the supernet's.

        Raises:
            InvalidSettings: There is none in the folder, or it is of other inputs or classes; or the supernet does not
                tell the layers that a layer-wise loss needs.
        """
        if self.layer_loss > 0 and not net.active_layers():
            raise InvalidSettings(
                [f"layer_loss={self.layer_loss!r}: supernets of family {net.family!r} do not tell their layers; set 0"]
            )
        if self._folder is None:
            return
        teacher = load_teacher(self._folder)
        if fault := check_teacher(teacher, net, self.largest):
            raise InvalidSettings([f"the teacher in {self._folder} does not fit: {fault}"])
        self.teacher, self._digest = teacher, digest_of(teacher).hex()

    def enter(self, phase: Phase, net: Supernet) -> None:
        """Bring the teacher to the supernet's device."""
        if self.teacher is None:
            self.check(net)
        self._place(net)

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with the hash of the teacher's weights in the place of its folder."""
        return {**options, "teacher": f"weights {self._digest}"} if self._digest else dict(options)

    def load_state_dict(self, tensors: Mapping[str, Tensor], net: Supernet) -> None:
        """Bring the teacher to the supernet's device."""
        self._place(net)

    def _place(self, net: Supernet) -> None:
        if self.teacher is not None:
            self.teacher.to(next(net.parameters()).device)

    # -- a step --------------------------------------------------------------------------------------

    def subnets(self, step: int) -> list[dict[str, Any]]:
        """Return the largest, the random ones and, where asked for, the smallest."""
        drawn = sample_subnets(self.space, self.random_subnets, self.seed, step)
        return [self.largest, *drawn, *([self.smallest] if self.with_smallest else [])]

    def backward(self, batch: Batch, subnets: list[dict[str, Any]], passes: Passes) -> None:
        """Add the gradients of all subnets on one batch."""
        largest, *others = subnets
        gamma = self.gamma_at(passes.step)
        from_teacher, from_largest = (1 - self.alpha) * gamma, (1 - self.alpha) * (1 - gamma)
        taught: Tensor | None = None
        if from_teacher > 0:
            assert self.teacher is not None  # noqa: S101 - gamma was checked, and the teacher loaded
            # A teacher that is a supernet sees the inputs at its own resolution.
            adapts = self.teacher if isinstance(self.teacher, Supernet) else passes.net
            inputs = adapts.fit_inputs(batch.inputs, None if adapts is self.teacher else largest)
            taught = logits_of(passes.forward_frozen(self.teacher, inputs))
        deep = self.layer_loss > 0 and bool(others)
        outputs = passes.forward(largest, batch.inputs, keep_hidden=deep)
        states = {layer: x.detach() for layer, x in passes.hidden.items()} if deep else {}
        # Without the stop the subnets' losses flow through the largest's activations, too.
        again = len(others) if from_largest > 0 and not self.stop_gradient else 0
        passes.backward(self._value(passes, outputs, batch, [(from_teacher, taught)]), retain_graph=again > 0)
        source: Tensor | None = None
        if from_largest > 0:
            source = logits_of(outputs) if again else logits_of(outputs).detach()
        del outputs
        passes.hidden = {}
        for i, arch in enumerate(others, start=1):
            student = passes.forward(arch, batch.inputs, keep_hidden=deep)
            value = self._value(passes, student, batch, [(from_largest, source), (from_teacher, taught)])
            if deep:
                # A mean over items, padding included, whatever counts for the other losses.
                among = passes.items / passes.weight
                value = value + self.layer_loss * among * hidden_loss(passes.hidden, states)
                passes.hidden = {}
            passes.backward(value, retain_graph=i < again)

    def _value(self, passes: Passes, outputs: Any, batch: Batch, teachers: list[tuple[float, Tensor | None]]) -> Tensor:
        """Return the loss of one subnet: labels and teachers, each with its weight."""
        parts = [] if self.alpha == 0 else [self.alpha * passes.loss(outputs, batch.targets).float()]
        for weight, logits in teachers:
            if weight > 0 and logits is not None:
                parts.append(weight * kl_loss(outputs, logits, self.temperature, counted(outputs, batch.targets)))
        return torch.stack(parts).sum()


def _check_gamma(gamma: object, faults: Faults) -> None:
    if isinstance(gamma, str):
        faults.append(f"gamma must be a number >= 0 and <= 1 or {HIGH_THEN_LOW!r}, got {gamma!r}")
    else:
        faults.number("gamma", gamma, at_least=0, at_most=1)


def _check_together(alpha: float, gamma: float | str, teacher: str | None, faults: Faults) -> None:
    """Note combinations in which something has no effect, or has nothing to learn from."""
    needs_teacher = alpha < 1 and gamma != 0
    if needs_teacher and teacher is None:
        faults.append(f"gamma={gamma!r} learns from a teacher; give teacher=FOLDER, or gamma=0")
    if teacher is not None and not needs_teacher:
        faults.append(
            f"with alpha={alpha!r} and gamma={gamma!r} nothing learns from the teacher {teacher}; leave it out"
        )
    if alpha == 0 and (gamma == HIGH_THEN_LOW or gamma == 0):
        faults.append(f"alpha=0 with gamma={gamma!r} leaves the largest network nothing to learn from; raise alpha")
