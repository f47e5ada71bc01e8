from __future__ import annotations

import io
import sys
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image

from nassearch.errors import ConfigError, DataError
from nassearch.tasks import make_task
from nassearch.tasks.huggingface import _labels
from nassearch.tasks.materialise import encoded_image
from nassearch.tasks.splits import SPLITS


class FakeData(torchvision.datasets.FakeData):
    """torchvision's own fake set, smaller."""

    def __init__(self, transform=None, target_transform=None) -> None:
        super().__init__(80, (3, 12, 12), 4, transform, target_transform)


def test_torchvision_fake_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "FakeData", FakeData)
    task = make_task("torchvision:fakedata")
    assert (task.model_options["num_classes"], task.input_shape) == (4, (3, 12, 12))
    assert sum(task.size(split) for split in SPLITS) == 80
    original = FakeData()
    for row in (0, 33, 79):
        image, label = original[row]
        assert task.labels[row] == int(label)
        assert (task.source.load(np.array([row]))[0] == np.asarray(image)).all()


class FashionMNIST:
    """What torchvision's class looks like, without its download."""

    classes = ("Shirt", "Shoe")
    available = True
    failure: Exception = URLError("Name or service not known")

    def __init__(self, root: str, train: bool = True, transform=None, target_transform=None, download=False) -> None:
        if not self.available:
            raise self.failure if download else RuntimeError("Dataset not found. You can use download=True")
        self.targets = np.arange(60 if train else 10) % 2
        self.shade = 200 if train else 100

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.new("L", (28, 28), self.shade + index), int(self.targets[index])


