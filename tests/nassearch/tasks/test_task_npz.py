from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nassearch.errors import DataError
from nassearch.tasks import from_payload, make_task
from nassearch.tasks.images import pack
from nassearch.tasks.splits import SPLITS

RNG = np.random.default_rng(0)
LABELS = np.tile([3, 5, 9], 20)
COLOUR = RNG.integers(0, 256, (60, 10, 10, 3), dtype=np.uint8)


def encode(images: np.ndarray) -> dict[str, np.ndarray]:
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        encoded.append(buffer.getvalue())
    blob, offset = pack(encoded)
    return {"blob": blob, "offset": offset}


@pytest.mark.parametrize(
    ("images", "channels"),
    [
        (COLOUR, 3),
        (COLOUR.transpose(0, 3, 1, 2), 3),
        (COLOUR[..., 0], 1),
        (COLOUR[..., :1], 1),
        (COLOUR.astype(np.int64), 3),
    ],
)
def test_layouts(npz_file, images: np.ndarray, channels: int) -> None:
    task = make_task(f"npz:{npz_file(images=images, labels=LABELS)}")
    assert (task.model_options["num_classes"], task.input_shape) == (3, (channels, 10, 10))
    assert task.class_names == ["3", "5", "9"]
    assert task.source.array.dtype == np.uint8
    assert (task.source.array == COLOUR[..., :channels]).all()
    assert (task.labels == np.tile([0, 1, 2], 20)).all()


def test_float_images_stay_float(npz_file) -> None:
    values = RNG.standard_normal((60, 10, 10)).astype(np.float64) * 3
    task = make_task(f"npz:{npz_file(images=values, labels=LABELS)}")
    assert task.source.array.dtype == np.float32
    train = torch.cat([batch.inputs[0] for batch in task.batches("train", 7)])
    assert abs(train.mean()) < 1e-4
    before = task.source.array.copy()
    list(task.training_data(8).batches(0))
    assert (task.source.array == before).all()


def test_resizing_and_cropping(npz_file) -> None:
    images = np.repeat(COLOUR[:, :, :1], 20, axis=2)
    task = make_task(f"npz:{npz_file(images=images, labels=LABELS)},image_size=16")
    assert task.source.array.shape == (60, 16, 16, 3)


def test_encoded_images_equal_their_arrays(npz_file) -> None:
    plain = make_task(f"npz:{npz_file('a.npz', images=COLOUR, labels=LABELS)}")
    encoded = make_task(f"npz:{npz_file('b.npz', **encode(COLOUR), label=LABELS)}")
    for split in SPLITS:
        for a, b in zip(plain.batches(split, 8), encoded.batches(split, 8), strict=True):
            assert torch.equal(a.inputs[0], b.inputs[0])
            assert torch.equal(a.targets, b.targets)


@pytest.mark.parametrize("kind", ["images", "blob"])
def test_a_second_file_is_the_report_split(npz_file, kind: str) -> None:
    files = []
    for name, images, labels in (("train.npz", COLOUR, LABELS), ("test.npz", 255 - COLOUR[:9], LABELS[:9])):
        if kind == "images":
            files.append(npz_file(name, images=images, labels=labels))
        else:
            files.append(npz_file(name, **encode(images), label=labels))
    task = make_task(f"npz:{files[0]},{files[1]},train=20")
    assert task.size("report") == 9
    assert task.size("train") == 20
    report = {image.tobytes() for image in task.source.load(task.splits["report"])}
    assert report == {image.tobytes() for image in 255 - COLOUR[:9]}


def test_payload_keeps_encoded_bytes(npz_file) -> None:
    packed = encode(COLOUR)
    task = make_task(f"npz:{npz_file(**packed, label=LABELS)}")
    settings, arrays = task.to_payload()
    assert arrays["blob"].tobytes() == packed["blob"].tobytes()
    copy = from_payload(json.loads(json.dumps(settings)), arrays)
    for a, b in zip(task.training_data(8).batches(3), copy.training_data(8).batches(3), strict=True):
        assert torch.equal(a.inputs[0], b.inputs[0])


def bad(npz_file, **arrays) -> str:
    with pytest.raises(DataError) as raised:
        make_task(f"npz:{npz_file(**arrays)}")
    assert "set.npz" in str(raised.value)
    return str(raised.value)


def test_missing_keys(npz_file) -> None:
    message = bad(npz_file, images=COLOUR, target=LABELS)
    assert "has images, target; needed are 'images'" in message
    assert "'blob'" in message


def test_lengths_differ(npz_file) -> None:
    assert "60 images but 59 labels" in bad(npz_file, images=COLOUR, labels=LABELS[:-1])
    assert "for 59 labels; 60 integers are needed" in bad(npz_file, **encode(COLOUR), label=LABELS[:-1])


