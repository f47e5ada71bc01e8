from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nassearch.errors import DataError
from nassearch.tasks import from_payload, images, make_task
from nassearch.tasks.splits import SPLITS


def test_reads_classes_in_order(image_folder) -> None:
    folder = image_folder(classes=("b", "a", "c"))
    task = make_task(f"imagefolder:{folder}")
    assert task.class_names == ["a", "b", "c"]
    assert (task.model_options["num_classes"], task.input_shape) == (3, (3, 12, 12))
    assert sum(task.size(split) for split in SPLITS) == 36
    for row in range(36):
        class_of_file = Path(task.source.paths[row]).parent.name
        assert task.class_names[task.labels[row]] == class_of_file
        pixels = np.asarray(Image.open(folder / task.source.paths[row]))
        assert (task.source.load(np.array([row]))[0] == pixels).all()


def test_train_and_test_folders(image_folder) -> None:
    image_folder("set/train", each=20)
    folder = image_folder("set/val", each=5).parent
    task = make_task(f"imagefolder:{folder},image_size=8")
    assert task.size("report") == 10
    assert all(task.source.paths[row].startswith("val/") for row in task.splits["report"])
    for split in ("train", "calibration", "search"):
        assert all(task.source.paths[row].startswith("train/") for row in task.splits[split])
    assert next(task.batches("report", 10)).inputs[0].shape == (10, 3, 8, 8)


def test_other_sizes_are_resized_and_cropped(image_folder) -> None:
    folder = image_folder()
    Image.new("RGB", (40, 20), (10, 20, 30)).save(folder / "cat" / "wide.jpg")
    Image.new("L", (10, 30), 7).save(folder / "dog" / "tall.png")
    (folder / "dog" / "notes.txt").write_text("not an image, and not taken for one")
    (folder / ".hidden").mkdir()
    task = make_task(f"imagefolder:{folder},image_size=16")
    assert task.source.load(np.arange(len(task.source))).shape == (26, 16, 16, 3)


def test_gray_folder_has_one_channel_and_16_bits_are_scaled(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(6):
            deep = np.full((9, 9), 256 * (100 + i), dtype=np.uint16)
            Image.fromarray(deep).save(tmp_path / label / f"{i}.png")
    task = make_task(f"imagefolder:{tmp_path}")
    assert task.model_options["in_channels"] == 1
    assert task.source.load(np.arange(12)).max() == 105


@pytest.mark.parametrize("transport", ["object", "path"])
def test_payload(image_folder, transport: str) -> None:
    folder = image_folder()
    task = make_task(f"imagefolder:{folder},transport={transport}")
    settings, arrays = task.to_payload()
    if transport == "object":
        shutil.rmtree(folder)
    else:
        assert "blob" not in arrays
    copy = from_payload(json.loads(json.dumps(settings)), arrays)
    for split in SPLITS:
        for a, b in zip(task.batches(split, 5), copy.batches(split, 5), strict=True):
            assert torch.equal(a.inputs[0], b.inputs[0])
    assert copy.fingerprint == task.fingerprint


def test_payload_by_path_without_the_folder(image_folder) -> None:
    folder = image_folder()
    settings, arrays = make_task(f"imagefolder:{folder},transport=path").to_payload()
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="does not exist on this machine; share it"):
        from_payload(settings, arrays)


