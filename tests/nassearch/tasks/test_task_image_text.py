"""Images against the texts of their classes, on a tiny CLIP."""

from __future__ import annotations

import json

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from nassearch.errors import DataError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, inputs_fault
from nassearch.tasks import from_payload, make_task
from supernets import convert
from supernets.training import TrainSettings, logits_of, train

WORDS = ["<pad>", "<start>", "<end>", "a", "photo", "of", "cat", "dog", "pet"]


@pytest.fixture
def tokenizer(tmp_path):
    tok = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok.post_processor = processors.TemplateProcessing(
        "<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="<pad>", eos_token="<end>")
    fast.save_pretrained(tmp_path / "tok")
    return tmp_path / "tok"


def clip():
    torch.manual_seed(0)
    shared = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    text = {"vocab_size": 9, "max_position_embeddings": 10, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {"image_size": 12, "patch_size": 4}
    return hf.CLIPModel(hf.CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=12))


def test_clip_is_fine_tuned_and_its_subnets_scored(image_folder, tokenizer):
    task = make_task(f"image-text-classification:{image_folder()},tokenizer={tokenizer}")
    assert task.describe()["texts"] == ["a photo of a cat", "a photo of a dog"]
    net = convert(clip())
    assert inputs_fault(net, task) is None
    (batch,) = task.batches("report", 10)
    with torch.no_grad():
        wanted = clip().eval()(**batch.inputs).logits_per_image
        assert torch.equal(logits_of(net.eval()(**batch.inputs)), wanted)
    trained = next(task.training_data(8).batches(0))
    assert batch.shared == trained.shared == {"input_ids", "attention_mask"}
    settings = TrainSettings(steps=20, lr=3e-3, optimizer="adamw")
    report = train(
        net, task.training_data(8), lambda o, t: task.loss(logits_of(o), t), method="instatune", settings=settings
    )
    assert report.steps == 20
    (smallest,) = net.space.decode(net.space.smallest[None])
    small = net.extract(smallest).eval()
    got = SupernetEvaluator(net, task, EvaluationSettings(("top1",), {}, device="cpu")).quality(smallest, "report")
    wanted = task.evaluate(lambda x: logits_of(small(**x)), "report")
    assert got.values["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert got.values["top1"] == wanted["top1"]


def test_tables_name_images_and_texts(image_folder, tokenizer):
    folder = image_folder()
    lines = ["image,what,label"]
    lines += [
        f"{name}/{i:03d}.png,{'pet' if name == 'dog' else 'cat'},{name}" for name in ("cat", "dog") for i in range(12)
    ]
    (folder / "all.csv").write_text("\n".join(lines))
    spec = f"image-text-classification:{folder / 'all.csv'},tokenizer={tokenizer}"
    task = make_task(f"{spec},text=what")
    assert task.describe()["texts"] == ["cat", "pet"]
    settings, arrays = task.to_payload()
    twin = from_payload(json.loads(json.dumps(settings)), arrays)
    assert (twin.fingerprint, twin.describe()) == (task.fingerprint, task.describe())
    (one,), (two,) = task.batches("report", 99), twin.batches("report", 99)
    assert all(torch.equal(one.inputs[k], two.inputs[k]) for k in one.inputs)
    assert make_task(spec).fingerprint != task.fingerprint
    (folder / "all.csv").write_text("\n".join([*lines, "dog/001.png,dog,dog", "dog/99.png,pet,dog"]))
    with pytest.raises(DataError) as raised:
        make_task(f"{spec},text=what")
    assert "class 'dog' has the text 'dog', and 'pet' before" in raised.value.faults[0]
    assert "row 26: there is no image" in raised.value.faults[1]
    with pytest.raises(DataError, match="where the name of the class belongs"):
        make_task(f"{spec},prompt=a photo")
