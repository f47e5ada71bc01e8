"""Language modelling: blocks and splits of text, the cache of tokens, metrics, errors, and training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nassearch.errors import ConfigError, DataError
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, inputs_fault
from nassearch.problem import Problem
from nassearch.tasks import from_payload, make_task
from supernets import call, convert
from supernets.training import TrainSettings, counted, kl_loss, method_settings, soft_targets_loss, train


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """The folder of a tokenizer of bytes, with an end of text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<end>"])}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<end>")
    fast.save_pretrained(tmp_path / "tok")
    return tmp_path / "tok"


@pytest.fixture
def make(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("NASSEARCH_CACHE", str(tmp_path / "cache"))
    return lambda where, more="", **k: make_task(f"causal-lm:{where},tokenizer={tokenizer}{more}", **k)


def gpt2(**changes):
    sizes = {"vocab_size": 257, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, "n_inner": 24}
    more = {"bos_token_id": 256, "eos_token_id": 256, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    torch.manual_seed(0)
    return convert(hf.GPT2LMHeadModel(hf.GPT2Config(**{**sizes, **more, **changes})))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("The quick brown fox, ä.\n" * 80)
    return path


def test_one_text_is_cut_into_contiguous_splits(make, file, tokenizer):
    task = make(f"text:{file}", ",block=16")
    wanted = hf.AutoTokenizer.from_pretrained(tokenizer)(file.read_text())["input_ids"] + [256]
    joined = np.concatenate([task.blocks[s].ravel() for s in ("train", "calibration", "search", "report")])
    assert joined.tolist() == wanted[: len(joined)]
    assert len(wanted) - len(joined) < 16
    assert {s: task.size(s) for s in task.blocks} == {"train": 94, "calibration": 6, "search": 12, "report": 12} | {
        "train": len(joined) // 16 - 30
    }
    (batch, *_) = task.batches("train", 3)
    ids = batch.inputs["input_ids"]
    assert batch.targets[:, :-1].tolist() == ids[:, 1:].tolist()
    assert batch.targets[:, -1].tolist() == [-100] * 3
    assert batch.counts.tolist() == (batch.targets >= 0).sum(1).tolist()
    json.dumps(task.describe())
    assert make(str(file), ",block=16").fingerprint == task.fingerprint
    settings, arrays = task.to_payload()
    twin = from_payload(json.loads(json.dumps(settings)), arrays)
    assert (twin.fingerprint, twin.describe()) == (task.fingerprint, task.describe())


def test_files_of_a_folder_are_its_splits(make, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, letter in (("train", "a"), ("valid", "b"), ("test", "c")):
        (folder / f"{name}.txt").write_text(letter * 160)
    task = make(f"text:{folder}", ",block=16,separator=none")
    assert {s: task.size(s) for s in task.blocks} == {"train": 10 - 1, "calibration": 1, "search": 10, "report": 10}
    assert len({int(task.blocks[s][0, 0]) for s in ("train", "search", "report")}) == 3
    (folder / "train.txt").unlink()  # then the validation text is divided
    task = make(f"text:{folder}", ",block=16,separator=none")
    assert {s: task.size(s) for s in task.blocks} == {"train": 8, "calibration": 1, "search": 1, "report": 10}
    (folder / "test.txt").write_text("c")
    with pytest.raises(DataError, match="the report text is too short: 1 tokens, 16 are needed"):
        make(f"text:{folder}", ",block=16,separator=none")


def test_tokens_are_kept_and_damage_is_mended(make, file, tmp_path, monkeypatch):
    task = make(f"text:{file}", ",block=16")
    (kept,) = (tmp_path / "cache" / "tokens").iterdir()
    forbidden = monkeypatch.setattr(
        hf.PreTrainedTokenizerFast, "__call__", lambda *a, **k: pytest.fail("tokenised again")
    )
    assert forbidden is None
    assert make(f"text:{file}", ",block=16").fingerprint == task.fingerprint
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:200])
    assert make(f"text:{file}", f",block=16,cache={tmp_path / 'cache'}").fingerprint == task.fingerprint
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is needed")
    assert make(f"text:{file}", f",block=16,cache={blocked}").fingerprint == task.fingerprint


def test_metrics_are_those_of_the_whole_text(make, file):
    task, net = make(f"text:{file}", ",block=16"), gpt2().eval()
    assert inputs_fault(net, task) is None
    with torch.no_grad():
        total = [
            net.model(input_ids=b.inputs["input_ids"], labels=b.inputs["input_ids"]).loss.double()
            for b in task.batches("report", 1)
        ]
    wanted = float(torch.stack(total).mean())
    for size in (1, 5, 100):
        got = task.evaluate(lambda x: call(net, x).logits, "report", size)
        assert got["nll"] == pytest.approx(wanted, rel=1e-5)
        assert got["perplexity"] == pytest.approx(math.exp(wanted), rel=1e-4)
        assert got["bits_per_byte"] == pytest.approx(wanted / math.log(2) / task.bytes_per_token["report"], rel=1e-5)
    (batch, *_) = task.batches("report", 4)
    outputs = call(net, batch.inputs).logits
    assert float(task.loss(outputs, batch.targets).detach()) == pytest.approx(task.score(outputs, batch.targets)["nll"])


def test_distillation_leaves_padding_out():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 5), torch.randn(2, 4, 5)
    targets = torch.tensor([[1, 2, -100, -100], [0, 1, 2, -100]])
    places = counted(student, targets)
    changed = torch.where(places[..., None], student, 1e3 * torch.randn(2, 4, 5))
    for loss in (kl_loss, soft_targets_loss):
        assert torch.equal(loss(student, teacher, 2.0, places), loss(changed, teacher, 2.0, places))
        alone = loss(student[places], teacher[places], 2.0)
        assert torch.allclose(loss(student, teacher, 2.0, places), alone)
    assert counted(torch.randn(2, 5), torch.tensor([0, 1])) is None
    assert counted(torch.randn(2, 5), torch.rand(2, 5)) is None