def test_streaming_gives_the_same_batches(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(f"imagefolder:{image_folder()}")
    kept = [list(task.batches("train", 4)), list(task.training_data(4, 1).batches(2))]
    assert not task.source.streams
    monkeypatch.setattr(images, "CACHE_BYTES", 1000)
    assert task.source.streams
    streamed = [list(task.batches("train", 4)), list(task.training_data(4, 1).batches(2))]
    for one, other in zip(kept, streamed, strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.inputs[0], b.inputs[0])
            assert torch.equal(a.targets, b.targets)


def test_fingerprint_of_many_files_is_of_all_names_and_sizes_and_some_contents(image_folder, monkeypatch) -> None:
    monkeypatch.setattr(images, "DECODE_ALL", 10)
    monkeypatch.setattr(images, "DIGEST", 8)
    folder = image_folder(each=12)
    paths = sorted(folder.rglob("*.png"))
    spec = f"imagefolder:{folder}"
    seen = {make_task(spec).fingerprint}
    for path in paths[:6]:
        path.write_bytes(path.read_bytes() + b" ")  # pixels stay as they are
        seen.add(make_task(spec).fingerprint)
    assert len(seen) == 7
    path = paths[0]
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # one that is read
    seen.add(make_task(spec).fingerprint)
    paths[7].rename(paths[7].with_stem("renamed"))
    seen.add(make_task(spec).fingerprint)
    assert len(seen) == 9


def test_fingerprint_follows_the_files(image_folder) -> None:
    folder = image_folder()
    spec = f"imagefolder:{folder}"
    before = make_task(spec).fingerprint
    assert make_task(spec).fingerprint == before
    Image.new("RGB", (12, 12), (1, 2, 3)).save(folder / "cat" / "003.png")
    assert make_task(spec).fingerprint != before


def test_missing_empty_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none does not exist; give a folder with one sub-folder per class"):
        make_task(f"imagefolder:{tmp_path}/none")
    with pytest.raises(DataError, match="is empty"):
        make_task(f"imagefolder:{tmp_path}")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match=r"file\.txt is a file; give a folder"):
        make_task(f"imagefolder:{tmp_path}/file.txt")
    with pytest.raises(DataError, match="has no class sub-folders"):
        make_task(f"imagefolder:{tmp_path}")


def test_one_class_only(image_folder) -> None:
    with pytest.raises(DataError, match=r"one class only \('cat'\)"):
        make_task(f"imagefolder:{image_folder(classes=('cat',))}")


def test_classes_without_images_are_all_named(image_folder) -> None:
    folder = image_folder()
    for label in ("emu", "fox"):
        (folder / label).mkdir()
    (folder / "fox" / "readme.md").write_text("")
    with pytest.raises(DataError) as raised:
        make_task(f"imagefolder:{folder}")
    assert [fault.split(" has")[0] for fault in raised.value.faults] == [
        f"class folder {folder}/emu",
        f"class folder {folder}/fox",
    ]


def test_a_test_class_that_training_lacks(image_folder) -> None:
    image_folder("set/train")
    folder = image_folder("set/test", classes=("cat", "gnu")).parent
    with pytest.raises(DataError, match=r"test/gnu is a class that the training folder lacks"):
        make_task(f"imagefolder:{folder}")


@pytest.mark.parametrize("damage", ["not an image", "truncated", "empty"])
def test_unreadable_images_are_named(image_folder, damage: str) -> None:
    folder = image_folder(size=64)
    bad = [folder / "cat" / "004.png", folder / "dog" / "007.png"]
    for file in bad:
        data = file.read_bytes()
        file.write_bytes({"not an image": b"hello" * 50, "truncated": data[: len(data) // 2], "empty": b""}[damage])
    with pytest.raises(DataError) as raised:
        make_task(f"imagefolder:{folder}")
    assert len(raised.value.faults) == 2
    for file, fault in zip(bad, raised.value.faults, strict=True):
        assert fault.startswith(f"{file} cannot be read as an image")
        assert fault.endswith("repair or remove it")


def test_many_unreadable_images_are_counted(image_folder) -> None:
    folder = image_folder(each=20)
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"x")
    with pytest.raises(DataError, match="and 30 more images cannot be read"):
        make_task(f"imagefolder:{folder}")


def test_an_image_damaged_later_is_named_too(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = image_folder()
    task = make_task(f"imagefolder:{folder}")
    monkeypatch.setattr(images, "CACHE_BYTES", 0)
    bad = folder / task.source.paths[task.splits["search"][0]]
    bad.write_bytes(b"gone")
    with pytest.raises(DataError, match=str(bad)):
        task.evaluate(lambda inputs: torch.zeros(len(inputs[0]), 2), "search")


def test_too_few_images(image_folder) -> None:
    with pytest.raises(DataError, match=r"photos: class 'cat' has 3 images; at least 4 are needed"):
        make_task(f"imagefolder:{image_folder(each=3)}")
