from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nassearch.errors import ConfigError
from nassearch.tasks import ImageClassification, make_task
from nassearch.tasks.augmentation import ShiftFlip
from nassearch.tasks.images import ArrayImages
from nassearch.tasks.metrics import counts, rates


def small_task(n_classes: int = 7, **options) -> ImageClassification:
    labels = np.tile(np.arange(n_classes), 8)
    images = np.repeat(labels, 64).reshape(-1, 8, 8, 1).astype(np.uint8)
    rows = np.arange(len(labels)).reshape(8, n_classes)
    splits = {
        "train": rows[:4].ravel(),
        "calibration": rows[4],
        "search": rows[5:7].ravel(),
        "report": rows[7],
    }
    names = [str(i) for i in range(n_classes)]
    defaults = {"augmentation": None, "seed": 0, "class_names": names}
    return ImageClassification(
        name="digits",
        spec="x",
        source=ArrayImages(images),
        labels=labels,
        splits=splits,
        **{**defaults, **options},
    )


def test_evaluate_counts_exactly() -> None:
    task = small_task()
    mean, std = float(task._mean), float(task._std)

    def forward(inputs):
        label = (inputs[0][:, 0, 0, 0] * std + mean).round().long()
        scores = torch.zeros(len(label), 7)
        # Right for classes 0-2; classes 3-5 come second; class 6 is last.
        scores[torch.arange(len(label)), label] = torch.where(label < 3, 2.0, torch.where(label < 6, 0.5, -1.0))
        scores[torch.arange(len(label)), (label + 1) % 7] += 1
        return scores

    for batch_size in (1, 3, 100):
        result = task.evaluate(forward, "search", batch_size)
        assert result["top1"] == 100 * 6 / 14
        assert result["top5"] == 100 * 12 / 14
    assert result.keys() == task.metrics.keys()


def test_ties_go_to_the_lower_class_and_non_finite_scores_are_wrong() -> None:
    targets = torch.arange(7)
    assert counts(torch.zeros(7, 7), targets)[:2].tolist() == [1, 5]
    broken = torch.eye(7) * 5
    broken[2, 3] = math.nan
    broken[4, 4] = math.inf
    assert counts(broken, targets)[:2].tolist() == [5, 5]
    assert math.isnan(rates(counts(broken, targets), 7, 7)["loss"])


def test_score_of_one_batch_equals_evaluate() -> None:
    task = small_task()
    weight = torch.randn(64, 7, generator=torch.Generator().manual_seed(0))
    whole = next(task.batches("search", 100))
    outputs = whole.inputs[0].flatten(1) @ weight
    result = task.evaluate(lambda inputs: inputs[0].flatten(1) @ weight, "search", 100)
    assert task.score(outputs, whole.targets) == result
    assert result["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(outputs, whole.targets)))


def test_evaluate_adapts_inputs_and_records_no_gradient() -> None:
    task = small_task()
    layer = torch.nn.Linear(16, 7)
    seen = []

    def forward(inputs):
        seen.append(inputs[0].shape)
        out = layer(inputs[0].flatten(1))
        assert not out.requires_grad
        return out

    task.evaluate(forward, "report", 100, adapt=lambda inputs: (inputs[0][:, :, ::2, ::2],))
    assert seen == [(7, 1, 4, 4)]


def test_no_top5_for_few_classes() -> None:
    task = small_task(4)
    assert list(task.metrics) == ["top1", "loss"]
    assert task.evaluate(lambda inputs: torch.zeros(len(inputs[0]), 4), "report").keys() == {"top1", "loss"}


def test_label_smoothing() -> None:
    outputs, targets = torch.eye(7) * 9, torch.arange(7)
    plain, smooth = (small_task(label_smoothing=s).loss(outputs, targets) for s in (0.0, 0.2))
    assert smooth > plain
    assert torch.isclose(smooth, torch.nn.functional.cross_entropy(outputs, targets, label_smoothing=0.2))


def test_unknown_split_and_batch_size() -> None:
    task = small_task()
    with pytest.raises(ConfigError, match="unknown split 'test'; allowed are train, calibration, search, report"):
        task.size("test")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        task.training_data(0)


def test_a_batch_larger_than_the_train_split_is_one_step() -> None:
    data = small_task().training_data(500)
    assert data.steps_per_epoch == 1
    (batch,) = data.batches(0)
    assert sorted(batch.targets.tolist()) == sorted(list(range(7)) * 4)


def test_constant_images_do_not_divide_by_zero() -> None:
    task = small_task()
    task.source.array[:] = 9
    again = small_task(statistics=None)
    again.source.array[:] = 9
    mean, std = again._statistics()
    assert (mean, std) == ([9.0], [1.0])


@pytest.mark.parametrize("flip", [True, False])
def test_shift_flip_moves_pixels_only(flip: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 9, 9, 3), dtype=np.uint8)
    rows = np.arange(64)
    moved = ShiftFlip(2, flip)(images, rows, np.random.default_rng(5))
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    assert (moved == ShiftFlip(2, flip)(images, rows, np.random.default_rng(5))).all()
    matches = 0
    for before, after in zip(images, moved, strict=True):
        core = after[2:-2, 2:-2]
        versions = [before, before[:, ::-1]] if flip else [before]
        matches += any(
            (core == version[2 + dy : 7 + dy, 2 + dx : 7 + dx]).all()
            for version in versions
            for dy in range(-2, 3)
            for dx in range(-2, 3)
        )
    assert matches == 64
    assert ShiftFlip(0, False)(images, rows, np.random.default_rng(5)).tobytes() == images.tobytes()


def test_training_set_serves_supernet_training() -> None:
    data = make_task("digits:train=64").training_data(32)
    assert len(list(data.batches(0))) == data.steps_per_epoch == 2
    assert sum(len(inputs[0]) for inputs in data.calibration()) == 128
    assert sum(len(batch.targets) for batch in data.evaluation()) == 800
