"""Subnets of pre-trained Transformers leave in the form they came, or say why not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from tiny_models import MODELS, make_model

from nassearch.errors import ExportError
from nassearch.exports import Subject, make_export
from nassearch.exports.export import _verify
from nassearch.exports.stock import any_shape, transformers_fault
from nassearch.pretrained import folder_of
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
        assert transformers_fault(net.extract(arch)) is None, arch


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


@pytest.mark.parametrize("format", ["torch", "onnx", "state-dict"])
def test_cards_of_other_forms_say_whether_a_stock_checkpoint_was_possible(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.export.export", lambda *_, **__: None)
    monkeypatch.setattr("torch.export.save", lambda *_: None)
    monkeypatch.setattr("predictors.backends.onnx_export.export_onnx", lambda *_, **__: None)
    stock = "it holds layers of any shape; a stock checkpoint was"
    wanted = {
        ("bert", False): f"{stock} not possible: no configuration of BertForSequenceClassification makes layers",
        ("bert", True): f"{stock} possible, too (--format transformers)",
        ("timm_vit", False): f"{stock} not possible: no arguments of timm's vit_tiny_patch16_224 make layers",
        ("timm_vit", True): f"{stock} possible, too (--format timm)",
    }
    for (name, uniform), reason in wanted.items():
        exporter = make_export(format)
        exporter.write(subject_of(name, seed=3, uniform=uniform)[0], tmp_path)
        assert exporter.form
        assert exporter.reason.startswith(reason), exporter.reason
    assert any_shape(torch.nn.Linear(2, 2)) == "it holds layers of any shape"


def test_the_image_processor_comes_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = hf.ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.1, 0.2, 0.3])
    folder = tmp_path / "model"
    processor.save_pretrained(folder)
    # What the hub's client keeps of a model that was fetched.
    kept = tmp_path / "cache" / "models--someone--vit"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, kept / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    subject = subject_of("vit", uniform=True)[0]
    for name, out in {str(folder): tmp_path / "of-folder", "someone/vit": tmp_path / "of-hub"}.items():
        out.mkdir()
        make_export("transformers").write(replace(subject, origin=folder_of(name)), out)
        found = hf.AutoImageProcessor.from_pretrained(out)
        assert (list(found.image_mean), found.size["height"]) == ([0.1, 0.2, 0.3], 8)
    assert folder_of("someone/text") is None
    assert folder_of("timm:vit_tiny_patch16_224") is None


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
