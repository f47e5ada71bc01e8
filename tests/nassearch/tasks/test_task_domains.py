"""Language modelling on several domains: splits, metrics, payload, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nassearch.errors import DataError
from nassearch.tasks import from_payload, make_task


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make a task on tmp_path/text with a tokenizer of bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<end>"])}, []))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    hf.PreTrainedTokenizerFast(tokenizer_object=tok, eos_token="<end>").save_pretrained(tmp_path / "tok")
    monkeypatch.setenv("NASSEARCH_CACHE", str(tmp_path / "cache"))
    return lambda more: make_task(f"causal-lm:text:{tmp_path / 'text'},tokenizer={tmp_path / 'tok'},block=8{more}")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "letters.txt").write_text("abcdefgh" * 60)
    (folder / "digits.txt").write_text("01234567" * 30)
    return folder


def test_each_file_is_a_domain_with_its_own_splits(make, files):
    task = make(",domains=files,separator=none")
    assert task.domains == ["digits", "letters"]
    for split in ("train", "calibration", "search", "report"):
        is_digit = np.isin(task.blocks[split], task.blocks["search"][task.members["search"] == 0]).all(axis=1)
        assert is_digit.tolist() == (task.members[split] == 0).tolist()
        assert 0 < is_digit.sum() < len(is_digit)
    # The first blocks of calibration are not of one domain.
    assert sorted(set(task.members["calibration"][:2].tolist())) == [0, 1]
    parts = task.inputs_by_domain("search", 2)
    assert {n: sum(len(b["input_ids"]) for b in batches) for n, batches in parts.items()} == {
        "digits": int((task.members["search"] == 0).sum()),
        "letters": int((task.members["search"] == 1).sum()),
    }


def test_losses_of_domains_and_of_all(make, files):
    task = make(",domains=files")
    assert task.metrics["nll.digits"] == "min"
    torch.manual_seed(0)
    table = torch.randn(task.vocabulary, task.vocabulary)
    scores = task.evaluate(lambda x: table[x["input_ids"]], "search", batch_size=3)
    losses = []
    for block in task.blocks["search"]:
        ids = torch.from_numpy(block.astype(np.int64))
        losses.append(torch.nn.functional.cross_entropy(table[ids[:-1]], ids[1:], reduction="none").double().mean())
    of = np.array(losses)
    assert scores["nll"] == pytest.approx(of.mean(), rel=1e-6)
    for i, name in enumerate(task.domains):
        assert scores[f"nll.{name}"] == pytest.approx(of[task.members["search"] == i].mean(), rel=1e-6)


def test_payload_and_fingerprint(make, files):
    task, plain = make(",domains=files"), make("")
    again = from_payload(*task.to_payload())
    assert again.fingerprint == task.fingerprint != plain.fingerprint
    assert again.domains == task.domains
    np.testing.assert_array_equal(again.members["report"], task.members["report"])
    assert plain.domains == []
    assert list(plain.inputs_by_domain("report", 4)) == ["all"]
    assert "domains" not in plain.describe()


def test_folders_are_domains_with_named_parts(make, tmp_path):
    for name, text in (("en", "the cat. "), ("de", "die katze. ")):
        folder = tmp_path / "text" / name
        folder.mkdir(parents=True)
        (folder / "train.txt").write_text(text * 40)
        (folder / "test.txt").write_text(text.upper() * 5)
    task = make(",domains=folders,report=4")
    assert task.domains == ["de", "en"]
    assert np.bincount(task.members["report"]).tolist() == [2, 2]  # divided evenly


def test_bad_domains_are_refused(make, files):
    with pytest.raises(DataError, match=r"0 folders with texts; domains=folders needs two at least"):
        make(",domains=folders")
    (files / "a b.txt").write_text("x" * 500)
    (files / "digits.jsonl").write_text('{"text": "1"}\n')
    with pytest.raises(DataError) as caught:
        make(",domains=files")
    assert "cannot be called 'a b'" in str(caught.value)
    assert "two domains 'digits'" in str(caught.value)
    for name in ("a b.txt", "digits.jsonl"):
        (files / name).unlink()
    (files / "short.txt").write_text("xyz")
    with pytest.raises(DataError, match=r"text/short: the text is too short"):
        make(",domains=files")
