"""A deep ensemble of small multilayer perceptrons, trained side by side as batched matrix products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from predictors.base import Floats, Predictor
from predictors.models.fold_ensemble import FoldEnsemble
from predictors.models.options import choice, real, whole
from predictors.models.ranking import LOSSES, Calibration
from predictors.models.scaling import Scaler
from predictors.registry import register_predictor
from predictors.serialization import Record
from predictors.targets import TARGETS

if TYPE_CHECKING:
    import torch

Weights = dict[str, NDArray[np.float32]]

_ROUNDS_OF_PAIRS = 4  # each row is compared with so many others in a step, for the ranking loss


@register_predictor("mlp")
class MLP(Predictor):
    """Deep ensemble (Lakshminarayanan et al., NeurIPS 2017) of two-layer networks beside a linear path.

    Each member leaves one fold out, so that the residuals on that fold tell the noise; the spread of the
    members tells what the data do not determine. All members train at once, full batch, with Adam and
    decoupled weight decay, for a fixed number of steps. Predictions need NumPy only.

    Args:
        seed: Seed of folds and initial weights; PyTorch's global generator is left alone.
        members: Number of networks; raised to the number of folds where it is smaller.
        hidden: Width of the two hidden layers.
        steps: Training steps.
        learning_rate: Greatest learning rate, of a cosine schedule.
        weight_decay: Decoupled weight decay of the matrices.
        loss: "squared", or "rank": a hinge on the order of pairs (Herbrich et al., 2000), with a line through the
            training rows to the unit of the target.
        target: "raw", "log", or "auto": whichever predicts held-out rows better.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        members: int = 10,
        hidden: int = 64,
        steps: int = 200,
        learning_rate: float = 0.01,
        weight_decay: float = 1.0,
        loss: str = "squared",
        target: str = "raw",
    ) -> None:
        super().__init__(
            seed=seed,
            members=whole(self.name, "members", members, at_least=2),
            hidden=whole(self.name, "hidden", hidden, at_least=1),
            steps=whole(self.name, "steps", steps, at_least=1),
            learning_rate=real(self.name, "learning_rate", learning_rate, at_most=1.0),
            weight_decay=real(self.name, "weight_decay", weight_decay),
            loss=choice(self.name, "loss", loss, LOSSES),
            target=choice(self.name, "target", target, TARGETS),
        )

    def _fit(self, X: Floats, y: Floats) -> None:
        self._scaler = Scaler.fit(X, y)
        scaled, targets = self._scaler.features(X), self._scaler.targets(y)
        # Inputs of about unit length: the first layer then starts alike for ten features and a thousand.
        self._input_scale = 1.0 / max(float(np.sqrt(np.mean(scaled**2) * scaled.shape[1])), 1e-12)
        inputs = (scaled * self._input_scale).astype(np.float32)
        n_folds = int(self._folds.max()) + 1
        left_out = np.arange(max(self.options["members"], n_folds), dtype=np.int64) % n_folds
        seen = (left_out[:, None] != self._folds).astype(np.float32)
        self._weights = self._train(inputs, targets.astype(np.float32), seen)
        self._calibration = None
        if self.options["loss"] == "rank":
            self._calibration = Calibration.fit(self._members(inputs), targets, seen > 0)
        members = self._members(inputs)
        self._ensemble, mean, std, used = FoldEnsemble.fit(members, left_out, targets, self._folds)
        self._out_of_fold, self._as_used = self._scaler.unscaled(mean, std), self._scaler.unscaled(mean, used)

    def _train(self, inputs: NDArray[np.float32], targets: NDArray[np.float32], seen: NDArray[np.float32]) -> Weights:
        """Return trained weights, each with a leading member dimension.

        Args:
            inputs: Float32 ``[n, f]``.
            targets: Float32 ``[n]``.
            seen: 1 where a member may train on a row, float32 ``[m, n]``.
        """
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            # A caller may well be inside inference mode, where nothing can be trained.
            with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
                return self._train_torch(torch.tensor(inputs), torch.tensor(targets), torch.tensor(seen))
        finally:
            torch.set_num_threads(threads)

    def _train_torch(self, inputs: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor) -> Weights:
        import torch

        hidden, members, features = self.options["hidden"], len(seen), inputs.shape[1]
        generator = torch.Generator().manual_seed(self.seed)

        def normal(*shape: int, std: float) -> torch.Tensor:
            drawn = torch.randn(members, *shape, generator=generator, dtype=torch.float32)
            return (drawn * std).requires_grad_()

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(members, *shape, dtype=torch.float32).requires_grad_()

        # Inputs have unit length, not unit variance per feature: hence no 1/sqrt(fan-in) in the first layer.
        matrices = {
            "w0": normal(features, hidden, std=1.0),
            "w1": normal(hidden, hidden, std=math.sqrt(2.0 / hidden)),
            "w2": normal(hidden, 1, std=0.1 / math.sqrt(hidden)),
            "linear": zeros(features, 1),
        }
        offsets = {"b0": zeros(1, hidden), "b1": zeros(1, hidden), "b2": zeros(1, 1)}
        rate, decay, steps = (self.options[k] for k in ("learning_rate", "weight_decay", "steps"))
        optimizer = torch.optim.AdamW(
            [
                {"params": list(matrices.values()), "weight_decay": decay},
                {"params": list(offsets.values()), "weight_decay": 0.0},
            ],
            lr=rate,
        )
        rows = seen / seen.sum(dim=1, keepdim=True)
        batch = inputs.expand(members, *inputs.shape)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))
            first = torch.nn.functional.relu(torch.baddbmm(offsets["b0"], batch, matrices["w0"]))
            second = torch.nn.functional.relu(torch.baddbmm(offsets["b1"], first, matrices["w1"]))
            output = torch.baddbmm(offsets["b2"], second, matrices["w2"]) + torch.bmm(batch, matrices["linear"])
            if self.options["loss"] == "rank":
                loss = _hinge(output.squeeze(2), targets, rows, generator)
            else:
                loss = (rows * (output.squeeze(2) - targets) ** 2).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return {k: v.detach().numpy().copy() for k, v in {**matrices, **offsets}.items()}

    def _members(self, inputs: NDArray[np.float32]) -> Floats:
        """Return the members' predictions of inputs ``[n, f]``, float64 ``[m, n]``."""
        w = self._weights
        first = np.maximum(inputs @ w["w0"] + w["b0"], 0.0)
        second = np.maximum(first @ w["w1"] + w["b1"], 0.0)
        output = second @ w["w2"] + w["b2"] + inputs @ w["linear"]
        scores = np.asarray(output[:, :, 0], dtype=np.float64)
        return scores if self._calibration is None else self._calibration(scores)

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        inputs = (self._scaler.features(X) * self._input_scale).astype(np.float32)
        return self._scaler.unscaled(*self._ensemble.combine(self._members(inputs)))

    def _store(self, record: Record) -> None:
        if self._calibration is not None:
            self._calibration.store(record)
        self._scaler.store(record)
        record.arrays |= {f"weights.{k}": v for k, v in self._weights.items()}
        record.arrays["scalars"] = np.array([self._ensemble.noise, self._ensemble.factor, self._input_scale])

    def _restore(self, record: Record) -> None:
        self._calibration = Calibration.restore(record) if self.options["loss"] == "rank" else None
        self._scaler = Scaler.restore(record)
        prefix = "weights."
        self._weights = {k.removeprefix(prefix): v for k, v in record.arrays.items() if k.startswith(prefix)}
        noise, factor, self._input_scale = record.arrays["scalars"].tolist()
        self._ensemble = FoldEnsemble(noise, factor)


def _hinge(scores: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the summed hinge loss of pairs of rows that a member may train on.

    The margin of a pair is the difference of its targets: scores then have their unit, and near ties ask for little.

    Args:
        scores: Scores of the members, float32 ``[m, n]``.
        targets: Targets, float32 ``[n]``.
        rows: Weights of the rows that a member may train on, 0 for the others, float32 ``[m, n]``.
        generator: Draws, in each step, which rows are compared.
    """
    import torch

    loss = torch.zeros((), dtype=torch.float32)
    for _ in range(_ROUNDS_OF_PAIRS):
        other = torch.randperm(len(targets), generator=generator)
        margin = targets - targets[other]
        short = torch.nn.functional.relu(margin.abs() - margin.sign() * (scores - scores[:, other]))
        weight = rows * (rows[:, other] > 0)
        loss = loss + (weight * short).sum()
    return loss / _ROUNDS_OF_PAIRS
