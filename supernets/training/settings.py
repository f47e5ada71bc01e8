"""Settings of supernet training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from supernets.training.faults import Faults

OPTIMIZERS = ("sgd", "adamw")
DECAYS = ("cosine", "linear")
AMP_MODES = ("auto", "off", "bf16", "fp16")

# A run may be resumed with other values of these: they do not change the weights.
_WITHOUT_EFFECT_ON_WEIGHTS = frozenset(
    {"checkpoint_every", "evaluate_every", "evaluate_batches", "gradient_checkpointing"}
)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a supernet is trained, whatever the method.

    Values are checked by `train`, together with the method's options, and all faults come in one message.

    Attributes:
        epochs: Passes over the training data; give either this or ``steps``.
        steps: Optimiser steps; give either this or ``epochs``.
        optimizer: ``"sgd"`` (Nesterov momentum) or ``"adamw"``.
        lr: Peak learning rate; a warm-up is followed by a decay to zero, in each phase.
        decay: ``"cosine"`` or ``"linear"``.
        momentum: Of SGD.
        weight_decay: Not applied to biases and normalisation weights.
        warmup: Fraction of each phase with a linearly rising learning rate.
        accumulate: Batches per optimiser step. The same subnets run on all of them, and the gradient is
            that of one big batch (normalisation statistics are still those of each batch).
        clip_norm: Largest norm of the gradient. Default: not clipped.
        freeze: Patterns (``*``, ``?``) of names of parameters that stay as they are: no gradient, no state of the
            optimiser. For example ``*embeddings.word_embeddings*``. Later ones count more, and one that begins with
            ``!`` is an exception: ``["*", "!*.gate.weight"]`` trains those alone.
        amp: ``"auto"``: bfloat16 or else float16 on CUDA, off elsewhere; ``"off"``, ``"bf16"``, ``"fp16"``.
        gradient_checkpointing: Whether layers keep their inputs alone and run again in the backward pass: less memory,
            more time, the same gradients. For families that tell their layers (pre-trained Transformers).
        lora_rank: Rank of low-rank adapters (LoRA), which alone learn, with the head; they are added to the weights at
            the end. 0: all weights learn. For pre-trained Transformers.
        lora_alpha: Factor on the adapters, divided by the rank. Default: the rank.
        lora_targets: Patterns of the names of elastic linear layers that get adapters.
        lora_train: Patterns of the names of weights that learn beside them, e.g. ``*bias`` or ``*LayerNorm*``.
        seed: Of the sampled subnets and of dropout.
        checkpoint_every: Steps between checkpoints; 0: only at the end.
        evaluate_every: Steps between evaluations of the largest and smallest subnet; 0: only at the end.
            Default: ten times in all.
        evaluate_batches: Most batches for such an evaluation.
        calibration_batches: Most batches for normalisation statistics, in evaluations and at the end.
        options: Options of the method, by name.
    """

    epochs: int | None = None
    steps: int | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    decay: Literal["cosine", "linear"] = "cosine"
    momentum: float = 0.9
    weight_decay: float = 3e-5
    warmup: float = 0.05
    accumulate: int = 1
    clip_norm: float | None = None
    freeze: tuple[str, ...] = ()
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    lora_rank: int = 0
    lora_alpha: float | None = None
    lora_targets: Sequence[str] = ("*",)
    lora_train: Sequence[str] = ()
    seed: int = 0
    checkpoint_every: int = 200
    evaluate_every: int | None = None
    evaluate_batches: int = 4
    calibration_batches: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """Return one message for each value that makes no sense."""
        faults = Faults()
        if (self.epochs is None) == (self.steps is None):
            faults.append(f"give either epochs or steps, got epochs={self.epochs!r} and steps={self.steps!r}")
        for name in ("epochs", "steps"):
            if getattr(self, name) is not None:
                faults.integer(name, getattr(self, name), at_least=1)
        faults.one_of("optimizer", self.optimizer, OPTIMIZERS)
        faults.number("lr", self.lr, above=0)
        faults.one_of("decay", self.decay, DECAYS)
        # Nesterov's rule is undefined without momentum.
        faults.number("momentum", self.momentum, above=0, below=1)
        faults.number("weight_decay", self.weight_decay, at_least=0)
        faults.number("warmup", self.warmup, at_least=0, below=1)
        faults.integer("accumulate", self.accumulate, at_least=1)
        if self.clip_norm is not None:
            faults.number("clip_norm", self.clip_norm, above=0)
        freeze: object = self.freeze
        if not isinstance(freeze, list | tuple) or not all(isinstance(p, str) and p for p in freeze):
            faults.append(f"freeze must be a list of patterns of parameter names, got {freeze!r}")
        faults.one_of("amp", self.amp, AMP_MODES)
        faults.boolean("gradient_checkpointing", self.gradient_checkpointing)
        faults.integer("lora_rank", self.lora_rank, at_least=0)
        if self.lora_alpha is not None:
            faults.number("lora_alpha", self.lora_alpha, above=0)
        for name in ("lora_targets", "lora_train"):
            patterns = getattr(self, name)
            if not isinstance(patterns, list | tuple) or not all(isinstance(p, str) for p in patterns):
                faults.append(f"{name} must be a list of patterns such as '*.query', got {patterns!r}")
        if (
            not faults
            and self.lora_rank == 0
            and (self.lora_alpha is not None or self.lora_train or tuple(self.lora_targets) != ("*",))
        ):
            faults.append(
                "lora_alpha, lora_targets and lora_train have no effect without lora_rank; give a rank, e.g. 8"
            )
        faults.integer("seed", self.seed, at_least=0)
        faults.integer("checkpoint_every", self.checkpoint_every, at_least=0)
        if self.evaluate_every is not None:
            faults.integer("evaluate_every", self.evaluate_every, at_least=0)
        faults.integer("evaluate_batches", self.evaluate_batches, at_least=1)
        faults.integer("calibration_batches", self.calibration_batches, at_least=1)
        options: object = self.options
        if not isinstance(options, Mapping):
            faults.append(f"options must be a mapping option name -> value, got {options!r}")
        return list(faults)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimiser steps, at least 1.

        Args:
            steps_per_epoch: Batches in an epoch of the data.
        """
        if self.steps is not None:
            return self.steps
        return max(1, (self.epochs or 1) * steps_per_epoch // self.accumulate)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON data."""
        return {**asdict(self), "freeze": list(self.freeze), "options": dict(self.options)}

    def weight_settings(self) -> dict[str, Any]:
        """Return, as JSON data, the settings that change the weights: those a resumed run must share."""
        names = {f.name for f in fields(self)} - _WITHOUT_EFFECT_ON_WEIGHTS
        return {name: value for name, value in self.to_json().items() if name in names}
