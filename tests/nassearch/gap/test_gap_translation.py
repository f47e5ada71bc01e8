"""Translation from end to end: a mixture is trained and searched, its gap is of BLEU, a subnet is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import nassearch
from nassearch.config import make_config
from nassearch.finetuning import FinetuneSettings, finetune
from nassearch.gap import measure_gap

WORDS = {"hund": "dog", "katze": "cat", "haus": "house", "baum": "tree", "rot": "red", "blau": "blue"}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sentences translated word by word."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    lines = [rng.choice(list(WORDS), rng.integers(1, 6)) for _ in range(100)]
    (tmp_path / "a.de").write_text("\n".join(" ".join(line) for line in lines) + "\n")
    (tmp_path / "a.en").write_text("\n".join(" ".join(WORDS[w] for w in line) for line in lines) + "\n")
    return f"translation:{tmp_path}/a.de:{tmp_path}/a.en,vocab_size=50,max_length=20,beam=2,tokens=200"


def test_a_translation_run_from_end_to_end(spec: str, tmp_path: Path) -> None:
    run = nassearch.run(
        make_config({
            "space": "hat-multi30k", "task": spec, "objectives": ["bleu:max", "macs_m:min"], "num_evals": 2,
            "strategy": "random", "batch_size": 2, "out": tmp_path / "run", "export": {"format": "none"},
            "model_options": {"mixture": "neuron", "experts": 2, "mixture_options": {"hidden": 8}},
            "train": {"method": "sandwich", "settings": {"epochs": 1}, "options": {"random_subnets": 1}},
        })
    )  # fmt: skip
    assert all("bleu" in r.values for r in run.records)
    report = measure_gap(run, architectures=3, epochs=1)
    assert report.qualities.metric == "bleu"
    told = json.loads((run.folder / "gap" / "gap.json").read_text())
    assert (told["metric"], told["architectures"], told["failed"]) == ("bleu", 3, 0)
    done = finetune(run, str(run.front[0].id), FinetuneSettings(epochs=1, distill=False))
    assert {"bleu", "nll"} <= set(done.after["report"])
