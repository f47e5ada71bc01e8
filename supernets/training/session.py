"""The state of a training, and how it is kept in a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from supernets.base import Supernet
from supernets.training.checkpoint import differences, save_checkpoint
from supernets.training.data import TrainingData
from supernets.training.errors import NonFiniteLoss, ResumeError
from supernets.training.methods import Method
from supernets.training.optimisation import load_optimizer_tensors, make_optimizer, optimizer_tensors
from supernets.training.passes import Passes
from supernets.training.report import TrainReport
from supernets.training.settings import TrainSettings


class Session:
    """Everything that changes while a supernet is trained.

    Args:
        net: The supernet.
        method: Its training method.
        passes: Holder of the loss scale.
        settings: How it is trained.
        data: The training data.
        data_fingerprint: Identity of the data, if known.

    Attributes:
        step: Steps done.
        total: Steps in all.
        optimizer: The optimiser of the current phase, once there is one.
        loss: Loss of the last step.
        images: Training inputs seen.
        images_per_second: Running mean.
        history: Evaluations.
    """

    def __init__(
        self,
        net: Supernet,
        method: Method,
        passes: Passes,
        settings: TrainSettings,
        data: TrainingData,
        data_fingerprint: str | None = None,
    ) -> None:
        self.step = 0
        self.total = settings.total_steps(data.steps_per_epoch)
        self.optimizer: Optimizer | None = None
        self.loss = float("nan")
        self.images = 0
        self.images_per_second = 0.0
        self.history: list[dict[str, Any]] = []
        self._seconds = 0.0
        self._net = net
        self._method = method
        self._passes = passes
        self._settings = settings
        self._steps_per_epoch = data.steps_per_epoch
        self._identity = json.loads(
            json.dumps(
                {
                    "method": method.name,
                    "space": net.space.identity,
                    "space_name": net.space.name,
                    "supernet": net.config(),
                    "settings": settings.weight_settings() | {"options": method.identity(settings.options)},
                    "total_steps": self.total,
                    "steps_per_epoch": data.steps_per_epoch,
                    "data_fingerprint": data_fingerprint,
                }
            )
        )

    def count(self, images: int, loss: float, images_per_second: float) -> None:
        """Note that a step is done."""
        self.step += 1
        self.images += images
        self.loss = loss
        known = self.images_per_second
        self.images_per_second = 0.9 * known + 0.1 * images_per_second if known else images_per_second

    def record(self, largest: float, smallest: float) -> None:
        """Note the quality of the largest and the smallest subnet."""
        self.history.append({"step": self.step, "loss": self.loss, "top1_largest": largest, "top1_smallest": smallest})

    def check_weights(self, folder: Path) -> None:
        """Check that the weights may be kept.

        Raises:
            NonFiniteLoss: Some are NaN or infinite; the checkpoint in the folder stays as it was.
        """
        weights = self._net.state_dict()
        broken = [n for n, t in weights.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
        if broken:
            raise NonFiniteLoss(
                f"weights became NaN or infinite by step {self.step}: {', '.join(broken[:3])}"
                f"{' …' if len(broken) > 3 else ''}; the checkpoint in {folder} is from before. Lower lr, set "
                "clip_norm, or lengthen warmup"
            )

    def save(self, folder: Path, seconds: float) -> None:
        """Replace the checkpoint; `check_weights` comes first.

        Args:
            folder: Where it is.
            seconds: Wall time of this process's part of the training.
        """
        assert self.optimizer is not None  # noqa: S101 - a step is done
        parts = {"net": self._net.state_dict(), "method": self._method.state_dict()}
        parts["optimizer"] = optimizer_tensors(self.optimizer)
        save_checkpoint(
            folder,
            {f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()},
            {
                "step": self.step,
                "identity": self._identity,
                "loss": self.loss,
                "images": self.images,
                "seconds": self._seconds + seconds,
                "history": self.history,
                "scaler": self._passes.scaler.state_dict(),
            },
        )

    def load(self, folder: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            folder: Where it was read.
            tensors: Its tensors, on the CPU.
            record: Its record.

        Raises:
            ResumeError: It is of another training, or does not fit; the message names the differences.
        """
        different = differences(record.get("identity", {}), self._identity)
        if different:
            listed = "\n".join(f"  - {line}" for line in different)
            raise ResumeError(
                f"the checkpoint in {folder} is of another training:\n{listed}\n"
                "give the same settings to resume it, or choose another folder"
            )
        device = self._passes.device
        on_device = {name: t.to(device) for name, t in tensors.items()}
        try:
            self._net.load_state_dict(_part(on_device, "net"))
            self._method.load_state_dict(_part(on_device, "method"), self._net)
            self.optimizer = make_optimizer(self._net, self._settings)
            # Loaded from host memory: AdamW keeps its step counts there.
            load_optimizer_tensors(self.optimizer, _part(tensors, "optimizer"))
            if record["scaler"] and self._passes.scaler.is_enabled():
                self._passes.scaler.load_state_dict(record["scaler"])
            self.step, self.loss, self.images = record["step"], record["loss"], record["images"]
            self._seconds, self.history = record["seconds"], record["history"]
        except ResumeError:
            raise
        except (KeyError, RuntimeError, ValueError) as error:
            raise ResumeError(f"the checkpoint in {folder} does not fit this supernet: {error}") from None

    def report(self, first: int, seconds: float) -> TrainReport:
        """Return the figures of the finished training.

        Args:
            first: Step at which this process began.
            seconds: Wall time of this process's part.
        """
        latest: dict[str, Any] = self.history[-1] if self.history else {}
        return TrainReport(
            method=self._method.name,
            steps=self.step,
            epochs=self.step * self._settings.accumulate / self._steps_per_epoch,
            images=self.images,
            seconds=self._seconds + seconds,
            loss=self.loss,
            top1_largest=latest.get("top1_largest"),
            top1_smallest=latest.get("top1_smallest"),
            history=tuple(self.history),
            resumed_from=first or None,
            settings=self._settings.to_json(),
        )


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
