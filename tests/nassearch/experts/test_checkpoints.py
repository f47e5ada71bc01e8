"""Checkpoints in shards: what is missing is named, and layers that stay on disk give the same model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_moe import CONFIGS, batches, make_moe

from nassearch.checkpoints import check_shards
from nassearch.errors import ConfigError
from nassearch.pretrained import load_pretrained
from supernets import convert, converts_in_place

TASK: Any = SimpleNamespace(
    auto_model="AutoModelForCausalLM", model_options={}, spec="causal-lm:text:x", class_names=[]
)


def mapped(tensor: torch.Tensor) -> bool:
    """Whether a tensor's memory is that of a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, file = line.split(None, 5) if line.count("/") else (line.split()[0], "")
        low, high = (int(x, 16) for x in span.split("-"))
        if low <= tensor.data_ptr() < high:
            return ".safetensors" in file
    return False


class Watch:
    """The most anonymous memory that was used meanwhile, beyond that at the start, in bytes."""

    def __enter__(self) -> Watch:
        self.before, self.most, self._stop = self._now(), 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(0.001):
            self.most = max(self.most, self._now() - self.before)

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("name", ["olmoe", "qwen2_moe", "deepseek_v3", "gpt_oss", "mixtral"])
def test_layers_on_disk_are_the_same_model(name: str, tmp_path: Path) -> None:
    make_moe(name).save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 2
    plain = load_pretrained(str(tmp_path / "model"), TASK, seed=0).module
    lazy: Any = load_pretrained(str(tmp_path / "model"), TASK, seed=0, offload=tmp_path / "files").module
    assert plain.state_dict().keys() == lazy.state_dict().keys()
    assert all(torch.equal(t, lazy.state_dict()[n]) for n, t in plain.state_dict().items())
    assert not any(hasattr(m, "_hf_hook") for m in lazy.modules())
    experts = [p for n, p in lazy.named_parameters() if ".layers." in n]
    assert all(mapped(p) for p in experts)
    assert converts_in_place(lazy, "experts")
    options: dict[str, Any] = {"calibration": batches(), "width": [16], "keep": [4, 8], "k": [2, 3]}
    ours, theirs = convert(lazy, space="experts", copy=False, **options), convert(plain, space="experts", **options)
    for a, b in zip(ours.statistics.buffers(), theirs.statistics.buffers(), strict=True):  # type: ignore[union-attr]
        assert torch.equal(a, b)
    assert ours.model is lazy
    arch = theirs.space.decode(theirs.space.smallest[None])[0]
    with torch.no_grad(), ours.activated(arch), theirs.activated(arch):
        assert torch.equal(ours(**batches(1)[0]).logits, theirs(**batches(1)[0]).logits)
    twin, other = ours.extract(arch).state_dict(), theirs.extract(arch).state_dict()
    assert all(torch.equal(t, other[n]) for n, t in twin.items())
    assert all(mapped(p) for p in experts)  # nothing was changed in place


def peaks(folder: str) -> None:
    """Print the size of a model, of a layer, and the most memory that each way of loading and calibrating took."""
    config = hf.OlmoeConfig(
        vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=8, num_attention_heads=4,
        num_key_value_heads=4, num_experts=16, num_experts_per_tok=2, max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    model, source = hf.OlmoeForCausalLM(config), str(Path(folder) / "model")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    layer = sum(p.numel() * p.element_size() for p in model.model.layers[0].parameters())
    model.save_pretrained(source, max_shard_size="8MB")
    del model
    tokens = [{"input_ids": torch.randint(1, 64, (4, 16)), "attention_mask": torch.ones(4, 16, dtype=torch.int64)}]
    options: dict[str, Any] = {"calibration": tokens, "width": [256], "keep": [8, 16], "operators": ["drop"]}
    with Watch() as lazily:
        lazy = load_pretrained(source, TASK, seed=0, offload=Path(folder) / "files").module
        net = convert(lazy, space="experts", copy=False, **options)
    with Watch() as plainly:
        plain = convert(load_pretrained(source, TASK, seed=0).module, space="experts", **options)
    del net, plain
    print(json.dumps([size, layer, lazily.most, plainly.most]))


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """In a new process: in this one allocators have memory of earlier tests to give again."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['peaks'](sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, __file__, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    size, layer, lazily, plainly = json.loads(done.stdout.splitlines()[-1])
    assert plainly > size
    assert lazily < 3 * layer < size / 2


def test_missing_and_short_shards_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_moe("olmoe").save_pretrained(folder, max_shard_size="20KB")
    check_shards(folder, "m")
    first, second, *_ = sorted(p.name for p in folder.glob("*.safetensors"))
    whole = (folder / second).read_bytes()
    (folder / second).write_bytes(whole[: len(whole) // 2])
    shutil.move(folder / first, tmp_path / first)
    for offload in (None, tmp_path / "files"):
        with pytest.raises(ConfigError) as caught:
            load_pretrained(str(folder), TASK, seed=0, offload=offload)
        message = str(caught.value)
        assert f"{first} is missing (" in message
        assert f"{second} is cut short" in message
        assert "download those again" in message
    assert not (tmp_path / "files").exists()
    shutil.move(tmp_path / first, folder / first)
    for start in (b"", b"\xff" * 12, whole[:8] + b"?" * (len(whole) - 8)):
        (folder / second).write_bytes(start)
        with pytest.raises(ConfigError, match=second):
            check_shards(folder, "m")
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"] = {n: f"../{f}" for n, f in listed["weight_map"].items()}
    index.write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match="is missing"):
        check_shards(folder, "m")
    index.write_text("{")
    with pytest.raises(ConfigError, match=r"index\.json is damaged"):
        check_shards(folder, "m")


def test_every_family_is_converted_in_place_and_others_are_not() -> None:
    assert all(converts_in_place(make_moe(name), "experts") for name in CONFIGS)
    bert = hf.BertForMaskedLM(hf.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20))
    assert not converts_in_place(bert)
