from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nassearch.errors import DataError
from nassearch.tasks import make_task


def write_batch(path: Path, seed: int, n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(n) % 10
    path.parent.mkdir(exist_ok=True)
    records.tofile(path)
    return records


@pytest.mark.parametrize("sub", ["", "cifar-10-batches-bin"])
def test_binary_version(tmp_path: Path, sub: str) -> None:
    folder = tmp_path / sub
    records = [write_batch(folder / f"data_batch_{i}.bin", i) for i in (1, 2)]
    test = write_batch(folder / "test_batch.bin", 9, 20)
    task = make_task(f"cifar10:{tmp_path}")
    assert task.class_names[0] == "airplane"
    assert (task.model_options["num_classes"], task.input_shape) == (10, (3, 32, 32))
    everything = np.concatenate([*records, test])
    assert (task.labels == everything[:, 0]).all()
    assert (task.splits["report"] >= 120).all()
    assert task.size("report") == 20
    # Row-major red, then green, then blue.
    row, (y, x) = 77, (5, 31)
    image = task.source.load(np.array([row]))[0]
    assert image[y, x].tolist() == [everything[row, 1 + c * 1024 + y * 32 + x] for c in range(3)]


def test_without_a_test_batch(tmp_path: Path) -> None:
    write_batch(tmp_path / "data_batch_1.bin", 1, 100)
    assert make_task(f"cifar10:{tmp_path}").size("report") == 20


def test_npz_and_class_folders(tmp_path: Path, image_folder) -> None:
    labels = np.tile(np.arange(10), 8)
    images = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    np.savez(tmp_path / "test.npz", images=images[:20], labels=labels[:20])
    assert make_task(f"cifar10:{tmp_path}").size("report") == 20
    assert make_task(f"cifar10:{image_folder()}").class_names == ["cat", "dog"]


def test_pickled_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    with pytest.raises(DataError, match=r"pickled and not read, for safety; download .*cifar-10-binary\.tar\.gz"):
        make_task(f"cifar10:{tmp_path}")


def test_damaged_batches_are_all_named(tmp_path: Path) -> None:
    records = write_batch(tmp_path / "data_batch_1.bin", 1)
    (tmp_path / "data_batch_1.bin").write_bytes(records.tobytes()[:-5])
    records[3, 0] = 77
    records.tofile(tmp_path / "test_batch.bin")
    with pytest.raises(DataError) as raised:
        make_task(f"cifar10:{tmp_path}")
    assert len(raised.value.faults) == 2
    assert "data_batch_1.bin has 184,375 bytes, not a multiple of 3,073" in raised.value.faults[0]
    assert "test_batch.bin has class 77" in raised.value.faults[1]


def test_missing_and_foreign_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        make_task(f"cifar10:{tmp_path}/none")
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"no data_batch_1\.bin either"):
        make_task(f"cifar10:{tmp_path}")
