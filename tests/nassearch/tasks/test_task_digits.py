from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from nassearch.errors import DataError
from nassearch.tasks import from_payload, make_task
from nassearch.tasks.splits import SPLITS


@pytest.fixture(scope="module")
def digits():
    return make_task("digits", seed=3)


def test_sizes_and_model_options(digits) -> None:
    assert {name: digits.size(name) for name in SPLITS} == {
        "train": 600,
        "calibration": 128,
        "search": 800,
        "report": 1200,
    }
    assert digits.model_options == {"num_classes": 10, "in_channels": 1}
    assert digits.input_shape == (1, 16, 16)
    assert dict(digits.metrics) == {"top1": "max", "top5": "max", "loss": "min"}


def test_splits_are_stratified(digits) -> None:
    for name in SPLITS:
        counts = np.bincount(digits.labels[digits.splits[name]], minlength=10) / digits.size(name)
        assert abs(counts - 0.1).max() < 0.02


def test_no_digit_is_in_two_splits() -> None:
    clean = make_task("digits:noise=0,shift=0,clutter=0", seed=3)
    assert clean.details["digits"] == {"train": 600, "calibration": 128, "search": 400, "report": 600}
    assert sum(clean.details["digits"].values()) <= 1797


def test_same_in_another_process(digits) -> None:
    code = "from nassearch.tasks import make_task; print(make_task('digits', seed=3).fingerprint)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == digits.fingerprint


@pytest.mark.parametrize(
    "other", [("digits", 4), ("digits:noise=0.13", 3), ("digits:train=610", 3), ("digits:label_smoothing=0.1", 3)]
)
def test_fingerprint_tells_data_apart(digits, other) -> None:
    assert make_task(other[0], seed=other[1]).fingerprint != digits.fingerprint


def test_batches_are_fixed_normalised_and_complete(digits) -> None:
    first, again = (list(digits.batches("search", 300)) for _ in range(2))
    assert [len(batch.targets) for batch in first] == [300, 300, 200]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.inputs[0], b.inputs[0])
        assert torch.equal(a.targets, b.targets)
    train = torch.cat([batch.inputs[0] for batch in digits.batches("train", 256)])
    assert train.shape == (600, 1, 16, 16)
    assert train.dtype == torch.float32
    assert abs(train.mean()) < 1e-4
    assert abs(train.std() - 1) < 1e-3


def test_training_epochs_differ_and_repeat_exactly(digits) -> None:
    data, same, other = digits.training_data(64, 1), digits.training_data(64, 1), digits.training_data(64, 2)
    assert data.steps_per_epoch == 9
    epochs = [list(data.batches(epoch)) for epoch in (0, 1)]
    assert [len(batches) for batches in epochs] == [9, 9]
    for a, b in zip(epochs[1], same.batches(1), strict=True):
        assert torch.equal(a.inputs[0], b.inputs[0])
        assert torch.equal(a.targets, b.targets)
    assert not torch.equal(epochs[0][0].inputs[0], epochs[1][0].inputs[0])
    assert not torch.equal(epochs[0][0].inputs[0], next(other.batches(0)).inputs[0])
    # Fresh drawings, not a shuffle of fixed ones.
    seen = {image.numpy().tobytes() for batches in epochs for batch in batches for image in batch.inputs[0]}
    assert len(seen) == 2 * 9 * 64


def test_training_images_carry_their_labels() -> None:
    # Without any randomness but the scale, a nearest-mean rule on the pixels must already work.
    task = make_task("digits:noise=0,shift=0,clutter=0")
    batches = [batch for epoch in range(2) for batch in task.training_data(64).batches(epoch)]
    x, y = torch.cat([b.inputs[0] for b in batches]).flatten(1), torch.cat([b.targets for b in batches])
    means = torch.stack([x[y == c].mean(0) for c in range(10)])
    result = task.evaluate(lambda inputs: -torch.cdist(inputs[0].flatten(1), means), "search")
    assert result["top1"] > 75


def test_noise_makes_it_harder() -> None:
    def nearest_mean(spec: str) -> float:
        task = make_task(spec)
        batch = next(task.batches("train", 600))
        means = torch.stack([batch.inputs[0].flatten(1)[batch.targets == c].mean(0) for c in range(10)])
        return task.evaluate(lambda inputs: -torch.cdist(inputs[0].flatten(1), means), "report")["top1"]

    assert nearest_mean("digits:noise=0,shift=0,clutter=0") > nearest_mean("digits:noise=0.5,shift=3,clutter=3") + 15


def test_calibration_inputs(digits) -> None:
    chunks = digits.calibration_inputs(50, 120)
    assert [len(inputs[0]) for inputs in chunks] == [50, 50, 20]
    everything = torch.cat([inputs[0] for inputs in digits.calibration_inputs(64)])
    assert len(everything) == 128
    assert torch.equal(torch.cat([inputs[0] for inputs in chunks]), everything[:120])


def test_payload_round_trip_gives_the_same_batches(digits) -> None:
    settings, arrays = digits.to_payload()
    for array in arrays.values():
        array.flags.writeable = False  # as they come out of an object store
    copy = from_payload(json.loads(json.dumps(settings)), arrays)
    assert copy.fingerprint == digits.fingerprint
    assert copy.describe() == digits.describe()
    for split in SPLITS:
        for a, b in zip(digits.batches(split, 128), copy.batches(split, 128), strict=True):
            assert torch.equal(a.inputs[0], b.inputs[0])
            assert torch.equal(a.targets, b.targets)
    for a, b in zip(digits.training_data(32, 5).batches(7), copy.training_data(32, 5).batches(7), strict=True):
        assert torch.equal(a.inputs[0], b.inputs[0])


def test_describe_is_json_and_says_how_images_are_changed(digits) -> None:
    text = json.dumps(digits.describe())
    assert "shifted by up to 1.5 pixels" in text
    assert "drawn 2 times each" in text
    assert json.loads(text)["splits"]["search"] == 800


def test_data_are_ready_fast(digits) -> None:
    start = time.perf_counter()
    list(digits.batches("search", 256))
    assert time.perf_counter() - start < 0.5


def test_more_digits_than_there_are() -> None:
    with pytest.raises(DataError, match=r"2128 images are needed .* but there are 1797"):
        make_task("digits:train=1000")
