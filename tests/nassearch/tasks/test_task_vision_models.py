"""Image tasks deliver what pre-trained image models take."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
import transformers as hf

from nassearch.errors import DataError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, inputs_fault
from nassearch.tasks import from_payload, make_task
from supernets import convert
from supernets.training import TrainSettings, logits_of, train


def vit(classes: int = 10, size: int = 16):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    return hf.ViTForImageClassification(hf.ViTConfig(image_size=size, patch_size=4, num_labels=classes, **sizes))


def timm_vit(classes: int = 10, size: int = 16):
    torch.manual_seed(0)
    sizes = {"img_size": size, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 4, "num_classes": classes}
    return timm.create_model("vit_tiny_patch16_224", **sizes)


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "vit"
    vit().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder


@pytest.fixture
def specs(image_folder, npz_file):
    images = np.random.default_rng(0).integers(0, 255, (40, 12, 12, 3)).astype(np.uint8)
    path = npz_file(images=images, labels=np.arange(40) % 2)
    return {
        "digits": "digits:train=40,search=20,report=20",
        "npz": f"npz:{path}",
        "photos": f"imagefolder:{image_folder()}",
    }


@pytest.mark.parametrize("make_net", [vit, timm_vit])
@pytest.mark.parametrize("kind", ["digits", "npz", "photos"])
def test_vision_transformers_train_and_are_scored(kind, make_net, specs, model_folder):
    task = make_task(specs[kind], model=str(model_folder))
    assert task.input_shape == (3, 16, 16)
    net = convert(make_net(task.model_options["num_classes"]))
    assert inputs_fault(net, task) is None
    settings = TrainSettings(steps=2, lr=1e-3, optimizer="adamw")
    train(net, task.training_data(8), lambda o, t: task.loss(logits_of(o), t), method="instatune", settings=settings)
    (smallest,) = net.space.decode(net.space.smallest[None])
    got = SupernetEvaluator(net, task, EvaluationSettings(("top1",), {}, device="cpu")).quality(smallest, "report")
    small = net.extract(smallest).eval()
    wanted = task.evaluate(lambda x: logits_of(small(x[0])), "report")
    assert got.values["loss"] == pytest.approx(wanted["loss"], rel=1e-5)


def test_normalisation_is_the_models(specs, model_folder):
    task = make_task(specs["npz"], model=str(model_folder))
    assert task.describe()["mean"] == [127.5] * 3
    assert task.describe()["std"] == [63.75] * 3
    gray = make_task(specs["digits"], model=str(model_folder))
    (batch,) = gray.batches("search", 100)
    (images,) = batch.inputs
    assert torch.equal(images[:, 0], images[:, 2])
    settings, arrays = gray.to_payload()
    (again,) = from_payload(json.loads(json.dumps(settings)), arrays).batches("search", 100)
    assert torch.equal(again.inputs[0], images)
    (model_folder / "preprocessor_config.json").unlink()
    timm_config = {
        "architecture": "x",
        "pretrained_cfg": {"input_size": [3, 24, 24], "mean": [0.1] * 3, "std": [1] * 3},
    }
    (model_folder / "config.json").write_text(json.dumps(timm_config))
    task = make_task(specs["digits"], model=str(model_folder))
    assert (task.input_shape, task.describe()["mean"]) == ((3, 24, 24), [pytest.approx(25.5)] * 3)
    (model_folder / "config.json").write_text(json.dumps({"image_size": [8, 16], "num_channels": 3}))
    with pytest.raises(DataError, match=r"wants images of \[8, 16\] pixels; only square"):
        make_task(specs["npz"], model=str(model_folder))


def test_normalisation_of_a_processor_for_images_and_texts(specs, model_folder):
    (model_folder / "preprocessor_config.json").unlink()
    both = {"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, "processor_class": "CLIPProcessor"}
    (model_folder / "processor_config.json").write_text(json.dumps(both))
    task = make_task(specs["npz"], model=str(model_folder))
    assert (task.describe()["mean"], task.describe()["std"]) == ([127.5] * 3, [63.75] * 3)


def test_models_of_other_sizes_or_classes_are_told(specs):
    task = make_task(specs["npz"])
    assert task.input_shape == (3, 12, 12)
    assert "does not run on the task's inputs" in inputs_fault(convert(vit(2)), task)
    assert "does not run on the task's inputs" in inputs_fault(convert(timm_vit(2)), task)
    assert inputs_fault(convert(timm_vit(5, size=12)), task) == "it has 5 classes, the task 2"