def test_pickled_arrays(npz_file, tmp_path: Path) -> None:
    objects = np.empty(60, dtype=object)
    assert "array 'images' is pickled" in bad(npz_file, images=objects, labels=LABELS)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    (tmp_path / "objects.npy").rename(tmp_path / "set.npz")
    with pytest.raises(DataError, match=r"not a \.npz file of plain arrays"):
        make_task(f"npz:{tmp_path}/set.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": COLOUR[..., :2], "labels": LABELS}, "not a shape of images"),
        ({"images": COLOUR[:, :4], "labels": LABELS}, "at least 8x8"),
        ({"images": COLOUR.astype(np.int32) + 1, "labels": LABELS}, "values from 1 to 256"),
        ({"images": np.full(COLOUR.shape, np.inf), "labels": LABELS}, "not finite"),
        ({"images": COLOUR.astype(complex), "labels": LABELS}, "not a type of images"),
        ({"images": COLOUR, "labels": LABELS / 2}, "array 'labels' is float64"),
        ({"images": COLOUR[:0], "labels": LABELS[:0]}, "has no images"),
        ({"images": COLOUR, "labels": LABELS * 0}, "only one class"),
        ({"images": COLOUR[:9], "labels": LABELS[:9]}, "at least 4 are needed"),
        ({"blob": np.zeros(9), "offset": np.arange(61), "label": LABELS}, "'blob' is float64"),
        ({"blob": np.zeros(9, np.uint8), "offset": np.arange(61), "label": LABELS}, "end within 9 bytes"),
        ({"blob": np.zeros(9, np.uint8), "offset": np.zeros(61, int), "label": LABELS}, "must rise"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_arrays(npz_file, arrays, message: str) -> None:
    assert message in bad(npz_file, **arrays)


def test_bytes_that_are_no_image_are_numbered(npz_file) -> None:
    packed = encode(COLOUR)
    start = packed["offset"][17]
    blob = packed["blob"].copy()
    blob[start : start + 30] = 0
    message = bad(npz_file, blob=blob, offset=packed["offset"], label=LABELS)
    assert message.startswith("image 17 of")
    assert "cannot be read as an image" in message


def test_files_that_are_not_npz(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz does not exist"):
        make_task(f"npz:{tmp_path}/none.npz")
    with pytest.raises(DataError, match="is a folder"):
        make_task(f"npz:{tmp_path}")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"text\.npz is not a \.npz file"):
        make_task(f"npz:{tmp_path}/text.npz")
    (tmp_path / "zero.npz").write_text("")
    with pytest.raises(DataError, match=r"zero\.npz cannot be read"):
        make_task(f"npz:{tmp_path}/zero.npz")
    np.save(tmp_path / "one.npy", COLOUR)
    with pytest.raises(DataError, match="holds a single array"):
        make_task(f"npz:{tmp_path}/one.npy")


def test_truncated_file(npz_file) -> None:
    path = npz_file(images=COLOUR, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"set\.npz cannot be read"):
        make_task(f"npz:{path}")


def test_two_bad_files_are_both_named(npz_file, tmp_path: Path) -> None:
    good = npz_file("good.npz", images=COLOUR, labels=LABELS)
    with pytest.raises(DataError) as raised:
        make_task(f"npz:{tmp_path}/x.npz,{tmp_path}/y.npz")
    assert len(raised.value.faults) == 2
    with pytest.raises(DataError, match="labels that the training set lacks"):
        make_task(f"npz:{good},{npz_file('other.npz', images=COLOUR, labels=LABELS + 1)}")
    with pytest.raises(DataError, match="of different kinds"):
        make_task(f"npz:{good},{npz_file('enc.npz', **encode(COLOUR), label=LABELS)}")
    with pytest.raises(DataError, match="use images of one size and type"):
        make_task(f"npz:{good},{npz_file('small.npz', images=COLOUR[:, 1:], labels=LABELS)}")
    with pytest.raises(DataError, match="names 3 files"):
        make_task(f"npz:{good},{good},{good}")


@pytest.mark.needs_shared
def test_real_jpeg_cifar10(shared_data: Path) -> None:
    folder = shared_data / "cifar10_jpeg"
    spec = f"npz:{folder}/train.npz,{folder}/test.npz,train=2000,calibration=500,search=1000,report=1000"
    task = make_task(spec)
    assert (task.model_options["num_classes"], task.input_shape) == (10, (3, 32, 32))
    for split, file in zip(SPLITS, ("train", "train", "train", "test"), strict=True):
        with np.load(shared_data / "cifar10_jpeg" / f"{file}.npz") as given:
            shares = np.bincount(given["label"]) / len(given["label"])
        assert abs(np.bincount(task.labels[task.splits[split]]) - shares * task.size(split)).max() < 1.5
    # CIFAR-10's own mean and deviation.
    assert np.allclose(task._mean.flatten(), 255 * np.array([0.491, 0.482, 0.447]), atol=4)
    assert np.allclose(task._std.flatten(), 255 * np.array([0.247, 0.243, 0.262]), atol=4)
    result = task.evaluate(lambda inputs: torch.eye(10)[[0] * len(inputs[0])], "report")
    assert result["top1"] == 10.0
    assert result["top5"] == 50.0