def test_torchvision_train_and_test(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", FashionMNIST)
    task = make_task(f"torchvision:FashionMNIST:{tmp_path},report=8")
    assert task.class_names == ["Shirt", "Shoe"]
    assert (task.model_options["num_classes"], task.input_shape) == (2, (1, 28, 28))
    assert (task.source.load(task.splits["report"]) <= 110).all()
    assert (task.source.load(task.splits["search"]) >= 200).all()
    assert task.size("report") == 8


@pytest.mark.parametrize("failure", [URLError("Name or service not known"), RuntimeError("Error downloading x.gz")])
def test_torchvision_offline(monkeypatch: pytest.MonkeyPatch, tmp_path, failure: Exception) -> None:
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", FashionMNIST)
    monkeypatch.setattr(FashionMNIST, "available", False)
    monkeypatch.setattr(FashionMNIST, "failure", failure)
    with pytest.raises(DataError, match=r"could not be fetched.*It needs network, or the files in"):
        make_task(f"torchvision:FashionMNIST:{tmp_path}")
    with pytest.raises(DataError, match="put it there, or leave out download=false"):
        make_task(f"torchvision:FashionMNIST:{tmp_path},download=false")


class Flowers102:
    """A class with named splits, whose test labels are not published."""

    def __init__(self, root: str, split: str = "train", transform=None) -> None:
        if split not in ("train", "test", "val"):
            raise ValueError(f"unknown split {split}")
        labels = {"train": np.arange(60) % 3, "test": np.full(30, -1), "val": np.arange(12) % 3}
        self._labels = labels[split]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.new("RGB", (20, 30), (index, 0, 0)), int(self._labels[index])


def test_torchvision_named_splits(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(torchvision.datasets, "Flowers102", Flowers102)
    task = make_task(f"torchvision:Flowers102:{tmp_path}")
    assert task.size("report") == 12
    assert task.input_shape == (3, 20, 20)


def test_torchvision_not_classification(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    class Kitti(FashionMNIST):
        def __init__(self, root: str, train: bool = True) -> None:
            super().__init__(root, train)
            self.targets = [{"boxes": []}] * 20

    monkeypatch.setattr(torchvision.datasets, "Kitti", Kitti)
    with pytest.raises(DataError, match="does not give one class for each image"):
        make_task(f"torchvision:Kitti:{tmp_path}")


def test_torchvision_unknown_name() -> None:
    with pytest.raises(ConfigError, match="no data set 'FashonMNIST'; did you mean 'FashionMNIST'"):
        make_task("torchvision:FashonMNIST")


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class ImageFeature:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


ImageFeature.__name__ = "Image"


class HubSet:
    """What a `datasets.Dataset` looks like."""

    def __init__(self, labels: list[Any], decode: bool = True) -> None:
        self.features = {"id": object(), "img": ImageFeature(decode), "label": ClassLabel(["no", "yes", "maybe"])}
        self.labels = labels
        self.decode = decode

    def cast_column(self, column: str, feature: ImageFeature) -> HubSet:
        assert column == "img"
        return HubSet(self.labels, feature.decode)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.labels if key == "label" else [str(i) for i in range(len(self.labels))]
        image = Image.new("RGB", (16, 12), (int(key), 50, 60))
        if self.decode:
            return {"img": image, "label": self.labels[key]}
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return {"img": {"bytes": buffer.getvalue(), "path": None}, "label": self.labels[key]}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = ModuleType("datasets")
    module.__version__ = "4.0.0"  # type: ignore[attr-defined]
    calls: dict[str, Any] = {"sets": {"train": HubSet([0, 2] * 20), "validation": HubSet([2, 0] * 3)}}

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        calls["args"] = (args, kwargs)
        if isinstance(calls["sets"], Exception):
            raise calls["sets"]
        return calls["sets"]

    module.load_dataset = load_dataset
    module.Image = ImageFeature
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_hub_set(hub: dict[str, Any]) -> None:
    task = make_task("hf:someone/things:small,revision=abc")
    assert hub["args"] == (("someone/things", "small"), {"revision": "abc"})
    assert task.class_names == ["no", "maybe"]
    assert task.size("report") == 6
    assert (task.model_options["num_classes"], task.input_shape) == (2, (3, 12, 12))
    assert task.source.load(np.array([7]))[0, 0, 0].tolist() == [7, 50, 60]
    assert task.labels[:4].tolist() == [0, 1, 0, 1]


def test_hub_test_set_without_labels_is_not_used(hub: dict[str, Any]) -> None:
    hub["sets"] = {"train": HubSet([0, 1] * 20), "test": HubSet([-1] * 9)}
    assert sum(make_task("hf:x").size(split) for split in SPLITS) == 40


def test_hub_columns(hub: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="no column 'lable'; did you mean 'label'"):
        make_task("hf:x,label_column=lable")
    with pytest.raises(DataError, match="not class numbers"):
        make_task("hf:x,label_column=id")
    hub["sets"]["train"].features.pop("img")
    with pytest.raises(DataError, match="no column of type Image; its columns: id, label; say which"):
        make_task("hf:x")


def test_hub_offline_and_not_installed(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    hub["sets"] = ConnectionError("Couldn't reach 'x' on the Hub\nlong trace")
    with pytest.raises(DataError, match=r"could not be loaded: Couldn't reach 'x' on the Hub\. It needs network"):
        make_task("hf:x")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="'datasets' is not installed; install it with 'pip install datasets'"):
        make_task("hf:x")


@pytest.mark.parametrize(
    "value",
    [
        np.full((9, 9, 3), 7, dtype=np.uint8),
        np.full((3, 9, 9), 7, dtype=np.uint8),
        np.full((9, 9), 7 / 255),
        Image.new("RGBA", (9, 9), (7, 7, 7, 255)),
    ],
)
def test_encoded_image_of_any_kind(value: Any) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(encoded_image(value, "x"))))
    assert pixels.shape[:2] == (9, 9)
    assert (pixels == 7).all()


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="hf:some/set: test is empty; fill it, or save the data set without it"):
        _labels("hf:some/set", "test", {"label": []}, "label")


def test_encoded_image_of_something_else() -> None:
    with pytest.raises(DataError, match="image 3 is a list, not an image"):
        encoded_image([1, 2], "image 3")


def test_a_version_of_datasets_that_could_run_remote_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("datasets")
    module.__version__ = "2.19.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    with pytest.raises(DataError, match=r"'datasets' 2\.19\.1 may run code"):
        make_task("hf:someone/things")


def test_sets_that_unpickle_unchecked_files_are_refused() -> None:
    with pytest.raises(ConfigError, match="LSUN unpickles"):
        make_task("torchvision:LSUN:/nowhere")
