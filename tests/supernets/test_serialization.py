"""Files and payloads; the round trips of every family are in the conformance suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from supernets import CheckpointError, Supernet, build, from_payload, load, save, to_payload
from supernets import serialization as module


@pytest.fixture
def net() -> Supernet:
    torch.manual_seed(0)
    return build("mobilenetv3-tiny")


@pytest.fixture
def folder(net: Supernet, tmp_path: Path) -> Path:
    save(net, tmp_path / "net")
    return tmp_path / "net"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    description = json.loads((folder / "supernet.json").read_text())
    change(description)
    (folder / "supernet.json").write_text(json.dumps(description))


def test_saving_again_replaces(net: Supernet, folder: Path) -> None:
    with torch.no_grad():
        next(net.parameters()).add_(1)
    save(net, folder)
    assert len(list(folder.iterdir())) == 2
    assert torch.equal(next(load(folder).parameters()), next(net.parameters()))


def test_an_interrupted_save_leaves_the_old_one(net: Supernet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = next(load(folder).parameters()).clone()
    with torch.no_grad():
        next(net.parameters()).add_(1)
    real = module._write

    def failing(path: Path, data: bytes) -> None:
        if path.name == "supernet.json":
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(module, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        save(net, folder)
    assert torch.equal(next(load(folder).parameters()), before)


def test_a_failed_write_leaves_no_litter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    names = {p.name for p in folder.iterdir()}
    with pytest.raises(OSError, match="no space"):
        module._write(folder / "other", b"data")
    assert {p.name for p in folder.iterdir()} == names


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "supernet.json").unlink(), "is missing"),
        (lambda f: (f / "supernet.json").write_text((f / "supernet.json").read_text()[:50]), "truncated"),
        (lambda f: (f / "supernet.json").write_text("[1]"), "not a saved supernet"),
        (lambda f: edit(f, lambda d: d.pop("config")), "config missing"),
        (lambda f: edit(f, lambda d: d.update(version=99)), "upgrade"),
        (lambda f: edit(f, lambda d: d.update(space_identity="0")), "not the one it was saved with"),
        (lambda f: edit(f, lambda d: d["config"].update(num_classes=3)), "weights are not those"),
        (lambda f: edit(f, lambda d: d["config"].pop("layout")), "cannot be rebuilt"),
        (lambda f: edit(f, lambda d: d.update(family="other")), "cannot be rebuilt.*unknown supernet family"),
        (lambda f: next(f.glob("*.safetensors")).unlink(), "lacks the weights file"),
        (lambda f: edit(f, lambda d: d.update(weights="../net/x.safetensors")), "lacks the weights file"),
    ],
)
def test_damaged_folders(folder: Path, damage: Callable[[Path], object], reason: str) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=reason):
        load(folder)


def test_weights_outside_the_folder_are_not_read(folder: Path) -> None:
    weights = next(folder.glob("*.safetensors"))
    weights.rename(folder.parent / weights.name)
    edit(folder, lambda d: d.update(weights=f"../{weights.name}"))
    with pytest.raises(CheckpointError, match="lacks the weights file"):
        load(folder)


def test_bfloat16_survives(net: Supernet, tmp_path: Path) -> None:
    net.to(torch.bfloat16)
    save(net, tmp_path / "half")
    description, arrays = to_payload(net)
    for copy in (load(tmp_path / "half"), from_payload(json.loads(json.dumps(description)), arrays)):
        assert next(copy.parameters()).dtype == torch.bfloat16
        assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), net.parameters(), strict=True))


def test_a_payload_is_not_copied(net: Supernet) -> None:
    _, arrays = to_payload(net)
    name, parameter = next(iter(net.named_parameters()))
    assert arrays[name].ctypes.data == parameter.data_ptr()


def test_incomplete_payload(net: Supernet) -> None:
    description, arrays = to_payload(net)
    arrays.popitem()
    with pytest.raises(CheckpointError, match="the payload"):
        from_payload(description, arrays)
