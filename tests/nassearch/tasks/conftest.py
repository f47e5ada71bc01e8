from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of small images of flat colours with noise, one sub-folder per class."""

    def make(name: str = "photos", classes: tuple[str, ...] = ("cat", "dog"), each: int = 12, size: int = 12) -> Path:
        rng = np.random.default_rng(len(name))
        for number, label in enumerate(classes):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 100, (size, size, 3)) + 60 * number
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03d}.png")
        return tmp_path / name

    return make


@pytest.fixture
def npz_file(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "set.npz", **arrays: object) -> Path:
        path = tmp_path / name
        np.savez(path, **arrays)
        return path

    return make
