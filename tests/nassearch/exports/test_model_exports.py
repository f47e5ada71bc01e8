"""Subnets of pre-trained Transformers leave in the form they came, or say why not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import MODELS, make_model

from nassearch.errors import ExportError
from nassearch.exports import Subject, make_export
from nassearch.exports.export import _verify
from nassearch.exports.transformers_folder import _stock_fault
from predictors.backends.onnx_export import plain_outputs
from supernets import convert


def subject_of(name: str, seed: int = 1, **choices: Any) -> tuple[Subject, Any, dict[str, Any]]:
    """A subnet that is not the largest."""
    net = convert(make_model(name), sequence=None, **choices).eval()
    torch.manual_seed(0)
    for p in net.parameters():  # an initialisation to zero hides what is missing
        p.data = torch.randn_like(p) * 0.3
    rows = net.space.sample(20, np.random.default_rng(seed))
    arch = next(a for a in net.space.decode(rows) if a != net.active)
    with net.activated(arch):
        subject = Subject(net.extract(arch).eval(), net.example_inputs(arch, batch_size=2), net.rebuild_source(arch))
    return subject, net, arch


def written(format: str, folder: Path, name: str, **choices: Any) -> tuple[Any, float]:
    subject, net, arch = subject_of(name, **choices)
    exporter = make_export(format)
    exporter.write(subject, folder)
    return exporter, _verify(exporter, subject, net, SimpleNamespace(arch=arch), folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [n for n in MODELS if not n.startswith("timm")])
def test_every_subnet_of_a_uniform_space_is_held_by_the_stock_class(name: str) -> None:
    net = convert(make_model(name), uniform=True)
    for arch in net.space.decode(net.space.sample(4, np.random.default_rng(0))):
        assert _stock_fault(net.extract(arch)) is None, arch


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_stock_checkpoints_of_transformers(name: str, tmp_path: Path) -> None:
    exporter, difference = written("transformers", tmp_path, name, uniform=True)
    assert (exporter.form, difference) == ("stock", 0.0)
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart", "qwen3"])
def test_shapes_that_differ_by_layer_come_with_a_modelling_file(name: str, tmp_path: Path) -> None:
    exporter, difference = written("transformers", tmp_path, name)
    assert (exporter.form, difference) == ("own modelling file", 0.0)
    assert "trust_remote_code=True" in exporter.reason
    assert "trust_remote_code=True" in exporter.usage({})
    assert list(json.loads((tmp_path / "config.json").read_text())["auto_map"].values()) == [
        "modeling_subnet.SubnetConfig",
        "modeling_subnet.SubnetModel",
    ]


def test_folders_of_timm(tmp_path: Path) -> None:
    exporter, difference = written("timm", tmp_path / "uniform", "timm_vit", uniform=True)
    assert (exporter.form, difference) == ("stock", 0.0)
    with pytest.raises(ExportError, match=r"no arguments of timm's vit_tiny.* use --format torch, onnx or state-dict"):
        written("timm", tmp_path, "timm_vit", seed=3)
    with pytest.raises(ExportError, match="is no model of timm"):
        written("timm", tmp_path, "bert")
    with pytest.raises(ExportError, match="is no model of transformers"):
        written("transformers", tmp_path, "timm_vit")


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "t5", "bart", "vit", "timm_vit"])
def test_programs_take_any_batch_and_length(name: str, tmp_path: Path) -> None:
    assert written("torch", tmp_path, name)[1] <= 1e-5


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_programs_take_more_images_than_texts(format: str, tmp_path: Path) -> None:
    subject, net, arch = subject_of("clip")
    exporter = make_export(format)
    exporter.write(subject, tmp_path)
    more = net.example_inputs(arch, batch_size=5)
    for images, texts in ((2, 5), (5, 2), (1, 5)):
        batch = {n: t[: images if n == "pixel_values" else texts] for n, t in more.items()}
        (got,) = exporter.outputs(tmp_path, [batch])
        with torch.no_grad():
            expected = [t for _, t in plain_outputs(subject.module, batch)]
        assert expected[0].shape == (images, texts)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("format", "name"), [("torch", "bert"), ("onnx", "bert"), ("state-dict", "bert"), ("onnx", "timm_vit")]
)
def test_the_code_of_the_card_runs(format: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, _, _ = subject_of(name)
    exporter = make_export(format)
    exporter.write(subject, tmp_path)
    code, example = exporter.usage(subject.example), subject.example
    given: dict[str, Any] = dict(example) if isinstance(example, dict) else {"images": example[0]}
    with torch.no_grad():
        ((_, expected),) = plain_outputs(subject.module, example)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        if format == "onnx":
            given = {n: t.numpy() for n, t in given.items()}
        exec(code, given)
    torch.testing.assert_close(torch.as_tensor(given["logits"]), expected, rtol=1e-4, atol=1e-4)
    assert ("# input_ids: int64 [batch, sequence]" in code) == (name == "bert")
    assert ("# images: float32 [batch, 3, " in code) == (name != "bert")


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "timm_vit"])
def test_onnx_models_take_any_batch_and_length(name: str, tmp_path: Path) -> None:
    assert written("onnx", tmp_path, name)[1] <= 1e-4