def test_a_language_model_is_instatuned_and_its_subnets_scored(make, file):
    net, task = gpt2(), make(f"text:{file}", ",block=16")
    before = task.evaluate(lambda x: call(net.eval(), x).logits, "search")["nll"]
    settings = TrainSettings(**method_settings("instatune") | {"lr": 1e-2, "epochs": 4})
    problem = SimpleNamespace(task=task)
    train(net, task.training_data(8), lambda o, t: Problem.loss(problem, o, t), method="instatune", settings=settings)
    evaluator = SupernetEvaluator(net, task, EvaluationSettings(("nll",), {}, device="cpu"))
    (smallest,) = net.space.decode(net.space.smallest[None])
    small = net.extract(smallest).eval()
    got = evaluator.quality(smallest, "report").values
    assert got["nll"] == pytest.approx(task.evaluate(lambda x: call(small, x).logits, "report")["nll"], rel=1e-5)
    assert got["nll"] < before - 1


def test_faults(make, file, tmp_path, tokenizer):
    with pytest.raises(DataError, match=r"does not exist; give a \.txt or \.jsonl file"):
        make(f"text:{tmp_path / 'none'}")
    (tmp_path / "short.txt").write_text("ab")
    with pytest.raises(DataError, match=r"too short: 3 tokens, 1024 are needed for 4 blocks of 256 \(1 train \+ 1"):
        make(f"text:{tmp_path / 'short.txt'}")
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"empty\.txt is empty"):
        make(f"text:{tmp_path / 'empty.txt'}")
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"txt": "y"}\n')
    with pytest.raises(DataError, match="line 2 has no text in 'text'"):
        make(f"text:{tmp_path / 'a.jsonl'}")
    with pytest.raises(ConfigError, match="needs the model's tokenizer"):
        make_task(f"causal-lm:text:{file}")
    assert "vocabulary has 100 tokens, the task's data 221" in inputs_fault(
        gpt2(vocab_size=100, bos_token_id=0, eos_token_id=0), _low(make(f"text:{file}", ",block=16"))
    )
    fault = inputs_fault(gpt2(vocab_size=100, bos_token_id=0, eos_token_id=0), make(f"text:{file}", ",block=16"))
    assert "index out of range in self; are its tokens those of the task's tokenizer?" in fault
    (tmp_path / "model").mkdir()
    config = {"model_type": "gpt2", "n_positions": 32, "vocab_size": 100}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="block=33 is more than the model's limit of 32"):
        make(f"text:{file}", ",block=33", model=str(tmp_path / "model"))
    with pytest.raises(DataError, match="does not match the model: the data have token 220"):
        make(f"text:{file}", model=str(tmp_path / "model"))


def _low(task):
    """The task with tokens that any model has in what is tried first."""
    task.blocks["calibration"][:] = 1
    return task


@pytest.mark.needs_shared
def test_real_texts(make, shared_data):
    task = make(f"text:{shared_data / 'tiny_shakespeare'}", ",train=100,search=10,report=10,calibration=4")
    assert task.input_shape == (256,)
    assert task.bytes_per_token["report"] == pytest.approx(1, abs=1e-4)
    task = make(f"text:{shared_data / 'wikitext2_valid_test'}", ",train=100,search=10,report=10,block=128")
    assert task.size("report") == 10
    assert not np.array_equal(task.blocks["report"][0], task.blocks["train"][0])
